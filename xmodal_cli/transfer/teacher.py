"""The frozen teacher: a network in eval mode, without gradients, read at the transfer points."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from xmodal_cli.models.backbones import Backbone
from xmodal_cli.runs.device import autocast
from xmodal_cli.transfer.regions import read, tap


class Teacher:
    """Gives features of source images; never trained, never saved.

    Args:
        backbone: the network and how it wants its input.
        layers: the layers to read.
        device: where it runs.
        precision: of its forward pass.
        regions_hw: size of the input where fc6 and fc7 are read on regions; None reads whole images.
    """

    def __init__(
        self,
        backbone: Backbone,
        layers: Sequence[str],
        device: torch.device,
        precision: str,
        regions_hw: tuple[int, int] | None = None,
    ) -> None:
        self.backbone, self.layers = backbone, list(layers)
        self.device, self.precision = device, precision
        self.tapped = tap(backbone, layers, regions_hw).to(device)
        self.tapped.to(memory_format=torch.channels_last)
        self.tapped.eval().requires_grad_(False)

    @torch.no_grad()
    def features(self, images: Tensor, boxes: Tensor | None = None) -> list[Tensor]:
        """Features of images, or of regions in them.

        Args:
            images: `(N, C, H, W)` as stored, any dtype.
            boxes: `(N, P, 4)` xyxy in pixels of the images, where regions are read.

        Returns:
            One tensor `(N, C', h, w)` float32 per layer, in the order of `layers`; of regions `(N P, C', 1, 1)`.
        """
        inputs = self.backbone.input.normalise(images.to(self.device, non_blocking=True))
        with autocast(self.device, self.precision):
            maps = read(self.tapped, inputs.contiguous(memory_format=torch.channels_last), _on(boxes, self.device))
        return [maps[layer].float() for layer in self.layers]

    def check(self) -> None:
        """Assert that the teacher is frozen: in eval mode, every part of it, and without gradients."""
        assert not any(module.training for module in self.tapped.modules()), "the teacher left eval mode"
        assert not any(parameter.requires_grad for parameter in self.tapped.parameters()), "the teacher wants gradients"

    @functools.cached_property
    def weights_hash(self) -> str:
        """A SHA-256 over the weights that run and their names, in hexadecimal."""
        return weights_hash(self.tapped.kept_state())


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """A SHA-256 over tensors and their names, in hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().numpy().tobytes())  # in C order, whatever the memory layout
    return digest.hexdigest()


def _on(boxes: Tensor | None, device: torch.device) -> Tensor | None:
    return None if boxes is None else boxes.to(device, non_blocking=True)
