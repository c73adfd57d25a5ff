"""What `evaluate` does with detectors: run one, or several side by side, score what they find, keep it beside the runs.

Detections made elsewhere are scored the same way, exactly as they are given.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import Proposals, if_stored, open_proposals
from xmodal_cli.detect.branches import Branch, Trained, is_vision, load_trained
from xmodal_cli.detect.class_names import ClassMap, match_runs
from xmodal_cli.detect.detection_files import read_detections
from xmodal_cli.detect.predict import Ensemble, detect_ensembles
from xmodal_cli.detect.samples import SMALLEST_SIDE, ImageSize
from xmodal_cli.detect.scoring import (
    RESULTS,
    DetectionScores,
    check_metric,
    evaluation_folder,
    labelled_images,
    save_evaluation,
    score_detections,
)
from xmodal_cli.detect.vision import detect_each
from xmodal_cli.detect.vision_join import Vision, load_vision
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.metrics.detections import Detections
from xmodal_cli.runs.device import resolve_device, resolve_precision
from xmodal_cli.runs.folder import RunFolder

Watcher = Callable[[int, int], None]  # (images seen, images in all)


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
        seconds_per_image: of detection; 0 for detections made elsewhere.
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
    how: dict[str, Any] = {"proposals": proposals, "size": size, "classes": classes}
    (found,) = evaluate_ensembles(
        [runs], data, split=split, metric=metric, device=device, precision=precision, root=root, watch=watch, **how
    )
    return found


def evaluate_ensembles(
    ensembles: Sequence[Sequence[RunFolder]],
    data: PreparedData,
    *,
    split: str,
    metric: str = "voc",
    root: Path = Path("runs"),
    watch: Watcher = lambda done, total: None,
    **detecting: Any,
) -> list[DetectionEvaluation]:
    """Detect in every image of a split with several ensembles of runs in one pass, and score each as if alone.

    Args:
        ensembles: finished detection runs of Fast R-CNN, those fused together; a run may be in several.
        data, split, metric, root, watch: as in `evaluate_runs`.
        detecting: `proposals`, `size`, `device`, `precision` and `classes`, as there.

    Returns:
        Of each; `seconds_per_image` is the whole pass's in each of them.

    Raises:
        XmodalError: settings, runs or data are at fault.
    """
    check_metric(metric)
    labelled_images(data, split)  # refused now, not after minutes of detection
    began, ids = time.monotonic(), data.ids(split)
    found = detect_ensembles_of_runs(ensembles, data, ids, watch=watch, **detecting)
    seconds = (time.monotonic() - began) / max(1, len(ids))
    return [_scored_together(together, data, split, metric, root, seconds) for together in found]


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


def same_kind(runs: Sequence[RunFolder]) -> Sequence[RunFolder]:
    """Runs of torchvision detectors, all of them.

    Raises:
        SettingsError: others are among them: their proposals and scores cannot be averaged.
    """
    other = [str(run.path) for run in runs if not is_vision(run)]
    if other:
        raise SettingsError(
            f"Detectors of torchvision cannot be fused with Fast R-CNN on proposals: {', '.join(other)}.",
            "Evaluate them one by one.",
        )
    return runs


def check_of_regions(proposals: str | None, size: int | None, precision: str) -> None:
    """Find out whether something is asked of a torchvision detector that only Fast R-CNN on proposals does.

    Raises:
        SettingsError: it is.
    """
    asked = {
        "--proposals": proposals is not None,
        "--size": size is not None,
        "--precision": precision not in ("auto", "fp32"),
    }
    given = [name for name, used in asked.items() if used]
    if given:
        raise SettingsError(
            f"{' and '.join(given)}: torchvision's detectors make their own proposals, choose their own size, and run "
            "in fp32.",
            "Leave it out; it is for detectors of `xmodal finetune`.",
        )


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


def detect_visions(
    visions: Sequence[Vision],
    data: PreparedData,
    ids: Sequence[str],
    *,
    classes: Mapping[str, str] | None = None,
    device: str = "auto",
    watch: Watcher = lambda done, total: None,
) -> tuple[Detections, ClassMap]:
    """As `detect_together` with torchvision detectors: what was found, of the data set's classes, and which those are.

    Raises:
        XmodalError: settings, runs or data are at fault.
    """
    for vision in visions:
        check_encoding(vision.modality, vision.encoding, data)
    cards = [vision.card for vision in visions if vision.card]
    matched = match_runs(cards, visions[0].classes, data.classes, classes)
    return _renamed(detect_each(visions, data, ids, resolve_device(device), watch), matched), matched


@dataclass(frozen=True)
class Together:
    """What one detector, or several that are fused, found, and with what.

    Args:
        detections: `images` index the IDs that were asked for, `labels` the data set's classes.
        trained: the runs.
        branches: all their detectors, at the size that images were seen.
        proposals: where they looked.
        classes: which of the data set's classes they know.
    """

    detections: Detections
    trained: list[Trained]
    branches: list[Branch]
    proposals: Proposals
    classes: ClassMap


def detect_together(
    runs: Sequence[RunFolder],
    data: PreparedData,
    ids: Sequence[str],
    *,
    watch: Watcher = lambda done, total: None,
    **detecting: Any,
) -> Together:
    """Detect in some images of a data set with one run, or with several fused.

    Args:
        ids: which images.
        runs, data, watch: as in `evaluate_runs`.
        detecting: `proposals`, `size`, `device`, `precision` and `classes`, as there.

    Raises:
        XmodalError: settings, runs or data are at fault.
    """
    (found,) = detect_ensembles_of_runs([runs], data, ids, watch=watch, **detecting)
    return found


def detect_ensembles_of_runs(
    ensembles: Sequence[Sequence[RunFolder]],
    data: PreparedData,
    ids: Sequence[str],
    *,
    proposals: str | None = None,
    size: int | None = None,
    device: str = "auto",
    precision: str = "fp32",
    classes: Mapping[str, str] | None = None,
    watch: Watcher = lambda done, total: None,
) -> list[Together]:
    """As `detect_together` with each of several ensembles of runs, in one pass over the images."""
    if size is not None and size < SMALLEST_SIDE:
        raise SettingsError(f"--size must be at least {SMALLEST_SIDE} px, not {size}.")
    on = resolve_device(device)
    known = {run.path: load_trained(run) for runs in ensembles for run in runs}
    sized = {path: [at_size(branch, size) for branch in each.branches] for path, each in known.items()}
    for branch in (branch for branches in sized.values() for branch in branches):
        check_modality(branch, data)
        branch.detector.to(on)
    ready = []
    for runs in ensembles:
        trained = [known[run.path] for run in runs]
        check_together(trained)
        matched = match_runs([each.card for each in trained], trained[0].classes, data.classes, classes)
        stored = open_proposals(data, proposals or if_stored(str(trained[0].proposals["method"]), data))
        ready.append((trained, [branch for run in runs for branch in sized[run.path]], stored, matched))
    asked = [Ensemble(branches, stored, trained[0].cutoffs) for trained, branches, stored, _ in ready]
    every = detect_ensembles(asked, data, ids, device=on, precision=resolve_precision(precision, on), watch=watch)
    return [Together(_renamed(found, each[-1]), *each) for found, each in zip(every, ready, strict=True)]


def _renamed(found: Detections, matched: ClassMap) -> Detections:
    """Detections with the data set's classes for labels; of classes that it does not have there are none."""
    found = replace(found, labels=matched.labels[found.labels])
    return found[found.labels >= 0]


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


