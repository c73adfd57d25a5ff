"""RoIAlign whose gradient is two matrix products on a CPU, where torchvision's adds up one number after the other.

Interpolating a map at the samples of a region is linear, and separable: rows first, then columns. What comes out is
torchvision's own operator; what flows back is the same gradient to rounding, three to five times as fast for the
regions of a training step (benchmarks/roi_align.py).

Shapes: N images, R regions of all images, C channels, h x w cells of the map, S x S cells of a region.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def roi_align(maps: Tensor, boxes: Sequence[Tensor], size: int, samples: int) -> Tensor:
    """The cells of each box, as `torchvision.ops.roi_align` with `aligned=True` gives them.

    Args:
        maps: `(N, C, h, w)` float32.
        boxes: per image `(R_n, 4)` float32 xyxy in cells of the map; the centre of cell i is i + 0.5.
        size: cells per side of a region, S.
        samples: of each cell, per side.

    Returns:
        `(R, C, S, S)` float32, regions in the order of the images.

    Example:
        >>> maps = torch.arange(16.0).view(1, 1, 4, 4)
        >>> roi_align(maps, [torch.tensor([[1.0, 1.0, 2.0, 2.0]])], 1, 2).item()
        5.0
    """
    if maps.device.type != "cpu" or not torch.is_grad_enabled():
        return _aligned(maps, boxes, size, samples)
    cells: Tensor = _RoIAlign.apply(maps, size, samples, *boxes)
    return cells


def _aligned(maps: Tensor, boxes: Sequence[Tensor], size: int, samples: int) -> Tensor:
    """Torchvision's own operator; processes that only read images do not wait for its import."""
    from torchvision.ops import roi_align as operator

    aligned: Tensor = operator(maps, list(boxes), (size, size), 1.0, samples, aligned=True)
    return aligned


def interpolation(low: Tensor, high: Tensor, size: int, samples: int, count: int) -> Tensor:
    """How much each cell of a map's side counts in each cell of a region's side.

    Args:
        low, high: `(R,)` float32, ends of the regions in cells of the map.
        size: cells of a region's side, S.
        samples: of each of them.
        count: n, cells of the map's side.

    Returns:
        `(R, S, n)` float32; rows sum to 1 where all samples are inside the map, or at most a cell beside it.

    Example:
        >>> interpolation(torch.tensor([0.0]), torch.tensor([2.0]), 1, 2, 3)
        tensor([[[0.5000, 0.5000, 0.0000]]])
    """
    steps = (torch.arange(size * samples, device=low.device) + 0.5) / samples
    at = low[:, None] - 0.5 + steps * ((high - low) / size)[:, None]  # (R, S * samples), in centres of cells
    inside = (at >= -1) & (at <= count)
    distance = (at.clamp(0, count - 1)[..., None] - torch.arange(count, device=low.device)).abs()
    weights = (1 - distance).clamp(min=0) * inside[..., None]
    return weights.view(len(low), size, samples, count).mean(2)


class _RoIAlign(torch.autograd.Function):
    """torchvision's values, and the gradient as products of interpolation weights."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, size: int, samples: int, *boxes: Tensor) -> Tensor:
        ctx.save_for_backward(*boxes)
        ctx.maps_shape, ctx.samples = maps.shape, samples
        return _aligned(maps, boxes, size, samples)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Gradients `(R, C, S, S)` of cells to `(N, C, h, w)` of maps; boxes get none."""
        boxes, (_, channels, height, width) = ctx.saved_tensors, ctx.maps_shape
        images = torch.split(gradients[0], [len(each) for each in boxes])
        size, maps = gradients[0].shape[-1], []
        for corners, cells in zip(boxes, images, strict=True):
            across = interpolation(corners[:, 0], corners[:, 2], size, ctx.samples, width)  # (R, S, w)
            down = interpolation(corners[:, 1], corners[:, 3], size, ctx.samples, height)  # (R, S, h)
            with torch.autocast("cpu", enabled=False):
                rows = cells.permute(0, 2, 1, 3).flatten(1, 2) @ across  # (R, S * C, w)
                summed = down.flatten(0, 1).T @ rows.view(-1, channels * width)  # (h, C * w)
            maps.append(summed.view(height, channels, width).transpose(0, 1))
        return torch.stack(maps), *(None,) * (2 + len(boxes))
