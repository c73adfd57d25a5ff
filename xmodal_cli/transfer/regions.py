"""fc6 and fc7 as transfer points over regions: what a network says of each proposal instead of the whole image.

The paper's Table 4 carries fc6 and fc7 over by the features of proposals: cells of conv5 inside a box, through the
network's own fully connected layers, as the detector will use them (recipe 3.5). Pooling conv5 by region takes pool5's
place. Teacher and student get the same boxes in pixels of their common input, and each pools where its own cells look,
which does for regions what alignment does for maps.

Shapes: N images, P regions of each, R = N P regions of all, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from xmodal_cli.models.backbones import Backbone
from xmodal_cli.models.detector_shape import detection_layer, map_channels
from xmodal_cli.models.grid import Grid
from xmodal_cli.models.layers import Tapped, grid
from xmodal_cli.models.regions import RegionPool, own_connected, own_head

REGION_LAYERS = ("fc6", "fc7")  # the paper's names, which only networks with fully connected layers of their own have
DROPOUT = 0.5  # between fc6 and fc7 of a student in training (recipe 4.2); none on what is compared, none in a teacher
REGION_GRID = Grid((1.0, 1.0), (0.0, 0.0), (1, 1))  # a region's vector is a map of one cell


class RegionTapped(nn.Module):
    """A network read at fc6 or fc7 of regions, and at maps of the whole image beside them.

    It shares its weights with `backbone.module`, as `Tapped` does.

    Args:
        backbone: a network with fc6 and fc7 of its own.
        layers: what is read; at least one of `REGION_LAYERS`, others are maps.
        size_hw: of the input.

    Example:
        >>> import torch
        >>> from xmodal_cli.models.backbones import build
        >>> tapped = RegionTapped(build("caffenet"), ["conv3", "fc6"], (64, 96))
        >>> given = tapped(torch.zeros(2, 3, 64, 96), torch.tensor([[[0.0, 0.0, 96.0, 64.0]]] * 2))
        >>> {name: tuple(maps.shape) for name, maps in given.items()}
        {'conv3': (2, 384, 4, 6), 'fc6': (2, 4096, 1, 1)}
    """

    def __init__(self, backbone: Backbone, layers: Sequence[str], size_hw: tuple[int, int]) -> None:
        super().__init__()
        self.maps = [layer for layer in layers if layer not in REGION_LAYERS]
        self.conv = detection_layer(backbone)
        deepest = max(REGION_LAYERS.index(layer) for layer in layers if layer in REGION_LAYERS)
        self.keys = own_connected(backbone.module)[: deepest + 1]
        self.head, size = own_head(backbone.module, self.keys, map_channels(backbone, self.conv), DROPOUT)
        self.trunk = Tapped(backbone, list(dict.fromkeys([*self.maps, self.conv])))
        self.pool = RegionPool.of_grid("max", size, grid(backbone, self.conv, size_hw), centred=True)

    def forward(self, images: Tensor, boxes: Tensor) -> dict[str, Tensor]:
        """Maps of images, and vectors of regions.

        Args:
            images: `(N, C, H, W)`, normalised.
            boxes: `(N, P, 4)` float32 xyxy, pixels of the input, exclusive ends.

        Returns:
            By layer: maps `(N, C', h, w)`; fc6 and fc7 `(R, C', 1, 1)` after their ReLU, images one after another.
        """
        given: dict[str, Tensor] = self.trunk(images)
        values = self.pool(given[self.conv], list(boxes)).flatten(1)  # (R, C' S S), channel-major
        read = {layer: given[layer] for layer in self.maps}
        for name, layer in zip(REGION_LAYERS, self.head.layers, strict=False):
            activated = layer(values).relu()  # read before dropout, which the head's own output has behind it
            read[name] = activated[:, :, None, None]
            values = nn.functional.dropout(activated, DROPOUT, self.training)
        return read

    def kept_state(self) -> dict[str, Tensor]:
        """The parameters and buffers of the part that runs, under the plain model's keys."""
        return self.trunk.kept_state() | self.head.state_under(self.keys)


def tap(backbone: Backbone, layers: Sequence[str], regions_hw: tuple[int, int] | None) -> Tapped | RegionTapped:
    """A network read at some layers.

    Args:
        backbone: the network.
        layers: what is read.
        regions_hw: size of the input where fc6 and fc7 are read on regions; None reads everything on whole images.
    """
    wanted = list(dict.fromkeys(layers))
    return Tapped(backbone, wanted) if regions_hw is None else RegionTapped(backbone, wanted, regions_hw)


def read(tapped: nn.Module, inputs: Tensor, boxes: Tensor | None) -> dict[str, Tensor]:
    """What a tapped network says of normalised images, and of boxes `(N, P, 4)` in them where there are any."""
    given: dict[str, Tensor] = tapped(inputs) if boxes is None else tapped(inputs, boxes)
    return given
