"""What every picture is drawn with: text in any script, cells beside and above one another, and the colours.

Letters are those of OpenCV's own embedded fonts (OpenCV 5): the same on every machine, in every script that a file name
or a class can have. Colours are those of Okabe and Ito (2008), which colour-blind eyes tell apart.

Shapes: `(H, W, 3)` uint8 RGB pictures; places are x, y in pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

PAPER: Colour = (255, 255, 255)
INK: Colour = (40, 40, 40)
GREY: Colour = (110, 110, 110)
FAINT: Colour = (225, 225, 225)
BLUE: Colour = (0, 114, 178)
ORANGE: Colour = (213, 94, 0)
# Okabe and Ito's colours, the two that stand out least on photographs last.
COLOURS: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    ORANGE,
    BLUE,
)
SMALL, LABEL, TITLE = 11, 13, 16  # sizes of letters, pixels
REGULAR, BOLD = 400, 700  # weights of letters
GAP = 6  # pixels between cells
LINE = 1.45  # height of a line of text in sizes of its letters
LIGHT = 140  # a colour brighter than this (0 to 255) wants dark letters on it


def write(
    picture: Picture,
    text: str,
    at_xy: tuple[float, float],
    *,
    size: int = LABEL,
    colour: Colour = INK,
    align: float = 0.0,
    bold: bool = False,
) -> None:
    """Write a line of text into a picture, in place.

    Args:
        picture: `(H, W, 3)` uint8 RGB.
        text: in any script.
        at_xy: where its base line begins (`align` 0), has its middle (0.5) or ends (1).
        size: of the letters in pixels.
        colour: of the letters.
        align: see `at_xy`.
        bold: whether letters are heavy.
    """
    left = round(at_xy[0] - align * text_width(text, size, bold=bold))
    cv2.putText(picture, text, (left, round(at_xy[1])), colour, _font(), size, BOLD if bold else REGULAR)


def text_width(text: str, size: int = LABEL, *, bold: bool = False) -> int:
    """Width of a line of text in pixels.

    Example:
        >>> text_width("") == 0 < text_width("il") < text_width("WW") < text_width("WW", 26)
        True
    """
    if not text:
        return 0
    left, _, width, _ = cv2.getTextSize((1, 1), text, (0, 0), _font(), size, BOLD if bold else REGULAR)
    return int(left + width)


def shortened(text: str, width: int, size: int = LABEL) -> str:
    """A text that fits a width in pixels: its end gives way to an ellipsis.

    Example:
        >>> shortened("a name", 200), shortened("a very long name indeed", 60)
        ('a name', 'a very lo…')
    """
    if text_width(text, size) <= width:
        return text
    count = len(text)
    while count and text_width(text[:count] + "…", size) > width:
        count -= 1
    return text[:count] + "…"


def ink_on(colour: Colour) -> Colour:
    """Dark or white letters, whichever can be read on a colour.

    Example:
        >>> ink_on((240, 228, 66)), ink_on((0, 114, 178))
        ((20, 20, 20), (255, 255, 255))
    """
    brightness = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]  # ITU-R BT.601
    return (20, 20, 20) if brightness > LIGHT else PAPER


def blank(height: int, width: int, colour: Colour = PAPER) -> Picture:
    """An empty picture."""
    return np.full((height, width, 3), colour, np.uint8)


def caption(text: str, width: int, *, size: int = LABEL, bold: bool = False, colour: Colour = INK) -> Picture:
    """A strip with one line of text, shortened to fit."""
    strip = blank(round(size * LINE), width)
    write(strip, shortened(text, width - 2, size), (1, size * 1.05), size=size, bold=bold, colour=colour)
    return strip


def beside(cells: Sequence[Picture], gap: int = GAP) -> Picture:
    """Cells in a row, upper edges in line.

    Example:
        >>> beside([blank(4, 3), blank(6, 5)], gap=2).shape
        (6, 10, 3)
    """
    height = max(cell.shape[0] for cell in cells)
    parts: list[Picture] = []
    for cell in cells:
        filled = np.vstack([cell, blank(height - cell.shape[0], cell.shape[1])])
        parts += [filled, blank(height, gap)]
    return np.hstack(parts[:-1])


def below(cells: Sequence[Picture], gap: int = GAP) -> Picture:
    """Cells in a column, left edges in line.

    Example:
        >>> below([blank(4, 3), blank(6, 5)], gap=2).shape
        (12, 5, 3)
    """
    width = max(cell.shape[1] for cell in cells)
    parts: list[Picture] = []
    for cell in cells:
        filled = np.hstack([cell, blank(cell.shape[0], width - cell.shape[1])])
        parts += [filled, blank(gap, width)]
    return np.vstack(parts[:-1])


def framed(picture: Picture, margin: int = 12) -> Picture:
    """A picture with an empty margin around it."""
    frame = blank(picture.shape[0] + 2 * margin, picture.shape[1] + 2 * margin)
    frame[margin : margin + picture.shape[0], margin : margin + picture.shape[1]] = picture
    return frame


def resized(picture: NDArray[Any], size_hw: tuple[int, int]) -> Picture:
    """A picture at another size, smooth in both directions."""
    height, width = (max(1, round(side)) for side in size_hw)
    smaller = height < picture.shape[0]
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (width, height), interpolation=how), np.uint8)


def enlarged(picture: Picture, times: int) -> Picture:
    """Every pixel as a square of pixels: filters and maps are looked at cell by cell.

    Example:
        >>> enlarged(blank(2, 3), 4).shape
        (8, 12, 3)
    """
    return np.repeat(np.repeat(picture, times, axis=0), times, axis=1)


@functools.cache
def _font() -> Any:
    """OpenCV's embedded font; it falls back by itself to one with all scripts."""
    return cv2.FontFace("sans")
