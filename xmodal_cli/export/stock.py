"""A network as its own library makes it: Python that builds it, and tensors that load into it strictly.

What a run learned ends at a layer. Above it the library's own random start stands in the file, since strict loading
wants every tensor; timm's networks are asked for without a classifier, which leaves most of them nothing above. What
was not learned is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xmodal_cli.errors import XmodalError
from xmodal_cli.models.backbones import Backbone, full_name
from xmodal_cli.models.catalogue import ModelName, parse
from xmodal_cli.models.networks import COLOUR_CHANNELS, create_timm, without_weights
from xmodal_cli.models.stem import replace_stem, stem_name

SLOW_STARTS = ("googlenet", "inception_v3")  # torchvision's, whose own random start takes seconds


@dataclass(frozen=True)
class Network:
    """A plain network of a run.

    Args:
        backbone: the network with the run's weights; the rest of it is random.
        modality: what it sees.
        encoding: how images of this modality were made, as in `dataset.json`.
        layers: that the run reads.
        unlearned: keys of the plain network that the run did not learn.
        image_hw: the size that it was built for, where its architecture wants to know.
    """

    backbone: Backbone
    modality: str
    encoding: Mapping[str, Any]
    layers: tuple[str, ...]
    unlearned: frozenset[str]
    image_hw: tuple[int, int] | None = None

    @property
    def model(self) -> ModelName:
        """Its name, taken apart."""
        return parse(full_name(self.backbone.to_dict()))


@dataclass(frozen=True)
class Stock:
    """A network of a library, and tensors that load into it with `strict=True`.

    Args:
        lines: Python that makes it, as `model`.
        state: its tensors by name.
        unlearned: those of them that nobody taught.
    """

    lines: tuple[str, ...]
    state: Mapping[str, Tensor]
    unlearned: tuple[str, ...]

    def loading(self, file: str) -> str:
        """Python that makes the network and loads a file of its tensors."""
        load = f'model.load_state_dict(load_file("{file}"), strict=True)'
        return "\n".join(["from safetensors.torch import load_file", *self.lines, load, "model.eval()"])


def stock(network: Network) -> Stock:
    """A plain network as its library makes it, without a classifier where the library leaves that out.

    Raises:
        XmodalError: the library makes another network than the run has: a version that renamed its tensors.
    """
    model = network.model
    module, lines, _ = constructor(network)
    state, own = network.backbone.module.state_dict(), module.state_dict()
    if unlike := strangers(state, own):
        raise XmodalError(
            f"{network.backbone.name} of the run and of the installed {model.library} differ in {len(unlike)} "
            f"tensors: {', '.join(unlike[:3])}.",
            f"Install the version of {model.library} that environment.json of the run names.",
        )
    kept = {key: state[key] for key in own}
    return Stock(tuple(lines), kept, tuple(key for key in kept if key in network.unlearned))


def strangers(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Which of the tensors that a network wants are missing among some, or have another shape there."""
    return [key for key, value in wanted.items() if key not in state or state[key].shape != value.shape]


def constructor(network: Network, classes: int = 0) -> tuple[nn.Module, list[str], dict[str, Any]]:
    """A network as its library makes it.

    Args:
        network: which one.
        classes: that it tells apart; 0 leaves timm's without a classifier, and others' as the run has it.

    Returns:
        The module, with weights only where `classes` are given; the Python that makes it, as `model`; and what timm's
        constructor was asked for beside name and channels.
    """
    model, channels = network.model, network.backbone.in_channels
    module: nn.Module = network.backbone.module
    if model.library == "timm":
        return _timm(network, classes)
    if model.library == "torchvision":
        if classes:
            module = _torchvision(model, module, channels, classes)
        return module, _torchvision_lines(model, module, channels, classes), {}
    kind = "STUDENT" if model.entry == "caffenet" else "RGB"
    lines = [f"from xmodal_cli.models.caffenet import {kind}, CaffeNet", f"model = CaffeNet({kind}, {channels})"]
    return module, lines, {}


def _timm(network: Network, classes: int) -> tuple[nn.Module, list[str], dict[str, Any]]:
    model, channels = network.model, network.backbone.in_channels

    def make() -> tuple[nn.Module, dict[str, Any]]:
        return create_timm(model, channels, network.image_hw, num_classes=classes)

    if classes:
        with torch.random.fork_rng(devices=[]):
            module, options = make()
    else:
        module, options = without_weights(make)
    words = [repr(model.plain), "pretrained=False", f"in_chans={channels}"]
    words += [f"{name}={value!r}" for name, value in options.items()]
    lines = ["import timm", f"model = timm.create_model({', '.join(words)})"]
    if "strict_img_size" in options:
        lines.append("model.patch_embed.dynamic_img_pad = True  # images of any size")
        module.patch_embed.dynamic_img_pad = True  # type: ignore[union-attr]
    return module, lines, options


def _torchvision(model: ModelName, own: nn.Module, channels: int, classes: int) -> nn.Module:
    """Torchvision's network for so many classes, with a random start, changed as the run's own is."""
    import torchvision

    with torch.random.fork_rng(devices=[]):
        module: nn.Module = torchvision.models.get_model(model.entry, weights=None, num_classes=classes)
    if channels != COLOUR_CHANNELS:
        replace_stem(module, channels)
    for name, part in own.named_modules():
        if isinstance(part, nn.MaxPool2d):
            module.get_submodule(name).ceil_mode = part.ceil_mode  # type: ignore[assignment]
    return module


def _torchvision_lines(model: ModelName, module: nn.Module, channels: int, classes: int) -> list[str]:
    """The Python that makes torchvision's network as the run has it."""
    start = f", num_classes={classes}" if classes else ""
    start += ", init_weights=False" if model.entry in SLOW_STARTS else ""
    lines = ["import torch", "import torchvision"]
    lines.append(f"model = torchvision.models.get_model({model.entry!r}, weights=None{start})")
    if channels != COLOUR_CHANNELS:
        path = stem_name(module, channels)
        lines.append(f"model.set_submodule({path!r}, {_convolution(module.get_submodule(path))})")
    if model.entry.startswith("vgg"):
        lines += [
            "for part in model.features:",
            "    if isinstance(part, torch.nn.MaxPool2d):",
            "        part.ceil_mode = True  # sizes are rounded up, as Caffe does",
        ]
    return lines


def _convolution(part: nn.Module) -> str:
    """The Python that makes a convolution of the same shape."""
    assert isinstance(part, nn.Conv2d)
    sizes = f"{part.in_channels}, {part.out_channels}, {part.kernel_size}, {part.stride}, {part.padding!r}"
    return f"torch.nn.Conv2d({sizes}, bias={part.bias is not None})"
