"""`nyu_depth_v2_labeled.mat`: the 1449 labelled images in MATLAB's version 7.3, which is HDF5 with its axes reversed.

MATLAB's images(480, 640, 3, 1449) appears as (1449, 3, 640, 480). Cells of text are arrays of references to arrays of
16-bit characters. Of each image only the crop is read, a block of neighbours at a time: the file is three gigabytes,
and what is stored together in it is unpacked once.

Shapes: N images; `(N, 640, 480)` in the file, `(425, 560)` as read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.datasets.assembly import RAW_DEPTH
from xmodal_cli.datasets.downloads.catalogue import FILES
from xmodal_cli.datasets.nyud2.camera import COLUMNS, FULL_SIZE_HW, ROWS, to_millimetres
from xmodal_cli.datasets.nyud2.classes import NAME_COUNT, categories_by_label
from xmodal_cli.datasets.nyud2.objects import objects_of_labels
from xmodal_cli.datasets.nyud2.source import GroundTruth, Reader
from xmodal_cli.datasets.nyud2.splits import FIRST_NUMBER, IMAGE_COUNT, identifier, number_of
from xmodal_cli.errors import DataError

if TYPE_CHECKING:
    import h5py

FILE_NAME = "nyu_depth_v2_labeled.mat"
PUBLISHED = FILES[FILE_NAME]
AGAIN = f"Take the published {FILE_NAME} ({PUBLISHED.size:,} bytes, {PUBLISHED.hash}): xmodal download {FILE_NAME}"
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
USER_BLOCK = 512  # bytes of MATLAB's own heading before the HDF5 begins
OLD_MATLAB = b"MATLAB 5.0"

# What is read, with its kind of number; the file has more (accelData, rawRgbFilenames, ...), which is not needed.
ARRAYS = {"images": "u", "depths": "f", "rawDepths": "f", "labels": "u", "instances": "u"}
TEXTS = ("names", "scenes")
# Images read together: enough that opening the file does not count; no more than the file stores together, up to 32,
# which are 110 MB for all five arrays.
SMALLEST_BLOCK, LARGEST_BLOCK = 8, 32


@dataclass(frozen=True)
class LabelledFile:
    """The labelled file, looked at but not read; made by `open_labelled`. A `Source`.

    Args:
        path: the file.
        bytes: its size.
        ids: its images.
        scenes: scene by ID.
        categories: category id by label id, of the nineteen classes.
        names: how many names there are for label ids, which count from 1.
        block: images to be read together.
        notes: what is unlike the published file.
    """

    path: Path
    bytes: int
    ids: Sequence[str]
    scenes: Mapping[str, str] = field(repr=False)
    categories: Mapping[int, int] = field(repr=False)
    names: int
    block: int
    notes: tuple[str, ...] = ()
    kind: str = "labelled"
    modalities: Sequence[str] = ("hha", "depth", RAW_DEPTH, "disparity", "gray")
    usual: Sequence[str] = ("hha", "depth", RAW_DEPTH)
    has_objects: bool = True

    def identity(self, modality: str) -> dict[str, Any]:
        """The file's name and size; where it lies does not matter."""
        return {"source": self.kind, "file": self.path.name, "bytes": self.bytes}

    def modified(self, modality: str, identifier: str) -> int:
        """When the file was last changed."""
        return self.path.stat().st_mtime_ns

    @contextlib.contextmanager
    def reading(self, ids: Sequence[str]) -> Iterator[Reader]:
        """Open the file for a block of neighbouring images."""
        numbers = [number_of(each) - FIRST_NUMBER for each in ids]
        with _opened(self.path) as file:
            yield LabelledReader(self, file, min(numbers), max(numbers) + 1)


class LabelledReader:
    """Reads a block of neighbouring images, each array when it is first asked for; a `Reader`."""

    def __init__(self, source: LabelledFile, file: h5py.File, start: int, stop: int) -> None:
        self._source, self._file, self._start, self._stop = source, file, start, stop
        self._arrays: dict[str, NDArray[Any]] = {}

    def colour(self, identifier: str) -> NDArray[np.uint8]:
        """`(425, 560, 3)` R, G, B."""
        return np.ascontiguousarray(self._one("images", identifier))

    def stored(self, modality: str, identifier: str) -> None:
        """Nothing: everything is made from the file."""

    def depth_mm(self, identifier: str) -> NDArray[np.uint16]:
        """Depth with holes filled."""
        return to_millimetres(self._one("depths", identifier))

    def raw_mm(self, identifier: str) -> NDArray[np.uint16]:
        """Depth as the sensor gave it."""
        return to_millimetres(self._one("rawDepths", identifier))

    def ground_truth(self, identifier: str) -> GroundTruth:
        """The objects."""
        labels, instances = self._one("labels", identifier), self._one("instances", identifier)
        if labels.max() > self._source.names:
            raise DataError(
                f"'{self._source.path}', {identifier}: label {labels.max()} is beyond the {self._source.names} names.",
                AGAIN,
            )
        return GroundTruth(objects_of_labels(labels, instances, self._source.categories))

    def _one(self, name: str, identifier: str) -> NDArray[Any]:
        """The crop of one image of an array, axes as in MATLAB."""
        if name not in self._arrays:
            self._arrays[name] = self._block(name)
        image: NDArray[Any] = self._arrays[name][number_of(identifier) - FIRST_NUMBER - self._start].T
        return image

    def _block(self, name: str) -> NDArray[Any]:
        try:
            block: NDArray[Any] = self._file[name][self._start : self._stop, ..., COLUMNS, ROWS]
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"'{self._source.path}' is damaged: {name} of the images {self._start + 1} to {self._stop} cannot be "
                f"read ({_first_line(error)}).",
                AGAIN,
            ) from None
        return block


