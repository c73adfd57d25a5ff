"""What furniture is made of: a piece in its own frame, and the parts that several pieces have.

A piece stands at the origin of its own frame: x across, y from front (negative) to back, z up from the floor. It says
where other things may stand on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from xmodal_cli.datasets.rooms.looks import Looks
from xmodal_cli.datasets.rooms.solids import BOX, CYLINDER, ELLIPSOID, Solid, Surface, pitch

CLASSES = (
    "bathtub", "bed", "bookshelf", "box", "chair", "counter", "desk", "door", "dresser", "garbage-bin", "lamp",
    "monitor", "night-stand", "pillow", "sink", "sofa", "table", "television", "toilet",
)  # fmt: skip
"""The nineteen classes of NYUD2 that the paper detects, in its order; category ids count from 1."""


@dataclass(frozen=True)
class Top:
    """A level place where things may stand.

    Args:
        low: left and front end, metres in the piece's frame.
        high: right and back end.
        z: height.
        kind: what may stand there: `top`, `pillows` or `sink`.
    """

    low: tuple[float, float]
    high: tuple[float, float]
    z: float
    kind: str = "top"


@dataclass(frozen=True)
class Piece:
    """A piece of furniture in its own frame.

    Args:
        name: its class; empty for what has none.
        solids: what it is made of.
        width_m: along x; it reaches from minus half to half of it.
        depth_m: along y, likewise.
        tops: where things may stand on it.
    """

    name: str
    solids: Sequence[Solid]
    width_m: float
    depth_m: float
    tops: Sequence[Top] = field(default_factory=tuple)


def block(
    x: float, y: float, z: float, width: float, depth: float, height: float, surface: Surface, tilt: float = 0.0
) -> Solid:
    """A box by the middle of its underside; `tilt` leans its upper end back, in radians."""
    centre, half = np.array([x, y, z + height / 2]), np.array([width, depth, height]) / 2
    return Solid(BOX, centre, half, pitch(-tilt), surface)


def column(
    x: float,
    y: float,
    z: float,
    radius: float,
    height: float,
    surface: Surface,
    taper: float = 0.0,
    squash: float = 1.0,
) -> Solid:
    """An upright cylinder by the middle of its underside; its depth is `squash` times its width."""
    half = np.array([radius, radius * squash, height / 2])
    return Solid(CYLINDER, np.array([x, y, z + height / 2]), half, np.eye(3), surface, taper)


def ball(x: float, y: float, z: float, half: tuple[float, float, float], surface: Surface, tilt: float = 0.0) -> Solid:
    """An ellipsoid by its centre."""
    return Solid(ELLIPSOID, np.array([x, y, z]), np.array(half), pitch(-tilt), surface)


def legs(looks: Looks, width: float, depth: float, height: float, surface: Surface) -> list[Solid]:
    """Four legs, round or square, under the corners."""
    thick = float(looks.random.uniform(0.035, 0.07))
    x, y = width / 2 - thick, depth / 2 - thick
    corners = [(-x, -y), (x, -y), (-x, y), (x, y)]
    if looks.random.random() < 0.4:
        return [column(a, b, 0, thick / 2, height, surface, taper=0.15) for a, b in corners]
    return [block(a, b, 0, thick, thick, height, surface) for a, b in corners]


def basin(width: float, depth: float, z: float, height: float, surface: Surface, rim: float = 0.06) -> list[Solid]:
    """A hollow vessel: a floor and four walls."""
    thick = height * 0.4
    across, along = (width - rim) / 2, (depth - rim) / 2
    return [
        block(0, 0, z, width - 2 * rim, depth - 2 * rim, thick, surface),
        block(-across, 0, z, rim, depth, height, surface),
        block(across, 0, z, rim, depth, height, surface),
        block(0, -along, z, width - 2 * rim, rim, height, surface),
        block(0, along, z, width - 2 * rim, rim, height, surface),
    ]


def front_of(width: float, depth: float, z: float, height: float, surface: Surface) -> Solid:
    """A thin front that bears drawers or doors."""
    return block(0, -depth / 2 - 0.006, z, width * 0.97, 0.012, height * 0.96, surface)


def whole_top(width: float, depth: float, z: float) -> Top:
    """The whole upper face of a piece, as a place to stand on."""
    return Top((-width / 2, -depth / 2), (width / 2, depth / 2), z)


def moved(solid: Solid, x: float) -> Solid:
    """A solid moved sideways by x metres."""
    return replace(solid, centre_m=solid.centre_m + np.array([x, 0.0, 0.0]))


def sizes(
    looks: Looks, width: tuple[float, float], depth: tuple[float, float], height: tuple[float, float]
) -> tuple[float, float, float]:
    """Width, depth and height in metres, each drawn between two ends."""
    drawn = [float(looks.random.uniform(*ends)) for ends in (width, depth, height)]
    return drawn[0], drawn[1], drawn[2]
