"""Networks by name, with their random start, for any number of channels and whole images of any size.

A backbone is the plain model of its library with its own keys, so that what is learned here loads there. Three things
are changed, none of which touches a key: VGG pools with sizes rounded up, as Caffe does and the paper's VGG16 did
(recipe 3.1); transformers take images of any size, position embeddings interpolated, the last patches padded; AlexNet
and VGG start from He's normal weights, since their library's own start shrinks signals layer by layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from xmodal_cli.models.caffenet import RGB, STUDENT, CaffeNet
from xmodal_cli.models.catalogue import Library, ModelName, parse
from xmodal_cli.models.inputs import CAFFE_INPUT, InputSpec
from xmodal_cli.models.stem import replace_stem
from xmodal_cli.models.trace import Trace

Module = TypeVar("Module", bound=nn.Module)
Made = TypeVar("Made")

COLOUR_CHANNELS = 3
# How timm's architectures are asked to take images of any size; the first that a constructor knows is used.
ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False})


@dataclass
class Backbone:
    """A network and what one must know to feed it.

    Args:
        name: canonical name; `build(name)` makes it again.
        library: who defines it.
        module: the plain, whole model with its library's keys.
        input: what it wants to be fed.
        weights: what was loaded: `random`, `file:<sha256>`, `torchvision:<tag>` or `timm:<tag>`.
        in_channels: of its input.
        stem: how a colour stem became one for `in_channels` channels; `own` where nothing had to be changed.
        unloaded: keys that the weights did not have, where that was allowed.
        traces: what is known of its layers, by image size; filled when asked for.
        keeps_input: whether the weights want this input whatever the modality: those of a Caffe file expect 0 to 255.
        usual_hw: the image size at which its layers are told apart; found when asked for.
    """

    name: str
    library: Library
    module: nn.Module
    input: InputSpec
    weights: str = "random"
    in_channels: int = COLOUR_CHANNELS
    stem: str = "own"
    unloaded: list[str] = field(default_factory=list)
    traces: dict[tuple[int, int], Trace] = field(default_factory=dict, repr=False, compare=False)
    keeps_input: bool = field(default=False, repr=False, compare=False)
    usual_hw: tuple[int, int] | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """What a card says of it; `backbones.rebuild` makes the network again, with random weights."""
        return {
            "name": self.name,
            "library": self.library,
            "in_channels": self.in_channels,
            "input": self.input.to_dict(),
            "weights": self.weights,
            "stem": self.stem,
        }


def skeleton(name: str, *, image_hw: tuple[int, int] | None = None) -> Backbone:
    """A network without weights, in a fraction of the time: enough to ask for its layers."""
    model = parse(name)
    module, spec = without_weights(lambda: construct(model, COLOUR_CHANNELS, image_hw))
    return Backbone(str(model), model.library, module, spec, weights="none")


def without_weights(make: Callable[[], Made]) -> Made:
    """What `make` makes, on PyTorch's `meta` device where its constructor can; the random state is not touched."""
    try:
        with torch.device("meta"):
            return make()
    except NotImplementedError:  # a constructor that computes with its random weights
        with torch.random.fork_rng(devices=[]):
            return make()


def construct(model: ModelName, channels: int, image_hw: tuple[int, int] | None) -> tuple[nn.Module, InputSpec]:
    """The module with its random start, and what its published weights want to be fed (three channels)."""
    if model.library == "xmodal":
        caffenet = _undrawn(lambda: CaffeNet(STUDENT if model.entry == "caffenet" else RGB, channels))
        caffenet.fill()
        return caffenet, CAFFE_INPUT
    if model.library == "timm":
        return _construct_timm(model, channels, image_hw)
    return _construct_torchvision(model, channels)


def _undrawn(make: Callable[[], Module]) -> Module:
    """What `make` gives, its tensors without values: a start that is drawn anew takes seconds in a large network."""
    device = torch.empty(0).device  # of the skeleton, where one is made
    with torch.device("meta"):
        module = make()
    return module.to_empty(device=device)


def _construct_torchvision(model: ModelName, channels: int) -> tuple[nn.Module, InputSpec]:
    import torchvision

    def make() -> nn.Module:
        extra = {"init_weights": False} if model.entry in ("googlenet", "inception_v3") else {}
        made: nn.Module = torchvision.models.get_model(model.entry, weights=None, **extra)
        return made

    starts_anew = model.entry.startswith(("alexnet", "vgg"))
    module = _undrawn(make) if starts_anew else make()
    if channels != COLOUR_CHANNELS:
        replace_stem(module, channels)
    if starts_anew:
        module.apply(_he_start)
    if model.entry.startswith("vgg"):
        for part in module.modules():
            if isinstance(part, nn.MaxPool2d):
                part.ceil_mode = True
    return module, InputSpec()


def _he_start(part: nn.Module) -> None:
    if isinstance(part, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(part.weight, mode="fan_in", nonlinearity="relu")
        if part.bias is not None:
            nn.init.zeros_(part.bias)
    elif isinstance(part, _BatchNorm):
        part.reset_parameters()


def _construct_timm(model: ModelName, channels: int, image_hw: tuple[int, int] | None) -> tuple[nn.Module, InputSpec]:
    module, _ = create_timm(model, channels, image_hw)
    patches = getattr(module, "patch_embed", None)
    if getattr(patches, "strict_img_size", True) is False:
        patches.dynamic_img_pad = True  # type: ignore[union-attr]
    config = module.pretrained_cfg
    return module, InputSpec(tuple(config["mean"]), tuple(config["std"]))  # type: ignore[index]


def create_timm(
    model: ModelName, channels: int, image_hw: tuple[int, int] | None, **more: Any
) -> tuple[nn.Module, dict[str, Any]]:
    """Timm's own network with its random start, and what its constructor was asked for beside name and channels.

    Args:
        model: the network.
        channels: of its input.
        image_hw: only for architectures that are built for one size: that size.
        more: other arguments of timm's.
    """
    import timm

    fixed = [{"img_size": image_hw}] if image_hw else []
    create: Callable[..., nn.Module] = timm.create_model
    for options in (*ANY_SIZE, *fixed, {}):
        try:
            return create(model.plain, pretrained=False, in_chans=channels, **options, **more), {**options, **more}
        except TypeError:  # the constructor does not know this option
            if not options:
                raise
    raise AssertionError("the last try returns or raises")
