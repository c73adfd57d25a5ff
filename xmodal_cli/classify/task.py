"""What a classifier learns from, its task, and what it says of images.

Shapes: N images of a batch, C channels, K classes, h x w pixels that the network sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from xmodal_cli.data.pairs import Pairs, collate
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.models.classifier import Classifier
from xmodal_cli.runs.device import autocast

LABEL = "label"
IMAGES_AT_ONCE = 16  # when images are only looked at

Watcher = Callable[[int, int], None]  # (images seen, images in all)


class LabelledImages(Dataset[dict[str, Any]]):
    """Images with their classes, seen through random windows.

    Args:
        images: the images of one modality.
        labels: of each, by ID.
    """

    def __init__(self, images: Pairs, labels: Mapping[str, int]) -> None:
        self.images, self.ids = images, images.ids
        self.labels = torch.tensor([labels[name] for name in images.ids])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        return {**self.images[key], LABEL: self.labels[key[1]]}


class ClassificationTask:
    """Teach a network to name images.

    Args:
        module: the network.
        device: where it learns.
        modality: what it sees.
        score: gives the figures on held-out images; None when nothing is held out.
    """

    def __init__(
        self,
        module: Classifier,
        device: torch.device,
        modality: str,
        score: Callable[[], dict[str, float]] | None = None,
    ) -> None:
        self.module, self.device, self.modality, self.score = module, device, modality, score

    def step(self, module: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Cross-entropy of a batch, in float32."""
        images, labels = (batch[key].to(self.device, non_blocking=True) for key in (self.modality, LABEL))
        scores = module(self.module.input.normalise(images))
        with torch.autocast(self.device.type, enabled=False):
            return {"loss": F.cross_entropy(scores.float(), labels)}

    def evaluate(self) -> dict[str, float]:
        """Figures on held-out images."""
        return {} if self.score is None else self.score()

    def check(self) -> None:
        """Nothing is frozen."""


@torch.no_grad()
def class_probabilities(
    classifier: Classifier,
    data: PreparedData,
    ids: Sequence[str],
    modality: str,
    size_hw: tuple[int, int],
    *,
    device: torch.device,
    precision: str = "fp32",
    watch: Watcher = lambda done, total: None,
) -> NDArray[np.float32]:
    """What a classifier, in eval mode, says of whole images: `(N, K)`, each row sums to 1."""
    images = Pairs(data, ids, (modality,), size_hw=size_hw)
    found = []
    for first in range(0, len(ids), IMAGES_AT_ONCE):
        batch = collate([images[0, index] for index in range(first, min(first + IMAGES_AT_ONCE, len(ids)))])
        inputs = classifier.input.normalise(batch[modality].to(device))
        with autocast(device, precision):
            scores = classifier(inputs)
        found.append(scores.float().softmax(1).cpu().numpy())
        watch(first + len(found[-1]), len(ids))
    return np.concatenate(found)
