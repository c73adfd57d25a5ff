"""Proposals made elsewhere: MATLAB, NumPy, JSON and pickle files, read into boxes by image name.

Each layout has its own idea of a box, and its own is applied unless told otherwise: MCG and Selective Search write
`ymin xmin ymax xmax` counted from 1 with inclusive ends (recipe 1.6), Fast R-CNN's demo `x1 y1 x2 y2` from 0 with
inclusive ends, COCO `x y width height`, all else `x1 y1 x2 y2` from 0 with exclusive ends. Values become float before
anything is subtracted: the originals store unsigned integers, which wrap. Pickles are never trusted: only arrays,
numbers and containers come out of one, and whatever else it asks for is refused before it runs.

Shapes: N boxes of an image.
"""

from __future__ import annotations

import json
import pickle
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.errors import DataError, SettingsError

Order = Literal["xyxy", "yxyx", "xywh"]
Ends = Literal["inclusive", "exclusive"]
Named = dict[str | int, Any]  # raw boxes by image: a text is a file name, a number a COCO image id

XYXY_MODE, XYWH_MODE = 0, 1  # Detectron2's BoxMode
SINGLE_SUFFIX = "_boxes"  # Fast R-CNN's demo: 000004_boxes.mat belongs to 000004.jpg


@dataclass(frozen=True)
class BoxConvention:
    """What four numbers mean.

    Args:
        order: `xyxy`, `yxyx` (y first) or `xywh` (corner and size).
        origin: what the first pixel is called, 0 or 1.
        ends: whether the second corner still belongs to the box (`inclusive`) or not.
    """

    order: Order = "xyxy"
    origin: int = 0
    ends: Ends = "exclusive"

    def to_xyxy(self, boxes: NDArray[Any]) -> NDArray[np.float32]:
        """Boxes as they are inside: xyxy from 0 with exclusive ends.

        Args:
            boxes: `(N, 4)` of any number type.

        Example:
            >>> BoxConvention("yxyx", 1, "inclusive").to_xyxy(np.array([[1, 1, 20, 10]], np.uint16)).tolist()
            [[0.0, 0.0, 10.0, 20.0]]
        """
        values = boxes.astype(np.float64)
        if self.order == "yxyx":
            values = values[:, [1, 0, 3, 2]]
        if self.order == "xywh":
            values = np.hstack([values[:, :2], values[:, :2] + values[:, 2:]])
        values -= self.origin
        values[:, 2:] += self.ends == "inclusive"
        return values.astype(np.float32)


PLAIN = BoxConvention()
MATLAB = BoxConvention("yxyx", 1, "inclusive")
DEMO = BoxConvention("xyxy", 0, "inclusive")
COCO = BoxConvention("xywh", 0, "exclusive")


@dataclass(frozen=True)
class ProposalFile:
    """Proposals as a file has them.

    Args:
        path: the file.
        layout: which layout it has, in words.
        convention: what its numbers meant.
        boxes_xyxy: `(N, 4)` float32 by image, xyxy from 0 with exclusive ends, best first. A text names a file, a
            number is a COCO image id. Boxes may reach outside their image or have no area.
    """

    path: Path
    layout: str
    convention: BoxConvention
    boxes_xyxy: Mapping[str | int, NDArray[np.float32]] = field(repr=False)


