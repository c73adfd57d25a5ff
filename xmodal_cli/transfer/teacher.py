"""The frozen teacher: a network in eval mode, without gradients, read at the transfer points."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from xmodal_cli.models.backbones import Backbone
from xmodal_cli.models.layers import Tapped
from xmodal_cli.runs.device import autocast


class Teacher:
    """Gives features of source images; never trained, never saved.

    Args:
        backbone: the network and how it wants its input.
        layers: the layers to read.
        device: where it runs.
        precision: of its forward pass.
    """

    def __init__(self, backbone: Backbone, layers: Sequence[str], device: torch.device, precision: str) -> None:
        self.backbone, self.layers = backbone, list(layers)
        self.device, self.precision = device, precision
        self.tapped = Tapped(backbone, list(dict.fromkeys(layers))).to(device)
        self.tapped.to(memory_format=torch.channels_last)
        self.tapped.eval().requires_grad_(False)

    @torch.no_grad()
    def features(self, images: Tensor) -> list[Tensor]:
        """Features of images.

        Args:
            images: `(N, C, H, W)` as stored, any dtype.

        Returns:
            One tensor `(N, C', h, w)` float32 per layer, in the order of `layers`.
        """
        inputs = self.backbone.input.normalise(images.to(self.device, non_blocking=True))
        with autocast(self.device, self.precision):
            maps = self.tapped(inputs.contiguous(memory_format=torch.channels_last))
        return [maps[layer].float() for layer in self.layers]

    def check(self) -> None:
        """Assert that the teacher is frozen: in eval mode, every part of it, and without gradients."""
        assert not any(module.training for module in self.tapped.modules()), "the teacher left eval mode"
        assert not any(parameter.requires_grad for parameter in self.tapped.parameters()), "the teacher wants gradients"

    @functools.cached_property
    def weights_hash(self) -> str:
        """A SHA-256 over the weights that run and their names, in hexadecimal."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.tapped.kept_state().items()):
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().numpy().tobytes())  # in C order, whatever the memory layout
        return digest.hexdigest()
