"""Detections as COCO results JSON: written so that other tools read them, and read from wherever they were made.

Such a file is a list of `{image_id, category_id, bbox: [x, y, width, height], score}`. Image and category ids are those
of the annotation files that the data set was prepared from. An image whose source id is unknown, or shared by two
images of the split, goes by its ID in the data set. What is read is left exactly as given: no cap, threshold or NMS.

Shapes: N detections of all images together, K classes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli import files
from xmodal_cli.data.annotations import read_coco
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.errors import DataError
from xmodal_cli.metrics.detections import Detections

PARTS = ("image_id", "category_id", "bbox", "score")
UNKNOWN, AMBIGUOUS = -1, -2
LARGEST = 1e30  # far above any pixel or score, and below what float32 holds
FORMAT = "Expected a list of {image_id, category_id, bbox: [x, y, width, height], score}: COCO's results format."


@dataclass(frozen=True)
class SourceIds:
    """How results files call the images of a split and the classes of a data set.

    Args:
        split: the split.
        images: per image of the split, in order of its IDs, the id that is written.
        categories: per class the id that is written.
        image_of: the image that an id or its text means, `AMBIGUOUS` where it could be several.
        class_of: likewise the class.
    """

    split: str
    images: tuple[int | str, ...]
    categories: tuple[int, ...]
    image_of: Mapping[Any, int]
    class_of: Mapping[Any, int]


def source_ids(data: PreparedData, split: str) -> SourceIds:
    """The ids by which results files call a split's images and classes.

    Args:
        data: a prepared data set.
        split: a name, or several joined by `+`.

    Raises:
        SettingsError: there is no such split.
        DataError: an annotation file is damaged.
    """
    found = data.annotations(split)
    images = {name: each.image_id for name, each in found.items()}
    counts = Counter(str(image) for image in images.values())
    written = [name if image is None or counts[str(image)] > 1 else image for name, image in images.items()]
    categories = category_ids(data, split)
    return SourceIds(
        split,
        tuple(written),
        categories,
        _meanings(written, [images.values(), images]),
        _meanings(categories, [categories]),
    )


def category_ids(data: PreparedData, split: str) -> tuple[int, ...]:
    """The source's category id of every class, from the annotation files; counted from 1 where no file has it.

    Args:
        data: a prepared data set.
        split: whose files are asked first.

    Raises:
        DataError: an annotation file is damaged.
    """
    ids: dict[str, int] = {}
    for name in dict.fromkeys([*split.split("+"), *data.splits]):
        path = data.annotation_file(name)
        if path is not None and not set(data.classes) <= ids.keys():
            ids |= {category: number for number, category in read_coco(path).categories.items()}
    spare = (number for number in range(1, len(ids) + len(data.classes) + 1) if number not in ids.values())
    return tuple(ids[name] if name in ids else next(spare) for name in data.classes)


def write_detections(
    path: Path,
    detections: Detections,
    data: PreparedData,
    split: str,
    masks: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Write detections as COCO results JSON, an entry per line, every figure in full: reading gives the same arrays.

    Args:
        path: the file to make or replace.
        detections: of the split, `images` indexing its IDs.
        data: the prepared data set.
        split: a name, or several joined by `+`.
        masks: of each detection as compressed RLE whose counts are text, where there are any.
    """
    ids = source_ids(data, split)
    images = [json.dumps(image, ensure_ascii=False) for image in ids.images]
    corners = detections.boxes_xyxy.astype(np.float64)
    boxes_xywh = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    columns = (detections.images.tolist(), detections.labels.tolist(), boxes_xywh.tolist(), detections.scores.tolist())
    last = [""] * len(detections) if masks is None else [f', "segmentation": {json.dumps(mask)}' for mask in masks]
    lines = [
        f'{{"image_id": {images[image]}, "category_id": {ids.categories[label]}, "bbox": {box}, "score": {score}{end}}}'
        for image, label, box, score, end in zip(*columns, last, strict=True)
    ]
    files.write_text(path, "[\n" + ",\n".join(lines) + "\n]\n")


