"""Curves between axes: one panel of a figure, drawn at twice its size and then halved for smooth lines.

Axes are linear or logarithmic; ticks stand at round numbers. Lines differ in colour, and where colours run out or two
lines belong together, in dashes.

Shapes: `(H, W, 3)` uint8 RGB pictures; panels before `finished` are `SCALE` times as large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from xmodal_cli.pictures import canvas
from xmodal_cli.pictures.canvas import BLUE, FAINT, INK, LABEL, ORANGE, PAPER, SMALL, TITLE, Colour, Picture

Points = tuple[NDArray[np.float64], NDArray[np.float64]]
Corner = Literal["upper left", "upper right", "lower left", "lower right"]

SCALE = 2  # drawn at this many times the size
PANEL_WIDTH, PANEL_HEIGHT = 520, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 16, 40, 48  # margins of a panel around its axes
DASH, DASH_GAP = 9, 6  # pixels
MARKED = 30  # points of a line up to which each is marked
MOST_TICKS = 7
ROW = 19  # height of a legend's row
# Of curves, in turn: dark ones first, since thin lines in light colours are hard to see on paper.
LINE_COLOURS: tuple[Colour, ...] = (BLUE, ORANGE, (0, 158, 115), (204, 121, 167), (86, 180, 233), (230, 159, 0))


@dataclass(frozen=True)
class Axis:
    """One axis: its name, its range, where it is marked.

    Args:
        name: written beside it.
        low, high: its ends.
        ticks: values that are marked.
        logarithmic: whether equal ratios are equally long.
    """

    name: str
    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def place(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where values lie: 0 at the low end, 1 at the high end."""
        low, high, at = self.low, self.high, np.asarray(values, np.float64)
        if self.logarithmic:
            low, high, at = math.log(low), math.log(high), np.log(np.maximum(at, 1e-300))
        return (at - low) / ((high - low) or 1.0)


@dataclass(frozen=True)
class Line:
    """One curve: its name, points, colour, and whether it is dashed."""

    name: str
    points: Points
    colour: Colour
    dashed: bool = False


