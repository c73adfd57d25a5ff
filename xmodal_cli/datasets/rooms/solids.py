"""Rays and the three solids that furniture is made of: box, (tapered) cylinder, ellipsoid.

Each solid is a unit solid under an affine map: the cube |x|, |y|, |z| <= 1, the ball, and the round body
x^2 + y^2 <= (1 + taper z)^2 between z = -1 and 1. A ray keeps its parameter t under an affine map, so one that is
intersected in the unit solid's own coordinates gives the distance in the world; with directions whose component along
the optical axis is 1, t is depth. Everything is float32 on whole blocks of pixels.

Shapes: `h x w` pixels of a block, S solids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]

BOX, CYLINDER, ELLIPSOID = 0, 1, 2

NOTHING = np.float32(np.inf)
"""The depth at which a ray that meets nothing ends."""

TINY = np.float32(1e-12)
"""Keeps a ray that runs along a face from dividing by zero; far below any direction of a pixel."""


@dataclass(frozen=True)
class Surface:
    """What a solid's surface looks like, to a colour camera, a depth sensor and a thermal camera.

    Args:
        pattern: index into the pattern atlas.
        first: linear RGB, 0 to 1, where the pattern is 0.
        second: linear RGB where the pattern is 1.
        tile_m: metres that one tile of the pattern covers; 0 stretches one tile over the solid.
        temperature_c: degrees Celsius.
        glow: light that it gives off itself, 0 to 1 of what it would reflect in full light.
        infrared: share of the depth sensor's infrared light that it throws back, 0 to 1.
    """

    pattern: int
    first: tuple[float, float, float]
    second: tuple[float, float, float]
    tile_m: float
    temperature_c: float = 20.0
    glow: float = 0.0
    infrared: float = 0.6


@dataclass(frozen=True)
class Solid:
    """One solid in the world.

    Args:
        kind: BOX, CYLINDER or ELLIPSOID.
        centre_m: `(3,)` float64.
        half_m: `(3,)` float64, half its size along its own axes.
        axes: `(3, 3)` float64, its own axes as columns, of length 1.
        surface: its look.
        taper: of a cylinder, -1 to 1: the radius is 1 - taper at its lower end, 1 + taper at its upper one.
    """

    kind: int
    centre_m: NDArray[np.float64]
    half_m: NDArray[np.float64]
    axes: NDArray[np.float64]
    surface: Surface
    taper: float = 0.0

    def corners_m(self) -> NDArray[np.float64]:
        """The corners of the box around it, `(8, 3)`, world metres."""
        half = self.half_m * np.array([1 + abs(self.taper), 1 + abs(self.taper), 1.0])
        return np.asarray(self.centre_m + (CORNERS * half) @ self.axes.T)

    def to_unit(self) -> NDArray[np.float64]:
        """The linear map `(3, 3)` from world directions to the unit solid's."""
        return np.asarray(self.axes.T / self.half_m[:, None])


CORNERS = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])


@dataclass(frozen=True)
class SolidArrays:
    """Many solids, as the shader looks them up by index.

    Args:
        kind: `(S,)` int.
        to_unit: `(S, 3, 3)` float32, linear maps from the world to unit solids.
        centre_m: `(S, 3)` float32.
        half_m: `(S, 3)` float32.
        taper: `(S,)` float32.
        pattern: `(S,)` int.
        first: `(S, 3)` float32, second likewise.
        second: see `first`.
        tile_m: `(S,)` float32.
        temperature_c: `(S,)` float32.
        glow: `(S,)` float32.
        infrared: `(S,)` float32.
    """

    kind: NDArray[np.intp]
    to_unit: Floats
    centre_m: Floats
    half_m: Floats
    taper: Floats
    pattern: NDArray[np.intp]
    first: Floats
    second: Floats
    tile_m: Floats
    temperature_c: Floats
    glow: Floats
    infrared: Floats


def stack(solids: Sequence[Solid]) -> SolidArrays:
    """Many solids as arrays."""
    surfaces = [solid.surface for solid in solids]

    def floats(values: Sequence[object]) -> Floats:
        return np.array(values, np.float32)

    return SolidArrays(
        kind=np.array([solid.kind for solid in solids], np.intp),
        to_unit=floats([solid.to_unit() for solid in solids]),
        centre_m=floats([solid.centre_m for solid in solids]),
        half_m=floats([solid.half_m for solid in solids]),
        taper=floats([solid.taper for solid in solids]),
        pattern=np.array([surface.pattern for surface in surfaces], np.intp),
        first=floats([surface.first for surface in surfaces]),
        second=floats([surface.second for surface in surfaces]),
        tile_m=floats([surface.tile_m for surface in surfaces]),
        temperature_c=floats([surface.temperature_c for surface in surfaces]),
        glow=floats([surface.glow for surface in surfaces]),
        infrared=floats([surface.infrared for surface in surfaces]),
    )


def yaw(angle_rad: float) -> NDArray[np.float64]:
    """Rotation about the vertical axis z, `(3, 3)`.

    Example:
        >>> (yaw(np.pi / 2) @ [1.0, 0.0, 0.0]).round(6).tolist()
        [0.0, 1.0, 0.0]
    """
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def pitch(angle_rad: float) -> NDArray[np.float64]:
    """Rotation about the axis x: what pointed along y points upward, `(3, 3)`."""
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]])


