"""Which regions of a pair are compared: some proposals, drawn anew in every epoch, seen through the pair's own window.

They depend on (seed, epoch, ID) alone, as everything that is drawn does. Every image gives the same number of them, so
that in the loss, a mean over regions, every image counts the same.

Shapes: M proposals of an image, P regions of it that are compared.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from xmodal_cli.data.pairs import Pairs
from xmodal_cli.data.proposals import Proposals
from xmodal_cli.data.transforms import Draw, generator

BOXES = "boxes"  # name of the regions in a batch
SMALLEST_PART = 0.5  # of a box's area that must lie inside of the window


class PairsWithRegions(Dataset[dict[str, Any]]):
    """Pairs with regions to be compared: `boxes` of a sample is `(P, 4)` float32 xyxy, pixels of the networks' input.

    Args:
        pairs: the images and the geometric draw.
        proposals: of every pair.
        count: P.
        seed: of the draws.
    """

    def __init__(self, pairs: Pairs, proposals: Proposals, count: int, seed: int) -> None:
        self.pairs, self.proposals, self.count, self.seed = pairs, proposals, count, seed

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        sample = self.pairs[key]
        name, window = sample["id"], sample["draw"]
        inside = boxes_in_window(self.proposals.boxes(name), window, self.pairs.data.size_hw(name))
        random = generator(self.seed, key[0], name, "regions")
        sample[BOXES] = torch.from_numpy(chosen(inside, self.count, random))
        return sample


def boxes_in_window(boxes_xyxy: NDArray[np.float32], window: Draw, image_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Boxes of an image as they lie in a window of it, those that mostly do.

    Boxes are clipped to the window; what loses more than half of its area is dropped. Where nothing is left, the window
    itself is the one box.

    Args:
        boxes_xyxy: `(M, 4)` pixels of the image, exclusive ends.
        window: the geometric draw; its borders are rounded to whole pixels, as `apply` does.
        image_hw: height and width of the image.

    Returns:
        `(K, 4)` float32, K at least 1, pixels of what the networks see.

    Example:
        >>> window = Draw(0.5, 0.0, 1.0, 1.0, (100, 100), flipped=True)
        >>> boxes_in_window(np.array([[50, 0, 75, 100], [20, 0, 60, 100]], np.float32), window, (100, 100)).tolist()
        [[50.0, 0.0, 100.0, 100.0]]
    """
    (height, width), (seen_height, seen_width) = image_hw, window.size_hw
    left, right = round(window.left * width), round(window.right * width)
    top, bottom = round(window.top * height), round(window.bottom * height)
    scale_x, scale_y = seen_width / max(right - left, 1), seen_height / max(bottom - top, 1)
    seen = (boxes_xyxy.astype(np.float64) - (left, top, left, top)) * (scale_x, scale_y, scale_x, scale_y)
    if window.flipped:
        seen[:, [0, 2]] = seen_width - seen[:, [2, 0]]
    clipped = seen.clip(0, (seen_width, seen_height, seen_width, seen_height))
    kept = clipped[_area(clipped) >= SMALLEST_PART * _area(seen)]
    whole = np.array([[0, 0, seen_width, seen_height]], np.float64)
    return np.ascontiguousarray(kept if len(kept) else whole, np.float32)


def chosen(boxes_xyxy: NDArray[np.float32], count: int, random: np.random.Generator) -> NDArray[np.float32]:
    """So many boxes: all different while there are enough, else all of them and some again.

    Args:
        boxes_xyxy: `(K, 4)`, K at least 1.
        count: P.
        random: from `generator`.

    Returns:
        `(P, 4)`.

    Example:
        >>> boxes = np.arange(12, dtype=np.float32).reshape(3, 4)
        >>> sorted(chosen(boxes, 4, generator(0, 1, "a"))[:3, 0].tolist())
        [0.0, 4.0, 8.0]
    """
    rounds = -(-count // len(boxes_xyxy))
    order = np.concatenate([random.permutation(len(boxes_xyxy)) for _ in range(rounds)])[:count]
    return np.ascontiguousarray(boxes_xyxy[order])


def _area(boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    left, top, right, bottom = boxes_xyxy.T
    return np.asarray((right - left) * (bottom - top))
