"""The class of a whole image: of its annotated objects, or else of the video that it was taken from.

A data set of single actions needs no files of its own for this: JHMDB has a box of the action's class in every frame,
UCF101 the action of every video.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from xmodal_cli.data.annotations import Annotations
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.videos import FRAME_FILE, read_frames, read_videos
from xmodal_cli.errors import DataError

EXAMPLES = 3  # images named in a message


@dataclass(frozen=True)
class ImageLabels:
    """The classes of images.

    Args:
        classes: their names.
        labels: index into them by ID; images without a class are not there.
        source: where they are from: `objects` or `videos`.
    """

    classes: tuple[str, ...]
    labels: Mapping[str, int]
    source: str

    def of(self, ids: Iterable[str]) -> list[str]:
        """Those of some images that have a class, in their order."""
        return [name for name in ids if name in self.labels]


def image_labels(data: PreparedData, split: str) -> ImageLabels:
    """The class of every image of a split that has one.

    The class of an image is that of its objects, crowds left out. Where no annotation file lists an image of the split,
    it is the action of the image's video.

    Args:
        data: a prepared data set.
        split: a name, or several joined by `+`.

    Raises:
        SettingsError: there is no such split.
        DataError: an image has objects of several classes, or none has a class.
    """
    annotations = data.annotations(split)
    if any(each.labelled for each in annotations.values()):
        found = ImageLabels(data.classes, _of_objects(annotations, data, split), "objects")
    else:
        found = _of_videos(data, split)
    if not found.labels:
        raise DataError(
            f"No image of split {split!r} of {data.root} has a class.",
            "Classes are those of annotated objects (xmodal prepare folder ... --annotations train=FILE), or actions "
            "of videos (xmodal prepare jhmdb, prepare ucf101, prepare video --actions).",
        )
    return found


def clips(data: PreparedData, ids: Iterable[str]) -> dict[str, str]:
    """The clip that each image is of: its video, else its scene; an image that has neither is a clip of its own."""
    videos = read_frames(data.root) if (data.root / FRAME_FILE).is_file() else {}
    return {name: videos[name].video if name in videos else data.scene(name) or name for name in ids}


def _of_objects(annotations: Mapping[str, Annotations], data: PreparedData, split: str) -> dict[str, int]:
    kinds = {name: sorted({int(label) for label in each.labels[~each.crowd]}) for name, each in annotations.items()}
    several = [name for name, found in kinds.items() if len(found) > 1]
    if several:
        shown = "; ".join(
            f"'{name}' ({', '.join(data.classes[label] for label in kinds[name])})" for name in several[:EXAMPLES]
        )
        raise DataError(
            f"{len(several)} of the {len(kinds)} images of split {split!r} of {data.root} have objects of several "
            f"classes: {shown}{', ...' if len(several) > EXAMPLES else ''}. Classification takes one class an image.",
            "Use a data set of one action or object an image; a detector learns several: --task detection.",
        )
    return {name: found[0] for name, found in kinds.items() if found}


def _of_videos(data: PreparedData, split: str) -> ImageLabels:
    if not (data.root / FRAME_FILE).is_file():
        return ImageLabels((), {}, "videos")
    videos, frames = read_videos(data.root), read_frames(data.root)
    classes = tuple(sorted({row.action for row in videos.values() if row.action}))
    actions = {name: videos[frames[name].video].action for name in data.ids(split) if name in frames}
    return ImageLabels(classes, {name: classes.index(each) for name, each in actions.items() if each}, "videos")
