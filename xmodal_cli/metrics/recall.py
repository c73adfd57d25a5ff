"""How many objects proposals cover: recall by number of boxes and by IoU, and windows without content as a control.

As is usual for proposals, each object is covered by its best box, and one box may cover several objects: what is
asked is whether a detector can find the object at all, not whether boxes are unique. Average recall is the mean over
IoU 0.5, 0.55, ..., 0.95 (Hosang et al., "What makes for effective detection proposals?"). A figure says little without
the one that windows get which never looked at an image: `grid_windows`.

Shapes: N boxes of an image, G objects of an image, K numbers of boxes, T values of IoU.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COUNTS = (100, 500, 1000, 2000)  # numbers of boxes that are reported
IOUS = (0.5, 0.7)  # values of IoU that are reported
CURVE_COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 300, 500, 700, 1000, 1500, 2000)
# 0.5 to 1 in steps of 0.025; twentieths among them are the same doubles as the literals (28 / 40 == 0.7).
CURVE_IOUS = np.arange(20, 41) / 40
AVERAGED = slice(0, 20, 2)  # those of CURVE_IOUS that average recall is the mean of: 0.5, 0.55, ..., 0.95

# Windows of the control: neighbours of one shape lie this share of their width and height apart, and sizes are this
# factor apart: a compromise between recall at IoU 0.5 and at 0.7 over the objects of NYUD2's training split.
GRID_STRIDE = 0.48
GRID_SIZE_STEP = 1.8
GRID_WIDEST = 4.0  # largest ratio of the two sides, relative to the image's own
BISECTIONS = 40


@dataclass(frozen=True)
class RecallReport:
    """Recall of the proposals of some images.

    Args:
        images: how many images were looked at.
        objects: how many objects they have; recall is NaN without one.
        boxes_per_image: mean number of proposals.
        counts: `(K,)` numbers of boxes, ascending.
        recall: `(K, T)` share of objects that the best `counts[k]` boxes cover at IoU `CURVE_IOUS[t]` or more.
    """

    images: int
    objects: int
    boxes_per_image: float
    counts: tuple[int, ...]
    recall: Floats = field(repr=False)

    def at(self, count: int, iou: float) -> float:
        """Recall with so many boxes at one IoU of the curve (0.5, 0.525, ..., 1).

        Raises:
            ValueError: the report has no such number of boxes or IoU.
        """
        return float(self.recall[self.counts.index(count), np.abs(CURVE_IOUS - iou).tolist().index(0.0)])

    def average_recall(self, count: int) -> float:
        """Mean recall over IoU 0.5, 0.55, ..., 0.95 with so many boxes."""
        return float(self.recall[self.counts.index(count), AVERAGED].mean())

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the reported figures by number of boxes, and the curves."""
        return {
            "images": self.images,
            "objects": self.objects,
            "boxes_per_image": round(self.boxes_per_image, 1),
            "at": {
                str(count): {
                    **{f"recall_{iou}": round(self.at(count, iou), 4) for iou in IOUS},
                    "average_recall": round(self.average_recall(count), 4),
                }
                for count in COUNTS
            },
            "curves": {
                "counts": list(self.counts),
                "ious": CURVE_IOUS.tolist(),
                "recall": self.recall.round(4).tolist(),
            },
        }


def recall_table(report: RecallReport, control: RecallReport) -> tuple[list[str], list[list[str]]]:
    """The reported figures beside those of the control, as columns and rows.

    Example:
        >>> objects = [np.array([[0, 0, 10, 10]])]
        >>> report = measure_recall([(np.array([[0, 0, 10, 8], [0, 0, 10, 10]]), objects[0])])
        >>> recall_table(report, report)[1][0]
        ['100', '1.000', '1.000', '1.000', '1.000', '1.000', '1.000']
    """
    columns = ["boxes", *(f"at {iou}" for iou in IOUS), "average", *(f"grid at {iou}" for iou in IOUS), "grid average"]
    rows = []
    for count in COUNTS:
        row = [str(count)]
        for each in (report, control):
            row += [f"{value:.3f}" for value in (*(each.at(count, iou) for iou in IOUS), each.average_recall(count))]
        rows.append(row)
    return columns, rows


def measure_recall(
    images: Iterable[tuple[NDArray[Any], NDArray[Any]]], counts: Sequence[int] = CURVE_COUNTS
) -> RecallReport:
    """Measure proposals against objects.

    Args:
        images: for each image its proposals `(N, 4)` best first and its objects `(G, 4)`, both xyxy with exclusive
            ends; N and G may be 0. Crowds are to be left out before.
        counts: numbers of boxes, ascending; where an image has fewer, all of them count.

    Returns:
        The report.

    Example:
        >>> boxes, objects = np.array([[0, 0, 10, 6], [0, 0, 10, 8]]), np.array([[0, 0, 10, 10], [50, 50, 60, 60]])
        >>> report = measure_recall([(boxes, objects)], [1, 2])
        >>> report.at(1, 0.7), report.at(2, 0.7), report.at(2, 0.5)
        (0.0, 0.5, 0.5)
    """
    best, boxes = [], []
    for proposals, objects in images:
        best.append(best_ious(proposals, objects, counts))
        boxes.append(len(proposals))
    covered = np.concatenate(best, axis=1) if best else np.zeros((len(counts), 0))  # (K, sum G)
    shares = [(covered >= iou).mean(axis=1) if covered.size else np.full(len(counts), np.nan) for iou in CURVE_IOUS]
    mean = float(np.mean(boxes)) if boxes else 0.0
    return RecallReport(len(boxes), covered.shape[1], mean, tuple(counts), np.stack(shares, axis=1))


