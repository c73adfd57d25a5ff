"""Transfer points for a detector that is to be cut: every layer that it reads, and the student's layer for each."""

from __future__ import annotations

from collections.abc import Sequence

from xmodal_cli.errors import SettingsError
from xmodal_cli.models.backbones import Backbone
from xmodal_cli.models.layer_names import module_path
from xmodal_cli.models.layers import layers, resolve_layer
from xmodal_cli.models.partners import partners
from xmodal_cli.transfer.points import TransferPoint


def points_read(
    teacher: Backbone, student: Backbone, read: Sequence[str], size_hw: tuple[int, int]
) -> list[TransferPoint]:
    """One transfer point for each layer that a detector reads.

    A student of the same network gives the same layers; of another one, those whose cells look at nearly the same
    places.

    Args:
        teacher: the network inside the detector.
        student: the network that will take its place.
        read: the detector's layers.
        size_hw: of the input.

    Raises:
        SettingsError: no detector teaches, or the student has no layer of some stride.

    Example:
        >>> from xmodal_cli.models.backbones import skeleton
        >>> vgg, alexnet = skeleton("vgg16"), skeleton("alexnet")
        >>> [str(point) for point in points_read(vgg, alexnet, ["conv5_3"], (224, 296))]
        ['conv5_3:conv5=1']
    """
    if not read:
        raise SettingsError(
            "--transfer auto takes the layers that a detector reads, and no detector teaches.",
            "Name a detector with --teacher-run or --teacher-detector, or the layers with --transfer.",
        )
    paths = {name: module_path(teacher, name) for name in read}
    if teacher.name == student.name:
        return [TransferPoint(name, resolve_layer(student, path)) for name, path in paths.items()]
    wanted = {layer.name: layer for layer in layers(teacher, size_hw, every=True)}
    offered = [layer for layer in layers(student, size_hw) if not layer.whole_image]
    late = [wanted[path] for path in paths.values()]
    found = partners(late, offered)
    missing = [layer for layer in late if layer.name not in found]
    if missing:
        strides = sorted({str(layer.stride) for layer in offered})
        raise SettingsError(
            f"{student.name} has no layer for {', '.join(layer.name for layer in missing)} of {teacher.name}, of "
            f"stride {', '.join(str(layer.stride) for layer in missing)}; its own have {', '.join(strides)}.",
            f"Name the points: --transfer {missing[0].name}:STUDENT_LAYER, or choose another student.",
        )
    return [TransferPoint(name, resolve_layer(student, found[path].layer.name)) for name, path in paths.items()]


def sizes_differ(size_hw: Sequence[int], looks: int, square: bool = False) -> list[str]:
    """What one should know of a student and a detector that see images at different sizes, for features differ too.

    Args:
        size_hw: at which the student learns.
        looks: the detector's short side, pixels.
        square: whether the detector squeezes every image into a square of that side.

    Example:
        >>> sizes_differ((224, 296), 224), len(sizes_differ((224, 296), 300, square=True))
        ([], 1)
    """
    height, width = size_hw
    if (height, width) == (looks, looks) or (not square and min(height, width) == looks):
        return []
    size = f"{looks}x{looks}" if square else str(looks)
    return [
        f"The student's images are of {height}x{width} px, and the detector looks at "
        f"{size if square else f'a short side of {size}'}: `xmodal distill --size {size}` would teach it what the "
        "detector sees."
    ]
