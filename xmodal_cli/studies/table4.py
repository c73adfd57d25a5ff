"""Table 4 of the paper: where to transfer. AP, explained variance and the region probe for each layer.

The teacher is a network finetuned on colour images, as in the paper (row 1D of Table 1). Layers of the student above
the transfer are random until the detector learns them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from xmodal_cli.studies.plan import Plan, Recipe
from xmodal_cli.studies.table1 import add_rgb

# A network's layers that stand where the paper's do, by the paper's name; networks with its names have all.
LAYERS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "squeezenet1_1": {
        "pool1": ("features.3",),
        "pool2": ("features.5",),
        "conv3": ("features.7",),
        "conv4": ("features.10",),
        "pool5": ("features",),
    },
}
PAPER_LAYERS: Mapping[str, tuple[str, ...]] = {
    **{layer: (layer,) for layer in ("pool1", "pool2", "conv3", "conv4", "pool5", "fc6", "fc7")},
    "conv3+fc7": ("conv3", "fc7"),
}
OVER_PROPOSALS = ("fc6", "fc7")  # read on regions, as a detector reads them


def layers(backbone: str) -> Mapping[str, tuple[str, ...]]:
    """The transfer points of each row for a network, by the paper's name of the layer."""
    return LAYERS.get(backbone, PAPER_LAYERS)


def recipe(plan: Plan, seed: int, data: Path) -> Recipe:
    """Every training of one seed, and what each row scores.

    Args:
        plan: what is asked for.
        seed: of all of them.
        data: what they learn from.
    """
    made, sees = Recipe(plan, seed, data), {"modality": plan.modality}
    teacher = add_rgb(made)
    for row, points in layers(plan.backbone).items():
        given = {**sees, "student": plan.backbone, "transfer": tuple(f"{each}:{each}" for each in points)}
        if set(points) & set(OVER_PROPOSALS):
            given["regions"] = "proposals"
        where = " + ".join(points)
        title = f"{plan.modality}: transferred at {where}"
        made.distill(f"student-{row}", f"student, transfer at {where}", given, teacher_run=teacher)
        made.finetune(f"at-{row}", title, sees, init=f"student-{row}")
        made.score(row, title, (f"at-{row}",))
        if not set(points) & set(OVER_PROPOSALS):
            made.probe(row, f"probe of {where}", f"student-{row}")
    return made