def line_style(number: int) -> tuple[Colour, bool]:
    """Colour and dashes of the n-th line of a panel.

    Example:
        >>> line_style(0) == (BLUE, False), line_style(len(LINE_COLOURS)) == (BLUE, True)
        (True, True)
    """
    return LINE_COLOURS[number % len(LINE_COLOURS)], (number // len(LINE_COLOURS)) % 2 == 1


def axis_for(name: str, values: NDArray[np.float64], *, from_zero: bool = False, logarithmic: bool = False) -> Axis:
    """An axis with round ticks that holds some values.

    Args:
        name: written beside it.
        values: finite numbers, at least one; positive for a logarithmic axis.
        from_zero: whether it begins at 0, or below if values do.
        logarithmic: see `Axis`.

    Example:
        >>> axis_for("step", np.array([0.0, 644.0]))
        Axis(name='step', low=0.0, high=700.0, ticks=(0.0, 100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0), ...)
        >>> axis_for("loss", np.array([0.03, 4.0]), logarithmic=True).ticks
        (0.03, 0.1, 0.3, 1.0, 3.0)
    """
    low, high = float(values.min()), float(values.max())
    if logarithmic:
        marks = [digit * 10.0**power for power in range(-12, 13) for digit in (1, 3)]
        ticks = tuple(round(mark, 12) for mark in marks if low * 0.999 <= mark <= high * 1.001)
        return Axis(name, low * 0.95, high * 1.05, ticks, True)
    low = min(low, 0.0) if from_zero else low
    high = high if high > low else low + (abs(low) or 1.0)
    step = _round_step((high - low) / MOST_TICKS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(number * step, 12) for number in range(first, last + 1))
    return Axis(name, ticks[0], ticks[-1], ticks)


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below a number."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= least * 0.999)


def draw_panel(title: str, x: Axis, y: Axis, lines: Sequence[Line], legend: Corner | None = "upper left") -> Picture:
    """Axes with curves.

    Args:
        title: above them.
        x, y: the axes; `y.name` is part of the title's line where it is not empty.
        lines: in the order of the legend.
        legend: the corner that the curves leave empty; None draws none.

    Returns:
        `(H, W, 3)` uint8 RGB at `SCALE` times the size of a panel.
    """
    picture = canvas.blank(PANEL_HEIGHT * SCALE, PANEL_WIDTH * SCALE)
    width, height = PANEL_WIDTH - LEFT - RIGHT, PANEL_HEIGHT - TOP - BOTTOM
    for tick in y.ticks:
        at = TOP + height * (1 - float(y.place(np.array(tick))))
        _stroke(picture, np.array([[LEFT, at], [LEFT + width, at]]), FAINT, 1)
        _write(picture, f"{tick:.5g}", (LEFT - 8, at + 4), align=1.0)
    for tick in x.ticks:
        at = LEFT + width * float(x.place(np.array(tick)))
        _stroke(picture, np.array([[at, TOP], [at, TOP + height]]), FAINT, 1)
        _write(picture, f"{tick:g}", (at, TOP + height + 18), align=0.5)
    _stroke(picture, np.array([[LEFT, TOP], [LEFT, TOP + height], [LEFT + width, TOP + height]]), INK, 1)
    shown = canvas.shortened(title, (PANEL_WIDTH - LEFT - RIGHT) * SCALE, TITLE * SCALE)
    _write(picture, shown, (LEFT, TOP - 14), size=TITLE)
    _write(picture, x.name, (LEFT + width / 2, TOP + height + 38), align=0.5)
    for line in lines:
        values = np.stack(
            [LEFT + width * x.place(line.points[0]), TOP + height * (1 - y.place(line.points[1]))], axis=1
        )
        _draw(picture, values, line, marked=len(values) <= MARKED)
    if legend is not None and lines:
        _legend(picture, lines, legend)
    return picture


def finished(panels: Sequence[Sequence[Picture]]) -> Picture:
    """Rows of panels as one figure at its own size."""
    drawn = np.vstack([np.hstack(list(row)) for row in panels])
    size = (drawn.shape[1] // SCALE, drawn.shape[0] // SCALE)
    return np.asarray(cv2.resize(drawn, size, interpolation=cv2.INTER_AREA), np.uint8)


def _legend(picture: Picture, lines: Sequence[Line], corner: Corner) -> None:
    """What each line is, in one corner."""
    most = PANEL_WIDTH - LEFT - RIGHT - 70
    names = [canvas.shortened(line.name, most * SCALE, LABEL * SCALE) for line in lines]
    longest = max(_width(name, LABEL) for name in names)
    left = PANEL_WIDTH - RIGHT - longest - 60 if "right" in corner else LEFT + 12
    top = TOP + 10 if "upper" in corner else PANEL_HEIGHT - BOTTOM - 12 - ROW * len(lines)
    begin = tuple(round(value * SCALE) for value in (left - 4, top - 4))
    end = tuple(round(value * SCALE) for value in (left + longest + 54, top + ROW * len(lines) + 2))
    cv2.rectangle(picture, begin, end, PAPER, -1)
    for row, (line, name) in enumerate(zip(lines, names, strict=True)):
        y = top + ROW * row + 8
        _draw(picture, np.array([[left, y], [left + 39, y]], np.float64), line)
        _write(picture, name, (left + 46, y + 4))


def _draw(picture: Picture, points: NDArray[np.float64], line: Line, *, marked: bool = False) -> None:
    for part in _dashes(points) if line.dashed else [points]:
        _stroke(picture, part, line.colour, 2)
    for x, y in points if marked else ():
        cv2.circle(picture, (round(x * SCALE), round(y * SCALE)), 3 * SCALE, line.colour, -1, cv2.LINE_AA)


def _dashes(points: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """A line cut into dashes of even length along its way."""
    steps = np.hypot(*np.diff(points, axis=0).T)
    way = np.concatenate([[0.0], np.cumsum(steps)])
    parts = []
    for begin in np.arange(0, way[-1], DASH + DASH_GAP):
        at = np.linspace(begin, min(begin + DASH, way[-1]), 4)
        parts.append(np.stack([np.interp(at, way, points[:, axis]) for axis in (0, 1)], axis=1))
    return parts


def _stroke(picture: Picture, points: NDArray[np.float64], colour: Colour, width: int) -> None:
    if np.isfinite(points).all():
        way = (points * SCALE).round().astype(np.int32)
        cv2.polylines(picture, [way], False, colour, width * SCALE, cv2.LINE_AA)


def _write(picture: Picture, text: str, at: tuple[float, float], *, size: int = LABEL, align: float = 0.0) -> None:
    canvas.write(picture, text, (at[0] * SCALE, at[1] * SCALE), size=size * SCALE, align=align)


def _width(text: str, size: int = SMALL) -> float:
    """Width of a text in pixels of the finished picture."""
    return canvas.text_width(text, size * SCALE) / SCALE
