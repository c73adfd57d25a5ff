"""Join a detector with a student, and see what that finds: alone, beside the detector itself, and fused with it.

The three rows of the paper's Table 5: RGB, the modality without labels, and both together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodal_cli.data.prepared import RGB, PreparedData
from xmodal_cli.data.proposals import if_stored, open_proposals, require
from xmodal_cli.detect.branches import Trained
from xmodal_cli.detect.class_names import check_given, match_classes
from xmodal_cli.detect.join import check_student, join_runs, size_notes
from xmodal_cli.detect.run_detection import Looking, check_encoding, check_of_regions
from xmodal_cli.detect.run_evaluation import DetectionEvaluation, evaluate_ensembles, evaluate_visions
from xmodal_cli.detect.scoring import check_metric, labelled_images
from xmodal_cli.detect.unadapted import show_unadapted
from xmodal_cli.detect.vision_join import Vision, join_vision, load_vision, taught_with, vision_size_notes
from xmodal_cli.errors import SettingsError
from xmodal_cli.models.torchvision_detectors import RANDOM, detector_classes
from xmodal_cli.runs.folder import RunFolder
from xmodal_cli.transfer.student import load_student

Watcher = Callable[[int, int], None]  # (images seen, images in all)
ALONE, DETECTOR, FUSED = "zero_shot", "detector", "fused"


@dataclass(frozen=True)
class ZeroShotResult:
    """What a joined detector is worth.

    Args:
        run: the joined detector's folder.
        detector, modality: what was joined, and what it sees now.
        scores: by what was scored: `zero_shot`; with fusion also `detector` and `fused`. Empty if nothing was.
        notes: what one should know of the joint.
    """

    run: Path
    detector: str
    modality: str
    scores: Mapping[str, DetectionEvaluation]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The `results` of `--json`."""
        return {
            "run": str(self.run),
            "detector": self.detector,
            "modality": self.modality,
            "notes": list(self.notes),
            **{name: each.to_dict() for name, each in self.scores.items()},
        }

    def columns(self) -> list[str]:
        """Heads of the table."""
        if set(self.scores) == {ALONE}:
            return ["class", "AP", "objects", "detections"]
        return ["class", "detector", f"zero-shot {self.modality}", "fused"]

    def rows(self) -> list[list[object]]:
        """A table of classes closed by the mean: a column for each row of Table 5, or of what there is of one."""
        if set(self.scores) == {ALONE}:
            return self.scores[ALONE].scores.rows()
        shown = [self.scores[name].scores for name in (DETECTOR, ALONE, FUSED) if name in self.scores]
        rows: list[list[object]] = [
            [name, *("no objects" if each.ap[name] is None else f"{each.ap[name]:.1f}" for each in shown)]
            for name in shown[0].ap
        ]
        return [*rows, ["mean", *(f"{each.mAP:.1f}" for each in shown)]]


@dataclass(frozen=True)
class Scoring:
    """How a joined detector is scored.

    Args:
        data: the prepared data set.
        split: a name, or several joined by `+`.
        fuse: whether the detector itself, and both together, are scored too.
        metric, proposals, size, device, precision: as in `run_evaluation.evaluate_runs`.
    """

    data: PreparedData
    split: str = "val"
    fuse: bool = False
    metric: str = "voc"
    proposals: str | None = None
    size: int | None = None
    device: str = "auto"
    precision: str = "fp32"

    def looking(self, classes: Mapping[str, str] | None = None) -> Looking:
        """How detectors look at the images."""
        return Looking(self.proposals, self.size, self.device, self.precision, classes)


