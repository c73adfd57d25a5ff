"""The part of a network that ends at the layers one wants, and their maps.

Only what leads to the last tapped layer is kept and run: later modules are never called, trained or saved. A map is
always handed out as `(N, C, h, w)`, whatever its network calls it inside: channels last, tokens (class and register
tokens dropped), or one vector for the whole image, which is a map of one cell.

Shapes: N images, C channels, H x W pixels, h x w cells, T tokens.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

from torch import Tensor, nn

from xmodal_cli.errors import SettingsError
from xmodal_cli.models.layer_names import module_path, usual_trace
from xmodal_cli.models.networks import Backbone
from xmodal_cli.models.trace import Trace, TracedLayer


class _ReachedError(Exception):
    """No failure: the last tapped layer is there, and nothing after it need run."""


class Tapped(nn.Module):
    """A network cut after the last of the layers one wants.

    It shares its weights with `backbone.module` until it is copied; `deepcopy` gives it weights of its own.

    Args:
        backbone: the network.
        layer_names: paper's names or module paths, at least one.
        whole: run the network to its end all the same, uncut, for exporters that cannot follow one that stops midway.

    Raises:
        SettingsError: no layer is named, or there is no such layer.

    Example:
        >>> import torch
        >>> from xmodal_cli.models.backbones import build
        >>> tapped = Tapped(build("squeezenet1_1"), ["features.5", "features"])
        >>> {name: tuple(maps.shape) for name, maps in tapped(torch.zeros(1, 3, 64, 96)).items()}
        {'features.5': (1, 128, 7, 11), 'features': (1, 512, 3, 5)}
    """

    def __init__(self, backbone: Backbone, layer_names: Sequence[str], *, whole: bool = False) -> None:
        super().__init__()
        if not layer_names:
            raise SettingsError("No layer is named.", f"`xmodal layers {backbone.name}` lists them.")
        traced = usual_trace(backbone)
        paths = {name: module_path(backbone, name) for name in layer_names}
        self.taps: dict[str, TracedLayer] = {name: traced.layers[path] for name, path in paths.items()}
        self.last = max(self.taps.values(), key=lambda layer: layer.order)
        self.whole = whole
        self.network = backbone.module if whole else _part_through(backbone.module, traced, self.last)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The maps of the tapped layers.

        Args:
            images: `(N, C, H, W)`, normalised as `InputSpec.normalise` does.

        Returns:
            One map `(N, C', h, w)` per layer, by the names given.
        """
        outputs: dict[str, Tensor] = {}
        calls: dict[str, int] = {}

        def keep(path: str, calls_wanted: int, output: Tensor) -> None:
            calls[path] = calls.get(path, 0) + 1
            if path != self.last.name or self.whole:
                outputs[path] = output.clone()  # what follows may work in place
            elif calls[path] == calls_wanted:
                outputs[path] = output
                raise _ReachedError

        handles = [
            self.network.get_submodule(layer.name).register_forward_hook(
                lambda part, args, output, layer=layer: keep(layer.name, layer.calls, output)
            )
            for layer in {layer.name: layer for layer in self.taps.values()}.values()
        ]
        try:
            self.network(images)
        except _ReachedError:
            pass
        finally:
            for handle in handles:
                handle.remove()
        size = (images.shape[2], images.shape[3])
        return {name: _as_map(outputs[layer.name], layer, size) for name, layer in self.taps.items()}

    def kept_state(self) -> dict[str, Tensor]:
        """The parameters and buffers of the part that runs, under the plain model's keys."""
        return dict(self.network.state_dict())


def _part_through(module: nn.Module, traced: Trace, last: TracedLayer) -> nn.Module:
    """A copy of the network's structure that shares its weights and lacks everything that runs after a layer."""
    shared = [*module.parameters(), *module.buffers()]
    part = copy.deepcopy(module, {id(tensor): tensor for tensor in shared})
    needed = {name for name, event in traced.first_use.items() if event <= last.order}
    for path, owner in list(part.named_modules()):
        own = [*owner._parameters, *owner._buffers]
        used = {name for name in own if _joined(path, name) in needed}
        for name in set(owner._parameters) - used:
            owner._parameters[name] = None
        if not used and traced.done.get(path, math.inf) > last.order:
            for name in owner._buffers:
                owner._buffers[name] = None
    return part


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _as_map(output: Tensor, layer: TracedLayer, image_hw: tuple[int, int]) -> Tensor:
    """A layer's output as `(N, C, h, w)`."""
    if layer.layout == "NCHW":
        return output
    if layer.layout == "NHWC":
        return output.permute(0, 3, 1, 2)
    if layer.layout == "NC":
        return output[:, :, None, None]
    tokens = output[:, layer.prefix :]  # (N, T, C)
    height, width = token_grid(tokens.shape[1], image_hw, layer.grid.stride_yx)
    return tokens.transpose(1, 2).reshape(len(tokens), -1, height, width)


def token_grid(count: int, image_hw: tuple[int, int], stride_yx: tuple[float, float]) -> tuple[int, int]:
    """Rows and columns of the grid that so many tokens came from: whole patches, or the last ones padded.

    Example:
        >>> token_grid(130, (152, 200), (16, 16))
        (10, 13)
    """
    for round_ in (math.ceil, math.floor, round):
        rows, columns = (round_(size / stride) for size, stride in zip(image_hw, stride_yx, strict=True))
        if rows * columns == count:
            return rows, columns
    raise SettingsError(
        f"{count} tokens are no grid over an image of {image_hw[0]}x{image_hw[1]}.",
        "Use a size that is a multiple of the patch size.",
    )
