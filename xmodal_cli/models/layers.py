"""Layers by name: which a network has, and where their cells look.

AlexNet, CaffeNet and VGG have the paper's names (`conv1` to `conv5` after the ReLU, VGG's also as `conv3_2`; `pool1` to
`pool5`; `fc6`, `fc7`); every layer of every network also has the path of its module.

Shapes: H x W pixels of the input, h x w cells of a map.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from xmodal_cli.errors import SettingsError
from xmodal_cli.models.grid import Grid
from xmodal_cli.models.layer_names import module_path, paper_names, resolve_layer, trace_at, usual_trace
from xmodal_cli.models.networks import Backbone, skeleton
from xmodal_cli.models.tapped import Tapped
from xmodal_cli.models.trace import Trace, TracedLayer

__all__ = ["Grid", "Layer", "Tapped", "default_layer", "grid", "layers", "missing_keys", "resolve_layer"]

MOST_DOTS = 1  # paths with more dots than this are not listed, only accepted
UNLISTED = ("Identity", "Dropout", "DropPath", "Dropout2d", "Flatten")


@dataclass(frozen=True)
class Layer:
    """A layer that can be a transfer point.

    Args:
        name: the paper's name, else the path of its module.
        channels: of its map.
        stride: input pixels between cells; a pair (down, across) where they differ.
        first_centre: centre of the first cell in 0-based pixels of the input; likewise.
        grid_hw: rows and columns of the map.
        whole_image: it gives one vector per image, as fully connected layers do: a map of one cell.
        field: input pixels that a cell sees, its receptive field; a pair where they differ.
    """

    name: str
    channels: int
    stride: float | tuple[float, float]
    first_centre: float | tuple[float, float]
    grid_hw: tuple[int, int]
    whole_image: bool = False
    field: float | tuple[float, float] = 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "channels": self.channels,
            "stride": self.stride,
            "first_centre": self.first_centre,
            "grid_hw": list(self.grid_hw),
            "whole_image": self.whole_image,
            "field": self.field,
        }


def layers(backbone: Backbone, image_hw: tuple[int, int], *, every: bool = False) -> list[Layer]:
    """The layers of a network whose maps have more than one cell, and the fully connected ones with a paper's name.

    Args:
        backbone: the network.
        image_hw: size of the input at which grids are counted.
        every: all module paths, not only the readable choice.

    Raises:
        SettingsError: the network does not take images of that size.
    """
    usual = usual_trace(backbone)
    now = trace_at(backbone, image_hw)
    by_path = {path: name for name, path in paper_names(backbone.name, backbone.module).items()}
    chosen = [(name, path) for path, name in by_path.items()]
    if every or not by_path:
        chosen = [(path, path) for path in _listed(backbone, usual, every=every)]
    return [_layer(name, now.layers[path]) for name, path in chosen if path in now.layers and path in usual.layers]


def _listed(backbone: Backbone, usual: Trace, *, every: bool) -> list[str]:
    """Paths worth listing: short ones, each tensor once under the name of the outermost module that hands it on."""
    maps = [layer for layer in usual.layers.values() if layer.grid.size_hw != (1, 1)]
    if every:
        return [layer.name for layer in maps]
    default, heads = default_layer(backbone), _after_features(backbone.module)
    last_name: dict[int, str] = {}
    for layer in maps:
        readable = layer.name.count(".") <= MOST_DOTS and layer.kind not in UNLISTED
        if (readable and layer.name.split(".")[0] not in heads) or layer.name == default:
            taken = last_name.get(layer.output)
            last_name[layer.output] = default if taken == default else layer.name
    return [layer.name for layer in maps if layer.name == last_name.get(layer.output)]


def _layer(name: str, traced: TracedLayer) -> Layer:
    (stride_y, stride_x), (first_y, first_x) = traced.grid.stride_yx, traced.grid.first_centre_yx
    field_h, field_w = traced.grid.field_hw
    return Layer(
        name,
        traced.channels,
        stride_y if stride_y == stride_x else (stride_y, stride_x),
        first_y if first_y == first_x else (first_y, first_x),
        traced.grid.size_hw,
        traced.layout == "NC",
        field_h if field_h == field_w else (field_h, field_w),
    )


def default_layer(backbone: Backbone) -> str:
    """The layer that is transferred unless another is asked for: pool5, else the last map before global pooling.

    timm's networks say what that is (`forward_features`); for torchvision's it is the last map that no classifier made.

    Raises:
        SettingsError: the network has no map at all.
    """
    if "pool5" in paper_names(backbone.name, backbone.module):
        return "pool5"
    usual, heads = usual_trace(backbone), _after_features(backbone.module)
    before_head = [
        layer
        for layer in usual.layers.values()
        if layer.grid.size_hw != (1, 1)
        and layer.kind not in UNLISTED
        and layer.layout != "NC"
        and layer.name.split(".")[0] not in heads
    ]
    if not before_head:
        raise SettingsError(f"{backbone.name} has no layer that gives a map.", "Choose another network.")
    return before_head[-1].name


def _after_features(module: nn.Module) -> set[str]:
    """Parts of a network that come after the features, by the names that timm and torchvision give them."""
    names = [name for name, _ in module.named_children()]
    heads = {"head", "fc", "classifier", "fc_norm", "head_drop", "global_pool", "avgpool", "attn_pool", "head_dist"}
    if "global_pool" in names:  # convolutions between pooling and classifier (MobileNetV3) see one cell
        heads |= set(names[names.index("global_pool") :])
    return heads & set(names)


def missing_keys(backbone: Backbone, layer_names: Sequence[str]) -> list[str]:
    """Keys of the plain network that the part up to these layers does not have, in the network's order."""
    kept = Tapped(backbone, layer_names).kept_state()
    return [key for key in backbone.module.state_dict() if key not in kept]


def grid(backbone: Backbone | str, layer: str, image_hw: tuple[int, int]) -> Grid:
    """Where the cells of a layer look.

    Args:
        backbone: a network or its name.
        layer: a paper's name or a module path.
        image_hw: size of the input.

    Example:
        >>> grid("vgg16", "pool5", (224, 224))
        Grid(stride_yx=(32.0, 32.0), first_centre_yx=(15.5, 15.5), size_hw=(7, 7))
    """
    network = _kept_skeleton(backbone) if isinstance(backbone, str) else backbone
    return trace_at(network, image_hw).layers[module_path(network, layer)].grid


@functools.lru_cache(maxsize=8)
def _kept_skeleton(name: str) -> Backbone:
    return skeleton(name)
