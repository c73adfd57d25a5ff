"""What colour the light makes of every pixel: pattern, normal, lamp, window, and soft shadows on the floor.

Pixels are sorted by the solid that they see, so that each solid's affine map and colours are applied to one run.

Shapes: `H x W` pixels, N = H * W of them in the order of their solids.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.datasets.rooms.camera import Pose, rays
from xmodal_cli.datasets.rooms.patterns import LEVELS, TILE, atlas
from xmodal_cli.datasets.rooms.solids import BOX, CYLINDER, Solid
from xmodal_cli.datasets.rooms.trace import CELL_M, Model, Trace
from xmodal_cli.modalities.geometry import Camera

Floats: TypeAlias = NDArray[np.float32]

FACES = 6  # of the room: the first solids of a model
FLOOR = 4  # the face that shadows fall on
CORNER_M = 0.3  # the room's faces darken towards their corners over this distance
END = 0.9995  # a point of a cylinder this far along its axis lies on its end
OWN_INFRARED = 0.65  # what a surface throws back of infrared is its own; the rest goes with how light it looks
LAMP_M2 = 2.0  # softens the lamp's inverse square law near it


@dataclass(frozen=True)
class Shading:
    """What sensors measure of the surfaces that a trace found.

    Args:
        rgb: `(3, H, W)` float32, linear light.
        facing: `(H, W)` float32, cosine between normal and line of sight.
        infrared: `(H, W)` float32, share of infrared light that is thrown back.
        temperature_c: `(H, W)` float32.
    """

    rgb: Floats
    facing: Floats
    infrared: Floats
    temperature_c: Floats


@dataclass(frozen=True)
class _Runs:
    """Pixels in the order of their solids.

    Args:
        order: `(N,)` flat pixel index.
        runs: solid and its slice.
        directions: `(3, N)` of sight.
        points: `(3, N)` world metres.
        depth: `(N,)` metres.
    """

    order: NDArray[np.intp]
    runs: list[tuple[int, slice]]
    directions: Floats
    points: Floats
    depth: Floats


def shade(model: Model, found: Trace, pose: Pose, camera: Camera) -> Shading:
    """Light what a trace found.

    Args:
        model: the room.
        found: from `trace`.
        pose: of the camera.
        camera: its focal lengths and centre.
    """
    size_hw = (found.depth_m.shape[0], found.depth_m.shape[1])
    pixels = _sorted(found, pose, camera)
    normal, albedo = np.empty_like(pixels.points), np.empty_like(pixels.points)
    for index, run in pixels.runs:
        texels = _surface(model.solids[index], index, pixels, run, normal, np.float32(1 / camera.fx))
        surface = model.solids[index].surface
        for channel, (first, second) in enumerate(zip(surface.first, surface.second, strict=True)):
            mask = ((texels >> np.uint32(8 * channel)) & np.uint32(255)).astype(np.float32)
            mask *= np.float32((second - first) / 255)
            np.add(mask, np.float32(first), out=albedo[channel, run])
    facing = np.einsum("cn,cn->n", normal, pixels.directions)
    facing /= _lengths(camera, size_hw).ravel()[pixels.order]
    rgb = _light(model, pixels, normal)
    rgb *= albedo
    infrared = np.array([0.4, 0.4, 0.2], np.float32) @ albedo
    infrared *= np.float32(1 - OWN_INFRARED)
    for index, run in pixels.runs:
        glow = np.float32(model.solids[index].surface.glow)
        if glow:
            rgb[:, run] += glow * (albedo[:, run] - rgb[:, run])
        infrared[run] += np.float32(OWN_INFRARED * model.solids[index].surface.infrared)
    planes = np.empty((5, len(pixels.order)), np.float32)
    for plane, values in zip(planes, (*rgb, np.abs(facing), infrared), strict=True):
        plane[pixels.order] = values
    image = planes.reshape(5, *size_hw)
    return Shading(image[:3], image[3], image[4], np.take(model.arrays.temperature_c, found.solid))


@lru_cache(maxsize=2)
def _lengths(camera: Camera, size_hw: tuple[int, int]) -> Floats:
    """Lengths of the rays, `(H, W)`."""
    directions = rays(camera, size_hw)
    return np.asarray(np.sqrt(np.einsum("chw,chw->hw", directions, directions)))


def _sorted(found: Trace, pose: Pose, camera: Camera) -> _Runs:
    size_hw = (found.depth_m.shape[0], found.depth_m.shape[1])
    index = found.solid.ravel().astype(np.int16)
    order = np.argsort(index, kind="stable")
    counts = np.bincount(index)
    ends = np.cumsum(counts)
    runs = [(int(i), slice(int(ends[i] - counts[i]), int(ends[i]))) for i in np.flatnonzero(counts)]
    directions = pose.rotation.astype(np.float32) @ rays(camera, size_hw).reshape(3, -1)[:, order]
    depth = found.depth_m.ravel()[order]
    points = directions * depth
    points += pose.position_m.astype(np.float32)[:, None]
    return _Runs(order, runs, directions, points, depth)


def _surface(
    solid: Solid, index: int, pixels: _Runs, run: slice, normal: Floats, per_metre: np.float32
) -> NDArray[np.uint32]:
    """Write the normals of a run and look up its pattern: `(n,)` of the atlas."""
    linear = solid.to_unit().astype(np.float32)
    local = linear @ (pixels.points[:, run] - solid.centre_m.astype(np.float32)[:, None])
    if index < FACES:
        axis = np.full(local.shape[1], index // 2)
        towards = np.zeros(3, np.float32)
        towards[index // 2] = 1 if index % 2 == 0 else -1  # into the room
        normal[:, run] = towards[:, None]
    elif solid.kind == BOX:
        axis = np.argmax(np.abs(local), axis=0)
        signs = np.sign(np.take_along_axis(local, axis[None], axis=0)[0])
        normal[:, run] = solid.axes.astype(np.float32)[:, axis] * signs
    else:
        gradient = _round_gradient(solid, local)
        across = linear.T @ gradient
        normal[:, run] = across / np.sqrt(np.einsum("cn,cn->n", across, across))
        axis = np.argmax(np.abs(gradient) / solid.half_m[:, None], axis=0)
    return _texels(solid, local, axis, pixels.depth[run] * per_metre)


def _round_gradient(solid: Solid, local: Floats) -> Floats:
    """Normals of the unit ball or the (tapered) unit cylinder, not of length 1."""
    if solid.kind != CYLINDER:
        return local
    x, y, z = local
    end = np.abs(z) > END
    taper = np.float32(solid.taper)
    return np.stack([np.where(end, 0, x), np.where(end, 0, y), np.where(end, np.sign(z), -taper * (1 + taper * z))])


def _texels(solid: Solid, local: Floats, axis: NDArray[np.intp], footprint_m: Floats) -> NDArray[np.uint32]:
    """The pattern of a solid where its pixels see it, as sharp as their footprints allow: `(n,)` of the atlas."""
    tile, half = solid.surface.tile_m, solid.half_m.astype(np.float32)
    # Which two of its axes run along and down each of its three pairs of faces.
    along, down = np.where(axis == 0, local[1], local[0]), np.where(axis == 2, local[1], local[2])
    if tile == 0:
        u, v = along * np.float32(0.5) + np.float32(0.5), np.float32(0.5) - down * np.float32(0.5)
        texel = np.float32(2 * half.min(initial=np.inf, where=half > half.min()) / TILE)
    else:
        u = along * (np.array([half[1], half[0], half[0]], np.float32) / np.float32(tile))[axis]
        v = down * (np.array([half[2], half[2], half[1]], np.float32) / np.float32(-tile))[axis]
        texel = np.float32(tile / TILE)
    level = np.log2(np.maximum(footprint_m * (1 / texel), 1)).astype(np.int32)
    row = solid.surface.pattern * LEVELS + np.minimum(level, LEVELS - 1)
    column = np.floor(u * TILE).astype(np.int32) & (TILE - 1)
    line = np.floor(v * TILE).astype(np.int32) & (TILE - 1)
    return np.asarray(np.take(atlas(), (row * TILE + line) * TILE + column))


def _light(model: Model, pixels: _Runs, normal: Floats) -> Floats:
    """Light on every pixel's surface, `(3, N)` linear RGB."""
    light = model.scene.light
    towards = light.position_m.astype(np.float32)[:, None] - pixels.points
    square = np.einsum("cn,cn->n", towards, towards)
    lamp = np.maximum(np.einsum("cn,cn->n", towards, normal), 0)
    lamp *= 3 / (np.sqrt(square) * (np.float32(LAMP_M2) + square))
    window = np.maximum(light.window_direction.astype(np.float32) @ normal, 0)
    around = np.float32(0.25) * normal[2] + np.float32(0.75)
    size = model.scene.size_m.astype(np.float32)
    for index, run in pixels.runs:
        if index < FACES:
            around[run] *= _corners(size, index, pixels.points[:, run])
        if index == FLOOR:
            columns, rows = ((pixels.points[:2, run] + size[:2, None] / 2) * np.float32(1 / CELL_M)).astype(np.intp)
            rows, columns = rows.clip(0, model.shadow.shape[0] - 1), columns.clip(0, model.shadow.shape[1] - 1)
            lamp[run] *= 1 - model.shadow[rows, columns]
            open_sky = 1 - model.contact[rows, columns]
            around[run] *= open_sky
            window[run] *= open_sky
    colours = np.stack([light.lamp, light.window, light.ambient], axis=1).astype(np.float32)  # (3 RGB, 3 lights)
    return np.asarray(colours @ np.stack([lamp, window, around]))


def _corners(size: Floats, face: int, points: Floats) -> Floats:
    """How much light from everywhere reaches a face of the room: less near the faces beside it."""
    away = np.minimum.reduce(
        [
            np.minimum(points[axis] - low, high - points[axis])
            for axis, (low, high) in enumerate(((-size[0] / 2, size[0] / 2), (-size[1] / 2, size[1] / 2), (0, size[2])))
            if axis != face // 2
        ]
    )
    return np.asarray(1 - np.float32(0.35) * np.exp(away * np.float32(-1 / CORNER_M)))
