"""Metric depth: from stored numbers to metres, holes filled, coarse steps smoothed, and back to millimetres on disk.

Shapes: everything is one image (H, W).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from xmodal_cli.errors import DataError, SettingsError

MILLIMETRES_PER_METRE = 1000.0

WHOLE_TOLERANCE = 1e-9
"""1 / unit within this (relative) of a whole number is taken to be that number: 0.001 is not exact in binary."""


def to_metres(raw: NDArray[np.generic], unit: float, offset: float = 0.0) -> NDArray[np.float64]:
    """Convert stored depth to metres: raw * unit + offset.

    Units like 0.001 divide by a thousand instead, so that 4960 mm become the double nearest to 4.96.

    Args:
        raw: (H, W) of any number type.
        unit: metres per step, > 0.
        offset: metres at raw 0.

    Returns:
        (H, W) float64, metres.

    Raises:
        SettingsError: the unit is not positive, or a number is not finite.
        DataError: the image is not one channel of numbers.

    Example:
        >>> to_metres(np.array([[0, 1500]], dtype=np.uint16), unit=0.001).tolist()
        [[0.0, 1.5]]
        >>> to_metres(np.array([[0, 255]], dtype=np.uint8), unit=1 / 25.5, offset=0.5 / 25.5).round(3).tolist()
        [[0.02, 10.02]]
    """
    if not (np.isfinite(unit) and np.isfinite(offset) and unit > 0):
        raise SettingsError(
            f"A depth unit is a number of metres above 0; found unit {unit} and offset {offset}.",
            hint="Give --depth-unit in metres per step: 0.001 for millimetres.",
        )
    if raw.ndim != 2 or raw.dtype.kind not in "uif":
        raise DataError(f"Depth is one channel of numbers (H, W); found {raw.dtype} {raw.shape}.")
    steps_per_metre = round(1.0 / unit)
    metres = raw.astype(np.float64)
    if steps_per_metre and abs(steps_per_metre * unit - 1.0) < WHOLE_TOLERANCE:
        metres /= steps_per_metre
    else:
        metres *= unit
    if offset:
        metres += offset
    return metres


def fill_holes(depth_m: NDArray[np.float64], missing: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Give every missing pixel the depth of the nearest valid one.

    Distance is counted in city blocks, like `fillHoles.m` of the authors (s-gupta/rgbdutils) in its mode 'bwdist'.

    Args:
        depth_m: (H, W) float64, metres; what stands at missing pixels is ignored.
        missing: (H, W) bool.

    Returns:
        (H, W) float64, metres; valid pixels unchanged.

    Raises:
        DataError: no pixel is valid, or the sizes differ.

    Example:
        >>> fill_holes(np.array([[0.0, 2.0, 0.0, 0.0, 3.0]]), np.array([[True, False, True, True, False]])).tolist()
        [[2.0, 2.0, 2.0, 3.0, 3.0]]
    """
    if missing.shape != depth_m.shape:
        raise DataError(f"The mask of missing pixels has the size {missing.shape}, the depth {depth_m.shape}.")
    if not missing.any():
        return depth_m.copy()
    if missing.all():
        raise DataError("Every pixel of the depth is missing.", hint="Check the file, or leave it out with --skip-bad.")
    _, nearest = cv2.distanceTransformWithLabels(
        missing.astype(np.uint8), cv2.DIST_L1, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    depth_of_label = np.zeros(int(nearest.max()) + 1)
    valid = ~missing
    depth_of_label[nearest[valid]] = depth_m[valid]
    return np.asarray(depth_of_label[nearest])


def encode(depth_m: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Store metric depth as 16-bit millimetres, rounded like MATLAB's uint16, saturating at 65.535 m.

    Args:
        depth_m: (H, W) float64, metres, >= 0.

    Example:
        >>> encode(np.array([[1.9235, 9.4844, 100.0]])).tolist()
        [[1924, 9484, 65535]]
    """
    millimetres = depth_m * MILLIMETRES_PER_METRE + 0.5
    return np.clip(millimetres, 0.0, 65535.0, out=millimetres).astype(np.uint16)
