"""Detections of a split against its annotations: the paper's AP or COCO's, a table per class, and the files kept.

Only images that an annotation file lists are scored. What is in the others is not known, so that a detection there is
neither right nor wrong; how many were left out is part of the result.

Shapes: N detections or objects of all images together.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from xmodal_cli import files
from xmodal_cli.data.annotations import Annotations
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.detection_files import write_detections
from xmodal_cli.errors import DataError, SettingsError, closest
from xmodal_cli.metrics.average_precision import ApResult, voc_ap
from xmodal_cli.metrics.coco import CocoResult, coco_ap
from xmodal_cli.metrics.detections import Detections, Objects
from xmodal_cli.runs.folder import CONFIG

Flat = TypeVar("Flat", Detections, Objects)
Metric = Callable[[Detections, Objects, tuple[str, ...]], ApResult | CocoResult]
METRICS: dict[str, Metric] = {"voc": voc_ap, "coco": coco_ap}
COMMAND = "evaluate"
RESULTS, DETECTIONS = "results.json", "detections.json"
LONGEST_NAME = 200  # of a folder: file systems take 255, and many fused runs have long names together


@dataclass(frozen=True)
class DetectionScores:
    """What detections of a split are worth.

    Args:
        metric: `voc` (the paper's) or `coco`.
        result: the metric's own figures.
        split: the split scored.
        images: how many of its images were scored.
        unlabelled: how many were not, because no annotation file lists them.
    """

    metric: str
    result: ApResult | CocoResult
    split: str
    images: int
    unlabelled: int

    @property
    def mAP(self) -> float:
        """Mean AP over the classes with objects, percent."""
        return self.result.mAP

    @property
    def ap(self) -> dict[str, float | None]:
        """AP by class in percent, None where there are no objects."""
        return self.result.ap

    @property
    def classes_without_objects(self) -> tuple[str, ...]:
        """Classes that the mean leaves out."""
        return self.result.classes_without_objects

    def to_dict(self) -> dict[str, Any]:
        """The `results` of `--json`: metric, mAP, AP by class, and what they rest on; percent."""
        return {**self.result.to_dict(), "images": self.images, "images_without_annotations": self.unlabelled}

    def rows(self, paper: Mapping[str, float] | None = None) -> list[list[object]]:
        """A table of class, AP, objects and detections, closed by the mean.

        Args:
            paper: the paper's AP by class, to stand beside ours as a last column; empty where it has none.
        """
        counts = self.result.objects, self.result.detections
        rows: list[list[object]] = [
            [name, "no objects" if ap is None else f"{ap:.1f}", *(count[name] for count in counts)]
            for name, ap in self.ap.items()
        ]
        rows.append(["mean", f"{self.mAP:.1f}", *(sum(count.values()) for count in counts)])
        if paper:
            rows = [[*row, f"{paper[str(row[0])]:.1f}" if row[0] in paper else ""] for row in rows]
        return rows


def objects_of(data: PreparedData, split: str) -> Objects:
    """The annotated objects of a split, numbered by its IDs in order.

    Args:
        data: a prepared data set.
        split: a name, or several joined by `+`.

    Raises:
        SettingsError: there is no such split.
        DataError: an annotation file is damaged.
    """
    return objects_in(data.annotations(split).values())


def objects_in(annotations: Iterable[Annotations]) -> Objects:
    """The annotated objects of some images, numbered in the order given."""
    return Objects.of(
        [
            Objects(np.full(len(each), number), each.labels, each.boxes_xyxy, each.areas, each.crowd)
            for number, each in enumerate(annotations)
        ]
    )


def check_metric(metric: str) -> None:
    """Find out whether there is such a metric.

    Raises:
        SettingsError: there is not.
    """
    if metric not in METRICS:
        raise SettingsError(
            f"--metric {metric!r} is not one of {', '.join(METRICS)}.", closest(metric, METRICS) or None
        )


def labelled_images(data: PreparedData, split: str) -> NDArray[np.bool_]:
    """Which images of a split an annotation file lists, in order of its IDs.

    Raises:
        SettingsError: there is no such split.
        DataError: none is, so nothing can be scored.
    """
    labelled = np.array([each.labelled for each in data.annotations(split).values()], np.bool_)
    if not labelled.any():
        raise DataError(
            f"No image of split {split!r} of {data.root} is annotated, so nothing can be scored.",
            f"Annotations come from COCO files: xmodal prepare folder ... --annotations {split}=FILE",
        )
    return labelled


def score_detections(
    data: PreparedData,
    split: str,
    detections: Detections,
    *,
    metric: str = "voc",
    only: Sequence[int] | None = None,
) -> DetectionScores:
    """Score detections of a split; they are taken as they are, without cap, threshold or NMS.

    Args:
        data: a prepared data set.
        split: a name, or several joined by `+`.
        detections: `images` indexing the IDs of the split in order, `labels` the classes of the data set.
        metric: `voc`, the paper's AP at IoU 0.5, or `coco`.
        only: classes that are scored, by index; None scores all.

    Raises:
        SettingsError: there is no such metric or split.
        DataError: no image of the split is annotated, or none has an object.
        ValueError: a detection is of no image of the split.
    """
    check_metric(metric)
    labelled = labelled_images(data, split)
    if len(detections) and not 0 <= detections.images.min() <= detections.images.max() < len(labelled):
        raise ValueError(f"detections of image {detections.images.max()}; split {split!r} has {len(labelled)} images")
    found, objects, classes = detections[labelled[detections.images]], objects_of(data, split), data.classes
    if only is not None:
        found, objects = of_classes(found, only, classes)[0], of_classes(objects, only, classes)[0]
        classes = tuple(data.classes[index] for index in only)
    result = METRICS[metric](found, objects, classes)
    return DetectionScores(metric, result, split, int(labelled.sum()), int((~labelled).sum()))


def of_classes(flat: Flat, only: Sequence[int], classes: Sequence[str]) -> tuple[Flat, NDArray[np.int64]]:
    """Those detections or objects that are of some classes, and where they stood.

    Args:
        flat: labels index `classes`.
        only: the classes that are kept, by index; labels index these afterwards.
        classes: all of them.
    """
    place = np.full(len(classes), -1)
    place[list(only)] = np.arange(len(only))
    kept = np.flatnonzero(place[flat.labels] >= 0)
    return replace(flat[kept], labels=place[flat.labels[kept]]), kept


def evaluation_folder(runs: Path, name: str, split: str) -> Path:
    """A new folder `runs/evaluate/NAME-SPLIT-HEX`; it is not made yet.

    Args:
        runs: the folder of all runs.
        name: what is evaluated: a run's name, or those of fused runs joined by `+`.
        split: the split scored.
    """
    return runs / COMMAND / f"{name[:LONGEST_NAME]}-{split}-{secrets.token_hex(2)}"


def save_evaluation(
    folder: Path,
    scores: DetectionScores,
    detections: Detections,
    data: PreparedData,
    about: Mapping[str, Any],
) -> None:
    """Keep an evaluation: `detections.json`, `config.yaml` with all that decided it, and last `results.json`.

    Args:
        folder: where; made if it is not there.
        scores: the figures.
        detections: what was scored, also of images without annotations.
        data: the prepared data set.
        about: what made the detections: `subject`, `runs`, `proposals` and other settings that YAML can hold.
    """
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "command": COMMAND,
        **about,
        "data": {"name": data.name, "path": str(data.root.resolve())},
        "split": scores.split,
        "metric": scores.metric,
    }
    write_detections(folder / DETECTIONS, detections, data, scores.split)
    files.write_yaml(folder / CONFIG, document)
    files.write_json(folder / RESULTS, {**document, "results": scores.to_dict()})
