"""Table 7 of the paper: action detection on JHMDB, from nothing, colour weights, labelled clips, or a transfer.

The paper learned actions and transferred on UCF101 (`--set classification.data=...`, `--set distill.data=...`); here
it is the data set itself otherwise. Copied colour weights, and colour fused with each, are added to the paper's rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from xmodal_cli.studies.plan import Plan, Recipe

RGB, STUDENT, CLASSIFIER = "7-rgb", "7-student", "7-classifier"
RANDOM, COPIED, CLASSIFIED, TRANSFERRED = "7-random", "7-copied", "7-classified", "7-transferred"
# Title and detectors of each row, by the paper's name where it has one. "{it}" is the modality.
ROWS: Mapping[str, tuple[str, Sequence[str]]] = {
    "rgb-fast-rcnn": ("RGB", (RGB,)),
    "flow-fast-rcnn-random": ("{it}: no initialisation", (RANDOM,)),
    "flow-copied": ("{it}: copied from RGB", (COPIED,)),
    "flow-fast-rcnn-supervised": ("{it}: taught to classify clips", (CLASSIFIED,)),
    "flow-transfer": ("{it}: transferred", (TRANSFERRED,)),
    "rgb+flow-random": ("RGB + {it}, no initialisation", (RGB, RANDOM)),
    "rgb+flow-copied": ("RGB + {it} copied", (RGB, COPIED)),
    "rgb+flow-supervised": ("RGB + {it} taught to classify clips", (RGB, CLASSIFIED)),
    "rgb+flow-transfer": ("RGB + {it} transferred", (RGB, TRANSFERRED)),
}


def recipe(plan: Plan, seed: int, data: Path) -> Recipe:
    """Every training of one seed on one split, and what each row scores.

    Args:
        plan: what is asked for.
        seed: of all of them.
        data: what they learn from.
    """
    made, sees = Recipe(plan, seed, data), {"modality": plan.modality}
    title = {names[-1]: text.format(it=plan.modality) for text, names in ROWS.values() if len(names) == 1}
    made.finetune(RGB, title[RGB], {"modality": "rgb", **plan.copied})
    made.finetune(
        RANDOM, title[RANDOM], {**sees, "init": "random", "backbone": plan.backbone}, preset=plan.no_init_preset
    )
    made.finetune(COPIED, title[COPIED], {**sees, **plan.copied})
    made.classify(CLASSIFIER, f"classifier of clips on {plan.modality}", {**sees, **plan.copied})
    made.finetune(CLASSIFIED, title[CLASSIFIED], sees, init=CLASSIFIER)
    made.distill(STUDENT, "student", {**sees, "student": plan.backbone, **plan.teacher})
    made.finetune(TRANSFERRED, title[TRANSFERRED], sees, init=STUDENT)
    for row, (text, detectors) in ROWS.items():
        made.score(row, text.format(it=plan.modality), detectors)
    return made
