"""Thermal images: radiometric 16-bit values to 8 bits, with one range for the whole data set.

A range per image would make the same temperature look different from frame to frame; so the range is measured once,
on the train split, and kept in dataset.json.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.errors import DataError

PERCENTILES = (0.1, 99.9)
"""What lies outside is cut off: a dead pixel or a flame must not squeeze the rest into a few grey levels."""

LEVELS = 1 << 16


def measure_range(
    images: Iterable[NDArray[np.uint16]], percentiles: tuple[float, float] = PERCENTILES
) -> tuple[float, float]:
    """Measure the values between which nearly all pixels of a data set lie.

    Images are read one by one; the percentiles of all their pixels together are exact.

    Args:
        images: (H, W) uint16 (or uint8) each.
        percentiles: the lower and the upper one, 0 to 100.

    Returns:
        The values at the two percentiles, the lower one below the upper one.

    Raises:
        DataError: no image, not whole numbers of 8 or 16 bits, or all pixels alike.

    Example:
        >>> measure_range([np.arange(1000, 2001, dtype=np.uint16)[None]], percentiles=(10, 90))
        (1100.0, 1900.0)
    """
    counts = np.zeros(LEVELS, dtype=np.int64)
    for image in images:
        if image.dtype not in (np.uint8, np.uint16):
            raise DataError(f"Thermal images hold whole numbers of 8 or 16 bits; found {image.dtype}.")
        counts += np.bincount(image.ravel(), minlength=LEVELS)
    below = np.cumsum(counts)
    total = int(below[-1])
    if total == 0:
        raise DataError("There is no thermal image to measure the range of values on.")
    low, high = (float(np.searchsorted(below, share / 100 * (total - 1), side="right")) for share in percentiles)
    if low == high:
        raise DataError(f"All thermal pixels between the percentiles {percentiles} have the same value {low:.0f}.")
    return low, high


def encode(raw: NDArray[np.uint16], value_range: tuple[float, float]) -> NDArray[np.uint8]:
    """Map a range of values to 0..255, rounded, saturating outside.

    Args:
        raw: (H, W) uint16 radiometric values.
        value_range: the values that become 0 and 255.

    Returns:
        (H, W) uint8.

    Raises:
        DataError: not one channel, or the range is empty.

    Example:
        >>> encode(np.array([[100, 150, 200, 250]], dtype=np.uint16), (100.0, 200.0)).tolist()
        [[0, 128, 255, 255]]
    """
    low, high = value_range
    if not low < high:
        raise DataError(f"The range of thermal values is empty: {low} to {high}.", hint="Measure it again.")
    if raw.ndim != 2:
        raise DataError(f"A thermal image has one channel (H, W); found the shape {raw.shape}.")
    levels = (raw.astype(np.float64) - low) * 255.0 / (high - low) + 0.5
    return np.clip(levels, 0.0, 255.0, out=levels).astype(np.uint8)
