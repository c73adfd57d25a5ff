"""Metric depth: from stored numbers to metres, holes filled, coarse steps smoothed, and back to millimetres on disk.

Shapes: everything is one image (H, W).
"""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from xmodal_cli.errors import DataError, SettingsError

Floats: TypeAlias = NDArray[np.float64]

MILLIMETRES_PER_METRE = 1000.0

SMOOTHING_RADII = (5, 15)
"""Windows of 11 and 31 pixels: the small one for objects, the large one for walls and floors near the camera, where a
4 cm step is wider than a small window. Chosen by the angle error against 16-bit depth (docs/hha.md)."""

PLANE_IMAGES = 10
"""Images in the memory of `smooth_quantised`: four of its own and six of `_add_planes`."""

WHOLE_TOLERANCE = 1e-9
"""1 / unit within this (relative) of a whole number is taken to be that number: 0.001 is not exact in binary."""


def to_metres(raw: NDArray[np.generic], unit: float, offset: float = 0.0) -> Floats:
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


def fill_holes(depth_m: Floats, missing: NDArray[np.bool_]) -> Floats:
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
        raise DataError("Every pixel of the depth is missing.", hint="Check the file.")
    _, nearest = cv2.distanceTransformWithLabels(
        missing.astype(np.uint8), cv2.DIST_L1, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    depth_of_label = np.zeros(int(nearest.max()) + 1)
    valid = ~missing
    depth_of_label[nearest[valid]] = depth_m[valid]
    return np.asarray(depth_of_label[nearest])


def smooth_quantised(depth_m: Floats, step_m: float) -> Floats:
    """Undo the terraces of depth that was stored in coarse steps, and keep its edges.

    Normals of a wall stored in 4 cm steps are those of a staircase. A wall is a plane in disparity (1 / depth), so
    planes are fitted to the disparities of windows of two sizes around every pixel, and each pixel takes the mean
    of all the planes whose windows contain it. A plane counts by the size of its window over its squared misfit, so
    windows across an edge have no say. No pixel leaves the step that it was stored in.

    Args:
        depth_m: (H, W) float64, metres, > 0, holes filled, each value the middle of its step.
        step_m: width of a step in metres, for example 1 / 25.5.

    Returns:
        (H, W) float64, metres, within step_m / 2 of the given depth.

    Raises:
        DataError: depth has holes.
        SettingsError: the step is not positive.

    Example:
        >>> ramp = np.tile(np.linspace(2.0, 2.4, 60), (60, 1))
        >>> terraces = (np.floor(ramp * 25.5) + 0.5) / 25.5
        >>> float(abs(terraces - ramp)[20:40, 20:40].max().round(3))
        0.019
        >>> bool(abs(smooth_quantised(terraces, 1 / 25.5) - ramp)[20:40, 20:40].max() < 0.003)
        True
    """
    if not step_m > 0:
        raise SettingsError(f"Depth steps are wider than 0 metres; found {step_m}.", hint="Check --depth-unit.")
    if not depth_m.min() > 0:
        raise DataError("Depth that is to be smoothed has holes: values of 0 or below.", hint="Fill the holes first.")
    # One block of memory for all images: large enough for large pages, and reused by both radii.
    disparity, step_variance, total, weight, *work = np.empty((PLANE_IMAGES, *depth_m.shape))
    np.divide(1.0, depth_m, out=disparity)
    # A value anywhere in its step, with equal chance, has the variance step^2 / 12; d(1/z) = dz / z^2.
    np.square(np.square(disparity, out=step_variance), out=step_variance)
    step_variance *= step_m * step_m / 12.0
    total[:] = weight[:] = 0.0
    for radius in SMOOTHING_RADII:
        _add_planes(disparity, step_variance, radius, total, weight, work)
    smoothed: Floats = weight / total
    half = step_m / 2
    return smoothed.clip(np.subtract(depth_m, half, out=total), np.add(depth_m, half, out=weight), out=smoothed)


def _add_planes(
    disparity: Floats, step_variance: Floats, radius: int, total: Floats, weight: Floats, work: list[Floats]
) -> None:
    """Add to `total` the weighted disparity at each pixel of all window planes that contain it, and to `weight`."""
    u, count_u, mean_u, variance_u = _window_axis(disparity.shape[1], radius)
    v, count_v, mean_v, variance_v = (a[:, None] for a in _window_axis(disparity.shape[0], radius))
    inverse = (1.0 / count_u, 1.0 / count_v)
    mean, along_u, along_v, misfit, spare, plane_weight = work
    _window_sum(disparity, radius, out=mean)
    _window_sum(np.multiply(disparity, u, out=spare), radius, out=along_u)
    _window_sum(np.multiply(disparity, v, out=spare), radius, out=along_v)
    _window_sum(np.multiply(disparity, disparity, out=spare), radius, out=misfit)
    for moment in (mean, along_u, along_v, misfit):
        moment *= inverse[0]
        moment *= inverse[1]
    misfit -= np.multiply(mean, mean, out=spare)
    for slope, centre, variance in ((along_u, mean_u, variance_u), (along_v, mean_v, variance_v)):
        slope -= np.multiply(mean, centre, out=spare)  # the covariance of disparity and position
        np.multiply(slope, slope, out=spare)
        slope *= 1.0 / variance
        spare *= 1.0 / variance
        misfit -= spare
    np.maximum(misfit, 0.0, out=misfit)
    misfit += step_variance
    np.square(misfit, out=misfit)
    np.divide(count_u * count_v, misfit, out=plane_weight)
    for slope, centre in ((along_u, mean_u), (along_v, mean_v)):
        mean -= np.multiply(slope, centre, out=spare)  # ends as the plane's value at position (0, 0)
    weight += _window_sum(plane_weight, radius, out=spare)
    total += _window_sum(np.multiply(plane_weight, mean, out=misfit), radius, out=spare)
    for slope, position in ((along_u, u), (along_v, v)):
        slope *= plane_weight
        _window_sum(slope, radius, out=spare)
        spare *= position
        total += spare


def _window_axis(length: int, radius: int) -> Floats:
    """Along one axis, (4, length): position, and per window the count, mean and variance of the positions in it.

    A window that is one pixel wide has no slope; its variance is given as 1.
    """
    position = np.arange(length) - (length - 1) / 2
    pixel = np.arange(length)
    first, last = np.maximum(pixel - radius, 0), np.minimum(pixel + radius, length - 1)
    count = last - first + 1.0
    mean = (position[first] + position[last]) / 2
    return np.stack([position, count, mean, np.where(count > 1, (count * count - 1) / 12, 1.0)])


def _window_sum(image: Floats, radius: int, out: Floats) -> Floats:
    """Sum over square windows into `out`, which is returned; what lies outside the image counts as 0."""
    size = (2 * radius + 1, 2 * radius + 1)
    cv2.boxFilter(image, cv2.CV_64F, size, dst=out, normalize=False, borderType=cv2.BORDER_CONSTANT)
    return out


def encode(depth_m: Floats) -> NDArray[np.uint16]:
    """Store metric depth as 16-bit millimetres, rounded like MATLAB's uint16, saturating at 65.535 m.

    Args:
        depth_m: (H, W) float64, metres, >= 0.

    Example:
        >>> encode(np.array([[1.9235, 9.4844, 100.0]])).tolist()
        [[1924, 9484, 65535]]
    """
    millimetres = depth_m * MILLIMETRES_PER_METRE + 0.5
    return np.clip(millimetres, 0.0, 65535.0, out=millimetres).astype(np.uint16)
