"""HHA: depth encoded as horizontal disparity, height above the ground, and angle with gravity.

The encoding of Gupta, Girshick, Arbelaez, Malik, ECCV 2014, which the paper's depth students see. Restates
`saveHHA.m` and `processDepthImage.m` of the authors (s-gupta/rcnn-depth), and gives their images byte for byte.
`docs/hha.md` explains every constant.

Shapes: images are (H, W); normals are (3, H, W). Lengths are in centimetres inside, as in the original.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.errors import DataError
from xmodal_cli.modalities import disparity, gravity, normals
from xmodal_cli.modalities.geometry import Camera
from xmodal_cli.modalities.normals import Bools, Floats, Normals, axis_offsets

ANGLE_RADIUS = 3
"""Window radius in pixels of the normals behind the angle channel: 7 x 7 (`processDepthImage.m`, patchSize)."""

GRAVITY_RADIUS = 10
"""Window radius in pixels of the normals that gravity is estimated from: 21 x 21 (`processDepthImage.m`, patchSize)."""

LOWEST_FLOOR_CM = -90.0
"""The lowest point counts as floor only if it lies at least this far below the camera (`processDepthImage.m`)."""

USUAL_FLOOR_CM = -130.0
"""Where the floor is taken to be when it is not seen: the camera is held 1.30 m high (`processDepthImage.m`)."""

ANGLE_OFFSET = 128.0 - 90.0
"""Added to degrees, so that vertical surfaces are 128, upward ones 38, downward ones 218 (`saveHHA.m`)."""

NO_NORMAL_DEGREES = 180.0
"""MATLAB's max(-1, NaN) is -1, so a pixel without a normal has the angle acosd(-1) (`saveHHA.m`)."""

SMALLEST_ROTATION_DEGREES = 0.1
"""Heights are measured along the image's columns when gravity is this close to them (`getRMatrix.m`)."""


@dataclass(frozen=True)
class HHA:
    """An encoded image and what was estimated on the way.

    Args:
        image: (H, W, 3) uint8, RGB = disparity, height, angle.
        gravity: (3,) float64 unit vector, x right, y down, z forward.
        floor_cm: height of the floor relative to the camera, negative, centimetres.
        no_normal: how many pixels have no normal (angle 218).
    """

    image: NDArray[np.uint8]
    gravity: Floats
    floor_cm: float
    no_normal: int


def encode(depth_m: Floats, camera: Camera, missing: Bools | None = None) -> NDArray[np.uint8]:
    """Encode depth as an HHA image.

    Args:
        depth_m: (H, W) float64, metres, > 0, holes filled.
        camera: the camera of this very image (of the crop, if it is one).
        missing: (H, W) bool, pixels that the sensor did not see: they take no part in normals. None: all were seen.

    Returns:
        (H, W, 3) uint8, RGB = disparity, height, angle.

    Raises:
        DataError: depth is not an image, has holes, or the mask has another size.

    Example:
        >>> wall = np.full((40, 40), 2.0)
        >>> encode(wall, Camera(500.0, 500.0, 20.5, 20.5))[20, 20].tolist()
        [155, 130, 128]
    """
    return analyse(depth_m, camera, missing).image


def analyse(depth_m: Floats, camera: Camera, missing: Bools | None = None) -> HHA:
    """Encode depth as HHA and also give gravity, the floor and the number of pixels without a normal.

    Args and errors as for `encode`.
    """
    depth_cm = _checked(depth_m, missing) * disparity.CM_PER_METRE
    fine, coarse = normals.estimate(depth_cm, camera, missing, radii=(ANGLE_RADIUS, GRAVITY_RADIUS))
    down = gravity.estimate(coarse.vectors)
    height_cm, floor_cm = heights(depth_cm, camera, down)
    image = np.empty((*depth_cm.shape, 3), dtype=np.uint8)
    image[..., 0] = disparity.channel(depth_cm)
    image[..., 1] = disparity.to_byte(height_cm)
    image[..., 2] = disparity.to_byte(angles(fine, down) + ANGLE_OFFSET)
    return HHA(image, down, floor_cm, int(np.count_nonzero(fine.none)))


def heights(depth_cm: Floats, camera: Camera, down: Floats) -> tuple[Floats, float]:
    """Height of every pixel above the lowest one, or above a floor 1.30 m below the camera if none is that low.

    Args:
        depth_cm: (H, W) float64, centimetres.
        camera: the camera of this image.
        down: (3,) unit vector of gravity.

    Returns:
        height_cm: (H, W) float64, >= 0 wherever the floor is seen.
        floor_cm: the floor's height relative to the camera.
    """
    if np.rad2deg(np.arccos(min(1.0, abs(down[1])))) <= SMALLEST_ROTATION_DEGREES:
        down = np.array(gravity.START)
    u, v = axis_offsets(camera, *depth_cm.shape)
    height_cm = (u * (-down[0] / camera.fx) - down[2]) - v * (down[1] / camera.fy)
    height_cm *= depth_cm
    floor_cm = float(height_cm.min())
    if floor_cm > LOWEST_FLOOR_CM:
        floor_cm = USUAL_FLOOR_CM
    height_cm -= floor_cm
    return height_cm, floor_cm


def angles(field: Normals, down: Floats) -> Floats:
    """Angle between normals and gravity, degrees; 180 where there is no normal.

    Args:
        field: normals of the angle channel's window size.
        down: (3,) unit vector of gravity.
    """
    cosine = np.einsum("c,chw->hw", down, field.vectors)
    radians = np.arccos(np.clip(cosine, -1.0, 1.0, out=cosine), out=cosine)
    degrees: Floats = np.rad2deg(radians, out=radians)
    degrees[field.none] = NO_NORMAL_DEGREES
    return degrees


def _checked(depth_m: Floats, missing: Bools | None) -> Floats:
    """The depth as float64 once it is known to be an image without holes that fits its mask."""
    depth = np.asarray(depth_m, dtype=np.float64)
    if depth.ndim != 2 or depth.size == 0:
        raise DataError(f"Depth for HHA is one image (H, W) with pixels; found the shape {depth.shape}.")
    if missing is not None and (missing.shape != depth.shape or missing.dtype != np.bool_):
        raise DataError(
            f"The mask of missing pixels is boolean and as large as the depth {depth.shape}; "
            f"found {missing.dtype} {missing.shape}."
        )
    lowest, highest = depth.min(), depth.max()
    if not (lowest > 0 and np.isfinite(highest)):
        raise DataError(
            f"Depth for HHA is filled: every pixel above 0 and finite; found values from {lowest} to {highest}.",
            hint="Fill the holes first (depth.fill_holes), and check --depth-unit and --depth-offset.",
        )
    return depth
