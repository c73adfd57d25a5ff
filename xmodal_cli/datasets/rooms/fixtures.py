"""Fixtures and small things: bathroom, screens, lamps, boxes, bins, pillows, doors, and things without a class.

Television, monitor and picture share a shape, box, bin and night stand another: those are told apart by their look.
"""

from __future__ import annotations

import numpy as np

from xmodal_cli.datasets.rooms.looks import Looks
from xmodal_cli.datasets.rooms.pieces import (
    Piece,
    ball,
    basin,
    block,
    column,
    sizes,
)
from xmodal_cli.datasets.rooms.solids import Solid, Surface


def bathtub(looks: Looks) -> Piece:
    """A tub: a long hollow block with a tap."""
    width, depth, height = sizes(looks, (1.4, 1.75), (0.68, 0.85), (0.5, 0.64))
    solids = basin(width, depth, 0, height, looks.ceramic(), rim=0.09)
    return Piece("bathtub", [*solids, column(width * 0.38, depth / 2 - 0.05, height, 0.025, 0.14, looks.metal())],
                 width, depth)  # fmt: skip


def box(looks: Looks) -> Piece:
    """A cardboard box, sometimes open or with a lid."""
    width, depth, height = sizes(looks, (0.28, 0.6), (0.28, 0.5), (0.22, 0.55))
    board = looks.cardboard()
    solids = [block(0, 0, 0, width, depth, height, board)]
    if looks.random.random() < 0.25:
        solids = [block(0, 0, 0, width, depth, height * 0.7, board),
                  block(0, 0, height * 0.7, width * 1.06, depth * 1.06, height * 0.3, board)]  # fmt: skip
    return Piece("box", solids, width * 1.06, depth * 1.06)


def door(looks: Looks) -> Piece:
    """A leaf nearly flush with the wall, in a frame, with a handle."""
    width, height = float(looks.random.uniform(0.75, 0.95)), float(looks.random.uniform(1.95, 2.1))
    wood = looks.wood()
    leaf = looks.fronts("panels", wood) if looks.random.random() < 0.6 else wood
    side = 1.0 if looks.random.random() < 0.5 else -1.0
    solids = [
        block(0, 0.023, 0, width, 0.024, height, leaf),
        block(-width / 2 - 0.03, 0.018, 0, 0.06, 0.034, height + 0.06, wood),
        block(width / 2 + 0.03, 0.018, 0, 0.06, 0.034, height + 0.06, wood),
        block(0, 0.018, height, width, 0.034, 0.06, wood),
        ball(side * width * 0.41, -0.03, 1.0, (0.05, 0.03, 0.025), looks.metal()),
    ]
    return Piece("door", solids, width + 0.14, 0.08)


def garbage_bin(looks: Looks) -> Piece:
    """A round or square bin, often open."""
    width, depth, height = sizes(looks, (0.27, 0.42), (0.27, 0.4), (0.35, 0.62))
    body = looks.plastic() if looks.random.random() < 0.7 else looks.metal()
    inside = looks.dark() if looks.random.random() < 0.7 else body
    if looks.random.random() < 0.55:
        solids = [column(0, 0, 0, width / 2 * 0.88, height, body, taper=0.12),
                  column(0, 0, height, width / 2 * 0.9, 0.006, inside)]  # fmt: skip
        return Piece("garbage-bin", solids, width, width)
    solids = [block(0, 0, 0, width, depth, height, body), block(0, 0, height, width * 0.9, depth * 0.9, 0.006, inside)]
    return Piece("garbage-bin", solids, width, depth)


def floor_lamp(looks: Looks) -> Piece:
    """A lamp on a pole."""
    return _lamp(looks, float(looks.random.uniform(1.3, 1.7)), 0.022, float(looks.random.uniform(0.2, 0.27)))


def table_lamp(looks: Looks) -> Piece:
    """A lamp that stands on something."""
    return _lamp(looks, float(looks.random.uniform(0.42, 0.62)), 0.045, float(looks.random.uniform(0.15, 0.21)))


def monitor(looks: Looks) -> Piece:
    """A screen on a foot, for a desk."""
    width, height = float(looks.random.uniform(0.45, 0.66)), float(looks.random.uniform(0.28, 0.4))
    return _screen(looks, "monitor", (width, height), ("desktop-1", "desktop-2"), standing=True)


def pillow(looks: Looks) -> Piece:
    """A cushion that lies."""
    width, depth, height = sizes(looks, (0.42, 0.68), (0.32, 0.44), (0.12, 0.19))
    tilt = float(looks.random.uniform(-0.25, 0.0))
    cushion = ball(0, 0, height / 2 + 0.03, (width / 2, depth / 2, height / 2), looks.cloth(), tilt)
    return Piece("pillow", [cushion], width, depth)


def standing_sink(looks: Looks) -> Piece:
    """A basin on a pedestal."""
    width, depth, height = sizes(looks, (0.48, 0.65), (0.42, 0.52), (0.82, 0.9))
    stone, metal = looks.ceramic(), looks.metal()
    deep = float(looks.random.uniform(0.14, 0.2))
    foot = column(0, 0.05, 0, 0.1, height - deep, stone)
    return Piece("sink", [foot, *basin(width, depth, height - deep, deep, stone), *_tap(depth, height, metal)], width,
                 depth)  # fmt: skip


