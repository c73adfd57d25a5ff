"""`xmodal zero-shot`: a detector for a modality without labels, and what it finds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xmodal_cli.cli.app import app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.options import (
    DEFAULT_RUNS,
    DataOption,
    DeviceOption,
    PrecisionOption,
    RunsOption,
    given_anew,
    option,
)
from xmodal_cli.cli.output import out, table
from xmodal_cli.cli.progress import counting
from xmodal_cli.errors import SettingsError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from xmodal_cli.detect.zero_shot import Scoring, ZeroShotResult

EXAMPLES = """
xmodal distill --teacher-run runs/finetune/RGB_RUN --transfer auto --student squeezenet1_1 --modality hha
xmodal zero-shot --detector runs/finetune/RGB_RUN --student runs/distill/latest --split val
xmodal zero-shot --detector runs/finetune/RGB_RUN --student runs/distill/latest --fuse
xmodal zero-shot --detector runs/finetune/RGB_RUN --modality hha
xmodal zero-shot --detector fasterrcnn_resnet50_fpn --student runs/distill/latest --fuse
Then: xmodal predict runs/zero-shot/latest IMAGE
"""
JOINT, SCORES = "Joint", "Scores"


@command(app, "zero-shot", examples=EXAMPLES)
def zero_shot_command(
    detector: Annotated[str, option("A finetune run, or a torchvision detector; its lower part is replaced.", JOINT)],
    student: Annotated[
        Path | None,
        option("A distill run that the detector's own network taught. [default: none: the baseline to beat]", JOINT),
    ] = None,
    modality: Annotated[
        str | None, option("What the student sees; without one, what the detector is shown as it is.", JOINT)
    ] = None,
    detector_weights: Annotated[
        str | None,
        option("Of a torchvision detector: coco, random or a file. [default: what taught the student]", JOINT),
    ] = None,
    data: DataOption = None,
    split: Annotated[str, typer.Option("--split", help="Split that is scored.", rich_help_panel=SCORES)] = "val",
    fuse: Annotated[
        bool, typer.Option("--fuse", help="Score the detector too, and both fused.", rich_help_panel=SCORES)
    ] = False,
    join_only: Annotated[
        bool, typer.Option("--join-only", help="Make the run, score nothing.", rich_help_panel=SCORES)
    ] = False,
    class_: Annotated[
        list[str] | None,
        option(
            "DETECTOR_NAME=DATA_NAME, repeatable, kept by the run. [default: by name, and common other words]",
            SCORES,
            "--class",
        ),
    ] = None,
    metric: Annotated[str, typer.Option(help="voc (the paper's AP) or coco.", rich_help_panel=SCORES)] = "voc",
    proposals: Annotated[
        str | None, option("Name of the stored proposals. [default: those of the detector]", SCORES)
    ] = None,
    size: Annotated[int | None, option("Short side in pixels. [default: the detector's]", SCORES)] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    run_name: Annotated[str | None, option("Name of the run. [default: STUDENT-MODALITY-DATE-HEX]", JOINT)] = None,
    runs: RunsOption = Path(DEFAULT_RUNS),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run of that name.")] = False,
) -> None:
    """Detect in a modality that nobody labelled: a colour detector's upper part over a student's features."""
    from xmodal_cli.data.prepared import PreparedData
    from xmodal_cli.detect.class_names import read_pairs
    from xmodal_cli.detect.join import check_student, open_detector
    from xmodal_cli.detect.zero_shot import Scoring, zero_shot, zero_shot_vision
    from xmodal_cli.models.torchvision_detectors import is_detector
    from xmodal_cli.runs.folder import open_run

    vision = is_detector(detector) and not Path(detector).is_dir()
    trained = None if vision else open_detector(Path(detector))
    if trained is not None and detector_weights is not None:
        raise SettingsError("--detector-weights is for torchvision's detectors: a run has its own.", "Leave it out.")
    taught = None if student is None else open_run(student)
    if taught is not None:
        check_student(taught, modality)
    elif trained is None or modality is None:
        raise SettingsError(
            "No student was named.", "Pass --student RUN; or, for a run's baseline without one, --modality NAME."
        )
    seen = given_anew(data) or (taught or open_run(Path(detector))).recorded_data()
    scoring = None
    if not join_only:
        chosen = PreparedData.open(seen)
        scoring = Scoring(chosen, split, fuse, metric, proposals, size, device, precision)
    pairs = read_pairs(class_ or [])
    where: dict[str, Any] = {"classes": pairs, "runs": runs, "name": run_name, "overwrite": overwrite}
    with counting("images") as watch:
        if trained is None and taught is not None:
            result = zero_shot_vision(detector, taught, scoring, weights=detector_weights, watch=watch, **where)
        elif trained is not None:
            result = zero_shot(trained, taught or str(modality), scoring, watch=watch, **where)
    _report(result, scoring, seen, joined=taught is not None)


def _report(result: ZeroShotResult, scoring: Scoring | None, data: Path, *, joined: bool) -> None:
    """AP by class, and where everything is kept."""
    split = None
    tables: list[RenderableType] = [str(result.run)]
    if scoring is not None:
        split, what = scoring.split, f"{result.detector} for {result.modality}, no labels"
        title = f"{scoring.metric} AP in percent, split {split} of {data}: {what}"
        tables = [table(title, result.columns(), result.rows())]
    out.result(result, tables, runs=[result.run], data=data, split=split)
    for note in dict.fromkeys([*result.notes, *(note for each in result.scores.values() for note in each.notes)]):
        out.warn(note)
    left_out = (each.scores.classes_without_objects for each in result.scores.values())
    for missing in dict.fromkeys(filter(None, left_out)):
        out.say(f"the mean leaves out {', '.join(missing)}: no objects in this split")
    out.say(f"kept in {result.run}" + "".join(f", {each.folder}" for each in result.scores.values()))
    if scoring is None:
        out.next_step(f"xmodal evaluate {result.run} --data {data} --split val")
    elif not joined:
        out.next_step(
            f"xmodal distill --teacher-run {result.detector} --transfer auto --student squeezenet1_1 "
            f"--modality {result.modality} --data {data}"
        )
    elif not scoring.fuse and Path(result.detector).is_dir():
        out.next_step(f"xmodal evaluate {result.detector} {result.run} --data {data} --split {split}")
    else:
        out.next_step(f"xmodal visualize detections {result.run} --data {data}")
