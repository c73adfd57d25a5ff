"""What `evaluate --task segmentation` does: detect, say which pixels each detection means, score, keep (recipe 5.4).

Several runs are fused: their detectors find objects together, and their masks' probabilities are averaged before they
are laid on superpixels. A detection keeps its score, and its box is not moved to its mask.

Shapes: N detections of all images together, R of one image, S x S places of a box.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from xmodal_cli import files
from xmodal_cli.data.masks import compressed, encode_masks
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.detection_files import read_detections, read_segmentations, write_detections
from xmodal_cli.detect.hypercolumns import BOXES_AT_ONCE, Segmenter, load_segmenter
from xmodal_cli.detect.mask_samples import check_masks
from xmodal_cli.detect.run_detection import AS_TRAINED, Looking, Together, at_size, detect_together
from xmodal_cli.detect.run_evaluation import reading_notes
from xmodal_cli.detect.scoring import (
    COMMAND,
    DETECTIONS,
    RESULTS,
    evaluation_folder,
    labelled_images,
    objects_of,
    of_classes,
)
from xmodal_cli.detect.superpixels import FOLDER, THRESHOLD, on_pixels, on_superpixels, superpixels_of
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.metrics.detections import Detections
from xmodal_cli.metrics.region_ap import RegionResult, region_ap
from xmodal_cli.runs.folder import CONFIG, RunFolder

Watcher = Callable[[int, int], None]  # (images seen, images in all)
METRIC = "region"
Rle = dict[str, Any]


@dataclass(frozen=True)
class Projection:
    """How probabilities at a box's places become a region of the image.

    Args:
        superpixels: whether whole superpixels are taken, or pixels.
        threshold: mean probability from which on they are.
        centred: as in `superpixels.paste`; runs decide it, by how they learned.
    """

    superpixels: bool = True
    threshold: float = THRESHOLD
    centred: bool = True

    def check(self) -> None:
        """Find out whether the threshold is a probability.

        Raises:
            SettingsError: it is not.
        """
        if not 0 < self.threshold < 1:
            raise SettingsError(f"--mask-threshold lies between 0 and 1, not at {self.threshold}.", "The paper: 0.4")


@dataclass(frozen=True)
class MaskEvaluation:
    """What was scored, on what, and how it came out.

    Args:
        subject: a few words for what was scored.
        runs: the runs that were fused, in order; empty for masks made elsewhere.
        data: the prepared data set.
        split: that was scored.
        result: the figures.
        images, unlabelled: how many images of the split were scored, and how many were not, being without annotations.
        folder: where they are kept.
        projection: how masks were made; None for those made elsewhere.
        superpixels: where superpixels came from: `imported`, `computed`, `both`, or `none`.
        seconds_per_image: of detecting and of masks.
        notes: what one should know when reading the figures.
    """

    subject: str
    runs: tuple[Path, ...]
    data: Path
    split: str
    result: RegionResult
    images: int
    unlabelled: int
    folder: Path
    projection: Projection | None = None
    superpixels: str = "none"
    seconds_per_image: float = 0.0
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The `results` of `--json`."""
        return {
            **self.result.to_dict(),
            "images": self.images,
            "images_without_annotations": self.unlabelled,
            "subject": self.subject,
            "superpixels": self.superpixels,
            "projection": self.projection and asdict(self.projection),
            "folder": str(self.folder),
            "notes": list(self.notes),
            "seconds_per_image": round(self.seconds_per_image, 4),
        }


@dataclass(frozen=True)
class Masked:
    """Detections with their masks.

    Args:
        detections: `images` index the IDs that were asked for, `labels` the data set's classes.
        masks: of each, compressed RLE.
        projection: how they were made.
        together: what found them.
    """

    detections: Detections
    masks: list[Rle]
    projection: Projection
    together: Together


