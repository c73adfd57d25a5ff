"""The annotation files of the parts as those of the whole.

Ids that the source gave are kept. Ids that count what the data set holds are unknown to a part, which has only its own:
its provenance says which they are (`counted`), and they are counted here as one machine counts them, images in order of
their IDs and objects in order of their images.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from xmodal_cli.data.annotations import CocoFile, match_coco, read_coco
from xmodal_cli.data.prepared import RGB, PreparedData
from xmodal_cli.datasets.assembly import Labels
from xmodal_cli.datasets.shards import SHARD
from xmodal_cli.errors import DataError

AGAIN = "Prepare the parts again, with the same options."


def joined_labels(parts: Sequence[PreparedData], splits: Iterable[str]) -> Labels | None:
    """The parts' annotation files of each split as one; None where no part has any.

    Raises:
        DataError: two images or objects have the same id.
    """
    counted = {kind for part in parts for kind in part.provenance[SHARD].get("counted", ())}
    joined: dict[str, CocoFile] = {}
    ids: dict[str, Mapping[str, Any]] = {}
    for split in splits:
        for part in parts:
            own = _of_part(part, split, by_name="images" in counted)
            if own is not None:
                joined[split] = _together(joined.get(split), own[0])
                ids[split] = {**ids.get(split, {}), **own[1]}
    if "images" in counted:
        joined, ids = _count_images(joined, ids)
    if "annotations" in counted:
        joined = _count_objects(joined)
    for coco in joined.values():
        numbers = [entry["id"] for entries in coco.objects.values() for entry in entries]
        if len(set(numbers)) < len(numbers):
            raise DataError(f"Objects of '{coco.path}' and of another part have the same id.", AGAIN)
    return Labels(joined, ids) if joined else None


def _of_part(part: PreparedData, split: str, *, by_name: bool) -> tuple[CocoFile, Mapping[str, Any]] | None:
    """A part's annotation file of a split and its image ids by ID; `by_name` calls images by their IDs instead."""
    path = part.annotation_file(split)
    if path is None:
        return None
    coco = read_coco(path)
    paths = {identifier: part.path(RGB, identifier) for identifier in part.ids(split)}
    ids = match_coco(coco, paths)[0] if coco.images else {}
    if not by_name:
        return coco, ids
    images = {identifier: coco.images[number] for identifier, number in ids.items()}
    objects = {identifier: coco.objects[number] for identifier, number in ids.items()}
    return replace(coco, images=images, objects=objects), {identifier: identifier for identifier in ids}


def _together(one: CocoFile | None, other: CocoFile) -> CocoFile:
    if one is None:
        return other
    if twice := sorted(map(str, one.images.keys() & other.images.keys())):
        shown = ", ".join(twice[:3])
        raise DataError(f"'{other.path}' and another part have images of the same id: {shown}.", AGAIN)
    return replace(one, images={**one.images, **other.images}, objects={**one.objects, **other.objects})


def _count_images(
    joined: Mapping[str, CocoFile], ids: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, CocoFile], dict[str, Mapping[str, Any]]]:
    """The files with their images counted from 1 in the order of IDs, over all splits; until now IDs name them."""
    numbers = {name: n for n, name in enumerate(sorted(name for names in ids.values() for name in names), start=1)}
    counted = {
        split: replace(
            coco,
            images={numbers[name]: {**entry, "id": numbers[name]} for name, entry in coco.images.items()},
            objects={
                numbers[name]: [{**each, "image_id": numbers[name]} for each in entries]
                for name, entries in coco.objects.items()
            },
        )
        for split, coco in joined.items()
    }
    return counted, {split: {name: numbers[name] for name in names} for split, names in ids.items()}


def _count_objects(joined: Mapping[str, CocoFile]) -> dict[str, CocoFile]:
    """The files with their objects counted from 1 in the order of image ids, over all splits."""
    objects = {image: entries for coco in joined.values() for image, entries in coco.objects.items()}
    numbers = itertools.count(1)
    counted = {image: [{**entry, "id": next(numbers)} for entry in objects[image]] for image in sorted(objects)}
    return {
        split: replace(coco, objects={image: counted[image] for image in coco.images}) for split, coco in joined.items()
    }
