"""What `evaluate` does with detectors: run one, or several side by side, score what they find, keep it beside the runs.

Detections made elsewhere are scored the same way, exactly as they are given.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.branches import is_vision
from xmodal_cli.detect.detection_files import read_detections
from xmodal_cli.detect.run_detection import (
    AS_TRAINED,
    Looking,
    Together,
    Watcher,
    check_of_regions,
    detect_each_together,
    detect_visions,
    same_kind,
)
from xmodal_cli.detect.scoring import (
    RESULTS,
    DetectionScores,
    check_metric,
    evaluation_folder,
    labelled_images,
    save_evaluation,
    score_detections,
)
from xmodal_cli.detect.vision_join import Vision, load_vision
from xmodal_cli.errors import DataError
from xmodal_cli.metrics.detections import Detections
from xmodal_cli.runs.folder import RunFolder


@dataclass(frozen=True)
class DetectionEvaluation:
    """What was scored, on what, and how it came out.

    Args:
        subject: a few words for what was scored.
        runs: the runs that were fused, in order; empty for detections made elsewhere.
        data: the prepared data set.
        scores: the figures.
        folder: where they are kept.
        notes: what one should know when reading them.
        seconds_per_image: of the pass over the images, which may have served others too; 0 for a finished file.
    """

    subject: str
    runs: tuple[Path, ...]
    data: Path
    scores: DetectionScores
    folder: Path
    notes: tuple[str, ...] = ()
    seconds_per_image: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The `results` of `--json`."""
        return {
            **self.scores.to_dict(),
            "subject": self.subject,
            "folder": str(self.folder),
            "notes": list(self.notes),
            "seconds_per_image": round(self.seconds_per_image, 4),
        }


def evaluate_runs(
    runs: Sequence[RunFolder],
    data: PreparedData,
    *,
    split: str,
    metric: str = "voc",
    proposals: str | None = None,
    size: int | None = None,
    device: str = "auto",
    precision: str = "fp32",
    root: Path = Path("runs"),
    classes: Mapping[str, str] | None = None,
    watch: Watcher = lambda done, total: None,
) -> DetectionEvaluation:
    """Detect in every image of a split with one run, or with several fused, and score it.

    Args:
        runs: finished detection runs.
        data: the prepared data set.
        split: a name, or several joined by `+`.
        metric: `voc`, the paper's AP, or `coco`.
        proposals: name of the stored proposals; by default those of the first run.
        size: short side in pixels for all; by default each run sees images at its own.
        device, precision: where and how.
        root: the folder of all runs.
        classes: the detector's word and the data set's, where they differ in a way that `class_names` does not know;
            None takes those that the runs were made with.
        watch: told how many images have been seen.

    Raises:
        XmodalError: settings, runs or data are at fault.
    """
    if any(is_vision(run) for run in runs):
        visions = [load_vision(run) for run in same_kind(runs)]
        check_of_regions(proposals, size, precision)
        return evaluate_visions(visions, data, split, metric, classes=classes, device=device, root=root, watch=watch)
    looking = Looking(proposals, size, device, precision, classes)
    (found,) = evaluate_ensembles([runs], data, looking, split=split, metric=metric, root=root, watch=watch)
    return found


def evaluate_ensembles(
    ensembles: Sequence[Sequence[RunFolder]],
    data: PreparedData,
    looking: Looking = AS_TRAINED,
    *,
    split: str,
    metric: str = "voc",
    root: Path = Path("runs"),
    watch: Watcher = lambda done, total: None,
) -> Iterator[DetectionEvaluation]:
    """Detect in every image of a split with several ensembles of runs in one pass, and score what each found.

    Args:
        ensembles: finished detection runs of Fast R-CNN, those fused together; a run may be in several.
        looking: how they look at images.
        data, split, metric, root, watch: as in `evaluate_runs`.

    Yields:
        The evaluation of each, when it is kept; nothing is kept before every image has been seen.

    Raises:
        XmodalError: settings, runs or data are at fault.
    """
    check_metric(metric)
    labelled_images(data, split)  # refused now, not after minutes of detection
    began, ids = time.monotonic(), data.ids(split)
    found = detect_each_together(ensembles, data, ids, looking, watch=watch)
    seconds = (time.monotonic() - began) / max(1, len(ids))
    for together in found:
        yield _scored_together(together, data, split, metric, root, seconds)


