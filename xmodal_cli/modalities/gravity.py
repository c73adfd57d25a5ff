"""The direction of gravity in the camera's frame, estimated from surface normals.

Rooms are made of floors, whose normals are parallel to gravity, and of walls, whose normals are perpendicular to it.
Restates `getYDir.m` of the authors (s-gupta/rgbdutils); the algorithm is from Gupta, Arbelaez, Malik, CVPR 2013.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

START = (0.0, 1.0, 0.0)
"""The camera is held upright: gravity starts along the image's columns (`processDepthImage.m`, y0)."""

ROUNDS = ((45.0, 5), (15.0, 5))
"""Degrees within which a normal counts as parallel or perpendicular, and iterations (`processDepthImage.m`)."""


def estimate(normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Estimate gravity as the axis that floors' normals run along and walls' normals stand across.

    Args:
        normals: (3, ...) float64 unit normals; zero vectors, where there is no normal, do not count.

    Returns:
        (3,) float64 of length 1, x right, y down, z forward; (0, 1, 0) for a camera held level.

    Example:
        >>> floor_and_wall = np.array([[0.0, 0.8, 0.6], [0.0, -0.6, 0.8]]).T
        >>> estimate(floor_and_wall).round(6).tolist()
        [0.0, 0.8, 0.6]
    """
    flat = normals.reshape(3, -1)
    x, y, z = flat
    products = np.stack([x * x, x * y, x * z, y * y, y * z, z * z])  # (6, N)
    gravity = np.array(START)
    for degrees, iterations in ROUNDS:
        for _ in range(iterations):
            gravity = _refine(gravity, flat, products, np.deg2rad(degrees))
    return gravity


def _refine(
    gravity: NDArray[np.float64], normals: NDArray[np.float64], products: NDArray[np.float64], angle: float
) -> NDArray[np.float64]:
    """One iteration: sort normals into floors and walls, then take the axis that fits both best."""
    along = np.abs(gravity @ normals)
    side = (along < np.sin(angle)).astype(np.float64) - (along > np.cos(angle))  # +1 wall, -1 floor, 0 neither
    xx, xy, xz, yy, yz, zz = products @ side
    _, axes = np.linalg.eigh(np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]))
    axis = axes[:, 0]  # of the smallest eigenvalue
    return np.asarray(np.copysign(1.0, axis @ gravity) * axis)