def detect_masks(
    runs: Sequence[RunFolder],
    data: PreparedData,
    ids: Sequence[str],
    projection: Projection,
    looking: Looking = AS_TRAINED,
    *,
    watch: Watcher = lambda done, total: None,
    least_score: float | None = None,
) -> Masked:
    """Find objects in images of a data set, and the pixels of each.

    Args:
        runs: finished runs of masks; several are fused.
        data: the prepared data set.
        ids: which images.
        projection: how probabilities become regions.
        looking: how detectors look at images.
        watch: told how many images have been seen, of twice as many: first detectors look at all, then masks are made.
        least_score: weaker detections get no mask and are left out.

    Raises:
        XmodalError: settings, runs or data are at fault.
    """
    projection.check()
    loaded = [load_segmenter(run)[0] for run in runs]
    projection = replace(projection, centred=all(each.centred for each in loaded))
    count = len(ids)
    together = detect_together(
        runs,
        data,
        ids,
        looking,
        watch=lambda done, total: watch(done, 2 * count),
    )
    found = together.detections
    if least_score is not None:
        found = found[found.scores >= least_score]
    on, precision = looking.resolved()
    segmenters = [replace(each, branch=at_size(each.branch, looking.size)).to(on) for each in loaded]
    own_labels = _own_labels(together.classes.labels, len(data.classes))
    masks: list[Rle | None] = [None] * len(found)
    for number, name in enumerate(ids):
        mine = np.flatnonzero(found.images == number)
        if len(mine):
            here = found[mine]
            probabilities = fused_probabilities(
                segmenters, data, name, here.boxes_xyxy, own_labels[here.labels], on, precision
            )
            for index, mask in zip(mine, regions(probabilities, here.boxes_xyxy, data, name, projection), strict=True):
                masks[index] = mask
        watch(count + number + 1, 2 * count)
    return Masked(found, [mask for mask in masks if mask is not None], projection, together)


