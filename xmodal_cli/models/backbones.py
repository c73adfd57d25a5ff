"""Networks by name, ready to use: random, pretrained or from a file.

Published weights are fetched (`downloads`), files are read without running them (`weights`), and whatever is loaded is
recorded in the backbone, down to how a colour stem became one for another number of channels.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from xmodal_cli import files
from xmodal_cli.errors import SettingsError, closest
from xmodal_cli.models.caffe_file import SUFFIX as CAFFE
from xmodal_cli.models.caffe_weights import read_caffe_weights
from xmodal_cli.models.catalogue import ModelName, names, parse
from xmodal_cli.models.downloads import fetch, published
from xmodal_cli.models.inputs import CAFFE_INPUT, InputSpec
from xmodal_cli.models.layers import missing_keys
from xmodal_cli.models.networks import COLOUR_CHANNELS, Backbone, construct, skeleton
from xmodal_cli.models.stem import STEMS, Stem, adapt_filters, stem_name
from xmodal_cli.models.weights import load_file, load_into, without_heads
from xmodal_cli.web.fetch import Watcher

COPIED = "copied"  # where the weights of another network are named

__all__ = ["Backbone", "InputSpec", "build", "full_name", "names", "rebuild", "skeleton"]


def build(
    name: str,
    *,
    weights: Literal["random", "imagenet"] | str | Path | Mapping[str, Tensor] = "random",
    in_channels: int = COLOUR_CHANNELS,
    stem: Stem = "mean",
    image_hw: tuple[int, int] | None = None,
    seed: int = 0,
    through: Sequence[str] = (),
    watch: Watcher = lambda url, done, total: None,
) -> Backbone:
    """Build a network.

    Args:
        name: as in `names()`; see `catalogue`.
        weights: `random`; `imagenet`, the library's published ones (fetched if need be); a file (Caffe's bring an input
            of their own); or tensors by name, which are copied.
        in_channels: of the images it will see.
        stem: how colour weights become those of `in_channels` channels.
        image_hw: only for architectures that are built for one size: that size.
        seed: of the random start; the global random state is not touched.
        through: layers that will be used: weights beyond them may be missing from a file, or have another shape.
        watch: told of a download's size and progress.

    Raises:
        SettingsError: unknown name or stem, or nothing published.
        DataError: a file of weights that is none or does not fit.
        DownloadError: published weights that could not be fetched.

    Example:
        >>> backbone = build("squeezenet1_1", in_channels=1)
        >>> backbone.input.normalise(torch.zeros(1, 1, 64, 64)).shape
        torch.Size([1, 1, 64, 64])
    """
    model = parse(name)
    if stem not in STEMS:
        raise SettingsError(f"Unknown stem {stem!r}; known are {', '.join(STEMS)}.", closest(stem, STEMS) or None)
    caffe = None if isinstance(weights, Mapping) or Path(weights).suffix != CAFFE else Path(weights).expanduser()
    state, origin = (None, "random") if caffe is not None else _read_weights(model, weights, watch)
    with _seeded(seed):
        module, spec = construct(model, in_channels, image_hw)
    if caffe is not None:
        state, origin, spec = read_caffe_weights(caffe, model, module), f"file:{files.sha256(caffe)}", CAFFE_INPUT
    backbone = Backbone(str(model), model.library, module, spec.with_channels(in_channels), in_channels=in_channels)
    if state is None:
        return backbone
    backbone.weights, backbone.keeps_input = origin, caffe is not None
    state = _translated(module, state)
    backbone.stem = _fit_stem(module, state, in_channels, stem)
    optional = _optional_keys(backbone, through)
    source = "another network, copied" if isinstance(weights, Mapping) else weights
    backbone.unloaded = load_into(module, state, f"{source} for {name}", optional)
    return backbone


def full_name(described: Mapping[str, Any]) -> str:
    """The name that builds a card's network again, with its library.

    Example:
        >>> full_name({"name": "alexnet", "library": "torchvision"})
        'torchvision/alexnet'
    """
    name, library = str(described["name"]), described["library"]
    return name if library == "xmodal" or name.startswith(f"{library}/") else f"{library}/{name}"


def rebuild(described: Mapping[str, Any], *, image_hw: tuple[int, int] | None = None, seed: int = 0) -> Backbone:
    """The network that a card describes, with random weights and its own input specification.

    Args:
        described: its `name`, `library`, `in_channels` and `input`.
        image_hw, seed: as in `build`.
    """
    backbone = build(full_name(described), in_channels=described["in_channels"], image_hw=image_hw, seed=seed)
    backbone.input = InputSpec.from_dict(described["input"])
    return backbone


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """A block whose random numbers on the CPU come from a seed, and after which nobody notices."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # unlike torch.manual_seed, leaves the accelerators' states alone
        yield


def _read_weights(
    model: ModelName, weights: str | Path | Mapping[str, Tensor], watch: Watcher
) -> tuple[dict[str, Tensor] | None, str]:
    """Tensors by name (None: random) and what to call them."""
    if isinstance(weights, Mapping):
        return dict(weights), COPIED
    if weights == "random":
        return None, "random"
    if weights == "imagenet":
        tag = published(model).tag
        path = fetch(model, watch)
        return (_read_timm(model, path) if model.library == "timm" else load_file(path)), tag
    path = Path(weights).expanduser()
    state = without_heads(load_file(path))
    return state, f"file:{files.sha256(path)}"


def _read_timm(model: ModelName, path: Path) -> dict[str, Tensor]:
    """Published weights under today's keys: timm itself renames those of files that are older than its code."""
    import timm

    overlay = {"file": str(path)}
    return timm.create_model(model.plain, pretrained=True, pretrained_cfg_overlay=overlay).state_dict()


def _translated(module: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under timm's keys where the file has the authors' instead, or another grid of positions."""
    own = module.state_dict()
    positions = state.get("pos_embed")
    if state.keys() == own.keys() and (positions is None or positions.shape == own["pos_embed"].shape):
        return state
    translate = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)
    if translate is None:
        return state
    try:
        return dict(translate(dict(state), module))
    except (KeyError, RuntimeError, ValueError, IndexError, AttributeError, TypeError):
        return state  # not what the translator knows: the report on loading says what does not fit


def _fit_stem(module: nn.Module, state: dict[str, Tensor], channels: int, stem: Stem) -> str:
    """Make the state's first filters fit `channels` input channels, in place; what was done."""
    key = f"{stem_name(module, channels)}.weight"
    filters = state.get(key)
    if filters is None or filters.ndim != 4 or filters.shape[1] == channels:
        return "own"
    adapted = adapt_filters(filters, channels, stem)
    state[key] = module.state_dict()[key] if adapted is None else adapted
    return stem


def _optional_keys(backbone: Backbone, through: Sequence[str]) -> list[str]:
    """Keys of a network that the layers `through` do not need."""
    if not through:
        return []
    return missing_keys(backbone, through)