def counter_sink(looks: Looks) -> Piece:
    """A basin on a counter."""
    width, depth, height = sizes(looks, (0.42, 0.6), (0.38, 0.46), (0.1, 0.16))
    stone = looks.ceramic() if looks.random.random() < 0.6 else looks.metal()
    return Piece("sink", [*basin(width, depth, 0, height, stone, 0.045), *_tap(depth, height, looks.metal())], width,
                 depth)  # fmt: skip


def television(looks: Looks) -> Piece:
    """A large screen that hangs on the wall."""
    width = float(looks.random.uniform(0.75, 1.25))
    return _screen(looks, "television", (width, width * 0.58), ("film-1", "film-2"), standing=False)


def standing_television(looks: Looks) -> Piece:
    """A large screen on a foot."""
    width = float(looks.random.uniform(0.65, 1.0))
    return _screen(looks, "television", (width, width * 0.6), ("film-1", "film-2"), standing=True)


def toilet(looks: Looks) -> Piece:
    """A bowl that narrows to its foot, a seat, a cistern."""
    width, depth, height = sizes(looks, (0.36, 0.42), (0.62, 0.72), (0.38, 0.43))
    stone = looks.ceramic()
    seat = stone if looks.random.random() < 0.6 else looks.wood()
    front = -depth / 2 + 0.24
    solids = [
        column(0, front, 0, width * 0.4, height - 0.03, stone, taper=0.22, squash=1.2),
        column(0, front, height - 0.03, width / 2, 0.04, seat, squash=1.25),
        block(0, 0.08, 0, width * 0.55, depth * 0.6, height - 0.06, stone),
        block(0, depth / 2 - 0.1, height - 0.06, width * 1.1, 0.19, 0.42, stone),
        block(0, depth / 2 - 0.1, height + 0.36, width * 1.16, 0.21, 0.03, stone),
    ]
    if looks.random.random() < 0.5:
        solids.append(block(0, depth / 2 - 0.23, height + 0.03, width * 0.95, 0.03, 0.36, seat, tilt=-0.1))
    return Piece("toilet", solids, width * 1.16, depth)


def picture(looks: Looks) -> Piece:
    """A picture on the wall: the shape of a television, and no class."""
    width, height = float(looks.random.uniform(0.4, 1.1)), float(looks.random.uniform(0.35, 0.8))
    name = f"picture-{int(looks.random.integers(1, 5))}"
    return Piece("", [block(0, 0, 0, width, 0.03, height, looks.picture(name))], width, 0.03)


def window(looks: Looks) -> Piece:
    """A cold window."""
    width, height = float(looks.random.uniform(0.8, 1.5)), float(looks.random.uniform(0.9, 1.2))
    glass = looks.picture(f"outside-{int(looks.random.integers(1, 3))}", 0.9, float(looks.random.uniform(8.0, 14.0)))
    frame = looks.ceramic()
    return Piece(
        "", [block(0, 0.0, 0, width, 0.03, height, glass), block(0, -0.02, -0.04, width * 1.05, 0.1, 0.04, frame)],
        width * 1.05, 0.1)  # fmt: skip


def _lamp(looks: Looks, height: float, thick: float, radius: float) -> Piece:
    lit = looks.random.random() < 0.6
    tall = float(np.clip(height * 0.25, 0.18, 0.34))
    shade, metal = looks.cloth(), looks.metal()
    if lit:
        warm = (1.0, float(looks.random.uniform(0.7, 0.9)), float(looks.random.uniform(0.4, 0.7)))
        shade = Surface(shade.pattern, warm, warm, shade.tile_m, float(looks.random.uniform(34, 46)), 0.9, 0.5)
    solids = [
        column(0, 0, 0, radius * 0.65, 0.03, metal),
        column(0, 0, 0.03, thick, height - tall - 0.03, metal),
        column(0, 0, height - tall, radius * 0.8, tall, shade, taper=float(looks.random.uniform(-0.25, 0.0))),
    ]
    return Piece("lamp", solids, 2 * radius, 2 * radius)


def _screen(looks: Looks, name: str, size: tuple[float, float], films: tuple[str, str], standing: bool) -> Piece:
    """A dark frame and a picture in it, on or off."""
    width, height = size
    on = looks.random.random() < 0.6
    warm = float(looks.random.uniform(27, 35)) if on else 21.0
    shown = looks.picture(films[int(looks.random.integers(2))], 0.8, warm) if on else _black(looks)
    case = looks.dark(float(looks.random.choice([0.12, 0.15, 0.6])))
    case = Surface(case.pattern, case.first, case.second, 1.0, (warm + 21) / 2, 0.0, 0.2)
    z = 0.12 if standing else 0.0
    solids = [block(0, 0, z, width, 0.045, height, case), block(0, -0.026, z + 0.02, width - 0.04, 0.007, height - 0.04,
                                                                shown)]  # fmt: skip
    if standing:
        solids += [column(0, 0.03, 0.015, 0.03, 0.14, case), block(0, 0, 0, width * 0.45, 0.2, 0.015, case)]
    return Piece(name, solids, width, 0.2 if standing else 0.06)


def _black(looks: Looks) -> Surface:
    dark = looks.dark(0.1)
    return Surface(looks.picture("screen-off").pattern, dark.first, (0.05, 0.05, 0.06), 0.0, 21.0, 0.0, 0.05)


def _tap(depth: float, z: float, metal: Surface) -> list[Solid]:
    back = depth / 2 - 0.02
    return [column(0, back, z, 0.018, 0.16, metal), block(0, back - 0.06, z + 0.14, 0.03, 0.14, 0.025, metal)]