def measure_grid(
    images: Iterable[tuple[tuple[int, int], NDArray[Any]]], counts: Sequence[int] = CURVE_COUNTS
) -> RecallReport:
    """Measure the control: for each number of boxes the grid of so many windows.

    Args:
        images: for each image its height and width, and its objects `(G, 4)` xyxy.
        counts: numbers of windows, ascending.

    Returns:
        The report; its `boxes_per_image` is the largest of `counts`.
    """
    listed = list(images)
    parts = [
        measure_recall(((grid_windows(size_hw, count), objects) for size_hw, objects in listed), [count])
        for count in counts
    ]
    recall = np.concatenate([part.recall for part in parts])
    return RecallReport(len(listed), parts[0].objects, float(max(counts)), tuple(counts), recall)


def best_ious(proposals: NDArray[Any], objects: NDArray[Any], counts: Sequence[int]) -> Floats:
    """How well the best so many proposals cover each object.

    Args:
        proposals: `(N, 4)` xyxy, best first.
        objects: `(G, 4)` xyxy.
        counts: K numbers of boxes.

    Returns:
        `(K, G)` IoU of each object's best box; 0 without boxes.
    """
    if not len(proposals) or not len(objects):
        return np.zeros((len(counts), len(objects)))
    best = np.maximum.accumulate(pairwise_iou(proposals, objects), axis=0)  # (N, G)
    return np.asarray(best[np.minimum(np.array(counts), len(proposals)) - 1])


def pairwise_iou(boxes_xyxy: NDArray[Any], others_xyxy: NDArray[Any]) -> Floats:
    """Intersection over union of every box with every other.

    Args:
        boxes_xyxy: `(N, 4)`.
        others_xyxy: `(G, 4)`.

    Returns:
        `(N, G)` float64; 0 for a pair without area.

    Example:
        >>> pairwise_iou(np.array([[0, 0, 4, 4]]), np.array([[0, 0, 4, 4], [2, 0, 6, 4], [9, 9, 10, 10]])).round(3)
        array([[1.   , 0.333, 0.   ]])
    """
    one, other = np.asarray(boxes_xyxy, np.float64), np.asarray(others_xyxy, np.float64)
    width = np.minimum(one[:, None, 2], other[:, 2]) - np.maximum(one[:, None, 0], other[:, 0])
    height = np.minimum(one[:, None, 3], other[:, 3]) - np.maximum(one[:, None, 1], other[:, 1])
    overlap = np.clip(width, 0, None) * np.clip(height, 0, None)
    area_one, area_other = ((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (one, other))
    union = area_one[:, None] + area_other - overlap
    return np.asarray(np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0))


def grid_windows(size_hw: tuple[int, int], count: int) -> NDArray[np.float32]:
    """Windows that never looked at the image: sizes x shapes x positions, as fine as their number allows.

    Args:
        size_hw: height and width of the image, pixels.
        count: how many windows, at least 1.

    Returns:
        `(count, 4)` float32 xyxy inside the image, the largest first.

    Example:
        >>> grid_windows((60, 80), 1).tolist()
        [[0.0, 0.0, 80.0, 60.0]]
        >>> grid_windows((60, 80), 2000).shape
        (2000, 4)
    """
    height, width = size_hw
    return np.asarray(_unit_windows(count) * np.array([width, height, width, height]), np.float32)


@lru_cache(maxsize=64)
def _unit_windows(count: int) -> Floats:
    """`(count, 4)` windows of an image of width and height 1: the coarsest grid that has enough, thinned evenly."""
    enough, too_few = 0.5 / (GRID_SIZE_STEP * count), 1.0
    for _ in range(BISECTIONS):
        smallest = (enough * too_few) ** 0.5
        if len(_lattice(smallest)) >= count:
            enough = smallest
        else:
            too_few = smallest
    windows = _lattice(enough)
    areas = (windows[:, 2] - windows[:, 0]) * (windows[:, 3] - windows[:, 1])
    ordered = windows[np.argsort(-areas, kind="stable")]
    return np.asarray(ordered[np.linspace(0, len(ordered) - 1, count).round().astype(int)])


def _lattice(smallest: float) -> Floats:
    """`(N, 4)` windows of every size from `smallest` to 1, in every shape that is not too long, at every position."""
    levels = int(np.log(1 / smallest) / np.log(GRID_SIZE_STEP) + 1e-9) + 1
    sides = np.minimum(smallest * GRID_SIZE_STEP ** np.arange(levels), 1.0)
    windows = [np.array([[0.0, 0.0, 1.0, 1.0]])]
    for width in sides:
        for height in sides[np.maximum(sides / width, width / sides) <= GRID_WIDEST]:
            x, y = np.meshgrid(_positions(width), _positions(height))
            corners = np.stack([x.ravel(), y.ravel()], axis=1)
            windows.append(np.hstack([corners, corners + np.array([width, height])]))
    return np.unique(np.concatenate(windows).round(9), axis=0)


def _positions(side: float) -> Floats:
    """Where windows of one width begin: evenly spread, from one edge of the image to the other."""
    count = int(np.ceil((1 - side) / (GRID_STRIDE * side) - 1e-9)) + 1
    return np.linspace(0, 1 - side, count) if count > 1 else np.array([(1 - side) / 2])
