"""A classifier of whole images over any backbone and layer: the mean of the layer's map, and one linear layer.

The trunk keeps the keys of its plain network, so that `classifier.safetensors` loads there and a detector can begin
with it; the linear layer stands under `class_head.`.

Shapes: N images, C channels of the map, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xmodal_cli.models.backbones import Backbone, rebuild
from xmodal_cli.models.detector_shape import has_own_head, map_channels
from xmodal_cli.models.inputs import InputSpec
from xmodal_cli.models.layers import Tapped, default_layer, resolve_layer
from xmodal_cli.models.weights import CLASS_HEAD, load_file, load_tensors

HEAD_STD = 0.01  # Gaussian filler of the last layer, as detectors have it


class Classifier(nn.Module):
    """A network that names what an image shows.

    Args:
        backbone: the plain network; its weights are shared.
        layer: whose map is averaged; fc6 and fc7 are maps of one cell.
        classes: K.
        dropout: share of the averaged channels dropped in training.
        seed: of the last layer's random weights.

    Example:
        >>> from xmodal_cli.models.backbones import build
        >>> Classifier(build("squeezenet1_1"), "features", 5)(torch.zeros(2, 3, 64, 80)).shape
        torch.Size([2, 5])
    """

    def __init__(self, backbone: Backbone, layer: str, classes: int, *, dropout: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        self.trunk = Tapped(backbone, [layer])
        self.layer = layer
        self.input: InputSpec = backbone.input
        self.dropout = nn.Dropout(dropout)
        with torch.random.fork_rng(devices=[]):  # the layer draws weights of its own before it gets those of the seed
            self.class_head = nn.Linear(map_channels(backbone, layer), classes)
        nn.init.normal_(self.class_head.weight, std=HEAD_STD, generator=torch.Generator().manual_seed(seed))
        nn.init.zeros_(self.class_head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Scores before softmax, `(N, K)`, of images `(N, C, H, W)` normalised as `input` says."""
        maps = self.trunk(images.contiguous(memory_format=torch.channels_last))[self.layer]
        scores: Tensor = self.class_head(self.dropout(maps.mean((2, 3))))
        return scores

    def saved_state(self) -> dict[str, Tensor]:
        """Every tensor, under the plain network's keys and, of the last layer, under `class_head.`."""
        head = {f"{CLASS_HEAD}{key}": value for key, value in self.class_head.state_dict().items()}
        return {**self.trunk.kept_state(), **head}


def classified_layer(backbone: Backbone, name: str | None = None) -> str:
    """The layer that is classified: as named, else fc7 where the network has one of its own, else the default layer.

    Example:
        >>> from xmodal_cli.models.backbones import skeleton
        >>> classified_layer(skeleton("alexnet")), classified_layer(skeleton("squeezenet1_1"))
        ('fc7', 'features')
    """
    if name is not None:
        return resolve_layer(backbone, name)
    return "fc7" if has_own_head(backbone) else default_layer(backbone)


def read_classifier(folder: Path, described: Mapping[str, Any], seed: int = 0) -> tuple[Classifier, Backbone]:
    """The classifier of a finished run, in eval mode, and the plain network whose weights it shares.

    Args:
        folder: of the run.
        described: its card: `backbone`, `layer`, `classes` and `file`.
        seed: of layers that the classifier does not use, which are random.

    Raises:
        DataError: the weights cannot be read, or do not belong to this network.
    """
    path = folder / described["file"]
    backbone = rebuild(described["backbone"], seed=seed)
    backbone.weights = f"run:{folder}"
    classifier = Classifier(backbone, described["layer"], len(described["classes"]))
    load_tensors(classifier.saved_state(), load_file(path), str(path))
    return classifier.eval(), backbone