def zero_shot(
    trained: Trained,
    student: RunFolder | str,
    scoring: Scoring | None,
    *,
    classes: Mapping[str, str] | None = None,
    runs: Path = Path("runs"),
    name: str | None = None,
    overwrite: bool = False,
    watch: Watcher = lambda done, total: None,
) -> ZeroShotResult:
    """Join a detector with a student, and score what comes of it.

    Args:
        trained: the detector.
        student: a finished transfer whose teacher is the network inside the detector; or a modality of the data set,
            which the detector is then shown as it is.
        scoring: how; None only joins.
        classes: the detector's word and the data set's, where they differ in a way that `class_names` does not know;
            the run keeps them.
        runs: the folder of all runs.
        name, overwrite: of the joined run.
        watch: told how many images have been seen.

    Raises:
        XmodalError: the two do not go together, or data and settings are at fault.
    """
    _check(scoring, trained.classes, student, classes or {})
    if scoring is not None:
        method = scoring.proposals or if_stored(str(trained.proposals["method"]), scoring.data)
        require(open_proposals(scoring.data, method), scoring.data.ids(scoring.split))
    where: dict[str, Any] = {"runs": runs, "name": name, "overwrite": overwrite, "class_names": classes}
    if isinstance(student, RunFolder):
        joined = join_runs(trained, student, **where)
        notes = tuple(size_notes(trained, student))
    else:
        if scoring is None:
            raise SettingsError("A detector without a student is only scored.", "Leave --join-only out.")
        joined = show_unadapted(trained, scoring.data, student, **where)
        notes = (f"No student: the detector looks at {student} as if it were what it learned on.",)
    modality = joined.card()["branches"][0]["modality"]
    scores: dict[str, DetectionEvaluation] = {}
    if scoring is not None:
        subjects = {ALONE: [joined]}
        if scoring.fuse:
            subjects |= {DETECTOR: [trained.run], FUSED: [trained.run, joined]}
        found = evaluate_ensembles(
            list(subjects.values()),
            scoring.data,
            scoring.looking(classes),
            split=scoring.split,
            metric=scoring.metric,
            root=runs,
            watch=watch,
        )
        scores = dict(zip(subjects, found, strict=True))
    return ZeroShotResult(joined.path, str(trained.run.path), modality, scores, notes)


def zero_shot_vision(
    detector: str,
    student: RunFolder,
    scoring: Scoring | None,
    *,
    classes: Mapping[str, str] | None = None,
    weights: str | None = None,
    runs: Path = Path("runs"),
    name: str | None = None,
    overwrite: bool = False,
    watch: Watcher = lambda done, total: None,
) -> ZeroShotResult:
    """As `zero_shot`, of a torchvision detector.

    Args:
        detector: torchvision's name.
        weights: `coco`, `random` or a file; by default those that taught the student.
        student, scoring, classes, runs, name, overwrite, watch: as in `zero_shot`.

    Raises:
        XmodalError: the two do not go together, or data and settings are at fault.
    """
    if scoring is not None:
        check_of_regions(scoring.proposals, scoring.size, scoring.precision)
    _check(scoring, detector_classes(detector), student, classes or {})
    joined = join_vision(
        detector, student, weights=weights, runs=runs, run_name=name, overwrite=overwrite, class_names=classes
    )
    below = load_vision(joined)
    scores: dict[str, DetectionEvaluation] = {}
    if scoring is not None:
        subjects = {ALONE: [below]}
        if scoring.fuse:
            whole = taught_with(detector, student, load_student(student), weights)
            colour = Vision(whole, RGB, whole.network.input)
            subjects |= {DETECTOR: [colour], FUSED: [colour, below]}
        for key, visions in subjects.items():
            scores[key] = evaluate_visions(
                visions,
                scoring.data,
                split=scoring.split,
                metric=scoring.metric,
                classes=classes,
                device=scoring.device,
                root=runs,
                watch=watch,
            )
    notes = vision_size_notes(below, student)
    if joined.card()["detector"]["weights"] == RANDOM:
        notes.append(f"The weights of {detector} are random: what it finds says nothing.")
    return ZeroShotResult(joined.path, detector, below.modality, scores, tuple(notes))


def _check(scoring: Scoring | None, known: Sequence[str], student: RunFolder | str, classes: Mapping[str, str]) -> None:
    """Refuse now, before a run is made, what could not be scored."""
    if scoring is None:
        check_given(classes, known, None)
        return
    check_metric(scoring.metric)
    scoring.looking().resolved()
    labelled_images(scoring.data, scoring.split)
    match_classes(known, scoring.data.classes, classes)
    if isinstance(student, RunFolder):
        check_student(student)
        check_encoding(student.card()["modality"], student.card()["encoding"], scoring.data)