def read_proposal_file(
    path: Path,
    *,
    identifier: str | None = None,
    order: Order | None = None,
    origin: int | None = None,
    ends: Ends | None = None,
) -> ProposalFile:
    """Read a file of proposals: `.mat`, `.npz`, `.json` or `.pkl`; docs/proposals.md lists the layouts.

    Args:
        path: the file.
        identifier: the image, for a file that holds the boxes of one; by default the file's name says it.
        order: overrides the layout's order of values.
        origin: overrides what the layout calls the first pixel.
        ends: overrides the layout's ends.

    Raises:
        SettingsError: the ending is unknown, or `identifier` is given and the file names its images.
        DataError: the file is missing, damaged, of no known layout, or holds values that are no boxes.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise SettingsError(
            f"'{path}' is no file of proposals.", f"Known are {', '.join(READERS)}; see docs/proposals.md."
        )
    if not path.is_file():
        raise DataError(f"There is no file '{path}'.", "Check the path of --method.")
    layout, convention, raw = reader(path)
    if identifier is not None:
        if layout != SINGLE:
            raise SettingsError(f"'{path}' names its images itself.", "Leave out --id.")
        raw = {identifier: next(iter(raw.values()))}
    if order or origin is not None or ends:
        convention = replace(
            convention,
            order=order or convention.order,
            origin=convention.origin if origin is None else origin,
            ends=ends or convention.ends,
        )
    boxes = {name: convention.to_xyxy(_numbers(path, name, values)) for name, values in raw.items()}
    return ProposalFile(path, layout, convention, boxes)


SINGLE = "boxes of one image (Fast R-CNN demo)"


def _read_mat(path: Path) -> tuple[str, BoxConvention, Named]:
    """MCG (`bboxes`, `imnames`), Selective Search (`boxes`, `images`), or the boxes of one image (`boxes`)."""
    import scipy.io

    try:
        found = scipy.io.loadmat(path, variable_names=["bboxes", "imnames", "boxes", "images"])
    except NotImplementedError:
        raise DataError(
            f"'{path}' is a MATLAB 7.3 file, which is HDF5 inside.", "Save it in MATLAB again: save(FILE, ..., '-v7')"
        ) from None
    except Exception as error:  # the reader raises whatever broken bytes lead it to
        raise _damaged(path, error) from None
    for boxes, names, layout in (("bboxes", "imnames", "MCG"), ("boxes", "images", "Selective Search")):
        if boxes in found and names in found:
            return layout, MATLAB, _by_name(path, map(_text, found[names].ravel()), list(found[boxes].ravel()))
    if "boxes" in found and found["boxes"].dtype != object:
        return SINGLE, DEMO, {path.stem.removesuffix(SINGLE_SUFFIX): found["boxes"]}
    raise _unknown(path, "cells 'bboxes' and 'imnames', 'boxes' and 'images', or one array 'boxes'")


def _read_npz(path: Path) -> tuple[str, BoxConvention, Named]:
    """`boxes`, `offsets`, `ids` as in the store, or an array for each image."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, error) from None
    if found.keys() != {"boxes", "offsets", "ids"}:
        return "arrays by image", PLAIN, dict(found)
    boxes, offsets, ids = found["boxes"], found["offsets"], found["ids"]
    fits = ids.ndim == 1 and offsets.shape == (len(ids) + 1,) and offsets.dtype.kind in "iu"
    if not fits or offsets[0] != 0 or offsets[-1] != len(boxes) or np.any(np.diff(offsets.astype(np.int64)) < 0):
        raise DataError(
            f"'{path}': boxes {boxes.shape}, offsets {offsets.shape} and ids {ids.shape} do not fit together.",
            "offsets has one entry more than ids, begins with 0 and ends with the number of boxes.",
        )
    return (
        "boxes, offsets, ids",
        PLAIN,
        _by_name(path, ids.tolist(), np.split(boxes, offsets[1:-1]) if len(ids) else []),
    )


