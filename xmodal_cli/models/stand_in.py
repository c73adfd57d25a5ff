"""A student in the place of a torchvision detector's body: one map for each layer that the detector reads."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from xmodal_cli.models.detector_shape import map_channels
from xmodal_cli.models.joint import Joint, JointShape
from xmodal_cli.models.layers import Tapped
from xmodal_cli.models.networks import Backbone


class StandIn(nn.Module):
    """Gives a detector the maps that its own body would give.

    Args:
        student: the student's plain network; its weights are shared.
        layers: its layer for each level of the detector, shallow levels first.
        shapes: what each map becomes.
    """

    def __init__(self, student: Backbone, layers: Sequence[str], shapes: Sequence[JointShape]) -> None:
        super().__init__()
        self.student = Tapped(student, list(dict.fromkeys(layers)))
        self.layers = list(layers)
        self.joints = nn.ModuleList(
            Joint(student, layer, map_channels(student, layer), shape)
            for layer, shape in zip(layers, shapes, strict=True)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps of normalised images `(N, C, H, W)`: one `(N, C_t, h, w)` per level."""
        maps = self.student(images)
        size_hw = (images.shape[2], images.shape[3])
        return [joint(maps[layer], size_hw) for layer, joint in zip(self.layers, self.joints, strict=True)]
