"""Images of any modalities as channels that regions can be grouped by, all on one scale and of one working size.

Colour is CIE Lab; depth its logarithm in per cent (a step of one is 1 % further away: sensors err in proportion); HHA's
height and angle stay as stored; disparity, turned so that far is high, and all else (thermal, flow, gray) are stretched
so that the middle 98 % of an image span 100. What is neither colour nor depth takes colour's place where there is no
colour, and is a group of its own beside it.

Shapes: h x w is the working size, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

NEAREST_MM = 300.0  # nothing is seen closer by the depth sensors in use (Kinect 0.5 m, RealSense 0.3 m)
LAB_STEPS = np.array([0.5, 1.0, 1.0], np.float32)  # OpenCV's 8-bit L spans 255 for 100
SPAN = 100.0  # of a stretched channel: the range of Lab's L
STRETCHED = (1.0, 99.0)  # percentiles that span it: a few hot or lost pixels must not flatten all others

Floats = NDArray[np.float32]


def channels(images: Mapping[str, NDArray[Any]], side_px: int, smoothing_px: float) -> dict[str, Floats]:
    """Channels by group: `colour`, `depth`, `height`, `angle`, `other`; a group without a source is left out.

    Args:
        images: `(H, W, C)` or `(H, W)` by modality name, as a prepared data set gives them, all of one size.
        side_px: longer side of the working size; smaller images stay as they are.
        smoothing_px: standard deviation of the Gaussian that takes the noise away, working pixels.

    Returns:
        `(h, w, C)` float32 by group.

    Example:
        >>> found = channels({"rgb": np.zeros((60, 80, 3), np.uint8)}, side_px=40, smoothing_px=1.0)
        >>> {name: image.shape for name, image in found.items()}
        {'colour': (30, 40, 3)}
    """
    full_hw = next(iter(images.values())).shape[:2]
    size_hw = working_size(full_hw, side_px)
    found: dict[str, list[Floats]] = {}
    for modality, image in images.items():
        stored = image if image.ndim == 3 else image[:, :, None]
        for group, values in _groups(modality, stored, size_hw, set(images)).items():
            found.setdefault(group, []).append(values)
    return {group: _smooth(np.concatenate(parts, axis=2), smoothing_px) for group, parts in sorted(found.items())}


def working_size(full_hw: tuple[int, ...], side_px: int) -> tuple[int, int]:
    """Height and width to work at: the image's, shrunk until its longer side is `side_px`, never below one pixel.

    Example:
        >>> working_size((425, 560), 280), working_size((32, 32), 280)
        ((212, 280), (32, 32))
    """
    shrink = min(1.0, side_px / max(full_hw))
    return max(1, round(full_hw[0] * shrink)), max(1, round(full_hw[1] * shrink))


def _groups(modality: str, image: NDArray[Any], size_hw: tuple[int, int], present: set[str]) -> dict[str, Floats]:
    """The channels that one image gives, by group; depth comes from the modality that stores it most finely."""
    small = _log_depth(image, size_hw) if modality == "depth" else _resized(image, size_hw)
    if modality == "depth":
        return {"depth": small}
    if modality == "rgb":
        lab = np.asarray(cv2.cvtColor(small.round().astype(np.uint8), cv2.COLOR_RGB2Lab), np.float32)
        return {"colour": lab * LAB_STEPS}
    if modality == "hha":
        shape = {"height": small[:, :, 1:2], "angle": small[:, :, 2:3]}
        return shape if "depth" in present else {"depth": -_stretched(small[:, :, :1]), **shape}
    if modality == "disparity":
        return {} if present & {"depth", "hha"} else {"depth": -_stretched(small[:, :, :1])}
    return {"other" if "rgb" in present else "colour": _stretched(small)}


def _log_depth(depth_mm: NDArray[Any], size_hw: tuple[int, int]) -> Floats:
    """Hundred times the logarithm of depth, `(h, w, 1)`; pixels without depth take the nearest value."""
    depth = depth_mm.reshape(depth_mm.shape[:2]).astype(np.float32)
    seen = (depth > 0).astype(np.float32)
    total, share = _resized(depth, size_hw), _resized(seen, size_hw)
    known = share > 0
    if not known.any():
        return np.zeros((*size_hw, 1), np.float32)
    small = np.where(known, total / np.maximum(share, 1e-6), 0.0)
    if not known.all():
        _, nearest = cv2.distanceTransformWithLabels(
            (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        values = np.zeros(nearest.max() + 1, np.float32)
        values[nearest[known]] = small[known]
        small = values[nearest]
    logarithm: Floats = (SPAN * np.log(np.maximum(small, NEAREST_MM))).astype(np.float32)
    return logarithm[:, :, None]


def _stretched(image: Floats) -> Floats:
    """Every channel with its middle 98 % spanning SPAN; a constant channel becomes 0."""
    low, high = np.percentile(image, STRETCHED, axis=(0, 1))
    span = np.where(high > low, high - low, np.inf)
    stretched: Floats = (np.clip((image - low) / span, -0.5, 1.5) * SPAN).astype(np.float32)
    return stretched


def _resized(image: NDArray[Any], size_hw: tuple[int, int]) -> Floats:
    """An image shrunk by averaging, `(h, w, C)` float32; `(h, w)` if it came without channels."""
    if image.shape[:2] == size_hw:
        return image.astype(np.float32)
    planes = image.reshape(*image.shape[:2], -1)
    done = [
        cv2.resize(planes[:, :, c].astype(np.float32), size_hw[::-1], interpolation=cv2.INTER_AREA)
        for c in range(planes.shape[2])
    ]
    return np.stack(done, axis=2).astype(np.float32, copy=False).reshape(*size_hw, *image.shape[2:])


def _smooth(image: Floats, smoothing_px: float) -> Floats:
    """The image under a Gaussian, `(h, w, C)`."""
    if smoothing_px <= 0:
        return image
    blurred = cv2.GaussianBlur(image, (0, 0), smoothing_px)
    return np.asarray(blurred, np.float32).reshape(image.shape)
