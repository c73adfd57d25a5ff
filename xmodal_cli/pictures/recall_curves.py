"""Recall curves of proposals: by number of boxes and by IoU, beside windows that never looked at the image.

One row a split. On the left recall at IoU 0.5 and 0.7 as boxes are added, on a logarithmic axis; on the right recall
with 500 and 2000 boxes as IoU gets stricter. Windows without content are dashed in the same colour, so that what the
method adds is the gap between two lines. Drawn with OpenCV, at twice the size and then halved for smooth lines.

Shapes: `(H, W, 3)` uint8 RGB pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from xmodal_cli.data.images import write_png
from xmodal_cli.detect.propose import SplitRecall
from xmodal_cli.metrics.recall import CURVE_IOUS, IOUS, RecallReport

Picture = NDArray[np.uint8]
Curve = tuple[NDArray[np.float64], NDArray[np.float64]]

SCALE = 2  # drawn at this many times the size
PANEL_WIDTH, PANEL_HEIGHT = 520, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 40, 48  # margins of a panel around its axes
FONT = cv2.FONT_HERSHEY_SIMPLEX
TITLE, LABEL = 0.5, 0.42  # sizes of letters
BACKGROUND, INK, FAINT = (255, 255, 255), (40, 40, 40), (225, 225, 225)
BLUE, ORANGE = (0, 100, 190), (225, 105, 20)  # apart for colour-blind eyes too
DASH, DASH_GAP = 9, 6  # pixels
LINE_COUNTS = (2000, 500)  # boxes of the curves by IoU
COUNT_TICKS = (1, 10, 100, 500, 2000)
IOU_TICKS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
RECALL_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class _Line:
    """One curve: its name, points, colour, and whether it is the control's."""

    name: str
    points: Curve
    colour: tuple[int, int, int]
    dashed: bool


def write_recall_curves(recall: Mapping[str, SplitRecall], name: str, path: Path) -> Path:
    """Draw the recall of proposals and write it as PNG.

    Args:
        recall: by split, at least one.
        name: what the proposals are called.
        path: file to write.

    Returns:
        The path.
    """
    write_png(path, draw_recall_curves(recall, name))
    return path


