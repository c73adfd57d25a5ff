"""The paper's tables made anew: the runs behind each row, measured figures beside the paper's, and what differs.

Tables 1, 2, 4, 5 and 7 are here. What is finished is used as it is, so that a table can grow by rows, seeds and splits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from xmodal_cli.errors import SettingsError, closest
from xmodal_cli.metrics.paper import PaperTable, paper_table
from xmodal_cli.runs.session import NOBODY, Watchers
from xmodal_cli.studies import table1, table2, table4, table5, table7
from xmodal_cli.studies.plan import PRESETS, Plan, Recipe
from xmodal_cli.studies.rows import MAP, Figure, Row
from xmodal_cli.studies.scores import FIGURES
from xmodal_cli.studies.steps import Moment, Step, run_study
from xmodal_cli.studies.trainings import COMMANDS, OF_THE_MACHINE

EXPLAINED = "explained variance"


def published_ap(table: PaperTable, row: str) -> dict[str, float]:
    """The paper's mAP of a row, under the name that it has here; nothing where the row is none of the paper's."""
    known = table.rows.get(row)
    return {} if known is None or known.mAP is None else {MAP: known.mAP}


@dataclass(frozen=True)
class Table:
    """A table that can be made.

    Args:
        recipe: the trainings and measurements of a seed on a data set.
        published: the paper's figures of a row, by their names here.
        modality: what the paper's students see.
        split: that it scores.
    """

    recipe: Callable[[Plan, int, Path], Recipe]
    published: Callable[[PaperTable, str], Mapping[str, float]] = published_ap
    modality: str = "hha"
    split: str = "val"


TABLES: Mapping[str, Table] = {
    "table1": Table(table1.recipe),
    "table2": Table(table2.recipe, table2.published),
    "table4": Table(table4.recipe),
    "table5": Table(table5.recipe),
    "table7": Table(table7.recipe, modality="flow", split="test"),
}
# What stands in every table anyway, or is no choice of a training.
NOT_COMPARED = {*OF_THE_MACHINE, "data", "seed", "split", "checkpoint_every"}


@dataclass(frozen=True)
class Reproduction:
    """A table made anew.

    Args:
        paper: the paper's table.
        plan: what was asked for.
        rows: in the paper's order.
        differences: what differs from the paper's settings, a line each.
    """

    paper: PaperTable
    plan: Plan
    rows: tuple[Row, ...]
    differences: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {
            "table": self.paper.name,
            "title": self.paper.title,
            "unit": "percent",
            "seeds": list(self.plan.seeds),
            "data": [str(data) for data in self.plan.every_data],
            "rows": [row.to_dict() for row in self.rows],
            "differences": list(self.differences),
        }


def known_table(name: str) -> Table:
    """A table by name.

    Raises:
        SettingsError: it cannot be made.
    """
    if name not in TABLES:
        near = closest(name, TABLES) or None
        raise SettingsError(f"There is no '{name}' to reproduce; there are {', '.join(TABLES)}.", near)
    return TABLES[name]


def recipes(plan: Plan) -> list[Recipe]:
    """The recipe of each seed on each data set, a whole table after the other.

    Raises:
        SettingsError: the table or a row of it cannot be made, or two data sets have the same name.
    """
    folders = [data.resolve().name for data in plan.every_data]
    if len(set(folders)) < len(folders):
        raise SettingsError(
            f"The data sets {', '.join(map(str, plan.every_data))} are told apart by the names of their folders, and "
            "two are alike.",
            "Rename one.",
        )
    make = known_table(plan.table).recipe
    made = [make(plan, seed, data) for seed in plan.seeds for data in plan.every_data]
    unknown = [row for row in plan.rows if row not in made[0].scores]
    if unknown:
        rows = ", ".join(made[0].scores)
        raise SettingsError(f"{plan.table} has no row {unknown[0]!r} for {plan.backbone}; there are {rows}.")
    return made


def steps(plan: Plan) -> list[Step]:
    """Everything that a table needs, each step once; seed after seed, so that a whole table is there early."""
    every = [step for recipe in recipes(plan) for step in recipe.steps(plan.rows or tuple(recipe.scores))]
    return list({step.name: step for step in every}.values())


def reproduce(
    plan: Plan, watch: Callable[[Moment], None] = lambda moment: None, watchers: Watchers = NOBODY
) -> Reproduction:
    """Make what is missing of a table, and put it together.

    Args:
        plan: what is asked for.
        watch: told of each step.
        watchers: told what happens within one.

    Raises:
        SettingsError: the table or a row cannot be made, or a run of that name was made with other settings.
        Interrupted: a step was stopped; doing it again goes on.
    """
    run_study(steps(plan), watch, watchers)
    return gather(plan)


def gather(plan: Plan) -> Reproduction:
    """The table as far as it is there."""
    made, paper = recipes(plan), paper_table(plan.table)
    rows = [_row(row, made, paper) for row in plan.rows or tuple(made[0].scores)]
    return Reproduction(paper, plan, tuple(rows), differences(plan, made[0]))


def _row(row: str, made: list[Recipe], paper: PaperTable) -> Row:
    found = {(recipe.data, recipe.seed): _figures(recipe, row) for recipe in made}
    names = list(FIGURES[made[0].scores[row].kind])
    names += [name for name in dict.fromkeys(name for each in found.values() for name in each) if name not in names]
    published = TABLES[paper.name].published(paper, row)
    figures = {name: _figure(name, found, published.get(name)) for name in names}
    return Row(row, made[0].scores[row].title.removeprefix("AP, "), figures)


def _figures(recipe: Recipe, row: str) -> dict[str, float]:
    """What was measured of a row with one seed on one data set, by name."""
    explained = _explained(recipe, row)
    found = {} if explained is None else {EXPLAINED: explained}
    for score in (recipe.scores[row], recipe.probes.get(row)):
        if score is not None and score.finished():
            found |= score.figures()
    return found


def _figure(name: str, found: Mapping[tuple[Path, int], Mapping[str, float]], published: float | None) -> Figure:
    """A figure of all data sets and seeds: the mean over data sets, of the seeds that all of them have."""
    by_data: dict[str, dict[int, float]] = {data.name: {} for data, _ in found}
    for (data, seed), figures in found.items():
        if name in figures:
            by_data[data.name][seed] = figures[name]
    first, *_ = by_data.values()
    shared = [seed for seed in first if all(seed in each for each in by_data.values())]
    mean = {seed: fmean(each[seed] for each in by_data.values()) for seed in shared}
    return Figure(mean, published, by_data if len(by_data) > 1 else {})


def _explained(recipe: Recipe, row: str) -> float | None:
    """Explained variance of the student behind a row's last detector, percent."""
    detector = recipe.name_of(recipe.scores[row].runs[-1])
    students = [name for name in recipe.needs.get(detector, ()) if recipe.trainings[name].command == "distill"]
    return recipe.trainings[students[0]].explained_variance() if students else None


