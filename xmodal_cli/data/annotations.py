"""Annotated objects: COCO instance files in and out, matched to images by file name.

On disk boxes are COCO's `x, y, width, height`; inside they are `x1, y1, x2, y2` in float pixels counted from 0 with
exclusive ends (x2 = x + width). Image and category IDs of the source are kept, so that results can be compared with
files that others made. An image that no annotation file lists is not the same as an image without objects: `labelled`
tells them apart.

Shapes: N objects of one image.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli import files
from xmodal_cli.data.matching import match_names
from xmodal_cli.errors import DataError

ANNOTATION_FOLDER = "annotations"
EXAMPLES = 3  # names shown in a message


@dataclass(frozen=True)
class Annotations:
    """The annotated objects of one image.

    Args:
        boxes_xyxy: `(N, 4)` float32, pixels from 0, exclusive ends.
        labels: `(N,)` int64, index into the data set's classes.
        annotation_ids: `(N,)` int64, the source's ids.
        crowd: `(N,)` bool, boxes around groups, which are neither trained on nor scored.
        areas: `(N,)` float64, pixels; COCO's `area` where given, else of the box.
        image_id: the source's id of the image; None where no file lists the image.
        segmentations: per object COCO's RLE or polygons, None where the source has none.
        labelled: whether an annotation file lists the image; False means unknown, not empty.
    """

    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    annotation_ids: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    areas: NDArray[np.float64]
    image_id: int | str | None = None
    segmentations: tuple[Any, ...] = field(default=(), repr=False)
    labelled: bool = True

    def __len__(self) -> int:
        """How many objects there are."""
        return len(self.labels)


@dataclass(frozen=True)
class CocoFile:
    """A COCO instance file whose parts have been checked.

    Args:
        path: where it was read.
        images: its image entries by id.
        objects: its annotation entries by image id, in the file's order.
        categories: category names by id, in order of id.
        about: everything else in the file (info, licences).
    """

    path: Path
    images: Mapping[Any, Mapping[str, Any]]
    objects: Mapping[Any, Sequence[Mapping[str, Any]]]
    categories: Mapping[int, str]
    about: Mapping[str, Any] = field(default_factory=dict)


def read_coco(path: Path) -> CocoFile:
    """Read a COCO instance file and check that its parts refer to one another.

    Raises:
        DataError: missing, no JSON, a part is missing, or an entry refers to an image or category that is not there.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}.", "Check the path of --annotations.") from None
    except ValueError as error:
        raise DataError(f"'{path}' is not JSON: {error}.", "Annotations are read from COCO instance files.") from None
    try:
        images = {entry["id"]: entry for entry in document["images"]}
        categories = {int(entry["id"]): str(entry["name"]) for entry in document["categories"]}
        objects: dict[Any, list[Mapping[str, Any]]] = {image: [] for image in images}
        for entry in document["annotations"]:
            _check_object(entry, images, categories, path)
            objects[entry["image_id"]].append(entry)
        if len(images) < len(document["images"]) or not all(str(entry["file_name"]) for entry in images.values()):
            raise DataError(f"'{path}': two images have the same id, or one has no file_name.")
    except (KeyError, TypeError, ValueError) as error:
        problem = f"{type(error).__name__} {error}"
        raise DataError(f"'{path}' is no COCO instance file: {problem}.", "See docs/data.md for the format.") from None
    about = {key: value for key, value in document.items() if key not in ("images", "annotations", "categories")}
    return CocoFile(path, images, objects, dict(sorted(categories.items())), about)


def match_coco(coco: CocoFile, images: Mapping[str, Path]) -> tuple[dict[str, Any], list[str]]:
    """Which image of the data set each entry of a COCO file means.

    Args:
        coco: the annotations.
        images: source images by ID.

    Returns:
        COCO image id by ID, and the file names that mean no image.

    Raises:
        DataError: no entry means an image, or two mean the same.
    """
    names = {image: str(entry["file_name"]) for image, entry in coco.images.items()}
    meant = match_names(names.values(), images)
    twice = [name for name, count in Counter(meant[n] for n in names.values() if n in meant).items() if count > 1]
    if twice:
        raise DataError(f"'{coco.path}' lists {_some(twice)} more than once.", "Give each image one entry.")
    found = {meant[name]: image for image, name in names.items() if name in meant}
    if not found:
        raise DataError(
            f"'{coco.path}' lists {len(names)} images ({_some(names.values())}); none is among the pairs "
            f"({_some(path.name for path in images.values())}).",
            "Annotations are matched by file name: compare file_name with the RGB files.",
        )
    return found, [name for name in names.values() if name not in meant]


