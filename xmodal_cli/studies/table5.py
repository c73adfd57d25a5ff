"""Table 5 of the paper: a detector for a modality of which nobody labelled anything.

The paper's colour detector learned from COCO, which has no depth; here it is row 3A of Table 1, whose network teaches
the student as for row 1D. Beside the paper's rows stand the detector shown the modality as it is, which a joint must
beat, and row 1D, which has the labels, as the ceiling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from xmodal_cli.studies.plan import Plan, Recipe
from xmodal_cli.studies.table1 import FINETUNED, add_rgb, add_transferred

UNADAPTED, JOINED = "as-it-is", "zero-shot"
# Which detectors a row scores together. "{it}" is the modality.
ROWS: Mapping[str, tuple[str, Sequence[str]]] = {
    "RGB": ("RGB: the detector itself", ("3A",)),
    UNADAPTED: ("{it}: the detector as it is", (UNADAPTED,)),
    "D": ("{it}: zero-shot", (JOINED,)),
    "RGB+D": ("RGB + {it} zero-shot", ("3A", JOINED)),
    "labels": ("{it}: with labels (1D)", ("1D",)),
}


def recipe(plan: Plan, seed: int, data: Path) -> Recipe:
    """Every training of one seed, in an order in which each finds what it needs, and what each row scores.

    Args:
        plan: what is asked for.
        seed: of all of them.
        data: what they learn from.
    """
    made = Recipe(plan, seed, data)
    title = {row: text.format(it=plan.modality) for row, (text, _) in ROWS.items()}
    detector = add_rgb(made)
    add_transferred(made)
    made.zero_shot(UNADAPTED, title[UNADAPTED], detector, None, plan.modality)
    made.zero_shot(JOINED, title["D"], detector, FINETUNED, plan.modality)
    for row, (_, detectors) in ROWS.items():
        made.score(row, title[row], detectors)
    return made