def differences(plan: Plan, recipe: Recipe) -> tuple[str, ...]:
    """What differs from the paper's settings, a line each.

    Args:
        plan: what was asked for.
        recipe: of one seed.
    """
    lines = [f"network {plan.backbone}; the paper: AlexNet"] if plan.backbone not in ("alexnet", "caffenet") else []
    for command in COMMANDS:
        first = next((each for each in recipe.trainings.values() if each.command == command), None)
        if first is None:
            continue
        ours, theirs = first.settings(), PRESETS[command]["paper"]
        lines += [
            f"{command}: {name} {ours[name]}; the paper's preset: {theirs[name]}"
            for name in theirs
            if name not in NOT_COMPARED and name in ours and ours[name] != theirs[name]
        ]
    return tuple(lines)


@dataclass(frozen=True)
class PlannedStep:
    """A step of a plan that is not carried out.

    Args:
        name, title: of the step.
        finished: whether its result is there.
        seconds: an estimate; None where none is possible, or nothing is left to do.
    """

    name: str
    title: str
    finished: bool
    seconds: float | None


def estimate(plan: Plan, tell: Callable[[int, int], None] = lambda done, total: None) -> list[PlannedStep]:
    """What making a table means: every step, whether it is finished, and its time from two steps of each training.

    Args:
        plan: what is asked for.
        tell: told how many steps of how many have been looked at.
    """
    every = steps(plan)
    planned: list[PlannedStep] = []
    known: dict[str, float | None] = {}  # by title: seeds and splits cost the same
    for done, step in enumerate(every, start=1):
        finished, kind = step.finished(), step.title
        if not finished and kind not in known:
            known[kind] = step.seconds()
        planned.append(PlannedStep(step.name, step.title, finished, None if finished else known[kind]))
        tell(done, len(every))
    return planned
