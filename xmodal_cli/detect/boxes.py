"""Overlaps of boxes, and box regression as the paper's code does it: targets, and boxes from them (recipe 4.3).

A box's width is x2 - x1 between its first and its last pixel. Boxes here end behind their last pixel, so one is taken
off the ends before, and put back after.

Shapes: R regions.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-14  # added to widths and heights of the original, so that boxes of one pixel do not divide by zero
LARGEST = 20.0  # of a log ratio: exp(20) pixels are beyond every image, to which boxes are clipped


def encode(boxes_xyxy: Tensor, targets_xyxy: Tensor) -> Tensor:
    """The deltas that turn boxes into their targets.

    Args:
        boxes_xyxy, targets_xyxy: `(R, 4)` float, pixels, exclusive ends; boxes of one pixel's width have no finite
            delta to another width.

    Returns:
        `(R, 4)` of the inputs' dtype: shift of the centre in widths and heights, logarithms of the ratios of the sizes.

    Example:
        >>> encode(torch.tensor([[0.0, 0.0, 11.0, 11.0]]), torch.tensor([[5.0, 0.0, 16.0, 11.0]])).tolist()
        [[0.5, 0.0, 0.0, 0.0]]
    """
    centres, sizes = _centres_and_sizes(boxes_xyxy)
    wanted_centres, wanted_sizes = _centres_and_sizes(targets_xyxy)
    return torch.cat([(wanted_centres - centres) / sizes, torch.log(wanted_sizes / sizes)], 1)


def decode(boxes_xyxy: Tensor, deltas: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Boxes moved by deltas, clipped to their image.

    Args:
        boxes_xyxy: `(R, 4)` float, pixels, exclusive ends.
        deltas: `(R, 4)` or, by class, `(R, K, 4)`.
        size_hw: height and width of the image.

    Returns:
        Boxes in the shape of `deltas`; each at least one pixel in size.
    """
    limit = torch.tensor([size_hw[1] - 1.0, size_hw[0] - 1.0], dtype=boxes_xyxy.dtype, device=boxes_xyxy.device)
    return decode_within(boxes_xyxy, deltas, limit)


def decode_within(boxes_xyxy: Tensor, deltas: Tensor, last_pixel_xy: Tensor) -> Tensor:
    """As `decode`, for an image whose last pixel `(2,)` is a tensor: its size need not be known before."""
    centres, sizes = _centres_and_sizes(boxes_xyxy)
    if deltas.ndim == 3:
        centres, sizes = centres[:, None], sizes[:, None]
    moved = centres + deltas[..., :2] * sizes
    half = 0.5 * sizes * torch.exp(deltas[..., 2:].clamp(max=LARGEST))
    first = torch.minimum((moved - half).clamp(min=0), last_pixel_xy)
    last = torch.minimum((moved + half).clamp(min=0), last_pixel_xy)
    return torch.cat([first, last + 1], -1)


def overlaps(boxes_xyxy: Tensor, others_xyxy: Tensor) -> Tensor:
    """Intersection over union of every box with every other one.

    Torchvision's has the same bits; the processes that read images need no torchvision and start in half the time.

    Args:
        boxes_xyxy: `(R, 4)` float32, exclusive ends.
        others_xyxy: `(G, 4)` likewise.

    Returns:
        `(R, G)` float32.

    Example:
        >>> overlaps(torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([[2.0, 0.0, 6.0, 4.0]]))
        tensor([[0.3333]])
    """
    first = torch.maximum(boxes_xyxy[:, None, :2], others_xyxy[:, :2])
    last = torch.minimum(boxes_xyxy[:, None, 2:], others_xyxy[:, 2:])
    shared = (last - first).clamp(min=0).prod(2)
    areas, other_areas = ((each[:, 2:] - each[:, :2]).prod(1) for each in (boxes_xyxy, others_xyxy))
    return shared / (areas[:, None] + other_areas - shared)


def mirrored(boxes_xyxy: Tensor, width: float) -> Tensor:
    """Boxes of an image mirrored left to right.

    Example:
        >>> mirrored(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), 10).tolist()
        [[8.0, 1.0, 10.0, 3.0]]
    """
    left, top, right, bottom = boxes_xyxy.unbind(1)
    return torch.stack([width - right, top, width - left, bottom], 1)


def _centres_and_sizes(boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    first, last = boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - 1
    sizes = last - first + EPSILON
    return first + 0.5 * sizes, sizes
