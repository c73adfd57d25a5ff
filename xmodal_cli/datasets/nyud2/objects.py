"""Ground truth of NYU Depth v2 as COCO instances: boxes and masks of the nineteen classes.

An instance of the labelled file is a distinct pair of label and instance number. An instance of the authors' archive is
a number in `Segmentation`; it has the class that at least half of its pixels have, and none otherwise (recipe 1.5). The
archive's boxes are 1-based with inclusive ends; COCO's are x, y, width, height from 0.

Shapes: `(H, W)` label maps of one image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.datasets.nyud2.classes import CATEGORIES, class_name
from xmodal_cli.errors import DataError

LEAST_SHARE = 0.5  # of an instance's pixels that its class must have
MOST_INSTANCES = 1 << 16  # instance numbers lie below
IDS_PER_IMAGE = 1000  # annotation ids of image 5001 begin at 5001001

Objects = list[dict[str, Any]]
Map = NDArray[np.integer[Any]]


def objects_of_labels(labels: Map, instances: Map, categories: Mapping[int, int]) -> Objects:
    """The objects of one image of the labelled file, in order of label and instance number.

    Args:
        labels: `(H, W)` label ids, 0 for none.
        instances: `(H, W)` instance numbers, counted anew for each label; 0 for none.
        categories: category id by label id, of the labels that count.

    Returns:
        COCO entries without ids, with `label_id` and `instance_id` of the source.

    Example:
        >>> labels, instances = np.array([[5, 5, 0, 5]]), np.array([[1, 1, 0, 2]])
        >>> [(each["bbox"], each["instance_id"]) for each in objects_of_labels(labels, instances, {5: 3})]
        [([0, 0, 2, 1], 1), ([3, 0, 1, 1], 2)]
    """
    counted = np.isin(labels, list(categories)) & (instances > 0)
    codes = np.where(counted, labels.astype(np.int64) * MOST_INSTANCES + instances, 0)
    found = []
    for code in np.unique(codes[counted]).tolist():
        label, instance = divmod(code, MOST_INSTANCES)
        found.append(_entry(codes == code, categories[label], {"label_id": label, "instance_id": instance}))
    return found


def objects_of_segmentation(
    segmentation: Map, segmentation_class: Map, categories: Mapping[int, int]
) -> tuple[Objects, int]:
    """The objects of one image of the archive's ground truth, in order of instance number.

    Args:
        segmentation: `(H, W)` instance numbers, 0 for none.
        segmentation_class: `(H, W)` label ids, 0 for none.
        categories: category id by label id, of the labels that count.

    Returns:
        COCO entries without ids, and how many instances no class had half of.

    Example:
        >>> objects, dropped = objects_of_segmentation(np.array([[1, 1, 2, 2, 2]]), np.array([[5, 9, 5, 9, 7]]), {5: 3})
        >>> [each["bbox"] for each in objects], dropped
        ([[0, 0, 2, 1]], 1)
    """
    found, dropped = [], 0
    for instance in np.unique(segmentation[segmentation > 0]).tolist():
        mask = segmentation == instance
        labels, counts = np.unique(segmentation_class[mask], return_counts=True)
        best = int(np.argmax(counts))
        if counts[best] < LEAST_SHARE * counts.sum():
            dropped += 1
        elif (label := int(labels[best])) in categories:
            found.append(_entry(mask, categories[label], {"label_id": label, "instance_id": instance}))
    return found, dropped


def objects_of_record(record: Any, segmentation: Map | None, where: str) -> Objects:
    """The objects of one file of the archive's box cache; of all its classes the nineteen are kept.

    Args:
        record: the struct `rec` with `objects`, as plain dicts and lists.
        segmentation: `(H, W)` instance numbers, for the masks; None where there are none.
        where: the file, for messages.

    Returns:
        COCO entries without ids, in the file's order.

    Raises:
        DataError: the struct is something else, or a box has no area.

    Example:
        >>> record = {"objects": {"class": "night-stand", "bbox": [1, 2, 10, 20], "instanceId": 4}}
        >>> objects_of_record(record, None, "a.mat")[0]["bbox"]
        [0, 1, 10, 19]
    """
    try:
        listed = record["objects"]
        entries = [listed] if isinstance(listed, Mapping) else list(np.asarray(listed, object).ravel())
        return [
            _recorded(each, segmentation, where) for each in entries if class_name(str(each["class"])) in CATEGORIES
        ]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"'{where}': {type(error).__name__} {error}; expected rec.objects with instanceId, bbox and class.",
            "Unpack the archive again.",
        ) from None


def with_ids(objects: Iterable[Mapping[str, Any]], number: int) -> Objects:
    """COCO entries of one image with their ids: the image's number, and a thousand times it plus a count from 1.

    Example:
        >>> with_ids([{"bbox": [0, 0, 1, 1]}], 5001)
        [{'id': 5001001, 'image_id': 5001, 'bbox': [0, 0, 1, 1]}]
    """
    return [
        {"id": number * IDS_PER_IMAGE + count, "image_id": number, **entry} for count, entry in enumerate(objects, 1)
    ]


def boxes_that_differ(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> int:
    """How many objects of the first list have no equal in the second, by class and box."""
    known = {(each["category_id"], *each["bbox"]) for each in second}
    return sum((each["category_id"], *each["bbox"]) not in known for each in first)


def _recorded(each: Mapping[str, Any], segmentation: Map | None, where: str) -> dict[str, Any]:
    left, top, right, bottom = (float(value) for value in np.asarray(each["bbox"]).ravel())
    box = [_plain(value) for value in (left - 1, top - 1, right - left + 1, bottom - top + 1)]
    instance, name = int(each["instanceId"]), class_name(str(each["class"]))
    if min(box[2:]) <= 0:
        raise DataError(f"'{where}': the box {[left, top, right, bottom]} of instance {instance} has no area.")
    mask = None if segmentation is None else segmentation == instance
    if mask is not None and mask.any():
        return {**_entry(mask, CATEGORIES[name], {"instance_id": instance}), "bbox": box}
    entry = {"category_id": CATEGORIES[name], "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
    return {**entry, "instance_id": instance}


def _plain(value: float) -> int | float:
    return int(value) if value.is_integer() else value


def _entry(mask: NDArray[np.bool_], category: int, source: Mapping[str, int]) -> dict[str, Any]:
    from faster_coco_eval.core import mask as coco_masks

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return {
        "category_id": category,
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "area": int(np.count_nonzero(mask)),
        "iscrowd": 0,
        "segmentation": {
            "size": list(mask.shape),
            "counts": coco_masks.encode(np.asfortranarray(mask.view(np.uint8)))["counts"].decode("ascii"),
        },
        **source,
    }
