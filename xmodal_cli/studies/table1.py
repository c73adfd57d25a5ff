"""Table 1 of the paper: what a detector gains from the transfer, alone, frozen, and beside one that sees colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xmodal_cli.studies.plan import Plan, Recipe

STUDENT, FINETUNED, SECOND, SECOND_RGB = "student", "student-finetuned", "student-second", "second-rgb"
# Which detectors a row scores together; the paper's rows 3B to 3D fuse row 3A's with another row's.
# "{it}" is the modality.
ROWS: Mapping[str, tuple[str, Sequence[str]]] = {
    "1A": ("{it}: no initialisation", ("1A",)),
    "1B": ("{it}: copied from RGB", ("1B",)),
    "1C": ("{it}: transferred", ("1C",)),
    "1D": ("{it}: transferred, teacher finetuned", ("1D",)),
    "2A": ("{it}, frozen: copied from RGB", ("2A",)),
    "2B": ("{it}, frozen: transferred, teacher finetuned", ("2B",)),
    "2C": ("{it}, frozen: transferred from the second network, finetuned", ("2C",)),
    "2D": ("{it}: transferred from the second network, finetuned", ("2D",)),
    "3A": ("RGB alone", ("3A",)),
    "3B": ("RGB + {it} copied", ("3A", "1B")),
    "3C": ("RGB + {it} transferred (1D's)", ("3A", "1D")),
    "3D": ("RGB + {it} transferred from the second network (2D's)", ("3A", "2D")),
}


def add_rgb(made: Recipe) -> str:
    """The detector of row 3A, which sees colour; its name."""
    made.finetune("3A", ROWS["3A"][0], {"modality": "rgb", **made.plan.copied})
    return "3A"


def add_student(made: Recipe) -> str:
    """The student that row 3A's network teaches; its name."""
    given = {"modality": made.plan.modality, "student": made.plan.backbone}
    made.distill(FINETUNED, "student of row 3A's network", given, teacher_run="3A")
    return FINETUNED


def add_transferred(made: Recipe) -> str:
    """The detector of row 1D, which begins with that student; its name."""
    title = ROWS["1D"][0].format(it=made.plan.modality)
    made.finetune("1D", title, {"modality": made.plan.modality}, init=add_student(made))
    return "1D"


def recipe(plan: Plan, seed: int, data: Path) -> Recipe:
    """Every training of one seed, in an order in which each finds what it needs, and what each row scores.

    Args:
        plan: what is asked for.
        seed: of all of them.
        data: what they learn from.
    """
    made, sees, new = Recipe(plan, seed, data), {"modality": plan.modality}, {"student": plan.backbone}
    frozen = {**sees, "freeze_through": plan.frozen_layer}
    title = {row: text.format(it=plan.modality) for row, (text, _) in ROWS.items()}

    def detector(row: str, given: Mapping[str, Any], init: str | None = None, preset: str | None = None) -> None:
        made.finetune(row, title[row], given, init=init, preset=preset)

    add_rgb(made)
    detector("1A", {**sees, "init": "random", "backbone": plan.backbone}, preset=plan.no_init_preset)
    detector("1B", {**sees, **plan.copied})
    made.distill(STUDENT, "student", {**sees, **new, **plan.teacher})
    detector("1C", sees, STUDENT)
    add_transferred(made)
    detector("2A", {**frozen, **plan.copied})
    detector("2B", frozen, FINETUNED)
    made.finetune(SECOND_RGB, "RGB alone, second network", {"modality": "rgb", **plan.second_copied})
    made.distill(SECOND, "student of the second network", {**sees, **new}, teacher_run=SECOND_RGB)
    detector("2C", frozen, SECOND)
    detector("2D", sees, SECOND)
    for row, (_, detectors) in ROWS.items():
        made.score(row, title[row], detectors)
    return made
