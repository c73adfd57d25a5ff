"""What every pixel of a picture of a room sees, and how far it is.

Each solid is intersected only in the block of pixels that it can be seen in; the nearest wins. Things are drawn one by
one, so that it is known how many pixels each would have if nothing stood before it.

Shapes: `H x W` pixels, S solids, O placed things.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from xmodal_cli.datasets.rooms.camera import NEAREST_M, Pose, extents_of, offsets
from xmodal_cli.datasets.rooms.scene import Scene
from xmodal_cli.datasets.rooms.solids import BOX, NOTHING, Sight, Solid, SolidArrays, hit, leave_cube, stack
from xmodal_cli.modalities.geometry import Camera

Floats: TypeAlias = NDArray[np.float32]
Extents: TypeAlias = NDArray[np.float64]
Block: TypeAlias = tuple[slice, slice]

STEPS = (np.arange(5) + 0.5) / 5  # of a box's side: 125 points in it say what share of it is within the picture
GRID = np.stack(np.meshgrid(STEPS, STEPS, STEPS), axis=-1).reshape(-1, 3)
CELL_M = 0.04  # of the map of shadows


@dataclass(frozen=True)
class Model:
    """A room as the renderer wants it, made once for all its frames.

    Args:
        scene: the room.
        solids: all solids, the room's six faces first (as one solid each).
        arrays: the same as arrays.
        corners: `(S, 8, 3)` float64, of the boxes around them.
        samples: `(O, K, 3)` float64, points spread through the upright box around each placed thing.
        groups: for each placed thing its label, and the indices of its solids.
        shadow: `(h, w)` float32, how much of the lamp's light does not reach the floor, 0 to 1.
        contact: `(h, w)` float32, how much of the light from everywhere does not.
    """

    scene: Scene
    solids: Sequence[Solid]
    arrays: SolidArrays
    corners: NDArray[np.float64]
    samples: NDArray[np.float64]
    groups: Sequence[tuple[int, range]]
    shadow: Floats
    contact: Floats


@dataclass(frozen=True)
class Trace:
    """What every pixel sees.

    Args:
        depth_m: `(H, W)` float32, along the optical axis.
        solid: `(H, W)` int32, index of the solid.
        thing: `(H, W)` int32, index of the placed thing; -1 the room itself.
        alone_px: by placed thing, how many pixels it would have with nothing before it.
        inside: `(O,)` by placed thing, about what share of it lies within the picture, hidden or not.
    """

    depth_m: Floats
    solid: NDArray[np.int32]
    thing: NDArray[np.int32]
    alone_px: dict[int, int]
    inside: Extents


def build(scene: Scene) -> Model:
    """A room made ready to be looked at."""
    shell = scene.shell
    solids = [Solid(BOX, shell.centre_m, shell.half_m, shell.axes, surface) for surface in scene.surfaces]
    groups = []
    for placed in scene.placed:
        groups.append((placed.label, range(len(solids), len(solids) + len(placed.solids))))
        solids += placed.solids
    shadow, contact = _shadows(scene)
    corners = np.stack([solid.corners_m() for solid in solids])
    samples = np.stack([low + GRID * (high - low) for low, high in _around(scene)])
    return Model(scene, solids, stack(solids), corners, samples, groups, shadow, contact)


def _around(scene: Scene) -> list[NDArray[np.float64]]:
    """The upright box around each placed thing; the room's own boards have none, and are taken as a point."""
    return [placed.around[0] if len(placed.boxes) else np.zeros((2, 3)) for placed in scene.placed]


