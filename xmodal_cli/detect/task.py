"""The training task of a detector: Fast R-CNN's two losses over sampled regions (recipe 4.3).

Shapes: N images, R regions of all images, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal_cli.detect.sampling import Candidates
from xmodal_cli.models.detector import FusedDetector
from xmodal_cli.models.inputs import InputSpec

SMALLEST_STD = 1e-6  # below it a class has one shape of delta only: such deltas are not divided


class FinetuneTask:
    """Teach a detector, or several jointly, to name regions and to move them onto objects.

    Args:
        module: the detectors; one alone is the usual case.
        device: where they learn.
        class_loss, box_loss: weights of cross-entropy and smooth L1, each divided by the number of regions.
        score: gives the figures on held-out images, e.g. their mAP; None when nothing is held out.
    """

    def __init__(
        self,
        module: FusedDetector,
        device: torch.device,
        class_loss: float,
        box_loss: float,
        score: Callable[[], dict[str, float]] | None = None,
    ) -> None:
        self.module, self.device, self.score = module, device, score
        self.class_loss, self.box_loss = class_loss, box_loss
        self.frozen = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]

    def step(self, module: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The weighted losses of a batch, in float32."""
        boxes = [each.to(self.device, non_blocking=True) for each in batch["boxes"]]
        labels, deltas = (batch[key].to(self.device, non_blocking=True) for key in ("labels", "deltas"))
        on_maps = "maps" in batch
        outputs = module(self._inputs(batch), boxes, on_maps=on_maps)
        with torch.autocast(self.device.type, enabled=False):
            named = F.cross_entropy(outputs.scores.float(), labels)
            total, parts = self.class_loss * named, {"class_loss": named}
            if outputs.deltas is not None:
                moved = self._box_loss(outputs.deltas.float(), labels, deltas)
                total, parts = total + self.box_loss * moved, {**parts, "box_loss": moved}
        return {"loss": total, **parts}

    def evaluate(self) -> dict[str, float]:
        """Figures on held-out images."""
        return {} if self.score is None else self.score()

    def check(self) -> None:
        """Assert that what is frozen still is."""
        frozen = [name for name, parameter in self.module.named_parameters() if not parameter.requires_grad]
        assert frozen == self.frozen, "frozen parameters learn"

    def _inputs(self, batch: dict[str, Any]) -> list[Tensor]:
        """What each branch reads: normalised images, zero beyond their edges, or maps."""
        if "maps" in batch:
            return [maps.to(self.device, non_blocking=True) for maps in batch["maps"]]
        return [
            normalised(images.to(self.device, non_blocking=True), batch["sizes_hw"], detector.input)
            for images, detector in zip(batch["images"], self.module.detectors, strict=True)
        ]

    def _box_loss(self, predicted: Tensor, labels: Tensor, deltas: Tensor) -> Tensor:
        """Smooth L1 (transition at 1) over the four numbers of the true class, divided by all regions."""
        chosen = labels > 0
        kinds, first = labels[chosen], self.module.detectors[0]
        wanted = (deltas[chosen] - first.delta_mean[kinds]) / first.delta_std[kinds]
        return F.smooth_l1_loss(predicted[chosen, kinds], wanted, reduction="sum") / len(labels)


def normalised(images: Tensor, sizes_hw: Sequence[tuple[int, int]], spec: InputSpec) -> Tensor:
    """Padded images `(N, C, H, W)` as the network wants them, zero where there is no image."""
    inputs = spec.normalise(images)
    for place, (height, width) in zip(inputs, sizes_hw, strict=True):
        place[:, height:] = 0
        place[:, :, width:] = 0
    return inputs


def delta_statistics(found: Iterable[Candidates], classes: int, iou: float, *, flip: bool) -> tuple[Tensor, Tensor]:
    """Mean and spread of the deltas of every region on an object, by class (recipe 4.3).

    Args:
        found: the candidates of every image.
        classes: K.
        iou: smallest overlap of a region on an object.
        flip: whether mirrored images count too: their horizontal shifts have the other sign.

    Returns:
        Mean and standard deviation, `(K + 1, 4)` float32 each; 0 and 1 for classes without regions.
    """
    count = torch.zeros(classes + 1, 1, dtype=torch.float64)
    total, squares = (torch.zeros(classes + 1, 4, dtype=torch.float64) for _ in range(2))
    for each in found:
        deltas, labels = each.on_objects(iou)
        count.index_add_(0, labels, torch.ones(len(labels), 1, dtype=torch.float64))
        total.index_add_(0, labels, deltas.double())
        squares.index_add_(0, labels, deltas.double().square())
    if flip:
        total[:, 0] = 0
    mean = total / count.clamp(min=1)
    std = (squares / count.clamp(min=1) - mean.square()).clamp(min=0).sqrt()
    return mean.float(), torch.where(std < SMALLEST_STD, 1.0, std).float()