def check_together(trained: Sequence[Trained]) -> None:
    """Find out whether runs can be fused.

    Raises:
        SettingsError: their classes are not the same.
    """
    first = trained[0]
    for other in trained[1:]:
        if other.classes != first.classes:
            only = sorted(set(first.classes) ^ set(other.classes))
            what = f"only one of them knows {', '.join(only[:6])}" if only else "the order of their classes differs"
            raise SettingsError(
                f"{first.run.path} and {other.run.path} cannot be fused: {what}.",
                "Fuse detectors that were trained on the same classes.",
            )


def check_modality(branch: Branch, data: PreparedData) -> None:
    """Find out whether a data set has what a detector was trained to see.

    Raises:
        SettingsError: the modality is missing.
        DataError: it is there, but encoded in another way.
    """
    check_encoding(branch.modality, branch.encoding, data)


def check_encoding(modality: str, encoding: Mapping[str, Any] | None, data: PreparedData) -> None:
    """As `check_modality`, of a modality by name; where nothing is known of its encoding, any will do."""
    info = data.modality(modality)
    differing = {} if encoding is None else info.differences(encoding)
    if differing:
        told = ", ".join(f"{key} {wanted}, not {found}" for key, (wanted, found) in differing.items())
        raise DataError(
            f"The detector was trained on {modality} images of {told}, as '{data.root}' has them.",
            "Evaluate it on a data set that was prepared like its own.",
        )


def at_size(branch: Branch, size: int | None) -> Branch:
    """The branch, seeing images at another short side if one is given."""
    return branch if size is None else replace(branch, size=ImageSize(size, max(size, branch.size.longest)))


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
        elif _at_home(each.run, data) and each.proposals["description"]["sha256"] != stored.content_hash:
            notes.append(f"The proposals {stored.method} have been made anew since {name} learned with them.")
    return notes


def learned_from(run: RunFolder, data: PreparedData, split: str) -> list[str]:
    """How many of the images scored a run learned from, if any."""
    scored = set(data.ids(split))
    shared = len(scored & set(data.ids(run.card()["data"]["split"]))) if _at_home(run, data) else 0
    return [f"{run.path.name} learned from {shared} of the {len(scored)} images scored."] if shared else []


def _at_home(run: RunFolder, data: PreparedData) -> bool:
    """Whether a data set is the one that a run learned from."""
    return Path(run.card()["data"]["path"]) == data.root.resolve()


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