@dataclass(frozen=True)
class Sight:
    """The rays of a block of pixels: the direction of the pixel in column u and row v is `axes @ (x[u], y[v], 1)`.

    Args:
        origin_m: `(3,)` float64, where all rays begin.
        axes: `(3, 3)` float64, the camera's axes as columns.
        x: `(w,)` float32, offsets of the columns from the optical axis, as tangents.
        y: `(h,)` float32, offsets of the rows.
    """

    origin_m: NDArray[np.float64]
    axes: NDArray[np.float64]
    x: Floats
    y: Floats

    def within(self, solid: Solid) -> tuple[Floats, Floats]:
        """Origin `(3,)` and directions `(3, h, w)` in a unit solid's own coordinates."""
        linear = solid.to_unit()
        origin = (linear @ (self.origin_m - solid.centre_m)).astype(np.float32)
        turned = (linear @ self.axes).astype(np.float32)
        rows = turned[:, 1:2] * self.y + turned[:, 2:]
        return origin, (turned[:, :1] * self.x)[:, None, :] + rows[:, :, None]


def hit(solid: Solid, sight: Sight) -> Floats:
    """Where rays first enter a solid.

    Args:
        solid: the solid; the origin is outside it.
        sight: the rays of a block of pixels.

    Returns:
        `(h, w)` float32, the ray parameter, which is depth; infinite where a ray misses.

    Example:
        >>> plain = Surface(0, (1, 1, 1), (1, 1, 1), 1.0)
        >>> ball = Solid(ELLIPSOID, np.array([0.0, 0.0, 3.0]), np.ones(3), np.eye(3), plain)
        >>> hit(ball, Sight(np.zeros(3), np.eye(3), np.array([0, 1], np.float32), np.zeros(1, np.float32))).tolist()
        [[2.0, inf]]
    """
    origin, local = sight.within(solid)
    if solid.kind == BOX:
        return _hit_cube(origin, local)
    if solid.kind == ELLIPSOID:
        return _hit_ball(origin, local)
    return _hit_round(origin, local, np.float32(solid.taper))


def leave_cube(solid: Solid, sight: Sight) -> tuple[Floats, NDArray[np.intp]]:
    """Where rays that begin inside a box leave it: how a room is seen.

    Returns:
        `(h, w)` float32 ray parameters, and `(h, w)` faces: 0 and 1 are low and high x, 2 and 3 y, 4 and 5 z.
    """
    origin, local = sight.within(solid)
    inverse = 1.0 / (local + TINY)
    ends = np.abs(inverse) - origin[:, None, None] * inverse  # (3, h, w): where it meets the face it runs towards
    axis = np.argmin(ends, axis=0)
    ahead = np.take_along_axis(local, axis[None], axis=0)[0] > 0
    return np.min(ends, axis=0), 2 * axis + ahead


def _hit_cube(origin: Floats, local: Floats) -> Floats:
    local += TINY
    inverse = np.divide(np.float32(1.0), local, out=local)
    middle = inverse * -origin[:, None, None]
    reach = np.abs(inverse, out=inverse)
    first = np.max(middle - reach, axis=0)
    last = np.min(np.add(middle, reach, out=middle), axis=0)
    first[(first > last) | (first <= 0)] = NOTHING
    return np.asarray(first)


def _hit_ball(origin: Floats, local: Floats) -> Floats:
    x, y, z = local
    square = x * x + y * y + z * z
    along = origin[0] * x + origin[1] * y + origin[2] * z
    inside = along * along - square * np.float32(origin @ origin - 1.0)
    found = (-along - np.sqrt(np.maximum(inside, 0.0))) / square
    found[(inside <= 0) | (found <= 0)] = NOTHING
    return np.asarray(found)


def _hit_round(origin: Floats, local: Floats, taper: np.float32) -> Floats:
    """The side, where its quadratic's roots lie between the ends, and the two end discs; the nearest counts."""
    x, y, z = local
    z = z + TINY
    radius = 1 + taper * origin[2]  # of the (tapered) body at the height of the origin
    square = x * x + y * y - (taper * taper) * (z * z)
    along = origin[0] * x + origin[1] * y - (taper * radius) * z
    inside = along * along - square * (origin[0] * origin[0] + origin[1] * origin[1] - radius * radius)
    root = np.sqrt(np.maximum(inside, 0.0))
    square = np.where(np.abs(square) < TINY, TINY, square)
    best = np.full(x.shape, NOTHING, np.float32)
    for sign in (-1.0, 1.0):
        found = (np.float32(sign) * root - along) / square
        height = origin[2] + found * z
        good = (inside > 0) & (found > 0) & (np.abs(height) <= 1)
        best = np.where(good & (found < best), found, best)
    end = np.float32(np.sign(origin[2]) if abs(origin[2]) > 1 else 0.0)
    if end:  # only the end that faces the origin can be seen
        found = (end - origin[2]) / z
        across, down = origin[0] + found * x, origin[1] + found * y
        good = (found > 0) & (across * across + down * down <= (1 + taper * end) ** 2)
        best = np.where(good & (found < best), found, best)
    return best