def draw_recall_curves(recall: Mapping[str, SplitRecall], name: str) -> Picture:
    """Draw the recall of proposals, one row a split.

    Args:
        recall: by split, at least one.
        name: what the proposals are called.

    Returns:
        `(H, W, 3)` uint8 RGB.
    """
    rows = [np.hstack([_by_count(found, name, split), _by_iou(found, name, split)]) for split, found in recall.items()]
    drawn = np.vstack(rows)
    size = (drawn.shape[1] // SCALE, drawn.shape[0] // SCALE)
    return np.asarray(cv2.resize(drawn, size, interpolation=cv2.INTER_AREA), np.uint8)


def _by_count(found: SplitRecall, name: str, split: str) -> Picture:
    lines = [
        _Line(f"{who}, IoU {iou}", _along_counts(report, iou), colour, dashed)
        for iou, colour in zip(IOUS, (BLUE, ORANGE), strict=True)
        for who, report, dashed in ((name, found.proposals, False), ("windows", found.grid, True))
    ]
    lowest, highest = np.log(COUNT_TICKS[0]), np.log(COUNT_TICKS[-1])
    title = f"{split}: {found.proposals.objects} objects in {found.proposals.images} images"
    return _panel(title, "boxes per image", COUNT_TICKS, lambda x: (np.log(x) - lowest) / (highest - lowest), lines)


def _by_iou(found: SplitRecall, name: str, split: str) -> Picture:
    lines = [
        _Line(f"{who}, {count} boxes", (CURVE_IOUS, report.recall[report.counts.index(count)]), colour, dashed)
        for count, colour in zip(LINE_COUNTS, (BLUE, ORANGE), strict=True)
        for who, report, dashed in ((name, found.proposals, False), ("windows", found.grid, True))
    ]
    span = IOU_TICKS[-1] - IOU_TICKS[0]
    return _panel(
        f"{split}: recall as IoU gets stricter",
        "IoU",
        IOU_TICKS,
        lambda x: (np.asarray(x, np.float64) - IOU_TICKS[0]) / span,
        lines,
        legend_right=True,
    )


def _along_counts(report: RecallReport, iou: float) -> Curve:
    return np.array(report.counts, np.float64), np.array([report.at(count, iou) for count in report.counts])


def _panel(
    title: str,
    axis: str,
    ticks: Sequence[float],
    place: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    lines: Sequence[_Line],
    *,
    legend_right: bool = False,
) -> Picture:
    """Axes with curves; `place` maps values of the horizontal axis to 0 (left) ... 1 (right)."""
    picture = np.full((PANEL_HEIGHT * SCALE, PANEL_WIDTH * SCALE, 3), BACKGROUND, np.uint8)
    width, height = PANEL_WIDTH - LEFT - RIGHT, PANEL_HEIGHT - TOP - BOTTOM

    def points(curve: Curve) -> NDArray[np.float64]:
        return np.stack([LEFT + width * place(curve[0]), TOP + height * (1 - curve[1])], axis=1)

    for tick in RECALL_TICKS:
        y = TOP + height * (1 - tick)
        _stroke(picture, np.array([[LEFT, y], [LEFT + width, y]]), FAINT, 1)
        _write(picture, f"{tick:.1f}", (LEFT - 8, y + 4), align=1.0)
    for tick in ticks:
        x = LEFT + width * float(place(np.array(tick, np.float64)))
        _stroke(picture, np.array([[x, TOP], [x, TOP + height]]), FAINT, 1)
        _write(picture, f"{tick:g}", (x, TOP + height + 18), align=0.5)
    _stroke(picture, np.array([[LEFT, TOP], [LEFT, TOP + height], [LEFT + width, TOP + height]]), INK, 1)
    _write(picture, title, (LEFT, TOP - 14), size=TITLE)
    _write(picture, axis, (LEFT + width / 2, TOP + height + 38), align=0.5)
    for line in lines:
        _draw(picture, points(line.points), line)
    _legend(picture, lines, legend_right)
    return picture


def _legend(picture: Picture, lines: Sequence[_Line], right: bool) -> None:
    """What each line is, in the corner that recall curves leave empty."""
    longest = max(_width(line.name, LABEL) for line in lines)
    left = PANEL_WIDTH - RIGHT - longest - 58 if right else LEFT + 12
    top = TOP + 10
    corner = tuple(round(value * SCALE) for value in (left - 4, top - 4))
    end = tuple(round(value * SCALE) for value in (left + longest + 52, top + 18 * len(lines) + 2))
    cv2.rectangle(picture, corner, end, BACKGROUND, -1)
    for row, line in enumerate(lines):
        y = top + 18 * row + 8
        _draw(picture, np.array([[left, y], [left + 39, y]], np.float64), line)
        _write(picture, line.name, (left + 46, y + 4))


def _draw(picture: Picture, points: NDArray[np.float64], line: _Line) -> None:
    for part in _dashes(points) if line.dashed else [points]:
        _stroke(picture, part, line.colour, 2)


def _dashes(points: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """A line cut into dashes of even length along its way."""
    steps = np.hypot(*np.diff(points, axis=0).T)
    way = np.concatenate([[0.0], np.cumsum(steps)])
    parts = []
    for begin in np.arange(0, way[-1], DASH + DASH_GAP):
        at = np.linspace(begin, min(begin + DASH, way[-1]), 4)
        parts.append(np.stack([np.interp(at, way, points[:, axis]) for axis in (0, 1)], axis=1))
    return parts


def _stroke(picture: Picture, points: NDArray[np.float64], colour: tuple[int, int, int], width: int) -> None:
    if np.isfinite(points).all():
        way = (points * SCALE).round().astype(np.int32)
        cv2.polylines(picture, [way], False, colour, width * SCALE, cv2.LINE_AA)


def _write(picture: Picture, text: str, at: tuple[float, float], *, size: float = LABEL, align: float = 0.0) -> None:
    """Text on a base line; `align` 0 begins there, 0.5 is centred, 1 ends there."""
    begin = (round((at[0] - align * _width(text, size)) * SCALE), round(at[1] * SCALE))
    cv2.putText(picture, text, begin, FONT, size * SCALE, INK, SCALE, cv2.LINE_AA)


def _width(text: str, size: float) -> float:
    """Width of a text in pixels of the finished picture."""
    (width, _), _ = cv2.getTextSize(text, FONT, size * SCALE, SCALE)
    return width / SCALE
