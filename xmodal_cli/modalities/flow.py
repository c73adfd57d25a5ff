"""Optical flow as an image: the paper's 8-bit encoding of three channels, and the exact values in KITTI's 16-bit form.

The 8-bit form is the authors' (their `compute_OF`): 16 levels a pixel around 128, so that 8 px fill the byte; the third
channel is the length of the flow, with the same scale and, as they have it, the same offset: it begins at 128. The
16-bit form is the KITTI benchmark's (Geiger et al., CVPR 2012): 64 steps a pixel around 32768, and whether it is valid.

Shapes: flow is `(H, W, 2)`, pixels to the right and downward from this frame to the next; images are `(H, W, 3)`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.errors import DataError

LEVELS_PER_PX = 16.0
"""128 levels for 8 px, the largest flow that the paper's encoding tells apart (recipe of the authors: 128 / 8)."""

MIDDLE = 128.0
"""The byte of no motion, in all three channels."""

KITTI_STEPS_PER_PX = 64.0
"""Steps a pixel of the 16-bit form (KITTI's development kit), good to 1/128 px."""

KITTI_MIDDLE = 32768.0
"""The 16-bit value of no motion."""


def encode(flow_px: NDArray[Any]) -> NDArray[np.uint8]:
    """Encode flow as the paper's image: x, y and length, 16 levels a pixel around 128, saturating.

    Args:
        flow_px: `(H, W, 2)` float, pixels to the right and downward.

    Returns:
        `(H, W, 3)` uint8, RGB = x, y, length; the length lies in 128 to 255.

    Raises:
        DataError: not two channels, or values that are not finite.

    Example:
        >>> encode(np.array([[[0.0, 0.0], [3.0, -4.0], [-9.0, 0.5]]]))[0].tolist()
        [[128, 128, 128], [176, 64, 208], [0, 136, 255]]
    """
    flow = _checked(flow_px)
    levels = np.empty((*flow.shape[:2], 3), np.float32)
    levels[..., :2] = flow
    levels[..., 2] = np.sqrt(flow[..., 0] * flow[..., 0] + flow[..., 1] * flow[..., 1])
    levels *= LEVELS_PER_PX
    levels += MIDDLE + 0.5
    return np.clip(levels, 0.0, 255.0, out=levels).astype(np.uint8)


def decode(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The flow that an 8-bit image tells: exact to 1/32 px within 7.9 px, the nearest end beyond.

    Args:
        image: `(H, W, 3)` uint8, as `encode` makes it.

    Returns:
        `(H, W, 2)` float32, pixels.

    Example:
        >>> decode(encode(np.array([[[3.0, -4.0]]])))[0, 0].tolist()
        [3.0, -4.0]
    """
    return np.asarray((image[..., :2].astype(np.float32) - np.float32(MIDDLE)) / np.float32(LEVELS_PER_PX))


def encode_kitti(flow_px: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> NDArray[np.uint16]:
    """Encode flow as KITTI's 16-bit image: x, y, valid; pixels that are not valid are 0 in all three.

    Args:
        flow_px: `(H, W, 2)` float, pixels; beyond 511 px it saturates.
        valid: `(H, W)` bool; None where all are.

    Returns:
        `(H, W, 3)` uint16, RGB = x, y, 1 where valid.

    Example:
        >>> encode_kitti(np.array([[[0.0, -1.5]]]))[0, 0].tolist()
        [32768, 32672, 1]
    """
    steps = _checked(flow_px) * np.float32(KITTI_STEPS_PER_PX)
    steps += np.float32(KITTI_MIDDLE + 0.5)
    image = np.ones((*steps.shape[:2], 3), np.uint16)
    image[..., :2] = np.clip(steps, 1.0, 65535.0, out=steps)
    if valid is not None:
        image[~valid] = 0
    return image


def decode_kitti(image: NDArray[np.uint16]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The flow in pixels, `(H, W, 2)` float32, and where it is valid, `(H, W)` bool, of KITTI's 16-bit image.

    Example:
        >>> flow_px, valid = decode_kitti(encode_kitti(np.array([[[0.25, -1.5]]])))
        >>> flow_px[0, 0].tolist(), valid.tolist()
        ([0.25, -1.5], [[True]])
    """
    flow = (image[..., :2].astype(np.float32) - np.float32(KITTI_MIDDLE)) / np.float32(KITTI_STEPS_PER_PX)
    return flow, image[..., 2] > 0


def _checked(flow_px: NDArray[Any]) -> NDArray[np.float32]:
    flow = np.asarray(flow_px, np.float32)
    if flow.ndim != 3 or flow.shape[2] != 2:
        raise DataError(f"Optical flow has two channels (H, W, 2), x and y; found the shape {flow.shape}.")
    if not np.isfinite(flow).all():
        raise DataError("Optical flow has values that are not finite.", "Mark them as not valid, and give them 0.")
    return flow