def _read_json(path: Path) -> tuple[str, BoxConvention, Named]:
    """COCO results (a list), or lists of boxes by image (an object)."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from None
    if isinstance(document, dict) and all(isinstance(boxes, list) for boxes in document.values()):
        if not {"images", "annotations", "categories"} <= document.keys():
            return "lists by image", PLAIN, dict(document)
        raise DataError(f"'{path}' holds annotations, not proposals.", "Proposals never come from the ground truth.")
    try:
        return "COCO results", COCO, _coco_results(document)
    except (KeyError, TypeError, ValueError, AttributeError):
        expected = '[{"image_id", "bbox", "score"}, ...] or {"NAME": [[x1, y1, x2, y2], ...], ...}'
        raise _unknown(path, expected) from None


def _coco_results(entries: list[Mapping[str, Any]]) -> Named:
    """Boxes by image, best first; without scores in the file's order."""
    scored = all("score" in entry for entry in entries)
    ordered = sorted(entries, key=lambda entry: -float(entry["score"])) if scored else entries
    found: Named = {}
    for entry in ordered:
        image = entry["image_id"]
        found.setdefault(image if isinstance(image, int) else str(image), []).append(entry["bbox"])
    return found


def _read_pickle(path: Path) -> tuple[str, BoxConvention, Named]:
    """Detectron's `boxes`, `ids` and scores (older: `indexes`, `scores`), or arrays by image."""
    try:
        with path.open("rb") as file:
            document = _ArraysOnly(file, encoding="latin1").load()
    except _Refused as error:
        raise DataError(
            f"'{path}' asks for {error}: a pickle of proposals holds arrays, numbers, texts, lists and dicts alone.",
            "Nothing of it was run. Save the boxes with numpy.savez instead.",
        ) from None
    except Exception as error:  # the reader raises whatever broken bytes lead it to
        raise _damaged(path, error) from None
    if not isinstance(document, dict) or not document:
        raise _unknown(path, "a dict with 'boxes' and 'ids', or with an array for each image")
    ids = document.get("ids", document.get("indexes"))
    if "boxes" not in document or ids is None:
        return "arrays by image", PLAIN, dict(document)
    mode = document.get("bbox_mode", XYXY_MODE)
    if mode not in (XYXY_MODE, XYWH_MODE):
        raise DataError(f"'{path}' has bbox_mode {mode}; known are 0 (xyxy) and 1 (xywh).")
    found = _by_name(path, ids, list(document["boxes"]))
    scores = document.get("objectness_logits", document.get("scores"))
    if scores is not None:
        if len(scores) != len(found):
            raise DataError(f"'{path}' has boxes of {len(found)} images and scores of {len(scores)}.")
        found = {name: _best_first(path, name, found[name], score) for name, score in zip(found, scores, strict=True)}
    return "Detectron", COCO if mode == XYWH_MODE else PLAIN, found


def _best_first(path: Path, name: str | int, boxes: Any, scores: Any) -> NDArray[Any]:
    values, marks = np.asarray(boxes), np.asarray(scores)
    if len(marks) != len(values) or marks.dtype.kind not in "uif" or np.isnan(marks).any():
        raise DataError(f"'{path}', image '{name}': {len(values)} boxes do not go with its {len(marks)} scores.")
    order: NDArray[np.int64] = np.argsort(-marks.astype(np.float64).ravel(), kind="stable")
    return np.asarray(values[order])


def _by_name(path: Path, names: Any, boxes: list[Any]) -> Named:
    listed = [name if isinstance(name, str) else int(name) for name in names]
    if len(listed) != len(boxes):
        raise DataError(f"'{path}' has {len(listed)} names and boxes of {len(boxes)} images.")
    if len(set(listed)) < len(listed):
        twice = next(name for name in listed if listed.count(name) > 1)
        raise DataError(f"'{path}' has two lists of boxes for '{twice}'.")
    return dict(zip(listed, boxes, strict=True))


def _numbers(path: Path, name: str | int, values: Any) -> NDArray[Any]:
    """Boxes of one image as `(N, 4)` finite numbers."""
    try:
        boxes = np.asarray(values)
    except ValueError:
        boxes = np.empty(1, object)  # lists of different lengths
    if boxes.size == 0:
        return np.zeros((0, 4))
    if boxes.dtype.kind not in "uif" or boxes.ndim != 2 or boxes.shape[1] != 4:
        raise DataError(
            f"'{path}', image '{name}': found {boxes.dtype} of shape {boxes.shape}; expected four numbers a box.",
            "See docs/proposals.md for the layouts.",
        )
    if not np.isfinite(boxes).all():
        row = int(np.flatnonzero(~np.isfinite(boxes).all(axis=1))[0])
        raise DataError(f"'{path}', image '{name}': box {row} is {boxes[row].tolist()}.", "Write the file without it.")
    return boxes


