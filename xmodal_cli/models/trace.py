"""One forward pass without data: which modules run, in which order, what maps they give, where those maps look.

The network's skeleton is copied onto PyTorch's `meta` device, where tensors have shapes but no memory, so that even a
large network is traced in a fraction of a second, at any image size, whatever device its weights are on.

Shapes: N images, C channels, h x w cells, T tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from xmodal_cli.models.geometry import Follower, reconcile
from xmodal_cli.models.grid import Grid

Layout = Literal["NCHW", "NHWC", "NLC", "NC"]
Structure = tuple[Any, ...]

BATCH = 2  # of the traced image: tells maps from things folded into the batch, such as attention windows
SETTINGS = (bool, int, float, str, tuple, list, type(None))  # kinds of attributes that decide what a module does
MOST_PREFIX_TOKENS = 16  # class, register and distillation tokens before the grid's


@dataclass(frozen=True)
class TracedLayer:
    """What the output of one module is.

    Args:
        name: path of the module.
        channels: of its map.
        grid: its geometry.
        layout: `NCHW` and `NHWC` maps, `NLC` tokens, `NC` one vector per image, seen as a map of one cell.
        prefix: tokens before those of the grid.
        calls: how often the module runs in one pass; its output is that of the last call.
        order: number of the event at which it was done; later is deeper.
        output: identifies the tensor: modules that hand on the same one have the same number.
        kind: class of the module.
    """

    name: str
    channels: int
    grid: Grid
    layout: Layout
    prefix: int
    calls: int
    order: int
    output: int
    kind: str


@dataclass(frozen=True)
class Trace:
    """A traced pass.

    Args:
        layers: modules that give maps, in the order in which they are done.
        done: for every module that ran, the event at which it was done.
        first_use: for every weight that is read, the event of its first use.
    """

    layers: dict[str, TracedLayer]
    done: dict[str, int]
    first_use: dict[str, int]


def trace(module: nn.Module, channels: int, image_hw: tuple[int, int]) -> Trace:
    """Trace a network.

    Args:
        module: the network; it is not touched.
        channels: of its input.
        image_hw: height and width of the input in pixels.

    Raises:
        Exception: whatever the network raises when it cannot take images of that size.
    """
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        return _trace(to_meta(module).eval(), torch.empty(BATCH, channels, *image_hw, device="meta"))


def _trace(skeleton: nn.Module, image: Tensor) -> Trace:
    follower = Follower(image, dict(_named_tensors(skeleton)))
    layers: dict[str, TracedLayer] = {}
    done: dict[str, int] = {}
    calls: dict[str, int] = {}

    def finished(name: str, part: nn.Module, output: Any) -> None:
        follower.events += 1
        done[name] = follower.events
        calls[name] = calls.get(name, 0) + 1
        layers.pop(name, None)
        layer = _layer(name, part, output, follower, image, calls[name]) if isinstance(output, Tensor) else None
        if layer is not None:
            layers[name] = layer

    for name, part in skeleton.named_modules():
        if name:
            part.register_forward_hook(lambda part, args, output, name=name: finished(name, part, output))
    with follower:
        skeleton(image)
    return Trace(layers, done, follower.first_use)


def to_meta(module: nn.Module) -> nn.Module:
    """A copy of a network whose weights have shapes but no memory."""
    memo: dict[int, Any] = {}
    for _, tensor in _named_tensors(module):
        empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    return copy.deepcopy(module, memo)


def structure(module: nn.Module) -> Structure:
    """All that a network's trace can depend on: its modules, their settings, and the shapes of their tensors.

    A module's own description does not do: it leaves out settings, such as how far Swin's windows are shifted.

    Example:
        >>> structure(nn.MaxPool2d(2)) == structure(nn.MaxPool2d(2, ceil_mode=True))
        False
    """
    tensors = [(name, tuple(tensor.shape), tensor.dtype) for name, tensor in _named_tensors(module)]
    parts = [(name, type(part), *_settings(part)) for name, part in module.named_modules(remove_duplicate=False)]
    return (*tensors, *parts)


def _settings(part: nn.Module) -> Iterator[str]:
    for name, value in vars(part).items():
        if name != "training" and not name.startswith("_") and isinstance(value, SETTINGS):
            yield f"{name}={value!r}"


def _named_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _layer(
    name: str, part: nn.Module, output: Tensor, follower: Follower, image: Tensor, calls: int
) -> TracedLayer | None:
    """What a module's output is, or None if it is no map and no vector."""
    tracked = follower.grid(output)
    if tracked is None or output.shape[0] != BATCH or not output.is_floating_point():
        return None
    found = _read_vector(output, image) if output.ndim == 2 else _read_map(output, tracked)
    if found is None:
        return None
    layout, channels, prefix, grid = found
    kind = type(part).__name__
    return TracedLayer(name, channels, grid, layout, prefix, calls, follower.events, id(output), kind)


def _read_vector(output: Tensor, image: Tensor) -> tuple[Layout, int, int, Grid]:
    """One cell that looks at the whole image."""
    height, width = image.shape[2:]
    whole_hw = (float(height), float(width))
    return "NC", output.shape[1], 0, Grid(whole_hw, ((height - 1) / 2, (width - 1) / 2), (1, 1), whole_hw)


def _read_map(output: Tensor, tracked: Grid) -> tuple[Layout, int, int, Grid] | None:
    """Find height and width among the dimensions: exact agreement with the tracked grid first, then merged cells."""
    shape = tuple(output.shape)
    if output.ndim == 3:
        prefix = shape[1] - tracked.size_hw[0] * tracked.size_hw[1]
        return ("NLC", shape[2], prefix, tracked) if 0 <= prefix <= MOST_PREFIX_TOKENS else None
    if output.ndim != 4:
        return None
    sizes: dict[Layout, tuple[int, int]] = {"NCHW": (shape[2], shape[3]), "NHWC": (shape[1], shape[2])}
    channels = {"NCHW": shape[1], "NHWC": shape[3]}
    for layout, size in sizes.items():
        if size == tracked.size_hw:
            return layout, channels[layout], 0, tracked
    for layout, size in reversed(sizes.items()):
        grid = reconcile(tracked, size)
        if grid is not None:
            return layout, channels[layout], 0, grid
    return None
