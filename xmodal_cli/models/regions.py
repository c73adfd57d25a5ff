"""What a network says of a region: the cells of its map inside a box, and the fully connected layers that read them.

RoI max pooling is Fast R-CNN's (recipe 4.2): corners rounded to cells, both ends inclusive, bins of whole cells.
RoIAlign samples between cells instead. Both can respect where a map's cells look (`Grid.first_centre_yx`), which the
original ignores: for its networks that is 0 to 10 px, for a network without padding a whole cell.

Shapes: N images, R regions of all images, C channels, h x w cells of the map, S x S cells of a region.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torchvision.ops import roi_pool

from xmodal_cli.models.grid import Grid
from xmodal_cli.models.roi_align import roi_align

Pooling = Literal["max", "align"]
POOLINGS: tuple[str, ...] = ("max", "align")
SAMPLES_PER_BIN = 2  # of RoIAlign, per side


@dataclass(frozen=True)
class RegionPool:
    """Cuts a fixed number of cells out of a map for each box.

    Args:
        pooling: `max` (RoI max pooling) or `align` (RoIAlign).
        size: cells per side, S.
        stride_yx: input pixels per cell, down and across.
        first_centre_yx: centre of the map's first cell in 0-based pixels of the input; None ignores it, as Fast R-CNN
            does.
    """

    pooling: Pooling
    size: int
    stride_yx: tuple[float, float]
    first_centre_yx: tuple[float, float] | None = None

    @classmethod
    def of_grid(cls, pooling: Pooling, size: int, grid: Grid, *, centred: bool) -> RegionPool:
        """The pool of a layer whose grid is known.

        Args:
            pooling: `max` or `align`.
            size: cells per side.
            grid: of the layer.
            centred: whether to respect where the cells look.
        """
        return cls(pooling, size, grid.stride_yx, grid.first_centre_yx if centred else None)

    def __call__(self, maps: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """The cells of each box.

        Args:
            maps: `(N, C, h, w)`; computed in float32, which the operators want on a CPU.
            boxes: per image `(R_n, 4)` float32 xyxy in pixels of the network's input, exclusive ends.

        Returns:
            `(R, C, S, S)` float32, regions in the order of the images.

        Example:
            >>> maps = torch.arange(16.0).view(1, 1, 4, 4)
            >>> RegionPool("max", 1, (16, 16))(maps, [torch.tensor([[0.0, 0.0, 32.0, 32.0]])]).item()
            10.0
        """
        stride = torch.tensor([self.stride_yx[1], self.stride_yx[0]] * 2, device=maps.device)
        first_y, first_x = self.first_centre_yx or (0.0, 0.0)
        shift = torch.tensor([first_x, first_y] * 2, device=maps.device)
        size = (self.size, self.size)
        if self.pooling == "max":
            last_pixel = torch.tensor([0.0, 0.0, 1.0, 1.0], device=maps.device)
            corners = [(each.float() - last_pixel - shift) / stride for each in boxes]
            pooled: Tensor = roi_pool(maps.float(), corners, size, 1.0)
            return pooled
        # The centre of pixel p is p + 0.5 in boxes with exclusive ends. Cell i is centred on pixel
        # first_centre + stride * i, and aligned RoIAlign takes i + 0.5 for its centre.
        cells = [(each.float() - 0.5 - shift) / stride + 0.5 for each in boxes]
        return roi_align(maps.float(), cells, self.size, SAMPLES_PER_BIN)

    def scaled(self, boxes_xyxy: Tensor, scale: float) -> Tensor:
        """Boxes of an image in pixels of the network's input.

        Fast R-CNN scales a box's first and last pixel; where it is followed, so is that.

        Args:
            boxes_xyxy: `(R, 4)` float32, pixels of the image, exclusive ends.
            scale: network's pixels per pixel of the image.

        Returns:
            `(R, 4)`, exclusive ends.

        Example:
            >>> RegionPool("max", 6, (16, 16)).scaled(torch.tensor([[0.0, 0.0, 9.0, 9.0]]), 2.0).tolist()
            [[0.0, 0.0, 17.0, 17.0]]
        """
        if self.first_centre_yx is not None:
            return boxes_xyxy * scale
        last_pixel = torch.tensor([0.0, 0.0, 1.0, 1.0], device=boxes_xyxy.device)
        return (boxes_xyxy - last_pixel) * scale + last_pixel

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as cards hold them."""
        return {
            "pooling": self.pooling,
            "size": self.size,
            "stride_yx": list(self.stride_yx),
            "first_centre_yx": self.first_centre_yx and list(self.first_centre_yx),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RegionPool:
        """The pool that `to_dict` wrote."""
        first = values["first_centre_yx"]
        return cls(values["pooling"], values["size"], tuple(values["stride_yx"]), first and tuple(first))


class RegionHead(nn.Module):
    """Fully connected layers over a region's cells, each with ReLU and dropout: the paper's fc6 and fc7.

    Args:
        layers: the layers; the first reads C * S * S numbers, channel-major as Caffe flattens.
        dropout: share of units dropped in training.
        keys: the plain network's names of these layers; None where they are not its own.
        reduction: a 1x1 convolution of the whole map before regions are cut from it, which makes everything after it
            cheaper; None for the paper's head.

    Example:
        >>> RegionHead([nn.Linear(8, 3)], 0.5)(torch.zeros(5, 2, 2, 2)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        layers: Sequence[nn.Linear],
        dropout: float,
        keys: Sequence[str] | None = None,
        reduction: nn.Conv2d | None = None,
    ) -> None:
        super().__init__()
        self.reduction = reduction
        self.layers = nn.ModuleList(layers)
        self.dropout = dropout
        self.keys = None if keys is None else list(keys)

    @property
    def linear(self) -> list[nn.Linear]:
        """The layers."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    @property
    def width(self) -> int:
        """Length of the feature that the head gives."""
        return self.linear[-1].out_features

    def reduced(self, maps: Tensor) -> Tensor:
        """The map that regions are cut from: `(N, C', h, w)` to `(N, C, h, w)`."""
        return maps if self.reduction is None else self.reduction(maps).relu()

    def forward(self, cells: Tensor) -> Tensor:
        """Features of regions: `(R, C, S, S)` to `(R, width)`."""
        return self.outputs(cells)[-1]

    def outputs(self, cells: Tensor) -> list[Tensor]:
        """What every layer gives, after its ReLU and dropout: fc6, fc7."""
        given = [cells.flatten(1)]
        for layer in self.layers:
            activated = layer(given[-1]).relu()
            given.append(nn.functional.dropout(activated, self.dropout, self.training))
        return given[1:]

    def state_under(self, names: Sequence[str]) -> dict[str, Tensor]:
        """The layers' tensors under other names, one for each layer."""
        layers = zip(names, self.linear, strict=True)
        return {f"{name}.{key}": value for name, layer in layers for key, value in layer.state_dict().items()}


def own_connected(module: nn.Module) -> list[str]:
    """Names of the plain network's own fc6 and fc7 (AlexNet, CaffeNet, VGG): its first two of three linear layers.

    Example:
        >>> from xmodal_cli.models.caffenet import CaffeNet
        >>> own_connected(CaffeNet())
        ['fc6', 'fc7']
    """
    linear = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    return linear[:2] if len(linear) == 3 else []


def own_head(module: nn.Module, keys: Sequence[str], channels: int, dropout: float) -> tuple[RegionHead, int]:
    """A head of the network's own layers, and how many cells per side its first one reads.

    Args:
        module: the plain network; its layers are shared, not copied.
        keys: names of the layers.
        channels: of the map that is pooled.
        dropout: share of units dropped in training.
    """
    layers = [module.get_submodule(key) for key in keys]
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    return RegionHead(linear, dropout, keys), math.isqrt(linear[0].in_features // channels)


def new_head(
    channels: int, size: int, widths: Sequence[int], dropout: float, reduced: int, generator: torch.Generator
) -> RegionHead:
    """A head of new layers with He's normal weights, made with its own generator so that nothing else moves.

    Args:
        channels: of the backbone's map.
        size: cells per side of a region.
        widths: of the layers.
        dropout: share of units dropped in training.
        reduced: channels of the map after a 1x1 convolution; 0 for none.
        generator: of the weights.
    """
    reduction = he_start(nn.Conv2d(channels, reduced, 1), generator) if reduced else None
    layers, inputs = [], (reduced or channels) * size**2
    for width in widths:
        layers.append(he_start(nn.Linear(inputs, width), generator))
        inputs = width
    return RegionHead(layers, dropout, reduction=reduction)


Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


@torch.no_grad()
def he_start(layer: Layer, generator: torch.Generator) -> Layer:
    """The layer with He's normal weights and no bias."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
