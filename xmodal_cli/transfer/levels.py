"""Transfer points for a detector that is to be cut: every layer that it reads, and the student's layer for each."""

from __future__ import annotations

from collections.abc import Sequence

from xmodal_cli.errors import SettingsError
from xmodal_cli.models.backbones import Backbone
from xmodal_cli.models.layer_names import module_path
from xmodal_cli.models.layers import Tapped, layers, resolve_layer
from xmodal_cli.models.partners import partners
from xmodal_cli.models.stem import stem_name
from xmodal_cli.transfer.points import TransferPoint

NOTABLE_WORK = 2.0  # times as much that is worth a word


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
        strides = list(dict.fromkeys(str(layer.stride) for layer in offered))
        raise SettingsError(
            f"{student.name} has no layer for {', '.join(layer.name for layer in missing)} of {teacher.name}, of "
            f"stride {', '.join(str(layer.stride) for layer in missing)}; its own have {', '.join(strides)}.",
            f"Choose a student that has them, such as {teacher.name} itself, or name the points: "
            f"--transfer {missing[0].name}:STUDENT_LAYER",
        )
    return [TransferPoint(name, resolve_layer(student, found[path].layer.name)) for name, path in paths.items()]


def check_copy(teacher: Backbone, student: Backbone, needed: Sequence[str], others: Sequence[str] = ()) -> None:
    """Find out whether a student can start as a copy of its teacher.

    Args:
        teacher: the network that teaches.
        student: a network like the student.
        needed: the student's layers that are taught.
        others: detectors whose body is such a network, for the hint.

    Raises:
        SettingsError: weights below these layers have other shapes.
    """
    given, own = teacher.module.state_dict(), Tapped(student, needed).kept_state()
    stem = f"{stem_name(student.module, student.in_channels)}.weight"  # other channels are made to fit
    wrong = [key for key in own if key != stem and key in given and given[key].shape != own[key].shape]
    if not wrong:
        return
    parts = list(dict.fromkeys(key.rpartition(".")[0] for key in wrong))
    shapes = ["x".join(map(str, state[wrong[0]].shape)) for state in (given, own)]
    instead = f" Or teach with {' or '.join(others)}, whose body can be copied." if others else ""
    raise SettingsError(
        f"--init teacher: the teacher is no plain {teacher.name}, as the student is: {len(parts)} of its layers have "
        f"other widths, from {parts[0]} on ({shapes[0]}, the student's {shapes[1]}).",
        f"Leave --init out, or start with --init imagenet: adapters give the teacher's channels.{instead}",
    )


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
    times = looks**2 / (height * width if square else min(height, width) ** 2)
    cost = f", at {times:.0f} times the work" if times >= NOTABLE_WORK else ""
    return [
        f"The student's images are of {height}x{width} px, and the detector looks at "
        f"{size if square else f'a short side of {size}'}: `xmodal distill --size {size}` would teach it what the "
        f"detector sees{cost}."
    ]
