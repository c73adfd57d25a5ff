"""Where a student takes the place of a network's lower part: its map, brought into the terms of the part above.

The paper's franken network (paper, 'Applications to zero-shot detection'; recipe 6): the lower part comes from the
student of a transfer, everything above from a network that has learned on colour images, and nothing is trained. What
the part above wants is its own network's map: those channels, on that grid, at that scale. A joint gives it: the
transfer's adapter with the teacher's normalisation multiplied out of it, then the alignment of the two grids.

Shapes: N images, C_s and C_t channels of the student's and of the replaced layer, `h x w` cells of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xmodal_cli.models.align import Alignment
from xmodal_cli.models.backbones import full_name
from xmodal_cli.models.layers import grid
from xmodal_cli.models.networks import Backbone


@dataclass(frozen=True)
class JointShape:
    """What a student's map becomes.

    Args:
        network: `name`, `library` of the network whose lower part is replaced.
        layer: its layer, whose map is wanted.
        channels: of that map, C_t.
        adapter: whether the transfer's 1x1 convolution stays in the path; else the student was taught to give the
            wanted channels itself.
        relu: whether the adapter ends in a ReLU.
    """

    network: Mapping[str, Any]
    layer: str
    channels: int
    adapter: bool
    relu: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as cards hold them."""
        return {
            "network": dict(self.network),
            "layer": self.layer,
            "channels": self.channels,
            "adapter": self.adapter,
            "relu": self.relu,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> JointShape:
        """The shape that `to_dict` wrote."""
        return cls(**values)


class Joint(nn.Module):
    """Turns a student's map into that of the layer which it stands for.

    Args:
        student: the student.
        student_layer: whose map it is.
        student_channels: of that map, C_s.
        shape: what is wanted.
    """

    def __init__(self, student: Backbone, student_layer: str, student_channels: int, shape: JointShape) -> None:
        super().__init__()
        self.shape = shape
        self.adapter = nn.Conv2d(student_channels, shape.channels, 1) if shape.adapter else None
        self._student, self._layer = student, student_layer
        self._alignments: dict[tuple[int, int], Alignment] = {}

    def forward(self, maps: Tensor, image_hw: tuple[int, int]) -> Tensor:
        """The map of the replaced layer.

        Args:
            maps: the student's, `(N, C_s, h_s, w_s)`.
            image_hw: size of the input that it was computed from.

        Returns:
            `(N, C_t, h_t, w_t)`.
        """
        if self.adapter is not None:
            maps = self.adapter(maps)
            maps = maps.relu() if self.shape.relu else maps
        return self.alignment(image_hw)(maps) if self.moves_maps else maps

    @property
    def moves_maps(self) -> bool:
        """Whether maps are brought onto another network's grid, by matrices that belong to one size of images."""
        own, replaced = self._student, self.shape.network
        same = (own.name, own.library, self._layer) == (replaced["name"], replaced["library"], self.shape.layer)
        return not same

    def alignment(self, image_hw: tuple[int, int]) -> Alignment:
        """How the student's grid is brought onto the replaced one at an input size; found once for each."""
        image_hw = int(image_hw[0]), int(image_hw[1])  # PyTorch's tracer has tensors for sizes
        if image_hw not in self._alignments:
            own = grid(self._student, self._layer, image_hw)
            self._alignments[image_hw] = Alignment(own, grid(full_name(self.shape.network), self.shape.layer, image_hw))
        return self._alignments[image_hw]


@torch.no_grad()
def set_adapter(joint: Joint, weight: Tensor, bias: Tensor, divisor: Tensor) -> None:
    """Give a joint the adapter of a transfer, which predicted the replaced layer's map over a divisor.

    The divisor is positive, so that ReLU and alignment commute with it, and it can be multiplied into the convolution.

    Args:
        joint: has an adapter.
        weight: `(C_t, C_s, 1, 1)`.
        bias: `(C_t,)`.
        divisor: `(C_t,)`.
    """
    assert joint.adapter is not None, "a joint without an adapter has no weights"
    scale = divisor.double()
    joint.adapter.load_state_dict(
        {"weight": weight.double() * scale[:, None, None, None], "bias": bias.double() * scale}
    )
