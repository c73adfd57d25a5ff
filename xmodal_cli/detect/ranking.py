"""What makes a box look like an object, as a few dozen cheap numbers, and the choice of the best boxes that differ.

The score is linear in the numbers, so that each weight can be read. They are what the literature found to tell objects
from parts and from background: a box that stands out from its surroundings (Alexe et al., PAMI 2012), whose outline
lies on edges and is crossed by few (EdgeBoxes, Zitnick and Dollar, ECCV 2014), whose region lives long in its tree and
is found by many trees (MCG, Arbelaez et al., CVPR 2014), nearer than what is around it (Gupta et al., ECCV 2014).
All come from summed-area tables, so that a box costs the same at any size.

Shapes: h x w is the working size, C channels, N boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import nms

from xmodal_cli.detect.grouping_trees import Candidates

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

RING = 0.15  # width of the ring around a box that counts as its surroundings, of the box's sides
LEAST_RING_PX = 2
OUTLINE_PX = 1  # an edge this far from a side, in working pixels, still lies on it
STRONGEST = 20.0  # a stronger edge counts as this one: one bright lamp is no better than one plain outline
CELL = 1.25  # boxes whose sides and centres agree within about this factor are one find of several trees
NEARER_LIMIT = 50.0  # per cent of depth; beyond it further is not more telling
RANKED_GROUPS = ("colour", "depth", "height", "angle")
SQUARED = ("size", "aspect", "top", "bottom", "birth", "nearer", "voters")


def measure(candidates: Candidates, channels: Mapping[str, Floats]) -> dict[str, Floats]:
    """Describe every candidate by named numbers, which `score` weighs.

    Args:
        candidates: boxes in working pixels, inside the image, no side below one pixel.
        channels: `(h, w, C)` by group.

    Returns:
        `(N,)` float32 by name; what needs a group that is not there is left out.
    """
    size_hw = next(iter(channels.values())).shape[:2]
    boxes = candidates.boxes.round().astype(np.int64)
    found = {**_geometry(boxes, size_hw), **_region(candidates, boxes)}
    for group in RANKED_GROUPS:
        if group in channels:
            found.update(_surroundings(boxes, channels[group], group))
            found.update(_outline(boxes, channels[group], group))
    found.update({f"{name}_squared": found[name] ** 2 for name in SQUARED if name in found})
    return {name: np.asarray(values, np.float32) for name, values in found.items()}


def score(measured: Mapping[str, Floats], weights: Mapping[str, float]) -> Doubles:
    """How much each box looks like an object: the weighted sum of what was measured; only the order means something.

    Example:
        >>> score({"size": np.float32([-1.0, -3.0])}, {"size": 0.5, "colour_edge": 1.0}).tolist()
        [-0.5, -1.5]
    """
    count = len(next(iter(measured.values())))
    total = np.zeros(count)
    for name, values in measured.items():
        total += weights.get(name, 0.0) * values.astype(np.float64)
    return total


def diversify(
    boxes: Floats, scores: Doubles, overlaps: Sequence[float], counts: Sequence[int], considered: int
) -> Ints:
    """The order in which to give boxes: the best first, at first very different ones, later ones ever closer to them.

    Args:
        boxes: `(N, 4)` float32.
        scores: `(N,)`, higher is better; equal ones stay in the order given.
        overlaps: IoU above which the better of two boxes suppresses the other, one per stage, growing.
        counts: how many boxes there may be after each stage.
        considered: only so many of the best are looked at.

    Returns:
        `(M,)` int64 indices, M <= the last count.

    Example:
        >>> boxes = np.float32([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]])
        >>> diversify(boxes, np.array([3.0, 2.0, 1.0]), overlaps=(0.7, 0.95), counts=(2, 3), considered=9).tolist()
        [0, 2, 1]
    """
    order = np.argsort(-scores, kind="stable")[:considered]
    best = torch.from_numpy(np.ascontiguousarray(boxes[order]))
    taken = np.zeros(len(order), np.bool_)
    chosen: list[Ints] = []
    for overlap, count in zip(overlaps, counts, strict=True):
        wanted = max(0, count - int(taken.sum()))
        fresh = _suppressed(best, taken, overlap, wanted)
        taken[fresh] = True
        chosen.append(order[fresh])
    return np.concatenate(chosen) if chosen else np.zeros(0, np.int64)


def _suppressed(best: torch.Tensor, taken: NDArray[np.bool_], overlap: float, wanted: int) -> Ints:
    """The first so many boxes, not yet taken, that survive suppression by better ones.

    What survives among the first boxes does not depend on later ones, so few are looked at first, and more if needed.
    """
    reach = 2 * (int(taken.sum()) + wanted)
    while True:
        falling = torch.arange(min(reach, len(best)), 0, -1, dtype=torch.float32)
        kept: Ints = nms(best[: len(falling)], falling, overlap).numpy()
        fresh = kept[~taken[kept]][:wanted]
        if len(fresh) == wanted or reach >= len(best):
            return fresh
        reach *= 2


def _geometry(boxes: Ints, size_hw: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    """Size, shape and place, relative to the image."""
    height, width = size_hw
    across, down = _sides(boxes)
    return {
        "size": np.log(across * down / (height * width)),
        "aspect": np.log(across / down),
        "off_centre": np.abs((boxes[:, 0] + boxes[:, 2]) / (2.0 * width) - 0.5),
        "top": boxes[:, 1] / height,
        "bottom": boxes[:, 3] / height,
        "touches_sides": (boxes[:, 0] <= 0) * 1.0 + (boxes[:, 2] >= width),
        "touches_top": boxes[:, 1] <= 0,
        "touches_bottom": boxes[:, 3] >= height,
    }


def _region(candidates: Candidates, boxes: Ints) -> dict[str, NDArray[Any]]:
    """What the trees tell: how full the box is, how long its region lived, how many trees found about the same box."""
    across, down = _sides(boxes)
    level_x, level_y = (np.round(np.log(side) / np.log(CELL)).astype(np.int64) for side in (across, down))
    step_x, step_y = (0.2 * CELL**level for level in (level_x, level_y))
    column = np.round((boxes[:, 0] + boxes[:, 2]) / 2.0 / step_x).astype(np.int64)
    row = np.round((boxes[:, 1] + boxes[:, 3]) / 2.0 / step_y).astype(np.int64)
    cell = ((level_x << 44) | (level_y << 36) | (column << 18) | row) & np.int64(2**62 - 1)
    _, cell = np.unique(cell, return_inverse=True)
    _, tree = np.unique(candidates.kind // 2, return_inverse=True)
    trees = int(tree.max()) + 1
    found = np.unique(cell * trees + tree) // trees
    voters = np.bincount(found, minlength=int(cell.max()) + 1)[cell]
    return {
        "fill": candidates.area / (across * down),
        "joined": candidates.kind % 2,
        "birth": candidates.birth,
        "death": candidates.death,
        "voters": voters / trees,
    }


def _surroundings(boxes: Ints, image: Floats, group: str) -> dict[str, NDArray[Any]]:
    """How a box differs from a ring around it, alone and against its own variation."""
    table = _Table(np.concatenate([image, np.sum(image**2, axis=2, keepdims=True)], axis=2))
    area = _area(boxes)[:, None]
    outer = _grown(boxes, image.shape[:2])
    ring = np.maximum(_area(outer)[:, None] - area, 0.0)
    inside, around = table(boxes), table(outer)
    mean = inside / area
    beyond = np.where(ring > 0, (around - inside) / np.maximum(ring, 1.0), mean)
    apart = np.linalg.norm(mean[:, :-1] - beyond[:, :-1], axis=1)
    spread = np.sqrt(np.maximum(mean[:, -1] - np.sum(mean[:, :-1] ** 2, axis=1), 0.0))
    found: dict[str, NDArray[Any]] = {
        f"{group}_ring": np.log1p(apart),
        f"{group}_spread": np.log1p(spread),
        f"{group}_ratio": apart / (apart + spread + 1.0),
    }
    if group == "depth":
        found["nearer"] = np.clip(beyond[:, 0] - mean[:, 0], -NEARER_LIMIT, NEARER_LIMIT) / NEARER_LIMIT
    if group == "height":
        found["height_mean"] = mean[:, 0] / 100.0
    return found


def _outline(boxes: Ints, image: Floats, group: str) -> dict[str, NDArray[Any]]:
    """Edges along a box's sides, the weakest of the four, edges across its sides, inside and around."""
    height, width = image.shape[:2]
    edges = np.zeros((height, width, 2), np.float32)
    edges[:, 1:, 0] = np.sqrt(np.sum(np.diff(image, axis=1) ** 2, axis=2))
    edges[1:, :, 1] = np.sqrt(np.sum(np.diff(image, axis=0) ** 2, axis=2))
    table = _Table(np.minimum(edges, STRONGEST))
    across, down = _sides(boxes)
    along, crossing = [], []
    for side in range(4):  # left, top, right, bottom
        axis = side % 2
        strip = boxes.copy()
        strip[:, axis] = boxes[:, side] - OUTLINE_PX
        strip[:, axis + 2] = boxes[:, side] + OUTLINE_PX + 1
        sums = table(_clipped(strip, (height, width))) / (down, across)[axis][:, None]
        along.append(sums[:, axis])
        crossing.append(sums[:, 1 - axis])
    outer = _grown(boxes, (height, width))
    inside, around = table(boxes).sum(axis=1), table(outer).sum(axis=1)
    return {
        f"{group}_edge": np.log1p(np.mean(along, axis=0)),
        f"{group}_weakest": np.log1p(np.min(along, axis=0)),
        f"{group}_crossing": np.log1p(np.mean(crossing, axis=0)),
        f"{group}_inside": np.log1p(inside / _area(boxes)),
        f"{group}_around": np.log1p(np.maximum(around - inside, 0.0) / np.maximum(_area(outer) - _area(boxes), 1.0)),
    }