def _text(cell: Any) -> str:
    """A text in a MATLAB cell."""
    return str(np.asarray(cell).ravel()[0]) if np.size(cell) else ""


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"'{path}' cannot be read: {type(error).__name__} {error}.", "Copy or make the file again.")


def _unknown(path: Path, expected: str) -> DataError:
    return DataError(f"'{path}' has none of the known layouts; expected {expected}.", "See docs/proposals.md.")


class _Refused(Exception):
    """A pickle asks for something that is no plain data."""


class _ArraysOnly(pickle.Unpickler):
    """Reads arrays, numbers and containers; refuses everything else by name, before anything of it is called."""

    def find_class(self, module: str, name: str) -> Any:
        found = PLAIN_DATA.get((module.replace("numpy._core", "numpy.core"), name))
        if found is None:
            raise _Refused(f"{module}.{name}")
        return found

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused(f"the outside object {pid}")


class _StoredDtype:
    """A type of numbers as a pickle describes it; only its code and byte order are taken over."""

    def __init__(self, code: str, *_: Any) -> None:
        self.dtype = np.dtype(str(code))

    def __setstate__(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])

    def numbers(self, content: bytes | str) -> NDArray[Any]:
        """The numbers that some bytes are."""
        if self.dtype.kind not in "biufSU":
            raise _Refused(f"an array of {self.dtype}")
        return np.frombuffer(content.encode("latin1") if isinstance(content, str) else content, self.dtype)


class _StoredArray:
    """An array as a pickle describes it: made empty, then given its content. NumPy takes it for an array."""

    def __init__(self, *_: Any) -> None:
        self.values: NDArray[Any] = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, stored, fortran, content = state
        if isinstance(content, list):
            self.values = np.empty(len(content), object)
            self.values[:] = content
        else:
            self.values = stored.numbers(content)
        self.values = self.values.reshape(shape, order="F" if fortran else "C")

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        return self.values if dtype is None else self.values.astype(dtype)

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Any:
        return iter(self.values)


def _array_of_bytes(content: Any, stored: _StoredDtype, shape: Any, order: Any) -> NDArray[Any]:
    return stored.numbers(bytes(content)).reshape(shape, order=order)


def _number(stored: _StoredDtype, content: bytes | str) -> Any:
    return stored.numbers(content)[0]


def _bytes(text: str = "", *_: Any) -> bytes:
    """How Python 3 writes bytes for Python 2: as a text of Latin-1, or as nothing."""
    return text.encode("latin1")


def _box_mode(number: int) -> int:
    return int(number)


# What a pickle may ask for, by module and name, and what it gets: stand-ins of our own, none of which can run code.
PLAIN_DATA: Mapping[tuple[str, str], Any] = {
    ("numpy", "ndarray"): "ndarray",  # an argument of _reconstruct, never called
    ("numpy", "dtype"): _StoredDtype,
    ("numpy.core.multiarray", "_reconstruct"): _StoredArray,
    ("numpy.core.multiarray", "scalar"): _number,
    ("numpy.core.numeric", "_frombuffer"): _array_of_bytes,
    ("_codecs", "encode"): _bytes,
    ("builtins", "bytes"): _bytes,
    ("__builtin__", "bytes"): _bytes,
    ("collections", "OrderedDict"): dict,
    ("detectron2.structures.boxes", "BoxMode"): _box_mode,
}
READERS: Mapping[str, Callable[[Path], tuple[str, BoxConvention, Named]]] = {
    ".mat": _read_mat,
    ".npz": _read_npz,
    ".json": _read_json,
    ".pkl": _read_pickle,
}