def _scored_together(
    together: Together, data: PreparedData, split: str, metric: str, root: Path, seconds_per_image: float
) -> DetectionEvaluation:
    trained, stored = together.trained, together.proposals
    about = {
        "subject": " + ".join(f"{each.card['what']}" for each in trained),
        "runs": [str(each.run.path) for each in trained],
        "proposals": {"method": stored.method, "sha256": stored.content_hash},
        "cutoffs": asdict(trained[0].cutoffs),
        "sizes": [branch.size.short for branch in together.branches],
        "classes": together.classes.to_dict(),
    }
    notes = reading_notes(together, data, split)
    name, known = "+".join(each.run.path.name for each in trained), together.classes.known()
    return _scored(together.detections, data, split, metric, name, about, notes, root, seconds_per_image, known)


def evaluate_visions(
    visions: Sequence[Vision],
    data: PreparedData,
    split: str,
    metric: str = "voc",
    *,
    classes: Mapping[str, str] | None = None,
    device: str = "auto",
    root: Path = Path("runs"),
    watch: Watcher = lambda done, total: None,
) -> DetectionEvaluation:
    """Score a torchvision detector, or several fused, as `evaluate_runs` does."""
    check_metric(metric)
    labelled_images(data, split)  # refused now, not after minutes of detection
    began, ids = time.monotonic(), data.ids(split)
    found, matched = detect_visions(visions, data, ids, classes=classes, device=device, watch=watch)
    seconds = (time.monotonic() - began) / max(1, len(ids))
    names = [vision.run.path.name if vision.run else vision.detector.name for vision in visions]
    about = {
        "subject": " + ".join(vision.card["what"] if vision.card else vision.detector.name for vision in visions),
        "runs": [str(vision.run.path) for vision in visions if vision.run],
        "classes": matched.to_dict(),
    }
    notes = [note for vision in visions if vision.run for note in learned_from(vision.run, data, split)]
    notes = matched.notes() + notes
    return _scored(found, data, split, metric, "+".join(names), about, notes, root, seconds, matched.known())


def evaluate_file(
    path: Path, data: PreparedData, *, split: str, metric: str = "voc", root: Path = Path("runs")
) -> DetectionEvaluation:
    """Score a COCO results file made elsewhere, exactly as it is given: no cap, no threshold, no suppression.

    Args:
        path: the file.
        data, split, metric, root: as in `evaluate_runs`.
    """
    found = read_detections(path, data, split)
    about = {"subject": f"detections in {path.name}", "runs": [], "detections": str(path.resolve())}
    return _scored(found, data, split, metric, path.stem, about, [], root, 0.0)


@dataclass(frozen=True)
class Earlier:
    """An evaluation to compare with: where it lies, its figures in percent, and how many objects it scored by class."""

    path: Path
    mAP: float
    ap: Mapping[str, float | None]
    objects: Mapping[str, int]


def earlier_evaluation(path: Path, split: str, metric: str) -> Earlier:
    """Read an evaluation that a new one can be compared with.

    Args:
        path: its folder, or its `results.json`.
        split, metric: of the new one.

    Raises:
        DataError: there is no such evaluation, or it was of another metric or split.
    """
    file = path / RESULTS if path.is_dir() else path
    try:
        document = json.loads(file.read_bytes())
        results = document["results"]
        found = Earlier(path, float(results["mAP"]), dict(results["AP"]), dict(results["objects"]))
        scored = document["split"], document["metric"]
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(
            f"'{file}' is no evaluation of a detector.", "Name a folder of runs/evaluate with a results.json."
        ) from None
    if scored != (split, metric):
        raise DataError(
            f"'{file}' scores split {scored[0]} by {scored[1]}; not {split} by {metric}.",
            "Compare evaluations of the same split and metric.",
        )
    return found