class _Table:
    """Sums of the channels of an image over boxes."""

    def __init__(self, image: Floats) -> None:
        planes = [np.ascontiguousarray(image[:, :, c]) for c in range(image.shape[2])]
        self.columns = image.shape[1] + 1
        self.sums = np.stack([cv2.integral(plane, sdepth=cv2.CV_64F) for plane in planes], axis=2)
        self.sums = self.sums.reshape(-1, image.shape[2])

    def __call__(self, boxes: Ints) -> Doubles:
        """`(N, C)` float64 sums over boxes inside the image."""
        left, top, right, bottom = boxes.T
        upper, lower = top * self.columns, bottom * self.columns
        total = self.sums[lower + right]
        total -= self.sums[upper + right]
        total -= self.sums[lower + left]
        total += self.sums[upper + left]
        return np.asarray(total, np.float64)


def _sides(boxes: Ints) -> tuple[Doubles, Doubles]:
    return (boxes[:, 2] - boxes[:, 0]).astype(np.float64), (boxes[:, 3] - boxes[:, 1]).astype(np.float64)


def _area(boxes: Ints) -> Doubles:
    across, down = _sides(boxes)
    return across * down


def _grown(boxes: Ints, size_hw: tuple[int, ...]) -> Ints:
    """Boxes with their surroundings, as far as the image reaches."""
    margins = [np.maximum(LEAST_RING_PX, np.round(side * RING)).astype(np.int64) for side in _sides(boxes)]
    return _clipped(boxes + np.stack([-margins[0], -margins[1], margins[0], margins[1]], axis=1), size_hw)


def _clipped(boxes: Ints, size_hw: tuple[int, ...]) -> Ints:
    return np.clip(boxes, 0, np.array([size_hw[1], size_hw[0]] * 2))