def merge_classes(cocos: Iterable[CocoFile]) -> dict[int, str]:
    """The categories of several files as one list, by id.

    Raises:
        DataError: an id has two names, or a name two ids.
    """
    merged: dict[int, str] = {}
    for coco in cocos:
        for identifier, name in coco.categories.items():
            if merged.setdefault(identifier, name) != name:
                raise DataError(
                    f"'{coco.path}' calls category {identifier} '{name}'; another annotation file calls it "
                    f"'{merged[identifier]}'.",
                    "Give all annotation files of a data set the same categories.",
                )
    twice = [name for name, count in Counter(merged.values()).items() if count > 1]
    if twice:
        raise DataError(f"The categories {_some(twice)} have more than one id.", "Give each category one id.")
    return dict(sorted(merged.items()))


def write_coco(
    root: Path, split: str, coco: CocoFile, image_ids: Mapping[str, Any], file_names: Mapping[str, str]
) -> None:
    """Write `annotations/NAME.json`: the entries of images in the data set, under their names there.

    Args:
        root: the data set.
        split: name of the file.
        coco: the source.
        image_ids: COCO image id by ID.
        file_names: file name to write by ID.
    """
    document = {
        **coco.about,
        "images": [{**coco.images[image], "file_name": file_names[name]} for name, image in sorted(image_ids.items())],
        "annotations": [entry for _, image in sorted(image_ids.items()) for entry in coco.objects[image]],
        "categories": [{"id": identifier, "name": name} for identifier, name in coco.categories.items()],
    }
    (root / ANNOTATION_FOLDER).mkdir(parents=True, exist_ok=True)
    files.write_text(root / ANNOTATION_FOLDER / f"{split}.json", json.dumps(document, ensure_ascii=False) + "\n")


def annotations_of(coco: CocoFile, image_id: Any, classes: Sequence[str]) -> Annotations:
    """The objects of one image as arrays.

    Args:
        coco: the file.
        image_id: the image's id in it.
        classes: class names in the data set's order.

    Returns:
        The objects in the file's order.
    """
    entries = coco.objects[image_id]
    boxes_xywh = np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4)
    index = {name: number for number, name in enumerate(classes)}
    return Annotations(
        boxes_xyxy=np.hstack([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]]).astype(np.float32),
        labels=np.array([index[coco.categories[int(entry["category_id"])]] for entry in entries], np.int64),
        annotation_ids=np.array([entry["id"] for entry in entries], np.int64),
        crowd=np.array([bool(entry.get("iscrowd", 0)) for entry in entries], np.bool_),
        areas=np.array([entry.get("area", entry["bbox"][2] * entry["bbox"][3]) for entry in entries], np.float64),
        image_id=image_id,
        segmentations=tuple(entry.get("segmentation") for entry in entries),
    )


def no_annotations() -> Annotations:
    """What is known about an image that no annotation file lists: nothing.

    Example:
        >>> len(no_annotations()), no_annotations().labelled
        (0, False)
    """
    return Annotations(
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.int64),
        np.zeros(0, np.int64),
        np.zeros(0, np.bool_),
        np.zeros(0, np.float64),
        labelled=False,
    )


def _check_object(
    entry: Mapping[str, Any], images: Mapping[Any, Any], categories: Mapping[int, str], path: Path
) -> None:
    where = f"'{path}', annotation {int(entry['id'])}"
    if entry["image_id"] not in images:
        raise DataError(f"{where} belongs to image {entry['image_id']}, which the file does not list.")
    if int(entry["category_id"]) not in categories:
        raise DataError(f"{where} has category {entry['category_id']}, which the file does not list.")
    box = entry["bbox"]
    if len(box) != 4 or not np.isfinite(np.array(box, np.float64)).all():
        raise DataError(f"{where} has the box {box}; expected four numbers x, y, width, height.")


def _some(names: Iterable[str]) -> str:
    """The first few names of many, quoted."""
    listed = list(names)
    return ", ".join(f"'{name}'" for name in listed[:EXAMPLES]) + (", ..." if len(listed) > EXAMPLES else "")
