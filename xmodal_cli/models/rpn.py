"""A region proposal network (Ren et al., "Faster R-CNN", 2015) on any backbone and layer: which boxes hold an object.

Head, matching, sampling, losses and suppression are torchvision's. The anchors stand where the map's cells look
(`Grid`), which for networks without padding is neither at its multiples of the stride nor at that of torchvision.

Shapes: N images, A anchors of a cell, h x w cells of the map, G objects of an image, P proposals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead, concat_box_prediction_layers

from xmodal_cli.models.backbones import Backbone
from xmodal_cli.models.detector_shape import map_channels
from xmodal_cli.models.inputs import InputSpec
from xmodal_cli.models.layers import Tapped
from xmodal_cli.models.weights import RPN_HEAD, load_tensors

# Faster R-CNN's values: an anchor is an object from this overlap, none below that; 256 anchors of an image are learned
# from, half of them objects at most; proposals suppress weaker ones that overlap them by more.
OBJECT_IOU, BACKGROUND_IOU = 0.7, 0.3
ANCHORS_DRAWN, OBJECT_SHARE = 256, 0.5
SUPPRESSION_IOU = 0.7
BEFORE_SUPPRESSION = 12_000  # best boxes that suppression looks at
SMALLEST_SIDE_PX = 1.0  # of a proposal, in pixels of the network's input


@dataclass(frozen=True)
class RpnShape:
    """What a region proposal network adds to its backbone.

    Args:
        layer: whose map is read.
        reduced: channels that a 1x1 convolution leaves of the map before the head; 0 leaves it as it is.
        sizes_px: sides of the square anchors, in pixels of the network's input.
        ratios: heights of anchors over their widths.
        stride_yx, first_centre_yx: where the map's cells look, as in `Grid`.
    """

    layer: str
    reduced: int
    sizes_px: tuple[float, ...]
    ratios: tuple[float, ...]
    stride_yx: tuple[float, float]
    first_centre_yx: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as cards hold them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RpnShape:
        """The shape that `to_dict` wrote."""
        plain: dict[str, Any] = {name: tuple(each) if isinstance(each, list) else each for name, each in values.items()}
        return cls(**plain)


class Anchors(nn.Module):
    """Boxes around the centre of every cell of a map.

    Args:
        shape: their sizes and ratios, and where cells look.

    Example:
        >>> anchors = Anchors(RpnShape("conv", 0, (8.0,), (1.0,), (16.0, 16.0), (7.5, 7.5)))
        >>> anchors.of((1, 2)).tolist()
        [[4.0, 4.0, 12.0, 12.0], [20.0, 4.0, 28.0, 12.0]]
    """

    def __init__(self, shape: RpnShape) -> None:
        super().__init__()
        own = AnchorGenerator().generate_anchors(list(shape.sizes_px), list(shape.ratios))
        self.around: Tensor  # (A, 4) xyxy about the origin
        self.register_buffer("around", own, persistent=False)
        self.shape = shape

    def forward(self, images: ImageList, maps: Sequence[Tensor]) -> list[Tensor]:
        """For each image the anchors `(h * w * A, 4)` of its map, the only one, in the order of the head's outputs."""
        height, width = maps[0].shape[-2:]
        return [self.of((height, width))] * len(images.image_sizes)

    def of(self, size_hw: tuple[int, int]) -> Tensor:
        """The anchors of a map of so many cells: `(h * w * A, 4)` xyxy, input pixels, rows first."""
        # The centre of pixel p is p + 0.5 in boxes with exclusive ends.
        y, x = (
            torch.arange(count, device=self.around.device) * stride + first + 0.5
            for count, stride, first in zip(size_hw, self.shape.stride_yx, self.shape.first_centre_yx, strict=True)
        )
        y, x = torch.meshgrid(y, x, indexing="ij")
        centres = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
        return (centres + self.around).reshape(-1, 4)


class RpnOutputs(NamedTuple):
    """What the network says of every anchor: `objectness` (N, A, h, w) before sigmoid; `deltas` (N, 4 A, h, w)."""

    objectness: Tensor
    deltas: Tensor


