"""Optical flow between two frames with OpenCV: DIS and Farneback, in place of the paper's variational solver.

The paper took the flow of Brox et al. (ECCV 2004), whose program was never published with it. `dis` is the dense
inverse search of Kroeger et al. (ECCV 2016), `farneback` the polynomial expansion of Farneback (SCIA 2003). A third
one, RAFT, is a network: `xmodal_cli.models.raft`. Which of them comes nearest to the truth, and how fast they are,
`benchmarks/flow.py` measures.

Shapes: frames are `(H, W, 3)` uint8 R, G, B; flow is `(H, W, 2)` float32, pixels to the right and downward from the
frame to the one that follows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from xmodal_cli.errors import DataError

Image = NDArray[np.uint8]
Flow = NDArray[np.float32]

SMALLEST_PX = 12  # DIS matches patches of 8 pixels; below this side it refuses or finds nothing
# Farneback: OpenCV's own example settings, but for three more levels, without which 8 px are out of its reach.
FARNEBACK = {
    "pyr_scale": 0.5,
    "levels": 5,
    "winsize": 15,
    "iterations": 3,
    "poly_n": 5,
    "poly_sigma": 1.1,
    "flags": 0,
}


def dis(image: Image, following: Image) -> Flow:
    """Flow by dense inverse search, with OpenCV's most careful preset.

    Args:
        image: `(H, W, 3)` uint8.
        following: the next frame, of the same size.

    Returns:
        `(H, W, 2)` float32, pixels.

    Raises:
        DataError: two sizes, or frames smaller than 12 pixels.

    Example:
        >>> noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
        >>> image = cv2.resize(noise, (128, 96), interpolation=cv2.INTER_CUBIC)
        >>> flow_px = dis(image, np.roll(image, (1, 3), (0, 1)))
        >>> np.median(flow_px, (0, 1)).round(1).tolist()
        [3.0, 1.0]
    """
    first, second = _grey(image, following)
    return np.asarray(_dis().calc(first, second, None), np.float32)


def farneback(image: Image, following: Image) -> Flow:
    """Flow by polynomial expansion; arguments, result and errors as in `dis`."""
    first, second = _grey(image, following)
    nothing: Any = None
    return np.asarray(cv2.calcOpticalFlowFarneback(first, second, nothing, **FARNEBACK), np.float32)  # type: ignore[call-overload]


ESTIMATORS: dict[str, Callable[[Image, Image], Flow]] = {"dis": dis, "farneback": farneback}


def check_frames(image: Image, following: Image) -> None:
    """Make sure that flow can be estimated between two frames.

    Raises:
        DataError: two sizes, or frames smaller than 12 pixels.
    """
    (height, width), (next_height, next_width) = image.shape[:2], following.shape[:2]
    if (height, width) != (next_height, next_width):
        raise DataError(
            f"A frame has {width} x {height} pixels and the next one {next_width} x {next_height}.",
            "Convert the video to one size.",
        )
    if min(height, width) < SMALLEST_PX:
        raise DataError(f"Optical flow needs frames of {SMALLEST_PX} x {SMALLEST_PX} pixels; found {width} x {height}.")


def _grey(image: Image, following: Image) -> tuple[Image, Image]:
    check_frames(image, following)
    first, second = (cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (image, following))
    return first, second  # type: ignore[return-value]


@lru_cache(maxsize=1)
def _dis() -> Any:
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
