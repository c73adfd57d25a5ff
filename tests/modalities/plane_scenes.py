"""Made-up scenes of planes, seen by a pinhole camera, with everything about them known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.modalities.geometry import Camera

SMALL_CAMERA = Camera(120.0, 125.0, 61.0, 47.0)
SMALL_SHAPE = (96, 128)


def rays(camera: Camera, shape: tuple[int, int]) -> NDArray[np.float64]:
    """(3, H, W) viewing rays with z = 1."""
    u, v = np.meshgrid(np.arange(1.0, shape[1] + 1), np.arange(1.0, shape[0] + 1))
    return np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones(shape)])


def plane_depth(
    normal: NDArray[np.float64], distance_m: float, camera: Camera = SMALL_CAMERA, shape: tuple[int, int] = SMALL_SHAPE
) -> NDArray[np.float64]:
    """Depth of the plane normal . P = distance; infinite where it is not in front of the camera."""
    along = np.tensordot(normal, rays(camera, shape), axes=1)
    return np.where(along > 1e-9, distance_m / np.maximum(along, 1e-9), np.inf)


@dataclass(frozen=True)
class Corner:
    """A floor below the camera and a wall in front of it."""

    depth_m: NDArray[np.float64]
    down: NDArray[np.float64]
    is_floor: NDArray[np.bool_]


def floor_and_wall(tilt_deg: float, roll_deg: float, height_m: float, wall_m: float) -> Corner:
    """What a camera sees that is tilted down and rolled, `height_m` above a floor and before a wall.

    The wall stands upright, across the camera's line of sight.
    """
    tilt, roll = np.deg2rad([tilt_deg, roll_deg])
    down = np.array([np.sin(roll) * np.cos(tilt), np.cos(roll) * np.cos(tilt), np.sin(tilt)])
    forward = np.array([0.0, 0.0, 1.0])
    wall = forward - (forward @ down) * down
    wall /= np.linalg.norm(wall)
    floor_m, wall_depth_m = plane_depth(down, height_m), plane_depth(wall, wall_m)
    return Corner(np.minimum(floor_m, wall_depth_m), down, floor_m < wall_depth_m)


def degrees_between(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.degrees(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))))
