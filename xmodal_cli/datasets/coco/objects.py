"""The objects of a COCO file, class by class and one by one: which are kept, under which name, and what is wrong.

Entries keep their ids, masks (polygons and RLE, as they are), crowd flags and whatever else they hold. Two things are
mended, as COCO's own files need it: a box that encloses nothing is left out, and a box that reaches beyond its image is
cut at the border. Everything else that is wrong (no mask that could be drawn, a mask of another size, a box or polygon
beside the image) is an error with the object's id.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from xmodal_cli.data.annotations import CocoFile
from xmodal_cli.datasets.coco.settings import one_id_each
from xmodal_cli.errors import DataError

CORNERS = 3  # the fewest that enclose something
EXAMPLES = 3  # ids shown in a message


@dataclass
class Faults:
    """What was found among the objects of one file.

    Args:
        flat: ids of boxes that enclose nothing and were left out.
        cut: ids of boxes that reached beyond their image and were cut.
        bad: what is wrong with an object that is an error, by id.
    """

    flat: list[int] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)

    def notes(self, where: str) -> list[str]:
        """What was mended, as sentences."""
        said = []
        if self.flat:
            said.append(f"{where}: {len(self.flat)} boxes enclose nothing and are left out: {_some(self.flat)}.")
        if self.cut:
            said.append(f"{where}: {len(self.cut)} boxes reach beyond their image and are cut: {_some(self.cut)}.")
        return said


def check_ids(coco: CocoFile) -> None:
    """Refuse a file in which two objects have the same id, or two images the same file.

    Raises:
        DataError: they have.
    """
    files = Counter(str(image["file_name"]) for image in coco.images.values())
    shared = [f"'{name}'" for name, count in files.items() if count > 1]
    if shared:
        raise DataError(f"'{coco.path}' lists {_some(shared)} more than once.", "Give each image one entry.")
    counts = Counter(entry["id"] for entries in coco.objects.values() for entry in entries)
    twice = [identifier for identifier, count in counts.items() if count > 1]
    if twice:
        raise DataError(
            f"'{coco.path}': {len(twice)} annotation ids occur more than once: {_some(twice)}.",
            "Number the annotations anew, each once.",
        )


def keep_classes(coco: CocoFile, names: Mapping[str, str]) -> CocoFile:
    """The file with the objects of some categories only, under their new names.

    Args:
        coco: the file.
        names: names in the data set by category.
    """
    ids = one_id_each(coco.categories, names)
    objects = {
        image: [
            entry if (own := ids[entry["category_id"]]) == entry["category_id"] else {**entry, "category_id": own}
            for entry in entries
            if entry["category_id"] in ids
        ]
        for image, entries in coco.objects.items()
    }
    categories = {number: names[coco.categories[number]] for number in sorted(set(ids.values()))}
    return replace(coco, objects=objects, categories=categories)


def mend_objects(coco: CocoFile, images: Sequence[Any]) -> tuple[CocoFile, Faults]:
    """The file with the objects of some images looked at one by one; bad ones are left out and named.

    Args:
        coco: the file.
        images: ids of the images that count.
    """
    faults = Faults()
    objects = {}
    for image in images:
        entry = coco.images[image]
        kept = (mended(each, entry.get("width"), entry.get("height"), faults) for each in coco.objects[image])
        objects[image] = [each for each in kept if each is not None]
    return replace(coco, images={image: coco.images[image] for image in images}, objects=objects), faults


def mended(
    entry: Mapping[str, Any], width: float | None, height: float | None, faults: Faults
) -> Mapping[str, Any] | None:
    """One object as it goes into the data set; None where it does not.

    Args:
        entry: COCO's annotation.
        width: of its image in pixels, where the file says it.
        height: likewise.
        faults: what was found is noted here.

    Example:
        >>> faults = Faults()
        >>> mended({"id": 5, "bbox": [90, 10, 20, 20]}, 100, 50, faults)["bbox"], faults.cut
        ([90, 10, 10, 20], [5])
    """
    x, y, w, h = entry["bbox"]
    number = int(entry["id"])
    if w <= 0 or h <= 0:
        faults.flat.append(number)
        return None
    problem = mask_problem(entry.get("segmentation"), width, height)
    if problem is not None:
        faults.bad[number] = problem
        return None
    if width is None or height is None:
        return entry
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    if right <= left or bottom <= top:
        faults.bad[number] = f"its box {list(entry['bbox'])} lies outside {width} x {height} pixels"
        return None
    if (left, top) == (x, y) and x + w <= width and y + h <= height:
        return entry
    if max(left - x, top - y, x + w - width, y + h - height) >= 1:  # less is rounding
        faults.cut.append(number)
    return {**entry, "bbox": [left, top, right - left, bottom - top]}


def mask_problem(segmentation: Any, width: float | None, height: float | None) -> str | None:
    """What is wrong with a mask, as the rest of a sentence; None where nothing is, or there is no mask.

    Args:
        segmentation: polygons, RLE (counts, or its compressed text), or nothing.
        width: of the image in pixels; None where it is not known.
        height: likewise.

    Example:
        >>> mask_problem([[1, 1, 9, 1, 9, 9]], 10, 10)
        >>> mask_problem([[1, 1, 9, 1]], 10, 10)
        'a polygon has 4 numbers; three corners have six'
    """
    if not segmentation:
        return None
    if isinstance(segmentation, Mapping):
        return _rle_problem(segmentation, width, height)
    if not isinstance(segmentation, Sequence) or isinstance(segmentation, str):
        return "its mask is neither polygons nor RLE"
    problems = [_polygon_problem(polygon) for polygon in segmentation]
    if any(problems):
        return next(problem for problem in problems if problem)
    if width is None or height is None:
        return None
    outside = [
        max(each[::2]) < 0 or min(each[::2]) > width or max(each[1::2]) < 0 or min(each[1::2]) > height
        for each in segmentation
    ]
    return f"its polygons lie outside {width} x {height} pixels" if all(outside) else None


def _polygon_problem(polygon: Any) -> str | None:
    if not isinstance(polygon, Sequence) or isinstance(polygon, str):
        return "a polygon is no list of numbers"
    if len(polygon) < 2 * CORNERS or len(polygon) % 2:
        return f"a polygon has {len(polygon)} numbers; three corners have six"
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in polygon):
        return "a polygon has values that are no finite numbers"
    return None


def _rle_problem(rle: Mapping[str, Any], width: float | None, height: float | None) -> str | None:
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(size, Sequence) or len(size) != 2 or not isinstance(counts, str | list):
        return "its RLE has no size and counts"
    if width is not None and list(size) != [height, width]:
        return f"its RLE is of {size[1]} x {size[0]} pixels, its image of {width} x {height}"
    if isinstance(counts, list) and sum(counts) != size[0] * size[1]:
        return f"its RLE counts {sum(counts)} pixels of {size[0] * size[1]}"
    return None


def _some(ids: Sequence[Any]) -> str:
    return ", ".join(map(str, ids[:EXAMPLES])) + (", ..." if len(ids) > EXAMPLES else "")