def trace(model: Model, pose: Pose, camera: Camera, size_hw: tuple[int, int]) -> Trace:
    """Find what every pixel sees.

    Args:
        model: the room.
        pose: of the camera, inside the room and outside every solid.
        camera: its focal lengths and centre.
        size_hw: of the image.
    """
    x, y = offsets(camera, size_hw)
    sight = Sight(pose.position_m, pose.rotation, x, y)
    depth, face = leave_cube(model.scene.shell, sight)
    solid, thing = face.astype(np.int32), np.full(size_hw, -1, np.int32)
    extents = extents_of(model.corners, pose, camera)  # (S, 4)
    alone = {}
    for number, (_, members) in enumerate(model.groups):
        own = extents[members.start : members.stop]
        extent = np.concatenate([own[:, :2].min(axis=0), own[:, 2:].max(axis=0)])
        if not _block(extent, size_hw):
            continue
        found, which, (rows, columns) = _draw(model, members, extents, sight, size_hw, extent)
        alone[number] = int(np.count_nonzero(found < NOTHING))
        nearer = found < depth[rows, columns]
        np.copyto(depth[rows, columns], found, where=nearer)
        np.copyto(solid[rows, columns], which, where=nearer)
        np.copyto(thing[rows, columns], np.int32(number), where=nearer)
    return Trace(depth, solid, thing, alone, _shares_inside(model.samples, pose, camera, size_hw))


def _draw(
    model: Model, members: range, extents: Extents, sight: Sight, size_hw: tuple[int, int], extent: Extents
) -> tuple[Floats, NDArray[np.int32], Block]:
    """One thing alone: depth and solid of every pixel of its block, and the block's rows and columns."""
    rows, columns = _block(extent, size_hw) or (slice(0, 0), slice(0, 0))
    depth = np.full((rows.stop - rows.start, columns.stop - columns.start), NOTHING, np.float32)
    which = np.zeros(depth.shape, np.int32)
    for index in members:
        block = _block(extents[index], size_hw)
        if block is None:
            continue
        down, across = block
        found = hit(model.solids[index], replace(sight, x=sight.x[across], y=sight.y[down]))
        part = (
            slice(down.start - rows.start, down.stop - rows.start),
            slice(across.start - columns.start, across.stop - columns.start),
        )
        nearer = found < depth[part]
        np.copyto(depth[part], found, where=nearer)
        np.copyto(which[part], np.int32(index), where=nearer)
    return depth, which, (rows, columns)


def _block(extent: Extents, size_hw: tuple[int, int]) -> Block | None:
    """The rows and columns of the image that an extent covers; None where it covers none."""
    left, top, right, bottom = extent.tolist()
    height, width = size_hw
    rows = slice(max(0, math.floor(top)), min(height, math.ceil(bottom) + 1))
    columns = slice(max(0, math.floor(left)), min(width, math.ceil(right) + 1))
    return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None


def _shadows(scene: Scene) -> tuple[Floats, Floats]:
    """What keeps light from the floor: outlines cast by the lamp, and nearness of what stands on it."""
    shape = tuple(np.ceil(scene.size_m[1::-1] / CELL_M).astype(int) + 1)
    shadow, contact = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    lamp, corner = scene.light.position_m, np.append(-scene.size_m[:2] / 2, 0)
    for placed in scene.placed:
        for low, high in placed.boxes:
            points = np.array(
                [[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])]
            )
            points = points[points[:, 2] < lamp[2] - 0.1]
            if not len(points):
                continue
            cast = lamp + (points - lamp) * (lamp[2] / (lamp[2] - points[:, 2:]))
            _fill(shadow, (cast - corner)[:, :2])
            if low[2] < 0.3:
                _fill(contact, (points - corner)[:, :2])
    return cv2.GaussianBlur(shadow, (0, 0), 1.5) * np.float32(0.85), cv2.GaussianBlur(
        contact, (0, 0), 3.0
    ) * np.float32(0.8)


def _fill(image: Floats, points_m: NDArray[np.float64]) -> None:
    hull = cv2.convexHull(np.clip(points_m / CELL_M, -1000, 2000).astype(np.int32))
    cv2.fillConvexPoly(image, hull, 1.0)


def _shares_inside(samples: NDArray[np.float64], pose: Pose, camera: Camera, size_hw: tuple[int, int]) -> Extents:
    """By thing, the share of its sample points `(O, K, 3)` that lie within the picture."""
    points = (samples - pose.position_m) @ pose.rotation
    height, width = size_hw
    ahead = np.maximum(points[..., 2], NEAREST_M)
    u = points[..., 0] / ahead * camera.fx + camera.cx - 0.5
    v = points[..., 1] / ahead * camera.fy + camera.cy - 0.5
    seen = (points[..., 2] > NEAREST_M) & (u > 0) & (u < width) & (v > 0) & (v < height)
    return np.asarray(seen.mean(axis=1))
