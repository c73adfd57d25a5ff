"""`xmodal reproduce`: one of the paper's tables made anew, measured beside published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from xmodal_cli.cli.app import app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.options import DEFAULT_DATA, DEFAULT_RUNS, DataOption, RunsOption, option
from xmodal_cli.cli.output import out, table
from xmodal_cli.cli.progress import counting, duration
from xmodal_cli.cli.study import study_screen
from xmodal_cli.errors import SettingsError

if TYPE_CHECKING:
    from xmodal_cli.studies.plan import Plan
    from xmodal_cli.studies.reproduce import PlannedStep, Reproduction

EXAMPLES = """
xmodal reproduce table1 --data data/nyud2 --dry-run
xmodal reproduce table1 --data data/nyud2 --row 1B --row 1C --seed 0 --seed 1 --seed 2
xmodal reproduce table4 --data data/nyud2 --set distill.epochs=15 --set finetune.iterations=2000
xmodal reproduce table5 --data data/nyud2 --modality disparity --set distill.init=teacher
xmodal reproduce table1 --data data/nyud2 --preset paper --backbone caffenet --weights caffenet.safetensors
xmodal reproduce table7 --data data/jhmdb --more-data data/jhmdb-2 --more-data data/jhmdb-3
Then: xmodal visualize report runs/finetune/1B-0 runs/finetune/1C-0
"""
NETWORKS, WORK = "Networks", "Work"


@command(app, "reproduce", examples=EXAMPLES)
def reproduce_command(
    name: Annotated[str, typer.Argument(metavar="TABLE", help="table1, table2, table4, table5 or table7.")],
    data: DataOption = None,
    preset: Annotated[Literal["small", "paper"], option("small or paper. [default: small]", WORK)] = "small",
    more_data: Annotated[
        list[Path] | None,
        option("The same data in another split, repeatable; figures are then means over all. [default: none]", WORK),
    ] = None,
    modality: Annotated[str | None, option("What the students see. [default: hha; table7: flow]", WORK)] = None,
    row: Annotated[list[str] | None, option("Only this row; repeatable. [default: all]", WORK)] = None,
    seed: Annotated[list[int] | None, option("Make it with this seed; repeatable. [default: 0]", WORK)] = None,
    train_split: Annotated[str, option("What is learned from. [default: train]", WORK)] = "train",
    split: Annotated[str | None, option("What is scored. [default: val; table7: test]", WORK)] = None,
    changes: Annotated[
        list[str] | None,
        option(
            "COMMAND.SETTING=VALUE for every run of distill, finetune, segmentation or classification; repeatable.",
            WORK,
            "--set",
        ),
    ] = None,
    backbone: Annotated[
        str | None, option("Network of all rows. [default: squeezenet1_1; paper: alexnet]", NETWORKS)
    ] = None,
    weights: Annotated[Path | None, option("File of its ImageNet weights, instead of a download.", NETWORKS)] = None,
    second: Annotated[
        str | None,
        option("Teacher of rows 2C, 2D, 3D. [default: squeezenet1_0; paper: vgg16]", NETWORKS, "--second-teacher"),
    ] = None,
    second_weights: Annotated[Path | None, option("File of its ImageNet weights.", NETWORKS)] = None,
    runs: RunsOption = Path(DEFAULT_RUNS),
    dry_run: Annotated[
        bool, option("Show every step, whether it is finished, and its time; train nothing.", WORK, "--dry-run")
    ] = False,
) -> None:
    """Make one of the paper's tables anew: what is finished is used, the rest is run; measured beside published."""
    from xmodal_cli.studies import reproduce as study
    from xmodal_cli.studies.plan import NETWORKS as DEFAULTS
    from xmodal_cli.studies.plan import Plan

    known = study.known_table(name)
    plan = Plan(
        table=name,
        data=data or Path(DEFAULT_DATA),
        more_data=tuple(more_data or ()),
        runs=runs,
        modality=modality or known.modality,
        usual=known.modality,
        preset=preset,
        backbone=backbone or DEFAULTS[preset][0],
        second=second or DEFAULTS[preset][1],
        weights=weights,
        second_weights=second_weights,
        seeds=tuple(dict.fromkeys(seed or (0,))),
        rows=tuple(dict.fromkeys(row or ())),
        train=train_split,
        split=split or known.split,
        given=_changes(changes or ()),
    )
    if dry_run:
        with counting("steps looked at") as tell:
            planned = study.estimate(plan, tell)
        _show_plan(planned, plan)
        return
    with study_screen() as (tell_step, watchers):
        made = study.reproduce(plan, tell_step, watchers)
    _show(made)


def _changes(given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`COMMAND.SETTING=VALUE` as settings by command; unknown settings are found where they are used.

    Raises:
        SettingsError: one has another form.
    """
    from xmodal_cli.runs.training_settings import from_text
    from xmodal_cli.studies.trainings import COMMANDS, settings_of

    changes: dict[str, dict[str, Any]] = {command_name: {} for command_name in COMMANDS}
    for text in given:
        name, equals, value = text.partition("=")
        command_name, point, setting = name.partition(".")
        if not (equals and point and setting) or command_name not in changes:
            raise SettingsError(
                f"--set takes COMMAND.SETTING=VALUE; found '{text}'.", "Try --set finetune.iterations=2000"
            )
        setting = setting.replace("-", "_")
        changes[command_name][setting] = from_text(settings_of(command_name), setting, value)
    return changes


def _show(made: Reproduction) -> None:
    """The table, measured beside the paper's, and what differs."""
    from xmodal_cli.studies.rows import Figure

    none = Figure({})
    names = list(dict.fromkeys(name for row in made.rows for name in row.figures))
    several, columns = len(made.plan.seeds) > 1, ["row", ""]
    in_paper = {name for row in made.rows for name, each in row.figures.items() if each.paper is not None}
    for name in names:
        columns += [name, *["each seed"] * several, *["paper"] * (name in in_paper)]
    folders = list(made.rows[0].main.by_data)
    columns += folders
    rows = []
    for row in made.rows:
        cells = [row.id, row.title]
        for name in names:
            figure = row.figures.get(name, none)
            seeds_of = _each(figure.by_seed)
            cells += [_shown(figure.mean), *[seeds_of] * several, *[_shown(figure.paper)] * (name in in_paper)]
        cells += [_each(row.main.by_data[folder]) for folder in folders]
        rows.append(cells)
    seeds = ", ".join(map(str, made.plan.seeds))
    title = f"{made.paper.name}: {made.paper.title}; split {made.plan.split}, seeds {seeds}, percent"
    out.result(made, [table(title, columns, rows, left=2)], data=made.plan.data, split=made.plan.split)
    out.say("What differs from the paper's settings:")
    for line in made.differences:
        out.say(f"  {line}")


def _show_plan(planned: Sequence[PlannedStep], plan: Plan) -> None:
    """Every step, and how long it would take."""
    rows = [
        [each.name, each.title, "finished" if each.finished else duration(each.seconds) if each.seconds else "-"]
        for each in planned
    ]
    total = sum(each.seconds or 0.0 for each in planned)
    rows.append(["all", "trainings that are not finished", duration(total)])
    document = {"steps": [vars(each) for each in planned], "seconds": total}
    tables = [table(f"{plan.table}: plan", ["step", "", "time"], rows, left=2)]
    out.result(document, tables, data=plan.data, split=plan.split)
    out.next_step("the same command without --dry-run")


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _each(by_seed: Mapping[int, float]) -> str:
    return " ".join(f"{value:.1f}" for value in by_seed.values()) or "-"