def open_labelled(path: Path) -> LabelledFile:
    """Look at the labelled file: version, fields, sizes, names and scenes; no image is read.

    Raises:
        DataError: missing, cut off, of another version, lacking a field, or a field is not what it should be.
    """
    with _opened(path) as file:
        _require(path, file, (*ARRAYS, *TEXTS))
        count = _check_arrays(path, file)
        names, scenes = (_texts(path, file, name) for name in TEXTS)
        stored_together = max((file[name].chunks or (1,))[0] for name in ARRAYS)
    if len(scenes) != count:
        raise DataError(f"'{path}' has {count} images and {len(scenes)} scenes.", AGAIN)
    ids = [identifier(FIRST_NUMBER + index) for index in range(count)]
    notes = []
    if count != IMAGE_COUNT:
        notes.append(f"'{path.name}' holds {count} images; the published file has {IMAGE_COUNT}.")
    if len(names) != NAME_COUNT:
        notes.append(f"'{path.name}' has {len(names)} names of things; the published file has {NAME_COUNT}.")
    return LabelledFile(
        path=path.absolute(),
        bytes=path.stat().st_size,
        ids=ids,
        scenes=dict(zip(ids, scenes, strict=True)),
        categories=categories_by_label(names, str(path)),
        names=len(names),
        block=min(max(SMALLEST_BLOCK, stored_together), LARGEST_BLOCK),
        notes=tuple(notes),
    )


def scenes_of(path: Path) -> list[str]:
    """The scene of every image, in the order of the file; other fields are not asked for.

    Raises:
        DataError: missing, cut off, of another version, or without this field.
    """
    with _opened(path) as file:
        _require(path, file, ("scenes",))
        return _texts(path, file, "scenes")


def _require(path: Path, file: h5py.File, names: Sequence[str]) -> None:
    absent = [name for name in names if name not in file]
    if absent:
        there = ", ".join(sorted(file.keys())) or "no field at all"
        raise DataError(f"'{path}' has no {', '.join(absent)}; it has {there}.", AGAIN)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    import h5py

    _check_heading(path)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        words = "is cut off" if "truncated" in str(error) else "is damaged"
        raise DataError(f"'{path}' {words}: {_first_line(error)}.", AGAIN) from None
    with file:
        yield file


def _check_heading(path: Path) -> None:
    """Tell by its first bytes whether a file is MATLAB 7.3, before a library with worse messages looks at it."""
    try:
        with path.open("rb") as handle:
            heading = handle.read(USER_BLOCK + len(HDF5_SIGNATURE))
    except FileNotFoundError:
        raise DataError(f"There is no file '{path}'.", "Check the path of --labelled.") from None
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}.", "Check the path of --labelled.") from None
    if heading.startswith(OLD_MATLAB):
        raise DataError(
            f"'{path}' is a MATLAB file of version 5 to 7; the labelled data is version 7.3 (HDF5).",
            f"Take the published {FILE_NAME}, or save it again: save(FILE, ..., '-v7.3')",
        )
    if HDF5_SIGNATURE not in (heading[: len(HDF5_SIGNATURE)], heading[USER_BLOCK:]):
        raise DataError(f"'{path}' is no MATLAB 7.3 file: no HDF5 begins at byte 0 or {USER_BLOCK}.", AGAIN)


def _check_arrays(path: Path, file: h5py.File) -> int:
    """Check size and type of every array; returns how many images there are."""
    height, width = FULL_SIZE_HW
    count = int(file["images"].shape[0]) if len(file["images"].shape) == 4 else 0
    for name, kind in ARRAYS.items():
        expected = (count, 3, width, height) if name == "images" else (count, width, height)
        shape, dtype = tuple(file[name].shape), file[name].dtype
        if shape != expected or dtype.kind != kind or count == 0:
            shown = ", ".join(map(str, ("N", *expected[1:])))
            words = "floating point" if kind == "f" else "whole numbers from 0"
            raise DataError(f"'{path}': {name} is {dtype} {shape}; expected {words} of shape ({shown}).", AGAIN)
    if count > IMAGE_COUNT:
        raise DataError(f"'{path}' holds {count} images; the published file has {IMAGE_COUNT}.", AGAIN)
    return count


def _texts(path: Path, file: h5py.File, name: str) -> list[str]:
    """A cell array of texts."""
    try:
        references = np.asarray(file[name]).ravel()
        return ["".join(map(chr, np.asarray(file[each]).ravel().tolist())) for each in references]
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"'{path}': {name} is no cell array of texts ({_first_line(error)}).", AGAIN) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
