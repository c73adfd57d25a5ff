"""One frame of raw video, from the files of the Kinect to the files of the data set: what runs in a pool of processes.

Each frame leaves a small record beside the data set when all its files lie there; that is how a run that was stopped
knows what is finished. What is wrong with a raw file comes back by name, and a neighbour of the frame stands in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli import files
from xmodal_cli.data import images
from xmodal_cli.data.manifest import ManifestRow
from xmodal_cli.data.prepared import RGB
from xmodal_cli.datasets.assembly import RAW_DEPTH
from xmodal_cli.datasets.nyud2_raw.camera import CROP_HW, CROPPED
from xmodal_cli.datasets.nyud2_raw.netpbm import decode_pgm, decode_ppm
from xmodal_cli.datasets.nyud2_raw.registration import register, undistort_colour
from xmodal_cli.datasets.nyud2_raw.settings import RawRecipe
from xmodal_cli.datasets.nyud2_raw.synchronise import RawPair
from xmodal_cli.errors import DataError
from xmodal_cli.modalities import Frame, depth, encode_frame, modality

PARTS = ".frames"
LEAST_SEEN = 0.05  # share of pixels with depth; below it the sensor was covered or had not begun


@dataclass(frozen=True)
class Job:
    """One frame that is wanted.

    Args:
        folder: of the scene; IDs begin with it.
        candidates: the pair that is wanted, and those that stand in for it, in this order.
    """

    folder: str
    candidates: tuple[RawPair, ...]

    @property
    def first(self) -> str:
        """ID of the pair that is wanted; names the record."""
        return frame_id(self.folder, self.candidates[0].number)


@dataclass(frozen=True)
class RawResult:
    """What became of one frame that was wanted.

    Args:
        first: ID of the pair that was wanted.
        id: of the pair that was made; None where none could be.
        rows: manifest rows of its files.
        bad: what is wrong, by the ID of the pairs that were passed over.
        missing: pixels that the sensor did not see.
        median_m: median depth of those it saw, metres.
        raw_files: names of its colour and depth file.
        gap_s: time between them.
        made: files written; 0 for a frame that an earlier run made.
    """

    first: str
    id: str | None = None
    rows: tuple[ManifestRow, ...] = ()
    bad: Mapping[str, str] = field(default_factory=dict)
    missing: int = 0
    median_m: float = 0.0
    raw_files: tuple[str, str] = ("", "")
    gap_s: float = 0.0
    made: int = 0


def frame_id(folder: str, number: int) -> str:
    """ID of a frame.

    Example:
        >>> frame_id("bedroom_0001", 42)
        'bedroom_0001/00042'
    """
    return f"{folder}/{number:05d}"


def prepare_frame(recipe: RawRecipe, job: Job) -> RawResult:
    """Make the files of one frame, or read back what an earlier run made of it.

    Args:
        recipe: how.
        job: which.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    part = recipe.root / PARTS / f"{job.first}.json"
    finished = _read_part(recipe, part.read_bytes()) if part.is_file() else None
    if finished is not None:
        return finished
    result = _make(recipe, job)
    part.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(part, json.dumps(asdict(result)).encode(), sync=False)
    return result


def encode_pair(recipe: RawRecipe, pair: RawPair) -> tuple[dict[str, bytes], int, float]:
    """The files of one pair by modality, rgb first; pixels that the sensor did not see; median depth in metres.

    Args:
        recipe: modalities and how holes are filled.
        pair: the raw files.

    Raises:
        DataError: a raw file is damaged, or holds no depth.
    """
    rgb = undistort_colour(decode_ppm(pair.colour.read(), pair.colour.name))
    registered_m = register(decode_pgm(pair.depth.read(), pair.depth.name)).astype(np.float64)
    missing = registered_m == 0
    if np.count_nonzero(~missing) < LEAST_SEEN * missing.size:
        raise DataError(f"'{pair.depth.name}' has depth in less than {100 * LEAST_SEEN:.0f} % of the image.")
    frame = Frame(_filled(recipe, registered_m, missing, rgb), CROPPED, missing if missing.any() else None)
    encoded = {RGB: images.encode_png(rgb, fast=True)}
    for name in recipe.modalities:
        image = depth.encode(registered_m) if name == RAW_DEPTH else _encode(name, frame, rgb)
        encoded[name] = images.encode_png(image, fast=True)
    return encoded, int(np.count_nonzero(missing)), float(np.median(registered_m[~missing]))


def _encode(name: str, frame: Frame, rgb: NDArray[np.uint8]) -> NDArray[Any]:
    return encode_frame(name, Frame(rgb) if modality(name).source == "colour" else frame)


def _filled(
    recipe: RawRecipe, depth_m: NDArray[np.float64], missing: NDArray[np.bool_], rgb: NDArray[np.uint8]
) -> NDArray[np.float64]:
    if recipe.fill == "colourise":
        from xmodal_cli.datasets.nyud2_raw import colourise

        return colourise.fill_holes(depth_m, missing, rgb)
    return depth.fill_holes(depth_m, missing)


def _make(recipe: RawRecipe, job: Job) -> RawResult:
    """Make the first pair of a job that is sound."""
    bad: dict[str, str] = {}
    for pair in job.candidates:
        identifier = frame_id(job.folder, pair.number)
        try:
            encoded, missing, median_m = encode_pair(recipe, pair)
        except DataError as error:
            bad[identifier] = error.message
            continue
        rows = tuple(_write(recipe, identifier, name, content) for name, content in encoded.items())
        names = (pair.colour.name, pair.depth.name)
        gap_s = round(pair.gap_s, 6)
        return RawResult(job.first, identifier, rows, bad, missing, round(median_m, 4), names, gap_s, len(rows))
    return RawResult(job.first, bad=bad)


def _write(recipe: RawRecipe, identifier: str, name: str, content: bytes) -> ManifestRow:
    file = f"{name}/{identifier}.png"
    path = recipe.root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(path, content, sync=False)  # made again by the same command if the power fails
    return ManifestRow(identifier, name, file, *CROP_HW, len(content), hashlib.sha256(content).hexdigest())


def _read_part(recipe: RawRecipe, content: bytes) -> RawResult | None:
    """What an earlier run made of a frame, if all its files are there."""
    try:
        document = json.loads(content)
        rows = tuple(ManifestRow(**row) for row in document["rows"])
        names = (str(document["raw_files"][0]), str(document["raw_files"][1]))
        result = RawResult(**{**document, "rows": rows, "raw_files": names, "made": 0})
        whole = all((recipe.root / row.file).stat().st_size == row.bytes for row in rows)
    except (OSError, ValueError, TypeError, KeyError, IndexError):
        return None
    complete = result.id is not None and {row.modality for row in rows} == {RGB, *recipe.modalities}
    return result if whole and complete else None
