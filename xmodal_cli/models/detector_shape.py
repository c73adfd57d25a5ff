"""A detector by description: everything but its weights, in plain values, so that a card can build it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from xmodal_cli.models.backbones import Backbone
from xmodal_cli.models.detector import Detector
from xmodal_cli.models.joint import Joint, JointShape
from xmodal_cli.models.layer_names import module_path, paper_names, usual_trace
from xmodal_cli.models.layers import default_layer, resolve_layer
from xmodal_cli.models.regions import RegionHead, RegionPool, new_head, own_connected, own_head


@dataclass(frozen=True)
class DetectorShape:
    """What a detector adds to its backbone.

    Args:
        layer: whose map the regions are cut from.
        pool: how.
        own_head: whether fc6 and fc7 are the plain network's own.
        widths: of the head's layers that are used, one or two.
        reduced: channels that the map is reduced to before regions are cut from it; 0 leaves it, as the paper does.
        dropout: share of the head's units dropped in training.
        box_regression: whether boxes are refined.
        joint: what the backbone's map becomes, where the backbone stands for another network's lower part.
    """

    layer: str
    pool: RegionPool
    own_head: bool
    widths: tuple[int, ...]
    reduced: int
    dropout: float
    box_regression: bool
    joint: JointShape | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as cards hold them."""
        values = {
            "layer": self.layer,
            "pool": self.pool.to_dict(),
            "own_head": self.own_head,
            "widths": list(self.widths),
            "reduced": self.reduced,
            "dropout": self.dropout,
            "box_regression": self.box_regression,
        }
        return values if self.joint is None else values | {"joint": self.joint.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DetectorShape:
        """The shape that `to_dict` wrote."""
        joint = values.get("joint")
        read = {
            "pool": RegionPool.from_dict(values["pool"]),
            "widths": tuple(values["widths"]),
            "joint": joint and JointShape.from_dict(joint),
        }
        return cls(**{**values, **read})


def detection_layer(backbone: Backbone, name: str | None = None) -> str:
    """The layer whose map a detector reads: as named, else conv5 where the paper has one, else the default layer.

    Example:
        >>> from xmodal_cli.models.backbones import skeleton
        >>> detection_layer(skeleton("vgg16")), detection_layer(skeleton("squeezenet1_1"))
        ('conv5_3', 'features')
    """
    if name is not None:
        return resolve_layer(backbone, name)
    return resolve_layer(backbone, "conv5") if has_own_head(backbone) else default_layer(backbone)


def has_own_head(backbone: Backbone, layer: str | None = None) -> bool:
    """Whether the plain network has fc6 and fc7 of its own that read the map of this layer: conv5 or pool5."""
    named = bool(paper_names(backbone.name, backbone.module)) and bool(own_connected(backbone.module))
    return named and (layer is None or layer.startswith(("conv5", "pool5")))


def map_channels(backbone: Backbone, layer: str) -> int:
    """Channels of a layer's map."""
    return usual_trace(backbone).layers[module_path(backbone, layer)].channels


def assemble(backbone: Backbone, shape: DetectorShape, classes: int, seed: int) -> Detector:
    """A detector of a shape: the backbone's weights as they are, everything new random.

    Args:
        backbone: the plain network; its weights are shared.
        shape: what is added to it.
        classes: K, without background.
        seed: of the new layers' weights; the global random state is not touched.
    """
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):  # layers draw weights of their own before they get those of the seed
        return Detector(
            backbone,
            shape.layer,
            shape.pool,
            _head(backbone, shape, random),
            classes,
            box_regression=shape.box_regression,
            generator=random,
            joint=None
            if shape.joint is None
            else Joint(backbone, shape.layer, map_channels(backbone, shape.layer), shape.joint),
        )


def own_widths_and_size(backbone: Backbone, layer: str) -> tuple[Sequence[int], int]:
    """Widths of the plain network's own fc6 and fc7, and how many cells per side fc6 reads."""
    keys = own_connected(backbone.module)
    head, size = own_head(backbone.module, keys, map_channels(backbone, layer), 0.0)
    return [layer.out_features for layer in head.linear], size


def _head(backbone: Backbone, shape: DetectorShape, random: torch.Generator) -> RegionHead:
    channels = shape.joint.channels if shape.joint else map_channels(backbone, shape.layer)
    if shape.own_head:
        keys = own_connected(backbone.module)[: len(shape.widths)]
        return own_head(backbone.module, keys, channels, shape.dropout)[0]
    return new_head(channels, shape.pool.size, shape.widths, shape.dropout, shape.reduced, random)
