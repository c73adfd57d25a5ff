"""How operations move a grid: where the cells of their output look, given where the cells of their input look.

A `Follower` watches every operation of a forward pass, down to convolutions and paddings inside library code, and keeps
the grid of each tensor that descends from the image. Rules exist for what changes geometry (convolution, pooling,
padding, slicing, resizing); everything else hands on the grid of its largest input. Token merging is done with plain
reshapes that no rule can see: `reconcile` compares the grid with the size that the map really has.

Shapes: N images, C channels, h x w cells; y and x in this order everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from xmodal_cli.models.grid import Grid

MERGES = (1, 2, 4, 8, 16, 32)  # how many cells token merging may have joined per axis: it halves, perhaps repeatedly

aten = torch.ops.aten


def resized(grid: Grid, size_hw: tuple[int, int]) -> Grid:
    """The same extent cut into another number of equal cells: adaptive pooling, interpolation, pixel shuffling.

    Example:
        >>> resized(Grid((8.0, 8.0), (3.5, 3.5), (4, 4)), (2, 4))
        Grid(stride_yx=(16.0, 8.0), first_centre_yx=(7.5, 3.5), size_hw=(2, 4))
    """
    return _scaled(grid, tuple(old / new for old, new in zip(grid.size_hw, size_hw, strict=True)), size_hw)


def reconcile(grid: Grid, size_hw: tuple[int, int]) -> Grid | None:
    """The grid of a map of this size that came from `grid` by merging cells, or None if it cannot have.

    Example:
        >>> reconcile(Grid((4.0, 4.0), (1.5, 1.5), (38, 50)), (19, 25)).stride_yx
        (8.0, 8.0)
    """
    for merge in MERGES:
        if all(math.ceil(old / merge) == new for old, new in zip(grid.size_hw, size_hw, strict=True)):
            return _scaled(grid, (merge, merge), size_hw)
    return None


def _scaled(grid: Grid, ratios: tuple[float, ...], size_hw: tuple[int, int]) -> Grid:
    """Cells joined by `ratios`: the new cell's centre is the middle of those it joins."""
    strides, firsts, fields = [], [], []
    for stride, first, seen, ratio in zip(grid.stride_yx, grid.first_centre_yx, grid.field_hw, ratios, strict=True):
        strides.append(stride * ratio)
        firsts.append(first + stride * (ratio - 1) / 2)
        fields.append(seen + stride * max(0.0, ratio - 1))
    return Grid((strides[0], strides[1]), (firsts[0], firsts[1]), size_hw, (fields[0], fields[1]))


def windowed(
    grid: Grid,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    size_hw: tuple[int, int],
) -> Grid:
    """The grid after a convolution or pooling with these windows.

    Example:
        >>> image = Grid((1.0, 1.0), (0.0, 0.0), (224, 224))
        >>> conv1 = windowed(image, (11, 11), (4, 4), (2, 2), (1, 1), (55, 55))
        >>> conv1.first_centre_yx, conv1.field_hw
        ((3.0, 3.0), (11.0, 11.0))
    """
    strides = tuple(old * new for old, new in zip(grid.stride_yx, stride, strict=True))
    firsts = tuple(
        first + old * (d * (k - 1) / 2 - p)
        for first, old, k, p, d in zip(grid.first_centre_yx, grid.stride_yx, kernel, padding, dilation, strict=True)
    )
    field_h, field_w = (
        seen + old * d * (k - 1)
        for seen, old, k, d in zip(grid.field_hw, grid.stride_yx, kernel, dilation, strict=True)
    )
    return Grid((strides[0], strides[1]), (firsts[0], firsts[1]), size_hw, (field_h, field_w))


