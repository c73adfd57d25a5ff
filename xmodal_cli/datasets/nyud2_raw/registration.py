"""Raw depth into the colour camera, and colour without distortion: what `project_depth_map.m` of the toolbox does.

The toolbox first resamples the depth image without distortion and then projects its pixels, rounds, and lets the
nearest win. Here each measured pixel goes along its own undistorted ray instead: nothing is interpolated between a
chair and the wall behind it, and positions are rounded once. Depth is measured along the axis of the colour camera;
the toolbox keeps the number of the depth camera, which differs by up to 0.3 % at the sides.

Shapes: raw images (480, 640) and (480, 640, 3); results (425, 560) and (425, 560, 3), the crop of the benchmark.
"""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from xmodal_cli.datasets.nyud2_raw import camera
from xmodal_cli.datasets.nyud2_raw.camera import COLOUR, CROP_HW, CROP_LEFT, CROP_TOP, DEPTH, SIZE_HW

Floats: TypeAlias = NDArray[np.float32]

UNDISTORT_ROUNDS = 30  # of the fixed point iteration; corners of this lens need about ten for a thousandth of a pixel


def undistort_colour(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The colour image without distortion, cropped; bilinear, black where the lens saw nothing.

    Args:
        rgb: (480, 640, 3) uint8, as the Kinect wrote it.

    Returns:
        (425, 560, 3) uint8.
    """
    positions, fractions = _colour_maps()
    return np.asarray(cv2.remap(rgb, positions, fractions, cv2.INTER_LINEAR), np.uint8)


def register(raw: NDArray[np.uint16]) -> Floats:
    """Raw depth as the colour camera sees it; of several points on one pixel the nearest counts.

    Args:
        raw: (480, 640) uint16, 0 to 2047, bytes in order.

    Returns:
        (425, 560) float32, metres; 0 where no measured point fell.

    Example:
        >>> wall = register(np.full((480, 640), 1000, np.uint16))
        >>> round(float(wall[200, 300]), 2), bool((wall > 0).mean() > 0.99)
        (3.8, True)
    """
    rays, across, down = _rays()
    depth_m = _metres()[raw.ravel()]
    seen = np.flatnonzero(depth_m)
    depth_m = depth_m[seen]
    z = rays[seen]
    z *= depth_m
    z -= np.float32(camera.COLOUR_ORIGIN_M[2])
    column = _pixel(across[seen], depth_m, z, 0)
    row = _pixel(down[seen], depth_m, z, 1)
    height, width = CROP_HW
    inside = np.flatnonzero((column >= 0) & (column < width) & (row >= 0) & (row < height))
    target = row[inside] * np.int32(width) + column[inside]
    nearest = np.full(height * width, np.inf, np.float32)
    np.minimum.at(nearest, target, z[inside])
    nearest[np.isinf(nearest)] = 0.0
    return np.minimum(nearest, np.float32(camera.FARTHEST_M)).reshape(CROP_HW)


def _pixel(ray: Floats, depth_m: Floats, z: Floats, axis: int) -> NDArray[np.int32]:
    """Column (axis 0) or row (axis 1) of the crop, counted from 0, that a point falls on; `ray` is overwritten."""
    focal = (COLOUR.camera.fx, COLOUR.camera.fy)[axis]
    centre = (camera.CROPPED.cx, camera.CROPPED.cy)[axis] - 1.0
    ray *= depth_m
    ray -= np.float32(camera.COLOUR_ORIGIN_M[axis])
    ray /= z
    ray *= np.float32(focal)
    ray += np.float32(centre + 0.5)
    return np.floor(ray, out=ray).astype(np.int32)


@cache
def _metres() -> Floats:
    return camera.metres_of_raw()


@cache
def _rays() -> tuple[Floats, Floats, Floats]:
    """z, x and y of the ray of every depth pixel, turned into the colour camera: three of (480 * 640,)."""
    height, width = SIZE_HW
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).reshape(-1, 1, 2).astype(np.float64)
    precise = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, UNDISTORT_ROUNDS, 1e-9)
    straight = cv2.undistortPoints(pixels, DEPTH.matrix(), np.array(DEPTH.distortion), criteria=precise)
    rays = np.concatenate([straight[:, 0], np.ones((height * width, 1))], axis=1) @ camera.DEPTH_TO_COLOUR.T
    x, y, z = (np.ascontiguousarray(rays[:, axis], dtype=np.float32) for axis in range(3))
    return z, x, y


@cache
def _colour_maps() -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    """Where each pixel of the crop lies in the raw colour image, in OpenCV's fixed-point form (1/32 pixel)."""
    cropped = COLOUR.matrix()
    cropped[0, 2] -= CROP_LEFT
    cropped[1, 2] -= CROP_TOP
    maps = cv2.initUndistortRectifyMap(
        COLOUR.matrix(), np.array(COLOUR.distortion), None, cropped, CROP_HW[::-1], cv2.CV_16SC2
    )
    return np.asarray(maps[0]), np.asarray(maps[1])