def classes_won(ours: DetectionScores, theirs: Earlier) -> dict[str, Any]:
    """Compare with an earlier evaluation class by class.

    Returns:
        `mAP` of theirs, `won`, `lost`, `tied`: how many classes; and `by_class`, the differences in percent.

    Raises:
        DataError: they scored other objects of a class that both have.
    """
    counts = {name: (count, theirs.objects.get(name, count)) for name, count in ours.result.objects.items()}
    differing = [f"{name} {here} against {there}" for name, (here, there) in counts.items() if here != there]
    if differing:
        raise DataError(
            f"'{theirs.path}' scored other objects: {', '.join(differing)}.", "Compare evaluations of the same images."
        )
    their_ap = {name: ap for name, ap in theirs.ap.items() if ap is not None}
    gains = {name: ap - their_ap[name] for name, ap in ours.ap.items() if ap is not None and name in their_ap}
    return {
        "against": str(theirs.path),
        "mAP": theirs.mAP,
        "won": sum(gain > 0 for gain in gains.values()),
        "lost": sum(gain < 0 for gain in gains.values()),
        "tied": sum(gain == 0 for gain in gains.values()),
        "by_class": {name: round(gain, 2) for name, gain in gains.items()},
    }


def reading_notes(together: Together, data: PreparedData, split: str) -> list[str]:
    """What one should know when reading the figures of what was found in a split."""
    notes, stored = together.classes.notes(), together.proposals
    for each in together.trained:
        name = each.run.path.name
        notes += learned_from(each.run, data, split)
        if each.proposals["method"] != stored.method:
            notes.append(f"{name} learned with the proposals {each.proposals['method']}, not {stored.method}.")
        elif _is(data, _learned(each.card)[0]) and each.proposals["description"]["sha256"] != stored.content_hash:
            notes.append(f"The proposals {stored.method} have been made anew since {name} learned with them.")
    return notes


def learned_from(run: RunFolder, data: PreparedData, split: str) -> list[str]:
    """How many of the images scored a run learned from, if any."""
    scored, learned = set(data.ids(split)), set[str]()
    for each in _learned(run.card()):
        if _is(data, each) and set(each["split"].split("+")) <= set(data.splits):
            learned |= set(data.ids(each["split"]))
    shared = len(scored & learned)
    return [f"{run.path.name} learned from {shared} of the {len(scored)} images scored."] if shared else []


def _learned(card: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What the parts of a detector learned from: its own data, or those of the two that a joint is made of."""
    above = [card["detector"]["data"]] if "data" in card.get("detector", {}) else []
    return above if card.get("student", card) is None else [*above, card["data"]]


def _is(data: PreparedData, described: Mapping[str, Any]) -> bool:
    """Whether a data set is the one that a card describes."""
    return Path(described["path"]) == data.root.resolve()


def _scored(
    found: Detections,
    data: PreparedData,
    split: str,
    metric: str,
    name: str,
    about: dict[str, Any],
    notes: Sequence[str],
    root: Path,
    seconds_per_image: float,
    only: Sequence[int] | None = None,
) -> DetectionEvaluation:
    """Score detections and keep the result."""
    scores = score_detections(data, split, found, metric=metric, only=only)
    folder = evaluation_folder(root, name, split)
    save_evaluation(folder, scores, found, data, {**about, "notes": list(notes)})
    runs = tuple(Path(run) for run in about["runs"])
    return DetectionEvaluation(about["subject"], runs, data.root, scores, folder, tuple(notes), seconds_per_image)
