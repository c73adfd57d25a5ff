"""Which layers of two networks go together: the same stride, looking at nearly the same places, equally deep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xmodal_cli.models.layers import Layer


@dataclass(frozen=True)
class Partner:
    """A teacher's layer for a student's.

    Args:
        layer: the teacher's layer.
        offset_yx: from the student's cell centres to the teacher's, in input pixels, down and across.
    """

    layer: Layer
    offset_yx: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"name": self.layer.name, "channels": self.layer.channels, "offset_yx": list(self.offset_yx)}


def partners(student: Sequence[Layer], teacher: Sequence[Layer]) -> dict[str, Partner]:
    """For each layer of a student the teacher's layer that suits it best.

    Among the teacher's layers of the same stride: the one whose cells look nearest, and of those the one that comes
    equally late among its network's layers of that stride, so that the last goes with the last.

    Args:
        student: the student's layers, in order of depth.
        teacher: the teacher's, for the same input size.

    Returns:
        Partners by the student's layer names; layers whose stride the teacher has not are left out.

    Example:
        >>> student = [Layer("conv5", 256, 16.0, 10.0, (14, 14))]
        >>> teacher = [Layer("pool4", 512, 16.0, 7.5, (14, 14)), Layer("conv5_3", 512, 16.0, 7.5, (14, 14))]
        >>> partners(student, teacher)["conv5"].layer.name
        'conv5_3'
    """
    found: dict[str, Partner] = {}
    for layer in student:
        late = _lateness(layer, student)
        same_stride = [other for other in teacher if other.stride == layer.stride]
        if same_stride:
            distance = {other.name: max(abs(px) for px in _offset(layer, other)) for other in same_stride}
            best = min(same_stride, key=lambda other: (distance[other.name], abs(_lateness(other, teacher) - late)))
            found[layer.name] = Partner(best, _offset(layer, best))
    return found


def _lateness(layer: Layer, network: Sequence[Layer]) -> float:
    """Place among the network's layers of the same stride: 0 is the first, 1 the last."""
    stage = [other.name for other in network if other.stride == layer.stride]
    return stage.index(layer.name) / (len(stage) - 1) if len(stage) > 1 else 1.0


def _offset(student: Layer, teacher: Layer) -> tuple[float, float]:
    (teacher_y, teacher_x), (student_y, student_x) = _pair(teacher.first_centre), _pair(student.first_centre)
    return teacher_y - student_y, teacher_x - student_x


def _pair(value: float | tuple[float, float]) -> tuple[float, float]:
    return value if isinstance(value, tuple) else (value, value)
