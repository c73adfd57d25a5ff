"""The first convolution of a network, made to fit images with another number of channels than colour has.

Shapes: O filters, I input channels, k x k window.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from xmodal_cli.errors import SettingsError

Stem = Literal["mean", "copy", "random"]
STEMS: tuple[str, ...] = get_args(Stem)


def stem_name(module: nn.Module, channels: int) -> str:
    """The path of the convolution that sees the image: the first that takes this many channels.

    Raises:
        SettingsError: there is none.
    """
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d) and part.in_channels == channels and part.groups == 1:
            return str(name)
    raise SettingsError(
        f"{type(module).__name__} has no first convolution with {channels} input channels.", "Choose another model."
    )


def replace_stem(module: nn.Module, channels: int) -> None:
    """Put a new first convolution for `channels` channels in place of the one for colour images."""
    path = stem_name(module, 3)
    old = module.get_submodule(path)
    assert isinstance(old, nn.Conv2d)
    new = nn.Conv2d(
        channels,
        old.out_channels,
        (old.kernel_size[0], old.kernel_size[1]),
        (old.stride[0], old.stride[1]),
        old.padding if isinstance(old.padding, str) else (old.padding[0], old.padding[1]),
        bias=old.bias is not None,
    )
    parent, _, child = path.rpartition(".")
    setattr(module.get_submodule(parent), child, new)


def adapt_filters(filters: Tensor, channels: int, how: Stem) -> Tensor | None:
    """Filters of a colour stem for another number of channels.

    Filters are scaled by (colour channels / channels): with `mean` an image whose channels are all alike gives the very
    response that a grey image gave, with `copy` one of the same size.

    Args:
        filters: `(O, I, k, k)`.
        channels: wanted.
        how: `mean` gives every channel the mean of the colour filters, `copy` takes them in turn.

    Returns:
        `(O, channels, k, k)`, or None for `random`: the network keeps its random start.

    Example:
        >>> adapt_filters(torch.ones(1, 3, 1, 1), 1, "mean").item()
        3.0
    """
    count = filters.shape[1]
    if how == "mean":
        return filters.mean(1, keepdim=True).repeat(1, channels, 1, 1) * (count / channels)
    if how == "copy":
        taken = filters[:, torch.arange(channels) % count]
        return taken * (count / channels)
    return None
