"""A trained classifier as its library's own: the run's last layer in the place of the stock model's, where it fits.

A run classifies the mean of a layer's map. Many stock models do the very same with their last map, many do not: layers
stand between, or a norm. Nothing is guessed: the stock model is built, given the weights and asked about an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from xmodal_cli.export.stock import Network, Stock, constructor, strangers
from xmodal_cli.models.classifier import Classifier

ASKED_OF = 2  # random images
RELATIVE, ABSOLUTE = 1e-3, 1e-4  # what the order of additions may change, in multiples of the largest score


def classifying(
    network: Network, classifier: Classifier, head: Mapping[str, Tensor], size_hw: tuple[int, int]
) -> Stock | None:
    """The stock model that gives the classifier's scores; None where the library has none that does.

    Args:
        network: inside the classifier.
        classifier: in eval mode.
        head: its last layer's `weight` (K, C) and `bias` (K,).
        size_hw: of the images it learned from.
    """
    if network.model.library == "xmodal":
        return None
    module, lines, _ = constructor(network, classes=len(head["bias"]))
    name = _last_linear(module)
    if name is None or module.get_submodule(name).get_parameter("weight").shape != head["weight"].shape:
        return None
    own = {f"{name}.{key}": value for key, value in head.items()}
    state = {**network.backbone.module.state_dict(), **own}
    there = module.state_dict()
    if strangers(state, there):
        return None
    state = {key: state[key] for key in there}
    module.load_state_dict(state, strict=True)
    if not _same_scores(module.eval(), classifier, network.backbone.in_channels, size_hw):
        return None
    return Stock(tuple(lines), state, tuple(key for key in state if key in network.unlearned and key not in own))


def _last_linear(module: nn.Module) -> str | None:
    """The path of the linear layer that gives a stock model's scores."""
    asked = getattr(module, "get_classifier", None)  # of timm's networks
    classifier = asked() if callable(asked) else None
    linear = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    if isinstance(classifier, nn.Module):
        linear = [name for name in linear if module.get_submodule(name) is classifier]
    return linear[-1] if linear else None


@torch.no_grad()
def _same_scores(module: nn.Module, classifier: Classifier, channels: int, size_hw: tuple[int, int]) -> bool:
    images = torch.randn(ASKED_OF, channels, *size_hw, generator=torch.Generator().manual_seed(0))
    wanted: Tensor = classifier(images)
    try:
        given: Any = module(images)
    except (RuntimeError, AssertionError, ValueError):
        return False  # the stock model does not take images of that size
    if not isinstance(given, Tensor) or given.shape != wanted.shape:
        return False
    return torch.allclose(given, wanted, rtol=RELATIVE, atol=ABSOLUTE * float(wanted.abs().max()))
