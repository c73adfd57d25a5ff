"""What `evaluate` does with classifiers: name every image of a split with one, or with several fused, and keep it.

Several are fused by the mean of their probabilities, as two networks of colour and flow usually are.

Shapes: N images, K classes.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli import files
from xmodal_cli.classify.build import numbered
from xmodal_cli.classify.task import class_probabilities
from xmodal_cli.data.labels import clips, image_labels
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.run_detection import check_encoding
from xmodal_cli.detect.run_evaluation import learned_from
from xmodal_cli.detect.scoring import COMMAND, RESULTS, evaluation_folder
from xmodal_cli.detect.start import CLASSIFICATION
from xmodal_cli.errors import SettingsError
from xmodal_cli.metrics.classification import Accuracy, clip_accuracy, image_accuracy
from xmodal_cli.models.classifier import read_classifier
from xmodal_cli.runs.device import resolve_device, resolve_precision
from xmodal_cli.runs.folder import CONFIG, RunFolder

PREDICTIONS = "predictions.csv"

Watcher = Callable[[int, int], None]  # (images seen, images in all)


@dataclass(frozen=True)
class ClassificationEvaluation:
    """What was scored, on what, and how it came out.

    Args:
        subject: a few words for what was scored.
        runs: the runs that were fused, in order.
        data: the prepared data set.
        split: the split scored.
        images: accuracy on its images; clips: on their clips, None where images are of no clips.
        unlabelled: images of the split without a class, which are not scored.
        folder: where all this is kept.
        notes: what one should know when reading the figures.
        seconds_per_image: of naming.
    """

    subject: str
    runs: tuple[Path, ...]
    data: Path
    split: str
    images: Accuracy
    clips: Accuracy | None
    unlabelled: int
    folder: Path
    notes: tuple[str, ...]
    seconds_per_image: float

    def to_dict(self) -> dict[str, Any]:
        """The `results` of `--json`."""
        return {
            "task": CLASSIFICATION,
            "images": self.images.to_dict(),
            "clips": None if self.clips is None else self.clips.to_dict(),
            "images_without_class": self.unlabelled,
            "subject": self.subject,
            "folder": str(self.folder),
            "notes": list(self.notes),
            "seconds_per_image": round(self.seconds_per_image, 4),
        }


def evaluate_classifiers(
    runs: Sequence[RunFolder],
    data: PreparedData,
    *,
    split: str,
    device: str = "auto",
    precision: str = "fp32",
    root: Path = Path("runs"),
    watch: Watcher = lambda done, total: None,
) -> ClassificationEvaluation:
    """Name every image of a split that has a class with one run, or with several fused, and score that.

    Args:
        runs: finished runs of classification, of the same classes.
        data: the prepared data set.
        split: a name, or several joined by `+`.
        device, precision: where and how.
        root: the folder of all runs.
        watch: told how many images have been seen.

    Raises:
        XmodalError: settings, runs or data are at fault.
    """
    cards = [run.card() for run in runs]
    classes = _classes(runs, cards)
    for card in cards:
        check_encoding(card["modality"], card["encoding"], data)
    known = image_labels(data, split)
    _check_known(known.classes, classes, {known.classes[label] for label in known.labels.values()}, runs[0], data)
    ids, began = known.of(data.ids(split)), time.monotonic()
    probabilities = _fused(runs, cards, data, ids, device, precision, watch)
    seconds = (time.monotonic() - began) / len(ids)
    labels = np.array([classes.index(known.classes[known.labels[name]]) for name in ids])
    clip_of = clips(data, ids)
    groups = numbered(clip_of.values())
    evaluation = ClassificationEvaluation(
        " + ".join(card["what"] for card in cards),
        tuple(run.path for run in runs),
        data.root,
        split,
        image_accuracy(probabilities, labels, groups, classes),
        clip_accuracy(probabilities, labels, groups, classes),
        len(data.ids(split)) - len(ids),
        evaluation_folder(root, "+".join(run.path.name for run in runs), split),
        tuple(note for run in runs for note in learned_from(run, data, split)),
        seconds,
    )
    _keep(evaluation, data, clip_of, probabilities)
    return evaluation


def _classes(runs: Sequence[RunFolder], cards: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """The classes that all runs know.

    Raises:
        SettingsError: they are not the same.
    """
    for run, card in zip(runs[1:], cards[1:], strict=True):
        if card["classes"] != cards[0]["classes"]:
            raise SettingsError(
                f"{runs[0].path} and {run.path} cannot be fused: their classes are not the same.",
                "Fuse classifiers that were trained on the same classes.",
            )
    return tuple(cards[0]["classes"])


def _check_known(
    there: Sequence[str], classes: Sequence[str], scored: set[str], run: RunFolder, data: PreparedData
) -> None:
    """Find out whether the runs know every class that is scored.

    Raises:
        SettingsError: they do not.
    """
    strangers = [name for name in there if name in scored and name not in classes]
    if strangers:
        raise SettingsError(
            f"'{data.root}' has images of {', '.join(strangers[:6])}, which {run.path} does not know: it knows "
            f"{', '.join(classes[:6])}{', ...' if len(classes) > 6 else ''}.",
            "Score it on a data set of its own classes.",
        )


def _fused(
    runs: Sequence[RunFolder],
    cards: Sequence[dict[str, Any]],
    data: PreparedData,
    ids: Sequence[str],
    device: str,
    precision: str,
    watch: Watcher,
) -> NDArray[np.float32]:
    """The mean of the runs' probabilities, `(N, K)`."""
    on, mean = resolve_device(device), np.zeros((len(ids), len(cards[0]["classes"])), np.float32)
    for number, (run, card) in enumerate(zip(runs, cards, strict=True)):

        def seen(done: int, _: int, before: int = number * len(ids)) -> None:
            watch(before + done, len(runs) * len(ids))

        classifier, _ = read_classifier(run.path, card)
        height, width = card["size_hw"]
        mean += class_probabilities(
            classifier.to(on),
            data,
            ids,
            card["modality"],
            (height, width),
            device=on,
            precision=resolve_precision(precision, on),
            watch=seen,
        ) / len(runs)
    return mean


def _keep(
    evaluation: ClassificationEvaluation,
    data: PreparedData,
    clip_of: Mapping[str, str],
    probabilities: NDArray[np.float32],
) -> None:
    """Keep an evaluation: what each image was called, what decided it, and last `results.json`."""
    evaluation.folder.mkdir(parents=True)
    document = {
        "command": COMMAND,
        "task": CLASSIFICATION,
        "subject": evaluation.subject,
        "runs": [str(run) for run in evaluation.runs],
        "data": {"name": data.name, "path": str(data.root.resolve())},
        "split": evaluation.split,
    }
    found, text = evaluation.images, io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "clip", "class", "named", "probability"])
    for (name, clip), label, named, row in zip(clip_of.items(), found.labels, found.named, probabilities, strict=True):
        writer.writerow([name, clip, found.classes[label], found.classes[named], f"{row[named]:.4f}"])
    files.write_text(evaluation.folder / PREDICTIONS, text.getvalue())
    files.write_yaml(evaluation.folder / CONFIG, document)
    files.write_json(evaluation.folder / RESULTS, {**document, "results": evaluation.to_dict()})