def read_detections(path: Path, data: PreparedData, split: str) -> Detections:
    """Read COCO results JSON, made by whatever tool, exactly as given.

    Args:
        path: the file.
        data: the prepared data set that the detections are of.
        split: a name, or several joined by `+`; every detection must be of one of its images.

    Returns:
        The detections in the file's order; scores are float64.

    Raises:
        SettingsError: there is no such split.
        DataError: no such file, not that format, or an entry is malformed or of an unknown image or class.
    """
    entries = _read_entries(path)
    ids = source_ids(data, split)
    rows = []
    for number, entry in enumerate(entries):
        problem = _problem(entry)
        if problem:
            raise DataError(f"'{path}', entry {number} (from 0): {problem}.", FORMAT)
        image, category = _meant(ids.image_of, entry["image_id"]), _meant(ids.class_of, entry["category_id"])
        if image < 0:
            raise _no_image(f"'{path}', entry {number} (from 0)", entry["image_id"], image, data, ids)
        if category < 0:
            raise _no_class(f"'{path}', entry {number} (from 0)", entry["category_id"], data, ids)
        rows.append((image, category, *entry["bbox"], entry["score"]))
    table = np.array(rows, np.float64).reshape(-1, 7)
    corner, size = table[:, 2:4], table[:, 4:6]
    return Detections(
        images=table[:, 0].astype(np.int64),
        labels=table[:, 1].astype(np.int64),
        scores=table[:, 6],
        boxes_xyxy=np.hstack([corner, corner + size]).astype(np.float32),
    )


def read_segmentations(path: Path) -> list[Any]:
    """The masks of a results file, in the file's order: COCO's RLE or polygons, None where an entry has none.

    Raises:
        DataError: as `read_detections`, for the form of the file.
    """
    return [entry.get("segmentation") if isinstance(entry, dict) else None for entry in _read_entries(path)]


def _read_entries(path: Path) -> list[Any]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}.", "Check the path of --detections.") from None
    except ValueError as error:
        raise DataError(f"'{path}' is not JSON: {error}.", FORMAT) from None
    if not isinstance(document, list):
        kind = f"an object with {', '.join(sorted(document)[:5])}" if isinstance(document, dict) else repr(document)
        raise DataError(f"'{path}' holds {kind}, not a list of detections.", FORMAT)
    return document


def _problem(entry: Any) -> str | None:
    """What is wrong with the form of an entry, None if nothing."""
    if not isinstance(entry, dict):
        return f"{entry!r} is no detection"
    missing = [part for part in PARTS if part not in entry]
    if missing:
        return f"it has no {' and no '.join(missing)}"
    box, score = entry["bbox"], entry["score"]
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return f"its bbox is {box!r}, not four finite numbers"
    if box[2] < 0 or box[3] < 0:
        return f"its bbox {box!r} has a negative width or height"
    if not _is_number(score):
        return f"its score is {score!r}, not a finite number"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def _meanings(written: Sequence[Any], names: Iterable[Iterable[Any]]) -> dict[Any, int]:
    """What every id and every text of one means: ids as they are written first, then whatever is not ambiguous."""
    meanings: dict[Any, int] = {}
    for family in names:
        for meant, name in enumerate(family):
            known = meanings.setdefault(str(name), meant)
            meanings[str(name)] = known if known == meant else AMBIGUOUS
    return meanings | {name: meant for meant, name in enumerate(written)}


def _meant(meanings: Mapping[Any, int], identifier: Any) -> int:
    """The number of what an id means, given as a number or as text; below 0 if nothing certain."""
    if isinstance(identifier, bool) or not isinstance(identifier, int | float | str):
        return UNKNOWN
    return meanings[identifier] if identifier in meanings else meanings.get(str(identifier), UNKNOWN)


def _no_image(where: str, identifier: Any, meant: int, data: PreparedData, ids: SourceIds) -> DataError:
    """The error of an entry whose image is not in the split, or is one of several."""
    place = f"split {ids.split!r} of {data.root}"
    if meant == AMBIGUOUS:
        return DataError(
            f"{where} has image_id {identifier!r}, which several images of {place} go by.",
            "Use the data set's IDs, as texts, in place of these ids.",
        )
    problem = f"{where} has image_id {identifier!r}, which is no image of {place}."
    for other in set(data.splits) - set(ids.split.split("+")):
        found = data.annotations(other)
        if str(identifier) in found or str(identifier) in {str(each.image_id) for each in found.values()}:
            return DataError(problem, f"Split {other!r} has it: use --split {other} or --split {ids.split}+{other}.")
    examples = ", ".join(repr(image) for image in ids.images[:3])
    return DataError(problem, f"Use the ids of the annotation file ({examples}, ...) or the data set's IDs.")


def _no_class(where: str, identifier: Any, data: PreparedData, ids: SourceIds) -> DataError:
    """The error of an entry whose class the data set does not have."""
    known = ", ".join(f"{number} {name}" for number, name in zip(ids.categories, data.classes, strict=True))
    return DataError(
        f"{where} has category_id {identifier!r}, which is no class of {data.root}.", f"The classes are: {known}."
    )
