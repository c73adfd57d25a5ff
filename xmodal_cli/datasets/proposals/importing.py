"""Proposals of a file, made to fit a data set: matched to its IDs, clipped to its images, every loss counted.

Names are matched as annotations are; numbers are the image ids of the data set's COCO files. A swapped order of axes
is the classic mistake of such files (recipe, end of section 10): `swap_suspicion` finds it by how many objects are
covered.

Shapes: N boxes of an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.data.matching import match_names
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.proposals.files import ProposalFile
from xmodal_cli.errors import DataError
from xmodal_cli.metrics.recall import measure_recall

EXAMPLES = 3  # names shown in a message
MUCH_CLIPPED = 0.05  # share of clipped boxes from which on the file's convention is in doubt
SUSPICION_IOU = 0.5
# Swapped axes are suspected when they would cover this many times as many objects, and this share of all more: MCG
# covers nine objects in ten, and swapped about one in three; a square lattice covers as many either way.
SUSPICION_RATIO, SUSPICION_GAIN = 1.25, 0.1
Boxes = NDArray[np.float32]


@dataclass(frozen=True)
class MatchedProposals:
    """Proposals that fit a data set, and what it took.

    Args:
        boxes_xyxy: `(N, 4)` float32 inside the image, by ID, sorted; best first.
        counts: `images`, `unmatched` names, `ids_without` proposals, and of the boxes how many were `kept`, `clipped`
            (and kept), dropped for lying `outside`, for having no area (`empty`) or negative sizes (`inverted`), and
            left out beyond the most wanted (`beyond_most`).
        notes: the same as sentences, for what a person should know.
    """

    boxes_xyxy: Mapping[str, Boxes] = field(repr=False)
    counts: Mapping[str, int]
    notes: tuple[str, ...]


def fit_to_data(
    file: ProposalFile, data: PreparedData, ids: Iterable[str], most: int | None = None
) -> MatchedProposals:
    """Match a file's proposals to a data set and clip them to its images.

    Args:
        file: the proposals.
        data: the data set.
        ids: the images wanted; the file's other images are left out without a word if the data set has them.
        most: how many boxes of each image to keep; all by default.

    Raises:
        DataError: no name means an image of the data set, two mean the same, or coordinates are relative.
    """
    wanted = sorted(ids)
    meant = match_images(file, data)
    _require_pixels(file, data, meant)
    counts = dict.fromkeys(("kept", "clipped", "outside", "empty", "inverted", "beyond_most"), 0)
    names = {identifier: name for name, identifier in meant.items()}
    fitted = {}
    for identifier in wanted:
        if identifier in names:
            boxes, lost = clip_boxes(file.boxes_xyxy[names[identifier]], data.size_hw(identifier))
            fitted[identifier] = boxes[:most]
            lost |= {"kept": len(fitted[identifier]), "beyond_most": len(boxes) - len(fitted[identifier])}
            counts = {key: count + lost[key] for key, count in counts.items()}
    about = {
        "images": len(fitted),
        "unmatched": len(file.boxes_xyxy) - len(meant),
        "ids_without": len(wanted) - len(fitted),
        **counts,
    }
    return MatchedProposals(fitted, about, tuple(_notes(file, about, meant, [i for i in wanted if i not in fitted])))


def match_images(file: ProposalFile, data: PreparedData) -> dict[str | int, str]:
    """Which image of the data set each name or number of a file means; those that mean none are left out.

    Raises:
        DataError: none means an image, or two mean the same.
    """
    first = next(iter(data.modalities))
    images = {identifier: data.path(first, identifier) for identifier in data.all_ids}
    by_name = match_names([str(name) for name in file.boxes_xyxy], images)
    by_number = _image_ids(data)
    meant = {}
    for name in file.boxes_xyxy:
        # A number is an image id before it is a name; a text the other way round.
        ways = [by_name.get(str(name)), by_number.get(str(name))]
        found = next((way for way in (ways[::-1] if isinstance(name, int) else ways) if way), None)
        if found is not None:
            meant[name] = found
    if not meant:
        raise DataError(
            f"'{file.path}' has proposals for {len(file.boxes_xyxy)} images ({_some(file.boxes_xyxy)}); none is in the "
            f"data set '{data.root}' ({_some(images)}).",
            "Names are matched to IDs or file names; name the image of a file that has one with --id ID.",
        )
    owners: dict[str, str | int] = {}
    for name, identifier in meant.items():
        if owners.setdefault(identifier, name) != name:
            raise DataError(f"'{file.path}': '{owners[identifier]}' and '{name}' both mean the image '{identifier}'.")
    return meant


def clip_boxes(boxes_xyxy: Boxes, size_hw: tuple[int, int]) -> tuple[Boxes, dict[str, int]]:
    """Clip boxes to an image and drop those that have no area then.

    Args:
        boxes_xyxy: `(N, 4)`.
        size_hw: height and width of the image, pixels.

    Returns:
        The boxes that are left, in the same order, and how many were `clipped`, `outside`, `empty` and `inverted`.

    Example:
        >>> boxes = np.array([[-2, 0, 5, 5], [9, 9, 12, 12], [3, 3, 3, 4], [4, 4, 2, 5]], np.float32)
        >>> clip_boxes(boxes, (8, 8))
        (array([[0., 0., 5., 5.]], dtype=float32), {'clipped': 1, 'outside': 1, 'empty': 1, 'inverted': 1})
    """
    height, width = size_hw
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    inverted = (sides < 0).any(axis=1)
    empty = (sides <= 0).any(axis=1) & ~inverted
    clipped = np.clip(boxes_xyxy, 0, np.array([width, height, width, height], np.float32))
    inside = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    kept = inside & ~inverted & ~empty
    lost = {
        "clipped": int((kept & (clipped != boxes_xyxy).any(axis=1)).sum()),
        "outside": int((~inside & ~inverted & ~empty).sum()),
        "empty": int(empty.sum()),
        "inverted": int(inverted.sum()),
    }
    return np.asarray(clipped[kept], np.float32), lost


def swap_suspicion(file: ProposalFile, data: PreparedData) -> str | None:
    """A sentence if boxes with x and y exchanged would cover many more objects, or fit into their images far better.

    Args:
        file: the proposals, as read.
        data: the data set; without annotated objects only the share of boxes that fit into their image tells.
    """
    meant = match_images(file, data)
    objects = {
        identifier: found.boxes_xyxy[~found.crowd]
        for split in data.splits
        for identifier, found in data.annotations(split).items()
        if found.labelled
    }
    judged = {name: identifier for name, identifier in meant.items() if len(objects.get(identifier, ()))}
    scores = []
    for axes in ([0, 1, 2, 3], [1, 0, 3, 2]):
        fitted = {
            n: clip_boxes(file.boxes_xyxy[n][:, axes], data.size_hw(identifier)) for n, identifier in meant.items()
        }
        if judged:
            pairs = [(fitted[name][0], objects[identifier]) for name, identifier in judged.items()]
            scores.append(measure_recall(pairs, [max(1, *(len(boxes) for boxes, _ in pairs))]).recall[0, 0])
        else:
            whole = sum(len(boxes) - lost["clipped"] for boxes, lost in fitted.values())
            scores.append(whole / max(1, sum(len(boxes) for boxes in file.boxes_xyxy.values())))
    as_read, swapped = scores
    if swapped < max(as_read * SUSPICION_RATIO, as_read + SUSPICION_GAIN):
        return None
    other = "xyxy" if file.convention.order == "yxyx" else "yxyx"
    if judged:
        found = f"cover {as_read:.0%} of the objects at IoU {SUSPICION_IOU}; with x and y exchanged {swapped:.0%}"
    else:
        found = f"lie inside their images in {as_read:.0%} of the cases; with x and y exchanged in {swapped:.0%}"
    return f"The boxes of '{file.path}', read as {file.convention.order}, {found}. Try --box-order {other}."


def _require_pixels(file: ProposalFile, data: PreparedData, meant: Mapping[str | int, str]) -> None:
    """Refuse boxes whose corners all lie between 0 and 1: shares of the image, not pixels."""
    boxes = np.concatenate([file.boxes_xyxy[name] for name in meant])
    if len(boxes) > 1 and boxes.max() <= 1 and max(data.size_hw(next(iter(meant.values())))) > 1:
        raise DataError(
            f"No box of '{file.path}' reaches beyond 1: they are shares of the image; expected pixels.",
            "Multiply x by the width and y by the height before importing.",
        )


def _image_ids(data: PreparedData) -> dict[str, str]:
    """ID by the image id of the data set's COCO files, as text."""
    return {
        str(found.image_id): identifier
        for split in data.splits
        for identifier, found in data.annotations(split).items()
        if found.image_id is not None
    }


