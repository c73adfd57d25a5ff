"""A transferred student on disk, read back: weights under the plain model's keys, and the card that explains them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xmodal_cli.models.backbones import Backbone, rebuild
from xmodal_cli.models.detector_shape import detection_layer
from xmodal_cli.models.layers import Tapped
from xmodal_cli.models.weights import load_file, load_into
from xmodal_cli.runs.folder import RunFolder
from xmodal_cli.transfer.regions import REGION_LAYERS

STUDENT, ADAPTER = "student.safetensors", "adapter.safetensors"


@dataclass(frozen=True)
class Student:
    """A transferred student, ready to give features.

    Args:
        backbone: the plain network, with its own input specification; layers above the last transfer point are random.
        layers: the student's transfer layers, in the order of the card. Where fc6 and fc7 were compared on regions, the
            map that these were cut from (conv5) stands for them: of a whole image they were taught nothing.
        modality: what it sees.
        card: the run's card.
    """

    backbone: Backbone
    layers: tuple[str, ...]
    modality: str
    card: dict[str, Any]

    def tapped(self) -> Tapped:
        """The part up to the last transfer point, in eval mode."""
        return Tapped(self.backbone, list(dict.fromkeys(self.layers))).eval()


def load_student(run: RunFolder, seed: int = 0) -> Student:
    """Read the student of a finished run.

    Args:
        run: its folder.
        seed: of the layers above the last transfer point, which are random.

    Raises:
        DataError: the run is not finished, or its files do not belong together.
    """
    card = run.card()
    path = run.path / STUDENT
    height, width = card["size_hw"]
    backbone = rebuild(card["student"], image_hw=(height, width), seed=seed)
    load_into(backbone.module, load_file(path), str(path), allowed_missing=card["missing_keys"])
    backbone.weights = f"run:{run.path}"
    layers = [point["student"] for point in card["transfer"]]
    if card.get("regions"):
        layers = [detection_layer(backbone) if layer in REGION_LAYERS else layer for layer in layers]
    return Student(backbone, tuple(layers), card["modality"], card)
