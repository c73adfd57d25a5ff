"""The training task of masks: location classifiers on a frozen detector (recipe 5.3).

Shapes: B boxes of one draw, S x S places of a box.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xmodal_cli.detect.hypercolumns import Segmenter
from xmodal_cli.models.hypercolumn import PLACES, Boxes, MaskHead, mask_loss, mask_probabilities

FIGURE = 0.5  # probability from which on a place is figure, where a mask is watched


class MaskTask:
    """Teach a frozen detector which places of a box are figure.

    Args:
        segmenter: the detector with its new classifiers; only these learn.
        device: where.
        precision: of the trunk.
        full_weight_px: side of a square from whose area on boxes count fully; 0 counts all the same.
        watched: draws of held-out images.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        device: torch.device,
        precision: str,
        full_weight_px: float,
        watched: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.segmenter, self.device, self.precision = segmenter.to(device), device, precision
        self.full_weight_px, self.watched = full_weight_px, watched

    @property
    def module(self) -> MaskHead:
        """Everything trainable."""
        return self.segmenter.head

    def step(self, module: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The loss of a batch, the mean of its draws': of one box, summed over its places."""
        self.segmenter.train(True)
        losses = []
        for draw in batch["draws"]:
            logits = self._logits(module, draw)
            with torch.autocast(self.device.type, enabled=False):
                losses.append(mask_loss(logits, draw["targets"].to(self.device), self._weights(draw["areas"])))
        return {"loss": torch.stack(losses).mean()}

    def evaluate(self) -> dict[str, float]:
        """Mean IoU, in percent, of masks in annotated boxes of held-out images; empty when nothing is held out."""
        self.segmenter.train(False)
        overlaps: list[Tensor] = []
        for draw in self.watched:
            figure = mask_probabilities(self._logits(self.module, draw)) >= FIGURE
            wanted = draw["targets"].to(self.device)
            both, either = (figure & wanted).sum((1, 2)), (figure | wanted).sum((1, 2))
            overlaps.append(both / either.clamp(min=1))
        return {"mask_iou": 100 * torch.cat(overlaps).mean().item()} if overlaps else {}

    def check(self) -> None:
        """Assert that the detector is frozen."""
        parts = self.segmenter.tapped, self.segmenter.branch.detector
        assert not any(value.requires_grad for part in parts for value in part.parameters()), "the detector learns"

    def _weights(self, areas: Tensor) -> Tensor:
        if not self.full_weight_px:
            return torch.full_like(areas, 1 / PLACES**2).to(self.device)  # the mean over places, whose size is tame
        return (areas / self.full_weight_px**2).clamp(max=1).to(self.device)

    def _logits(self, module: nn.Module, draw: dict[str, Any]) -> Tensor:
        """What the experts say of a draw's boxes; the detector's maps are computed unless they are kept."""
        image_hw = draw["image_hw"]
        boxes, labels = draw["boxes"].to(self.device), draw["labels"].to(self.device)
        asked = Boxes(boxes, labels, image_hw, self.segmenter.branch.size.scale(image_hw))
        if "maps" in draw:
            maps = [each.to(self.device, non_blocking=True) for each in draw["maps"]]
        else:
            maps = self.segmenter.maps(draw["image"].to(self.device, non_blocking=True), self.precision)
        logits: Tensor = module(maps[:-1], self.segmenter.regions(maps, asked), asked)
        return logits
