"""The paper's tables made anew: the runs behind each row, measured figures beside the paper's, and what differs.

Tables 1, 2, 4 and 5 are here. Whatever is finished is used as it is, so that a table can grow by rows and seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from xmodal_cli.errors import SettingsError, closest
from xmodal_cli.metrics.paper import PaperTable, paper_table
from xmodal_cli.runs.session import NOBODY, Watchers
from xmodal_cli.studies import table1, table2, table4, table5
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
    """How a table is made anew.

    Args:
        recipe: the trainings and measurements of a seed.
        published: the paper's figures of a row, by their names here.
    """

    recipe: Callable[[Plan, int], Recipe]
    published: Callable[[PaperTable, str], Mapping[str, float]] = published_ap


TABLES: Mapping[str, Table] = {
    "table1": Table(table1.recipe),
    "table2": Table(table2.recipe, table2.published),
    "table4": Table(table4.recipe),
    "table5": Table(table5.recipe),
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
            "rows": [row.to_dict() for row in self.rows],
            "differences": list(self.differences),
        }


def recipes(plan: Plan) -> list[Recipe]:
    """The recipe of each seed.

    Raises:
        SettingsError: the table or a row of it cannot be made.
    """
    if plan.table not in TABLES:
        near = closest(plan.table, TABLES) or None
        raise SettingsError(f"There is no '{plan.table}' to reproduce; there are {', '.join(TABLES)}.", near)
    made = [TABLES[plan.table].recipe(plan, seed) for seed in plan.seeds]
    unknown = [row for row in plan.rows if row not in made[0].scores]
    if unknown:
        rows = ", ".join(made[0].scores)
        raise SettingsError(f"{plan.table} has no row {unknown[0]!r} for {plan.backbone}; there are {rows}.")
    return made


def steps(plan: Plan) -> list[Step]:
    """Everything that a table needs, seed after seed, so that a whole table is there early."""
    return [step for recipe in recipes(plan) for step in recipe.steps(plan.rows or tuple(recipe.scores))]


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
    measured: dict[str, dict[int, float]] = {name: {} for name in FIGURES[made[0].scores[row].kind]}
    for recipe in made:
        found = {} if (explained := _explained(recipe, row)) is None else {EXPLAINED: explained}
        for score in (recipe.scores[row], recipe.probes.get(row)):
            if score is not None and score.finished():
                found |= score.figures()
        for name, value in found.items():
            measured.setdefault(name, {})[recipe.seed] = value
    published = TABLES[paper.name].published(paper, row)
    figures = {name: Figure(by_seed, published.get(name)) for name, by_seed in measured.items()}
    return Row(row, made[0].scores[row].title.removeprefix("AP, "), figures)


def _explained(recipe: Recipe, row: str) -> float | None:
    """Explained variance of the student behind a row's last detector, percent."""
    detector = recipe.scores[row].runs[-1].name.removesuffix(f"-{recipe.seed}")
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
    known: dict[str, float | None] = {}  # by name without the seed: seeds cost the same
    for done, step in enumerate(every, start=1):
        finished, kind = step.finished(), step.name.rpartition("-")[0]
        if not finished and kind not in known:
            known[kind] = step.seconds()
        planned.append(PlannedStep(step.name, step.title, finished, None if finished else known[kind]))
        tell(done, len(every))
    return planned
