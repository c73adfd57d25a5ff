"""One pair of a prepared data set, opened and measured: the part of `check` that runs in a pool of processes.

Shapes: `(H, W, C)` images; figures are per channel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.data import images
from xmodal_cli.data.duplicates import picture_hash
from xmodal_cli.data.manifest import ManifestRow
from xmodal_cli.data.prepared import RGB, ModalityInfo
from xmodal_cli.errors import DataError


@dataclass(frozen=True)
class Figures:
    """What one file, or many of one modality, hold; sums are per channel.

    Args:
        files: how many files.
        pixels: how many pixels.
        total: sum of values.
        lowest: smallest value.
        highest: largest value.
        at_floor: pixels at the lower end of the modality's range.
        at_ceiling: pixels at the upper end.
        bytes: size on disk.
        medians: median of each file's first channel.
        sizes: `W x H` of the files and how many have it.
        flat: files in which all pixels are alike.
    """

    files: int
    pixels: int
    total: tuple[float, ...]
    lowest: float
    highest: float
    at_floor: tuple[int, ...]
    at_ceiling: tuple[int, ...]
    bytes: int
    medians: tuple[float, ...]
    sizes: Mapping[str, int]
    flat: tuple[str, ...]


@dataclass(frozen=True)
class PairInspection:
    """What came out of looking at one pair.

    Args:
        id: the pair.
        errors: what is wrong, one sentence each.
        figures: by modality, for the files that could be read.
        picture_hash: perceptual hash of the colour image; None where it could not be read.
    """

    id: str
    errors: tuple[str, ...]
    figures: Mapping[str, Figures]
    picture_hash: int | None


def inspect_pair(root: Path, modalities: Mapping[str, ModalityInfo], rows: Sequence[ManifestRow]) -> PairInspection:
    """Open every file of a pair, compare it with the manifest and with its partners, and measure it.

    Args:
        root: the data set.
        modalities: descriptions by name.
        rows: manifest rows of the pair, one for each modality.
    """
    errors: list[str] = []
    figures: dict[str, Figures] = {}
    seen: int | None = None
    for row in rows:
        path = root / row.file
        try:
            content = images.read_bytes(path)
            image = images.decode_rgb(content, path) if row.modality == RGB else images.decode_raw(content, path)
        except DataError as error:
            errors.append(error.message)
            continue
        image = image[:, :, None] if image.ndim == 2 else image
        errors += _differences(path, row, modalities[row.modality], content, image)
        if image.dtype in (np.uint8, np.uint16):
            figures[row.modality] = measure(row.id, image, modalities[row.modality], len(content))
        if row.modality == RGB:
            seen = picture_hash(image)
    sizes = {next(iter(found.sizes)): name for name, found in figures.items()}
    if len(sizes) > 1:
        shown = ", ".join(f"{name} {size}" for size, name in sizes.items())
        errors.append(f"The images of '{rows[0].id}' differ in size: {shown}.")
    return PairInspection(rows[0].id, tuple(errors), figures, seen)


def measure(identifier: str, image: NDArray[Any], info: ModalityInfo, size: int) -> Figures:
    """Measure one image.

    Args:
        identifier: its ID.
        image: `(H, W, C)` uint8 or uint16.
        info: its modality.
        size: bytes of its file.
    """
    height, width, channels = image.shape
    levels = int(np.iinfo(image.dtype).max) + 1
    counts = np.stack([np.bincount(image[:, :, c].ravel(), minlength=levels) for c in range(channels)])  # (C, levels)
    present = np.flatnonzero(counts.any(axis=0))
    low, high = (int(end) for end in info.range)
    middle = np.searchsorted(np.cumsum(counts[0]), (height * width + 1) // 2)
    return Figures(
        files=1,
        pixels=height * width,
        total=tuple((counts @ np.arange(levels, dtype=np.float64)).tolist()),
        lowest=float(present[0]),
        highest=float(present[-1]),
        at_floor=tuple(counts[:, low].tolist()),
        at_ceiling=tuple(counts[:, min(high, levels - 1)].tolist()),
        bytes=size,
        medians=(float(middle),),
        sizes={f"{width} x {height}": 1},
        flat=(identifier,) if len(present) == 1 else (),
    )


def combine(parts: Sequence[Figures]) -> Figures:
    """The figures of many files of one modality as one; there must be at least one, all with the same channels."""
    sizes: dict[str, int] = {}
    for part in parts:
        for size, count in part.sizes.items():
            sizes[size] = sizes.get(size, 0) + count
    return Figures(
        files=sum(part.files for part in parts),
        pixels=sum(part.pixels for part in parts),
        total=tuple(sum(column) for column in zip(*(part.total for part in parts), strict=True)),
        lowest=min(part.lowest for part in parts),
        highest=max(part.highest for part in parts),
        at_floor=tuple(sum(column) for column in zip(*(part.at_floor for part in parts), strict=True)),
        at_ceiling=tuple(sum(column) for column in zip(*(part.at_ceiling for part in parts), strict=True)),
        bytes=sum(part.bytes for part in parts),
        medians=tuple(median for part in parts for median in part.medians),
        sizes=sizes,
        flat=tuple(identifier for part in parts for identifier in part.flat),
    )


def _differences(path: Path, row: ManifestRow, info: ModalityInfo, content: bytes, image: NDArray[Any]) -> list[str]:
    """How a file differs from what dataset.json and the manifest say."""
    found = []
    if image.shape[2] != info.channels or str(image.dtype) != info.dtype:
        found.append(f"'{path}' holds {images.describe(image)}; {row.modality} is {info.channels} x {info.dtype}.")
    if image.shape[:2] != (row.height, row.width):
        found.append(
            f"'{path}' has {image.shape[1]} x {image.shape[0]} pixels; the manifest says {row.width} x {row.height}."
        )
    elif hashlib.sha256(content).hexdigest() != row.sha256:
        found.append(f"'{path}' has changed since it was prepared: its SHA-256 is not the manifest's.")
    return found