class Rpn(nn.Module):
    """A region proposal network.

    Args:
        backbone: the plain network; its weights are shared.
        shape: what is added to it.
        seed: of the new layers' weights; the global random state is not touched.
    """

    def __init__(self, backbone: Backbone, shape: RpnShape, seed: int = 0) -> None:
        super().__init__()
        self.trunk, self.layer = Tapped(backbone, [shape.layer]), shape.layer
        self.input: InputSpec = backbone.input
        self.freeze_norms = backbone.weights != "random"
        channels = map_channels(backbone, shape.layer)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.reduction = nn.Conv2d(channels, shape.reduced, 1) if shape.reduced else None
            head = RPNHead(shape.reduced or channels, len(shape.sizes_px) * len(shape.ratios))
        everything = {"training": BEFORE_SUPPRESSION, "testing": BEFORE_SUPPRESSION}
        self.rpn = RegionProposalNetwork(
            Anchors(shape),
            head,
            OBJECT_IOU,
            BACKGROUND_IOU,
            ANCHORS_DRAWN,
            OBJECT_SHARE,
            everything,
            everything,
            SUPPRESSION_IOU,
        )
        self.rpn.min_size = SMALLEST_SIDE_PX

    def forward(self, images: Tensor) -> RpnOutputs:
        """What is said of every anchor of normalised images `(N, C, H, W)`."""
        objectness, deltas = self.rpn.head([self._maps(images)])
        return RpnOutputs(objectness[0], deltas[0])

    def losses(self, outputs: RpnOutputs, boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Binary cross-entropy of drawn anchors, and smooth L1 of those on objects; the draw is torch's own.

        Args:
            outputs: of a batch, in float32.
            boxes: per image `(G, 4)` float32 xyxy, input pixels, at least one each.
        """
        rpn = self.rpn
        height, width = outputs.objectness.shape[-2:]
        anchors = [rpn.anchor_generator.of((height, width))] * len(boxes)
        labels, matched = rpn.assign_targets_to_anchors(anchors, [{"boxes": each} for each in boxes])
        wanted = rpn.box_coder.encode(matched, anchors)
        objectness, deltas = concat_box_prediction_layers([outputs.objectness], [outputs.deltas])
        named, moved = rpn.compute_loss(objectness, deltas, labels, list(wanted))
        return named, moved

    @torch.no_grad()
    def propose(self, image: Tensor, most: int) -> Tensor:
        """Proposals for one normalised image `(1, C, H, W)`: `(P, 4)` xyxy, input pixels, best first, clipped.

        In eval mode only; P is at most `most`.
        """
        height, width = image.shape[-2:]
        found, _ = self.rpn(ImageList(image, [(height, width)]), {"map": self._maps(image).float()})
        boxes: Tensor = found[0][:most]
        return boxes

    def train(self, mode: bool = True) -> Rpn:
        """Training mode, but for norms with learned statistics: batches are too small to learn them anew."""
        super().train(mode)
        for part in self.trunk.modules():
            if isinstance(part, _NormBase) and self.freeze_norms:
                part.eval()
        return self

    def saved_state(self) -> dict[str, Tensor]:
        """Every tensor, under the plain network's keys and, for the rest, under `rpn_head.`."""
        state = dict(self.trunk.kept_state())
        state |= {f"{RPN_HEAD}{key}": value for key, value in self.rpn.head.state_dict().items()}
        if self.reduction is not None:
            state |= {f"{RPN_HEAD}reduction.{key}": value for key, value in self.reduction.state_dict().items()}
        return state

    def load_saved(self, state: Mapping[str, Tensor], what: str) -> None:
        """Load what `saved_state` gave.

        Raises:
            DataError: tensors are missing, unexpected or of another shape.
        """
        load_tensors(self.saved_state(), state, what)

    def _maps(self, images: Tensor) -> Tensor:
        maps: Tensor = self.trunk(images.contiguous(memory_format=torch.channels_last))[self.layer]
        return maps if self.reduction is None else self.reduction(maps).relu()
