"""Disparity images: depth as one over distance, the first channel of HHA, alone or three times.

Restates `saveDisparity.m` and the first channel of `saveHHA.m` of the authors (s-gupta/rcnn-depth).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CM_PER_METRE = 100.0

SCALE_CM = 31000.0
"""Disparity = 31000 / Z: 255 at 1.22 m, 31 at 10 m, so that a room fills the range of a byte (`saveHHA.m`)."""

NEAREST_CM = 100.0
"""Depth is raised to 1 m, where the byte has long saturated; the authors: "to prevent large values" (`saveHHA.m`)."""


def encode(depth_m: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Encode depth as a disparity image of three equal channels.

    Args:
        depth_m: (H, W) float64, metres, > 0, holes filled.

    Returns:
        (H, W, 3) uint8: 31000 / max(depth in cm, 100), rounded; 255 nearer than 1.22 m.

    Example:
        >>> encode(np.array([[1.0, 2.0, 4.0, 10.0]]))[0, :, 0].tolist()
        [255, 155, 78, 31]
    """
    return np.repeat(channel(depth_m * CM_PER_METRE)[..., None], 3, axis=-1)


def channel(depth_cm: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Encode depth in centimetres, (H, W), as one (H, W) uint8 channel: HHA's first."""
    return to_byte(SCALE_CM / np.maximum(depth_cm, NEAREST_CM))


def to_byte(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Convert like MATLAB's uint8: halves are rounded up (away from zero), and what is out of range saturates.

    Example:
        >>> to_byte(np.array([-3.0, 0.5, 1.49, 2.5, 300.0])).tolist()
        [0, 1, 1, 3, 255]
    """
    shifted = values + 0.5
    return np.clip(shifted, 0.0, 255.0, out=shifted).astype(np.uint8)