class Follower(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the grid of every tensor that descends from an image, and when each weight was first read.

    Args:
        image: `(N, C, H, W)`; its pixels are the units of all grids.
        weights: tensors by name whose first use is recorded.
    """

    def __init__(self, image: Tensor, weights: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        height, width = image.shape[2:]
        self.events = 0
        self.first_use: dict[str, int] = {}
        self._names: dict[int, list[str]] = {}
        for name, tensor in weights.items():
            self._names.setdefault(id(tensor), []).append(name)  # tied weights have several names
        self._grids: dict[int, Grid] = {id(image): Grid((1.0, 1.0), (0.0, 0.0), (height, width))}
        self._alive: list[Tensor] = [image]  # an id stays unique only while its tensor lives

    def grid(self, tensor: Tensor) -> Grid | None:
        """The grid of a tensor, if it descends from the image."""
        return self._grids.get(id(tensor))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and note what it does to grids."""
        out = func(*args, **(kwargs or {}))
        self.events += 1
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for tensor in inputs:
            for name in self._names.get(id(tensor), ()):
                self.first_use.setdefault(name, self.events)
        results = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        grid = self._output_grid(func, args, inputs, results)
        if grid is not None:
            for tensor in results:
                self._grids[id(tensor)] = grid
                self._alive.append(tensor)
        return out

    def _output_grid(self, func: Any, args: Any, inputs: list[Tensor], results: list[Tensor]) -> Grid | None:
        known = [tensor for tensor in inputs if id(tensor) in self._grids]
        if not known or not results:
            return None
        source = known[0]
        rule = RULES.get(func.overloadpacket)
        if rule is not None and source is args[0] and source.ndim == 4:
            grid = reconcile(self._grids[id(source)], (source.shape[2], source.shape[3]))
            if grid is not None:
                return rule(grid, args, (results[0].shape[-2], results[0].shape[-1]))
        return self._inherited(known, results[0])

    def _inherited(self, known: list[Tensor], result: Tensor) -> Grid:
        """The grid of the largest inputs; where several agree in size but not in place, the mean (strided slices)."""
        largest = max(tensor.numel() for tensor in known)
        grids = [self._grids[id(tensor)] for tensor in known if tensor.numel() == largest]
        fitting = [grid for grid in grids if grid.size_hw in (tuple(result.shape[2:]), tuple(result.shape[1:3]))]
        first = (fitting or grids)[0]
        same = [grid for grid in grids if (grid.stride_yx, grid.size_hw) == (first.stride_yx, first.size_hw)]
        centre_y, centre_x = (sum(grid.first_centre_yx[axis] for grid in same) / len(same) for axis in (0, 1))
        alike = [
            self._grids[id(tensor)].field_hw for tensor in known if self._grids[id(tensor)].size_hw == first.size_hw
        ]
        field_hw = max(height for height, _ in alike), max(width for _, width in alike)  # branches see unlike far
        return replace(first, first_centre_yx=(centre_y, centre_x), field_hw=field_hw)


Rule = Callable[[Grid, Any, tuple[int, int]], Grid]


def _convolution(grid: Grid, args: Any, size_hw: tuple[int, int]) -> Grid:
    weight, stride, padding, dilation, transposed = args[1], args[3], args[4], args[5], args[6]
    kernel = (weight.shape[2], weight.shape[3])
    if not transposed:
        return windowed(grid, kernel, _pair(stride), _pair(padding), _pair(dilation), size_hw)
    strides, firsts, fields = [], [], []
    for axis, (step, pad, gap) in enumerate(zip(_pair(stride), _pair(padding), _pair(dilation), strict=True)):
        strides.append(grid.stride_yx[axis] / step)
        middle = gap * (kernel[axis] - 1) / 2 - pad  # output cell at the middle of what input cell 0 writes
        firsts.append(grid.first_centre_yx[axis] - strides[axis] * middle)
        cells = (gap * (kernel[axis] - 1)) // step  # more than one that write to the same output cell
        fields.append(grid.field_hw[axis] + grid.stride_yx[axis] * cells)
    return Grid((strides[0], strides[1]), (firsts[0], firsts[1]), size_hw, (fields[0], fields[1]))


def _pooling(grid: Grid, args: Any, size_hw: tuple[int, int]) -> Grid:
    """Both `max_pool2d(x, kernel, stride, padding, dilation)` and `avg_pool2d(x, kernel, stride, padding, ceil)`."""
    kernel = _pair(args[1])
    stride = _pair(args[2]) if len(args) > 2 and args[2] else kernel
    padding = _pair(args[3]) if len(args) > 3 else (0, 0)
    dilation = _pair(args[4]) if len(args) > 4 and not isinstance(args[4], bool) else (1, 1)
    return windowed(grid, kernel, stride, padding, dilation, size_hw)


def _padding(grid: Grid, args: Any, size_hw: tuple[int, int]) -> Grid:
    left, _, top = (*args[1], 0, 0)[:3]
    return _shifted(grid, (-top, -left), size_hw)


def _slice(grid: Grid, args: Any, size_hw: tuple[int, int]) -> Grid:
    """`slice(x, dim, start, end, step)`, where all but `x` may be left out."""
    given = dict(enumerate(args))
    axis, start, step = given.get(1, 0) % 4 - 2, given.get(2) or 0, given.get(4, 1)
    if axis < 0:
        return grid
    begin = start + grid.size_hw[axis] if start < 0 else start
    moved = _shifted(grid, (begin, 0) if axis == 0 else (0, begin), size_hw)
    stride_y, stride_x = moved.stride_yx
    return replace(moved, stride_yx=(stride_y * step, stride_x) if axis == 0 else (stride_y, stride_x * step))


def _shifted(grid: Grid, cells_yx: tuple[int, int], size_hw: tuple[int, int]) -> Grid:
    centre_y, centre_x = (
        first + stride * cells
        for first, stride, cells in zip(grid.first_centre_yx, grid.stride_yx, cells_yx, strict=True)
    )
    return replace(grid, first_centre_yx=(centre_y, centre_x), size_hw=size_hw)


def _resize(grid: Grid, args: Any, size_hw: tuple[int, int]) -> Grid:
    return resized(grid, size_hw)


def _mean(grid: Grid, args: Any, size_hw: tuple[int, int]) -> Grid:
    over_cells = len(args) > 1 and {dim % 4 for dim in args[1]} == {2, 3}
    return resized(grid, (1, 1)) if over_cells else grid


def _pair(values: Any) -> tuple[int, int]:
    return (values[0], values[-1]) if isinstance(values, list | tuple) else (values, values)


RULES: dict[Any, Rule] = {
    aten.convolution: _convolution,
    aten.max_pool2d_with_indices: _pooling,
    aten.avg_pool2d: _pooling,
    aten.constant_pad_nd: _padding,
    aten.reflection_pad2d: _padding,
    aten.replication_pad2d: _padding,
    aten.slice: _slice,
    aten.mean: _mean,
    aten._adaptive_avg_pool2d: _resize,
    aten.adaptive_max_pool2d: _resize,
    aten.upsample_nearest2d: _resize,
    aten.upsample_bilinear2d: _resize,
    aten.upsample_bicubic2d: _resize,
    aten.pixel_shuffle: _resize,
    aten.pixel_unshuffle: _resize,
}
