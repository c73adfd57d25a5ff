"""Which scenes may be used: those whose labelled images are in the chosen split, so that no tested room was seen.

The labelled images name their scenes (`basement_0001a`). Folders of raw video have the same names, or that of another
part of the same place (`basement_0001b`), or an ending that some packagings add (`_out`). A place whose parts are in
two splits is used part by part, exactly as the labelled images name them; all else of it stays out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

NAME = re.compile(r"(?P<place>.*?_\d+)(?P<part>[a-z]?)", re.IGNORECASE)
ENDINGS = ("_out",)


@dataclass(frozen=True)
class Member:
    """What is known of a folder of raw video.

    Args:
        scene: the scene it counts as: the place, or the part where the place's parts are in several splits.
        split: its split; None where nothing tells.
        reason: why there is no split; empty where there is one.
    """

    scene: str
    split: str | None
    reason: str = ""


def scene_of_folder(folder: str) -> str:
    """The scene that a folder is named after.

    Example:
        >>> scene_of_folder("kitchen_0004a_out"), scene_of_folder("nyu_office_0")
        ('kitchen_0004a', 'nyu_office_0')
    """
    for ending in ENDINGS:
        folder = folder.removesuffix(ending)
    return folder


def place_of(scene: str) -> str:
    """The place that a scene is a part of: its name without the letter of the part.

    Example:
        >>> place_of("living_room_0046b"), place_of("kitchen_0004"), place_of("my_rig")
        ('living_room_0046', 'kitchen_0004', 'my_rig')
    """
    found = NAME.fullmatch(scene)
    return scene if found is None else found["place"]


def member(folder: str, splits: Mapping[str, str]) -> Member:
    """The split of a folder of raw video.

    Args:
        folder: its name.
        splits: split by scene, as the labelled images have it.

    Example:
        >>> splits = {"basement_0001a": "train", "cafe_0001a": "train", "cafe_0001b": "test"}
        >>> member("basement_0001b", splits)
        Member(scene='basement_0001', split='train', reason='')
        >>> member("cafe_0001b_out", splits).split, member("cafe_0001c", splits).split
        ('test', None)
    """
    scene = scene_of_folder(folder)
    place = place_of(scene)
    of_place = {split for other, split in splits.items() if place_of(other) == place}
    if not of_place:
        return Member(place, None, "no labelled image is of this scene")
    if len(of_place) == 1:
        return Member(place, of_place.pop())
    if scene in splits:
        return Member(scene, splits[scene])
    shown = " and ".join(sorted(of_place))
    return Member(scene, None, f"parts of the same place are in {shown}")


def members(folders: Iterable[str], splits: Mapping[str, str], *, named_only: bool = False) -> dict[str, Member]:
    """`member` of many folders, by name.

    Args:
        folders: their names.
        splits: split by scene.
        named_only: whether a part that is not named stays out: where a list says nothing of other splits, another part
            of a place may be in any of them.

    Example:
        >>> found = members(["den_0001a", "den_0001b"], {"den_0001a_out": "train"}, named_only=True)
        >>> found["den_0001a"].split, found["den_0001b"].reason
        ('train', 'the list of scenes does not name it')
    """
    known = {scene_of_folder(scene): split for scene, split in splits.items()}
    if named_only:
        unnamed = "the list of scenes does not name it"
        return {
            folder: Member(place_of(scene), split, "" if split else unnamed)
            for folder in folders
            for scene in [scene_of_folder(folder)]
            for split in [known.get(scene, known.get(place_of(scene)))]
        }
    places: dict[str, dict[str, str]] = {}
    for scene, split in known.items():
        places.setdefault(place_of(scene), {})[scene] = split
    return {folder: member(folder, places.get(place_of(scene_of_folder(folder)), {})) for folder in folders}
