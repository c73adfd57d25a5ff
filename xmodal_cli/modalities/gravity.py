"""The direction of gravity in the camera's frame, estimated from surface normals.

Rooms are made of floors, whose normals are parallel to gravity, and of walls, whose normals are perpendicular to it.
Restates `getYDir.m` of the authors (s-gupta/rgbdutils); the algorithm is from Gupta, Arbelaez, Malik, CVPR 2013.

Sums are einsum's, not the linear algebra library's: as fast at three rows, and the same whatever number of threads
that library takes, which in a pool of processes would be too many.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

START = (0.0, 1.0, 0.0)
"""The camera is held upright: gravity starts along the image's columns (`processDepthImage.m`, y0)."""

ROUNDS = ((45.0, 5), (15.0, 5))
"""Degrees within which a normal counts as parallel or perpendicular, and iterations (`processDepthImage.m`)."""

MANY = 0.3
"""Share of normals beyond which their sum is cheaper to take anew than to correct; corrections are usually 0.1 %."""

TIE = 1e-9
"""Eigenvalues this close, as a share of their sum, are equal: rounding over a million normals stays far below."""


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
    gravity = np.array(START)
    sides = np.zeros(flat.shape[1], dtype=np.int8)
    scatter = np.zeros((3, 3))  # sum over walls minus sum over floors of n n^T
    for degrees, iterations in ROUNDS:
        for _ in range(iterations):
            before, sides = sides, _sides(gravity, flat, np.deg2rad(degrees))
            changed = np.flatnonzero(sides != before)
            if changed.size == 0:
                break  # nothing moved, so no later iteration of this round moves anything
            if changed.size > MANY * sides.size:
                scatter = _scatter(flat, sides)
            else:
                scatter += _scatter(flat[:, changed], sides[changed] - before[changed])
            gravity = _best_axis(scatter, gravity)
    return gravity


def _sides(gravity: NDArray[np.float64], normals: NDArray[np.float64], angle: float) -> NDArray[np.int8]:
    """Sort (3, N) normals by their angle with gravity, radians: 1 is a wall's, -1 a floor's, 0 neither."""
    along = np.einsum("c,cn->n", gravity, normals)
    np.abs(along, out=along)
    walls, floors = along < np.sin(angle), along > np.cos(angle)
    sides: NDArray[np.int8] = walls.view(np.int8) - floors.view(np.int8)
    return sides


def _best_axis(scatter: NDArray[np.float64], before: NDArray[np.float64]) -> NDArray[np.float64]:
    """The eigenvector of the smallest eigenvalue, pointing the way gravity did before.

    One bare wall leaves gravity free to turn within it: two eigenvalues are equal, and the original takes whichever
    vector its solver returns. Here it is the one nearest to gravity before.
    """
    values, axes = np.linalg.eigh(scatter)
    free = axes[:, values <= values[0] + TIE * np.abs(values).sum()]  # (3, 1) unless there is a tie
    nearest = free @ (free.T @ before)
    length = np.linalg.norm(nearest)
    return np.asarray(nearest / length if length > 0 else axes[:, 0])


def _scatter(normals: NDArray[np.float64], weights: NDArray[np.int8]) -> NDArray[np.float64]:
    """The (3, 3) sum of weight n n^T over (3, N) normals."""
    return np.asarray(np.einsum("in,jn->ij", normals * weights, normals))
