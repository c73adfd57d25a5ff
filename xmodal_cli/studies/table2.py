"""Table 2 of the paper: masks from hypercolumns, against masks from the region's own feature alone.

They are learned on the detectors of Table 1: row 3A's for colour, row 1D's for the other modality. A last row fuses
both, which the paper does on the test split (Table 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from xmodal_cli.metrics.paper import PaperTable
from xmodal_cli.studies.plan import Plan, Recipe
from xmodal_cli.studies.scores import AP_R_50, AP_R_70, MASKS
from xmodal_cli.studies.table1 import add_rgb, add_transferred

# By the name that a row has here: what hypercolumns are made of (None: the network's own choice), the paper's name.
FEATURES: Mapping[str, tuple[str | None, str]] = {
    "fc7": ("fc7", "fc7"),
    "hypercolumns": (None, "fc7_pool2_conv4"),
}
RGB, OTHER = "RGB", "D"
FUSED = f"{RGB}+{OTHER}/hypercolumns"


def recipe(plan: Plan, seed: int, data: Path) -> Recipe:
    """Every training of one seed, and what each row scores.

    Args:
        plan: what is asked for.
        seed: of all of them.
        data: what they learn from.
    """
    made = Recipe(plan, seed, data)
    detectors = {RGB: (add_rgb(made), "rgb"), OTHER: (add_transferred(made), plan.modality)}
    for name, (detector, modality) in detectors.items():
        for kind, (features, _) in FEATURES.items():
            given = {"modality": modality} if features is None else {"modality": modality, "features": features}
            made.segment(_masks(name, kind), f"{modality}: masks from {kind}", given, init=detector)
            made.score(f"{name}/{kind}", f"{modality}: {kind}", (_masks(name, kind),), MASKS)
    both = tuple(_masks(name, "hypercolumns") for name in detectors)
    made.score(FUSED, f"RGB + {plan.modality}: hypercolumns", both, MASKS)
    return made


def published(table: PaperTable, row: str) -> dict[str, float]:
    """The paper's figures of a row, by their names here."""
    modality, _, kind = row.partition("/")
    if modality not in table.rows:
        return {}
    about, column = table[modality].about, FEATURES[kind][1]
    return {AP_R_50: about["ap_r_0.5"][column], AP_R_70: about["ap_r_0.7"][column]}


def _masks(name: str, kind: str) -> str:
    return f"masks-{name.lower()}-{kind}"
