"""A torchvision detector as a teacher: the plain network inside it, at every layer that the detector reads."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xmodal_cli.data.prepared import RGB
from xmodal_cli.models.backbones import Backbone
from xmodal_cli.models.torchvision_detectors import BODIES, NARROWED, VisionDetector, build_detector, check_detector


@dataclass(frozen=True)
class TeacherDetector:
    """The network inside a torchvision detector; built when it is first asked for.

    Args:
        detector: torchvision's name.
        weights: `coco`, `random`, or a file.
    """

    detector: str
    weights: str

    @functools.cached_property
    def built(self) -> VisionDetector:
        """The detector."""
        return build_detector(self.detector, weights=self.weights)

    @property
    def modality(self) -> str:
        """What it sees."""
        return RGB

    @property
    def name(self) -> str:
        """The network's name, with its library."""
        return self.built.network.name

    @property
    def origin(self) -> str:
        """A few words for it."""
        return self.detector

    @property
    def network(self) -> Mapping[str, Any]:
        """The network's description."""
        return self.built.network.to_dict()

    def load(self) -> Backbone:
        """The network with the detector's weights and input specification."""
        return self.built.network

    def read_layers(self) -> tuple[str, ...]:
        """The layers that the detector reads."""
        return self.built.levels

    def with_plain_body(self) -> tuple[str, ...]:
        """Detectors whose body is this network as its library defines it."""
        return tuple(name for name in BODIES if BODIES[name] == BODIES[self.detector] and name not in NARROWED)

    def looks_at(self) -> tuple[int, bool]:
        """The short side, in pixels, at which it sees images; whether as a square."""
        return self.built.short_px, self.built.square

    def check_layers(self, backbone: Backbone, layers: Sequence[str]) -> None:
        """All layers of its body have learned."""

    def to_dict(self) -> dict[str, Any]:
        """What a student's card says of it."""
        return {"detector": self.detector, "weights": self.weights}


def teacher_detector(name: str, weights: str | None) -> TeacherDetector:
    """A torchvision detector that teaches.

    Args:
        name: as torchvision calls it.
        weights: `coco` if None.

    Raises:
        SettingsError: there is no such detector.
    """
    return TeacherDetector(check_detector(name), weights or "coco")
