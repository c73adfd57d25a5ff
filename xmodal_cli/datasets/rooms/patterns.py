"""The patterns that surfaces bear: cloth, wood, tiles, books, pictures; drawn once, from a seed of their own.

A pattern is a square tile that repeats. Most are masks between two colours that each surface chooses for itself; those
of `PICTURES` bring colours of their own. Each is kept at several sharpnesses, so that a far surface is not speckled.

Shapes: P patterns, L sharpnesses, S x S texels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from xmodal_cli.data.transforms import generator

Floats: TypeAlias = NDArray[np.float32]

TILE = 128
LEVELS = 5  # the coarsest still has 8 x 8 different texels
SEED = 1507_00448  # of the patterns, which all data sets share: the paper's number

MASKS = (
    "plain", "plaster", "grain", "planks", "stripes", "checks", "weave", "tiles", "dots", "flowers", "marble", "carpet",
    "cardboard", "plaid", "zigzag", "bricks", "screen-off", "drawers-2", "drawers-3", "drawers-6", "doors", "mesh",
    "panels",
)  # fmt: skip
BOOKS = ("books-1", "books-2", "books-3")
SCREENS = ("desktop-1", "desktop-2", "film-1", "film-2")
PICTURES = (*BOOKS, "picture-1", "picture-2", "picture-3", "picture-4", *SCREENS, "outside-1", "outside-2")
NAMES = (*MASKS, *PICTURES)
INDEX = {name: number for number, name in enumerate(NAMES)}


@lru_cache(maxsize=1)
def atlas() -> NDArray[np.uint32]:
    """All patterns, `(P * L * S * S,)`: index * L + sharpness (0 the sharpest), row, column; bytes are R, G, B, 0."""
    sheets = []
    for name in NAMES:
        picture = _draw(name)
        sheets += [_blurred(picture, level) for level in range(LEVELS)]
    texels = np.zeros((len(sheets) * TILE * TILE, 4), np.uint8)
    texels[:, :3] = np.stack(sheets).reshape(-1, 3)
    return texels.view(np.uint32).ravel()


def _draw(name: str) -> Floats:
    """One pattern, `(S, S, 3)`, 0 to 1."""
    random = generator(SEED, name)
    draw = DRAWN.get(name) or DRAWN.get(name.rpartition("-")[0], _mesh)
    drawn = draw(random) if name not in CELLS else _cells(*CELLS[name])
    picture = drawn if drawn.ndim == 3 else np.repeat(drawn[..., None], 3, axis=2)
    return np.asarray(np.clip(picture, 0, 1), np.float32)


def _blurred(picture: Floats, level: int) -> NDArray[np.uint8]:
    size = TILE >> level
    small = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    large = cv2.resize(small, (TILE, TILE), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.rint(large * 255), np.uint8)


def _grid() -> tuple[Floats, Floats]:
    """Rows and columns from 0 to 1."""
    axis = (np.arange(TILE, dtype=np.float32) + np.float32(0.5)) / np.float32(TILE)
    return axis[:, None], axis[None, :]


def noise(random: np.random.Generator, cells: int, octaves: int = 1) -> Floats:
    """Smooth noise that repeats, `(S, S)`, 0 to 1, of so many cells a tile and ever finer ones."""
    total = np.zeros((TILE, TILE), np.float32)
    for octave in range(octaves):
        count = cells << octave
        values = random.random((count, count), np.float32)
        wrapped = np.pad(values, 2, mode="wrap")
        step = TILE // count if count <= TILE else 1
        large = cv2.resize(wrapped, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        total += large[2 * step : 2 * step + TILE, 2 * step : 2 * step + TILE] / (1 << octave)
    low, high = float(total.min()), float(total.max())
    return np.asarray((total - low) / (high - low), np.float32)


def _wave(values: Floats, count: int) -> Floats:
    return np.asarray(0.5 + 0.5 * np.sin(2 * np.pi * count * values), np.float32)


def _grain(random: np.random.Generator) -> Floats:
    _, x = _grid()
    bent = x + 0.06 * noise(random, 2) + 0.01 * noise(random, 8)
    fine = cv2.resize(random.random((4, TILE), np.float32), (TILE, TILE), interpolation=cv2.INTER_LINEAR)
    return np.asarray(0.6 * _wave(bent, 7) + 0.4 * fine, np.float32)


def _planks(random: np.random.Generator) -> Floats:
    y, x = _grid()
    row = np.floor(y * 6).astype(int)
    shade = random.random(6).astype(np.float32)[row] * 0.5
    joint = ((y * 6) % 1 < 0.06) | (np.abs(x - (row * 0.37) % 1) < 0.006)
    return np.asarray(np.where(joint, 1.0, shade + 0.3 * _grain(random).T), np.float32)


def _tiles(random: np.random.Generator, rows: int = 4, shift: float = 0.0) -> Floats:
    y, x = _grid()
    row = np.floor(y * rows).astype(int)
    column = x * (rows // 2 if shift else rows) + shift * (row % 2)
    joint = ((y * rows) % 1 < 0.07) | (column % 1 < 0.07 / (2 if shift else 1))
    return np.asarray(np.where(joint, 1.0, 0.25 * noise(random, 4, 2)), np.float32)


def _weave(random: np.random.Generator) -> Floats:
    y, x = _grid()
    return np.asarray(0.35 * (_wave(x, 32) + _wave(y, 32)) + 0.3 * noise(random, 16, 2), np.float32)


def _dots(random: np.random.Generator) -> Floats:
    y, x = _grid()
    row = np.floor(y * 6)
    return np.asarray(((y * 6) % 1 - 0.5) ** 2 + ((x * 6 + 0.5 * (row % 2)) % 1 - 0.5) ** 2 < 0.08, np.float32)


def _flowers(random: np.random.Generator) -> Floats:
    return np.asarray((noise(random, 8) > 0.6) * 0.7 + (noise(random, 16) > 0.65) * 0.3, np.float32)


def _marble(random: np.random.Generator) -> Floats:
    veins = np.abs(noise(random, 4, 4) - 0.5)
    return np.asarray(np.exp(-veins * 30) + 0.2 * noise(random, 16), np.float32)


def _carpet(random: np.random.Generator) -> Floats:
    return np.asarray(0.6 * random.random((TILE, TILE), np.float32) + 0.4 * noise(random, 8, 3), np.float32)


def _cardboard(random: np.random.Generator) -> Floats:
    """Brown board with a lighter strip of tape and a label."""
    y, x = _grid()
    tape = (np.abs(x - 0.5) < 0.07).astype(np.float32) + 0 * y
    label = (np.abs(x - 0.24) < 0.13) & (np.abs(y - 0.7) < 0.1)
    return np.asarray(np.maximum(np.maximum(tape * 0.8, label), 0.15 * noise(random, 16)), np.float32)


def _plaid(random: np.random.Generator) -> Floats:
    y, x = _grid()
    bands = [((axis * 4) % 1 < 0.4) * 0.4 + (np.abs((axis * 4) % 1 - 0.7) < 0.05) * 0.3 for axis in (x, y)]
    return np.asarray(bands[0] + bands[1], np.float32)


def _screen_off(random: np.random.Generator) -> Floats:
    y, x = _grid()
    return np.asarray(np.clip(1.2 - np.abs(x - 0.3 - 0.4 * y) * 3, 0, 1) * 0.8, np.float32)


def _cells(rows: int, columns: int, knob: tuple[float, float]) -> Floats:
    """Fronts of drawers or doors: dark joints between cells, and a handle in each."""
    y, x = _grid()
    down, across = (y * rows) % 1, (x * columns) % 1
    joint = (np.minimum(down, 1 - down) < 0.022 * rows) | (np.minimum(across, 1 - across) < 0.022 * columns)
    handle = (np.abs(down - knob[1]) < 0.03 * rows) & (np.abs(across - knob[0]) < 0.05 * columns)
    return np.asarray(joint | handle, np.float32)


def _mesh(random: np.random.Generator) -> Floats:
    y, x = _grid()
    return np.asarray((((x + y) * 12) % 1 < 0.35) | (((x - y) * 12) % 1 < 0.35), np.float32)


def _books(random: np.random.Generator) -> Floats:
    """Spines side by side, each of its colour, some with a band, shorter ones with a dark gap above."""
    picture = np.zeros((TILE, TILE, 3), np.float32)
    left = 0
    while left < TILE:
        width = int(random.integers(5, 14))
        colour = random.random(3) ** 1.5 * random.uniform(0.25, 0.9)
        top = int(random.integers(0, 36))
        picture[top:, left + 1 : left + width] = colour
        if random.random() < 0.6:
            band = top + int(random.integers(10, 50))
            picture[band : band + 6, left + 1 : left + width] = random.random(3)
        left += width
    return picture


def _picture(random: np.random.Generator) -> Floats:
    """An abstract painting: a ground, patches, and a pale border."""
    picture = np.empty((TILE, TILE, 3), np.float32)
    picture[:] = random.random(3)
    for _ in range(14):
        x, y = random.integers(0, TILE, 2)
        axes = random.integers(6, 40, 2)
        cv2.ellipse(picture, (int(x), int(y)), (int(axes[0]), int(axes[1])), float(random.integers(0, 180)), 0, 360,
                    tuple(random.random(3).tolist()), -1)  # fmt: skip
    picture[:8], picture[-8:], picture[:, :8], picture[:, -8:] = 0.85, 0.85, 0.85, 0.85
    return picture


def _desktop(random: np.random.Generator) -> Floats:
    """Windows with lines of text on a coloured ground."""
    picture = np.empty((TILE, TILE, 3), np.float32)
    picture[:] = random.random(3) * 0.5
    for _ in range(2):
        left, top = (int(value) for value in random.integers(6, 50, 2))
        right, bottom = left + int(random.integers(50, 70)), top + int(random.integers(50, 70))
        picture[top:bottom, left:right] = 0.95
        picture[top : top + 7, left:right] = random.random(3)
        for line in range(top + 12, bottom - 4, 6):
            picture[line : line + 2, left + 4 : left + int(random.integers(20, 46))] = 0.25
    return picture


def _film(random: np.random.Generator) -> Floats:
    """Light sky, dark ground, a figure."""
    y, x = _grid()
    horizon = (y > 0.55 + 0.15 * noise(random, 4)[:1]).astype(np.float32)[..., None]
    picture = (1 - horizon) * random.uniform(0.4, 1, 3) + horizon * random.uniform(0, 0.4, 3)
    figure = (np.abs(x - 0.4) < 0.08) & (y > 0.35) & (y < 0.85)
    picture[figure] = random.random(3)
    return np.asarray(picture, np.float32)


def _outside(random: np.random.Generator) -> Floats:
    y, _ = _grid()
    trees = (y > 0.6 + 0.3 * (noise(random, 8, 2) - 0.5)).astype(np.float32)[..., None]
    leaves = noise(random, 16, 2)[..., None] * np.array([0.25, 0.45, 0.15], np.float32)
    picture = (1 - trees) * (np.array([0.75, 0.85, 1.0], np.float32) - 0.1 * y[..., None]) + trees * leaves
    y, x = _grid()
    picture[((np.abs(x - 0.5) < 0.025) | (np.abs(y - 0.5) < 0.02)) & (x > -1)] = 0.9  # the window's cross
    return np.asarray(picture, np.float32)


CELLS = {
    "drawers-2": (2, 1, (0.5, 0.5)),
    "drawers-3": (3, 1, (0.5, 0.5)),
    "drawers-6": (3, 2, (0.5, 0.5)),
    "doors": (1, 2, (0.12, 0.4)),
    "panels": (3, 2, (-1.0, -1.0)),
}

DRAWN: dict[str, Callable[[np.random.Generator], Floats]] = {
    "plain": lambda random: 0.15 * noise(random, 4, 3),
    "plaster": lambda random: 0.6 * noise(random, 8, 4),
    "grain": _grain,
    "planks": _planks,
    "stripes": lambda random: (_grid()[1] * 6 % 1 < 0.5) + 0 * _grid()[0],
    "checks": lambda random: (np.floor(_grid()[0] * 6) + np.floor(_grid()[1] * 6)) % 2,
    "weave": _weave,
    "tiles": _tiles,
    "dots": _dots,
    "flowers": _flowers,
    "marble": _marble,
    "carpet": _carpet,
    "cardboard": _cardboard,
    "plaid": _plaid,
    "zigzag": lambda random: ((_grid()[0] + 0.1 * np.abs((_grid()[1] * 8) % 2 - 1)) * 8 % 1 < 0.5) * 1.0,
    "bricks": lambda random: _tiles(random, 8, 0.5),
    "screen-off": _screen_off,
    "mesh": _mesh,
    "books": _books,
    "picture": _picture,
    "desktop": _desktop,
    "film": _film,
    "outside": _outside,
}
