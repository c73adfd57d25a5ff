"""A camera that moves: poses, the rays of its pixels, where points appear in its picture, and exact optical flow.

World: x and y across the floor, z up, metres. Camera: x right, y down, z forward. Pixels are counted from 1, as in
`modalities.geometry`.

Shapes: `H x W` pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.modalities.geometry import Camera

Floats: TypeAlias = NDArray[np.float32]

KINECT_FOCAL_PER_WIDTH = 518.858 / 640
"""The colour camera of NYU Depth v2: its focal length as a share of the image's width."""

NEAREST_M = 0.05
"""Nothing is nearer than this to the camera; a body that reaches behind it may be seen anywhere."""

UNBOUNDED_PX = 1e6
"""Columns and rows of a body that reaches behind the camera: anywhere in any image."""


@dataclass(frozen=True)
class Pose:
    """Where a camera is and how it is turned.

    Args:
        position_m: `(3,)` float64, world.
        rotation: `(3, 3)` float64; its columns are the camera's axes right, down and forward in the world.
    """

    position_m: NDArray[np.float64]
    rotation: NDArray[np.float64]

    @property
    def gravity(self) -> NDArray[np.float64]:
        """The direction of gravity in the camera's frame, `(3,)`: x right, y down, z forward."""
        return np.asarray(-self.rotation[2])


def kinect(width: int, height: int) -> Camera:
    """A camera with the Kinect's angle of view and its axis in the middle of the image.

    Example:
        >>> kinect(320, 240).cx
        160.5
    """
    focal = KINECT_FOCAL_PER_WIDTH * width
    return Camera(focal, focal, (width + 1) / 2, (height + 1) / 2)


def look(position_m: NDArray[np.float64], yaw_rad: float, pitch_rad: float, roll_rad: float) -> Pose:
    """A pose from angles.

    Args:
        position_m: `(3,)`.
        yaw_rad: direction of sight on the floor, from x towards y.
        pitch_rad: upward.
        roll_rad: clockwise, as the camera sees it.

    Example:
        >>> look(np.zeros(3), 0.0, 0.0, 0.0).gravity.round(6).tolist()
        [-0.0, 1.0, -0.0]
    """
    flat = np.array([np.cos(yaw_rad), np.sin(yaw_rad), 0.0])
    up = np.array([0.0, 0.0, 1.0])
    forward = np.cos(pitch_rad) * flat + np.sin(pitch_rad) * up
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    rolled_right = np.cos(roll_rad) * right + np.sin(roll_rad) * down
    rolled_down = np.cos(roll_rad) * down - np.sin(roll_rad) * right
    return Pose(position_m, np.stack([rolled_right, rolled_down, forward], axis=1))


def offsets(camera: Camera, size_hw: tuple[int, int]) -> tuple[Floats, Floats]:
    """Offsets of columns `(W,)` and rows `(H,)` from the optical axis, as tangents of angles."""
    height, width = size_hw
    x = ((np.arange(1.0, width + 1) - camera.cx) / camera.fx).astype(np.float32)
    return x, ((np.arange(1.0, height + 1) - camera.cy) / camera.fy).astype(np.float32)


@lru_cache(maxsize=2)
def rays(camera: Camera, size_hw: tuple[int, int]) -> Floats:
    """Directions of all pixels in the camera's frame, `(3, H, W)` float32, with z = 1: the ray parameter is depth.

    Kept for the next frame, so not to be changed.
    """
    directions = np.ones((3, *size_hw), np.float32)
    x, y = offsets(camera, size_hw)
    directions[0], directions[1] = x[None, :], y[:, None]
    directions.setflags(write=False)
    return directions


def extents_of(corners_m: NDArray[np.float64], pose: Pose, camera: Camera) -> NDArray[np.float64]:
    """Where bodies can be seen, from the corners of boxes around them.

    Args:
        corners_m: `(S, 8, 3)` world.
        pose: of the camera.
        camera: its focal lengths and centre.

    Returns:
        `(S, 4)` least column and row, largest column and row, counted from 0; without bound for a body that reaches
        behind the camera, and empty for one that is behind it.
    """
    points = (corners_m - pose.position_m) @ pose.rotation
    ahead = np.maximum(points[..., 2], NEAREST_M)
    u = points[..., 0] / ahead * camera.fx + (camera.cx - 1)
    v = points[..., 1] / ahead * camera.fy + (camera.cy - 1)
    found = np.stack([u.min(1), v.min(1), u.max(1), v.max(1)], axis=1)
    found[points[..., 2].min(1) <= NEAREST_M] = (-UNBOUNDED_PX, -UNBOUNDED_PX, UNBOUNDED_PX, UNBOUNDED_PX)
    found[points[..., 2].max(1) <= NEAREST_M] = (UNBOUNDED_PX, UNBOUNDED_PX, -UNBOUNDED_PX, -UNBOUNDED_PX)
    return found


def flow_between(depth_m: Floats, pose: Pose, following: Pose, camera: Camera, directions: Floats) -> Floats:
    """Exact optical flow of a still scene: where every pixel's point appears in the next picture, minus where it is.

    Args:
        depth_m: `(H, W)` float32.
        pose: of this frame.
        following: of the next.
        camera: of both.
        directions: from `rays`.

    Returns:
        `(H, W, 2)` float32, pixels to the right and downward.
    """
    turn = following.rotation.T @ pose.rotation
    shift = following.rotation.T @ (pose.position_m - following.position_m)
    # Relative to straight ahead the turn is small: in float64 its difference from 1 is exact before it becomes float32.
    moved = (turn - np.eye(3)).astype(np.float32) @ directions.reshape(3, -1)
    moved += (shift.astype(np.float32)[:, None]) / depth_m.reshape(1, -1)
    x, y = directions[0].reshape(-1), directions[1].reshape(-1)
    ahead = np.maximum(1 + moved[2], np.float32(1e-3))
    flow = np.empty((*depth_m.shape, 2), np.float32)
    flow[..., 0] = ((moved[0] - moved[2] * x) / ahead * np.float32(camera.fx)).reshape(depth_m.shape)
    flow[..., 1] = ((moved[1] - moved[2] * y) / ahead * np.float32(camera.fy)).reshape(depth_m.shape)
    return flow