def _own_labels(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """The detector's label of each of a data set's classes that it knows; 0 elsewhere, where nothing is found."""
    known = np.flatnonzero(labels >= 0)
    own = np.zeros(classes, np.int64)
    own[labels[known]] = known
    return own


def fused_probabilities(
    segmenters: Sequence[Segmenter],
    data: PreparedData,
    name: str,
    boxes_xyxy: NDArray[np.float32],
    labels: NDArray[np.int64],
    device: torch.device,
    precision: str,
) -> NDArray[np.float32]:
    """Probability of figure at every place of boxes of one image, the mean of several networks': `(R, S, S)`."""
    cv2.setNumThreads(0)
    height, width = data.size_hw(name)
    inside = boxes_xyxy.clip(0, [width, height, width, height]).astype(np.float32)
    said = [
        each.probabilities(data.read(each.branch.modality, name), inside, labels, device=device, precision=precision)
        for each in segmenters
    ]
    return np.asarray(torch.stack(said).mean(0).numpy(), np.float32)


def regions(
    probabilities: NDArray[np.float32],
    boxes_xyxy: NDArray[np.float32],
    data: PreparedData,
    name: str,
    projection: Projection,
) -> list[Rle]:
    """Regions of one image, as compressed RLE, in the order of the boxes."""
    size_hw, threshold, centred = data.size_hw(name), projection.threshold, projection.centred
    labels = superpixels_of(data, name) if projection.superpixels else None
    found: list[Rle] = []
    for first in range(0, len(boxes_xyxy), BOXES_AT_ONCE):
        part = slice(first, first + BOXES_AT_ONCE)
        if labels is None:
            masks = on_pixels(probabilities[part], boxes_xyxy[part], size_hw, threshold, centred=centred)
        else:
            masks = on_superpixels(probabilities[part], boxes_xyxy[part], labels, threshold, centred=centred)
        found += encode_masks(masks, size_hw)
    return found


def evaluate_masks(
    runs: Sequence[RunFolder],
    data: PreparedData,
    *,
    split: str,
    projection: Projection = Projection(),
    proposals: str | None = None,
    size: int | None = None,
    classes: Mapping[str, str] | None = None,
    device: str = "auto",
    precision: str = "fp32",
    root: Path = Path("runs"),
    watch: Watcher = lambda done, total: None,
) -> MaskEvaluation:
    """Find masks in every image of a split with one run, or with several fused, and score them.

    Args:
        runs: finished runs of masks.
        data: the prepared data set.
        split: a name, or several joined by `+`.
        projection: how probabilities become regions.
        proposals, size, classes: as in `run_evaluation.evaluate_runs`.
        device, precision: where and how.
        root: the folder of all runs.
        watch: as in `detect_masks`.

    Raises:
        XmodalError: settings, runs or data are at fault.
    """
    check_masks(data, data.annotations(split))  # refused now, not after minutes of detection
    labelled_images(data, split)
    began, ids = time.monotonic(), data.ids(split)
    found = detect_masks(
        runs,
        data,
        ids,
        projection,
        Looking(proposals, size, device, precision, classes),
        watch=watch,
    )
    seconds = (time.monotonic() - began) / max(1, len(ids))
    about = {
        "subject": " + ".join(f"{each.card['what']}" for each in found.together.trained),
        "runs": [str(run.path) for run in runs],
        "proposals": {"method": found.together.proposals.method, "sha256": found.together.proposals.content_hash},
        "cutoffs": asdict(found.together.trained[0].cutoffs),
        "superpixels": origin(data, ids) if projection.superpixels else "none",
        "projection": asdict(found.projection),
        "classes": found.together.classes.to_dict(),
        "notes": reading_notes(found.together, data, split),
    }
    name, known = "+".join(run.path.name for run in runs), found.together.classes.known()
    return _scored(found.detections, found.masks, data, split, name, about, root, found.projection, seconds, known)


def evaluate_mask_file(path: Path, data: PreparedData, *, split: str, root: Path = Path("runs")) -> MaskEvaluation:
    """Score the masks of a COCO results file made elsewhere, exactly as they are given.

    Args:
        path: the file; every detection has a `segmentation`.
        data, split, root: as in `evaluate_masks`.

    Raises:
        DataError: the file is damaged, or a detection has no mask.
    """
    check_masks(data, data.annotations(split))
    found, ids = read_detections(path, data, split), data.ids(split)
    given = read_segmentations(path)
    if not all(given):
        raise DataError(
            f"'{path}', entry {[not each for each in given].index(True)} (from 0): it has no segmentation.",
            "Score boxes without --task segmentation, or give every detection its mask as COCO's RLE.",
        )
    sizes = [data.size_hw(ids[image]) for image in found.images.tolist()]
    masks = [mask for each, size in zip(given, sizes, strict=True) if (mask := compressed(each, size)) is not None]
    about = {"subject": f"masks in {path.name}", "runs": [], "detections": str(path.resolve()), "superpixels": "none"}
    return _scored(found, [_as_text(mask) for mask in masks], data, split, path.stem, about, root, None, 0.0)


def origin(data: PreparedData, ids: Sequence[str]) -> str:
    """Where the superpixels of images come from: `imported`, `computed`, or `both`."""
    there = sum((data.root / FOLDER / f"{name}.png").is_file() for name in ids)
    return "computed" if not there else "imported" if there == len(ids) else "both"


def _scored(
    found: Detections,
    masks: Sequence[Rle],
    data: PreparedData,
    split: str,
    name: str,
    about: Mapping[str, Any],
    root: Path,
    projection: Projection | None,
    seconds: float,
    only: Sequence[int] | None = None,
) -> MaskEvaluation:
    """Score masks, those of some classes if only these are known, and keep the result."""
    labelled = labelled_images(data, split)
    result = _compared(found, masks, data, split, labelled, range(len(data.classes)) if only is None else only)
    evaluation = MaskEvaluation(
        about["subject"],
        tuple(Path(run) for run in about["runs"]),
        data.root,
        split,
        result,
        int(labelled.sum()),
        int((~labelled).sum()),
        evaluation_folder(root, f"{name}-masks", split),
        projection,
        about["superpixels"],
        seconds,
        tuple(about.get("notes", ())),
    )
    _save(evaluation, found, masks, data, about)
    return evaluation


def _compared(
    found: Detections,
    masks: Sequence[Rle],
    data: PreparedData,
    split: str,
    labelled: NDArray[np.bool_],
    only: Sequence[int],
) -> RegionResult:
    """The figures of some classes, in the images that are annotated."""
    objects, real = of_classes(objects_of(data, split), only, data.classes)
    found, own = of_classes(found, only, data.classes)
    counted = np.flatnonzero(labelled[found.images])
    there = [
        compressed(segmentation, data.size_hw(image))
        for image, each in data.annotations(split).items()
        for segmentation in each.segmentations
    ]
    empty = encode_masks(np.zeros((1, 1), np.uint8), (1, 1))[0]  # of a crowd without one: nobody overlaps it
    return region_ap(
        found[counted],
        objects,
        tuple(data.classes[index] for index in only),
        [masks[index] for index in own[counted].tolist()],
        [there[index] or empty for index in real.tolist()],
    )


def _save(
    evaluation: MaskEvaluation,
    found: Detections,
    masks: Sequence[Rle],
    data: PreparedData,
    about: Mapping[str, Any],
) -> None:
    """Keep an evaluation: detections with masks, all that decided it, and last the figures."""
    folder = evaluation.folder
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "command": COMMAND,
        "task": "segmentation",
        **about,
        "data": {"name": data.name, "path": str(data.root.resolve())},
        "split": evaluation.split,
        "metric": METRIC,
    }
    write_detections(folder / DETECTIONS, found, data, evaluation.split, masks)
    files.write_yaml(folder / CONFIG, document)
    files.write_json(folder / RESULTS, {**document, "results": evaluation.to_dict()})


def _as_text(mask: Rle) -> Rle:
    counts = mask["counts"]
    return {**mask, "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}