def _notes(
    file: ProposalFile, counts: Mapping[str, int], meant: Mapping[str | int, str], without: list[str]
) -> Iterable[str]:
    if counts["unmatched"]:
        strangers = [name for name in file.boxes_xyxy if name not in meant]
        yield f"{counts['unmatched']} names in the file mean no image of the data set: {_some(strangers)}."
    if without:
        yield f"{len(without)} images of the data set have no proposals in the file: {_some(without)}."
    boxes = sum(counts[key] for key in ("kept", "outside", "empty", "inverted", "beyond_most"))
    for key, words in (
        ("clipped", "reached outside their image and were clipped"),
        ("outside", "lay outside their image and were dropped"),
        ("empty", "had no area and were dropped"),
        ("inverted", "ended before they began and were dropped"),
        ("beyond_most", "were left out, beyond the most wanted; the file's order counts as best first"),
    ):
        if counts[key]:
            yield f"{counts[key]} of {boxes} boxes {words}."
    if counts["clipped"] + counts["outside"] + counts["inverted"] > MUCH_CLIPPED * boxes:
        yield "So many boxes that do not fit speak for images of another size, or for another --box-order."


def _some(names: Iterable[Any]) -> str:
    listed = list(names)
    return ", ".join(f"'{name}'" for name in listed[:EXAMPLES]) + (", ..." if len(listed) > EXAMPLES else "")
