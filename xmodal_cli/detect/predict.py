"""What detectors find in images: one pass over all proposals, then the paper's cut-offs (recipe 4.4).

Several branches are averaged before the softmax, each seeing the image in its own modality and at its own size.

Shapes: R proposals of one image, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import nms

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import Proposals, require
from xmodal_cli.detect.boxes import decode
from xmodal_cli.detect.branches import Branch, Cutoffs
from xmodal_cli.detect.samples import network_image
from xmodal_cli.errors import XmodalError
from xmodal_cli.metrics.detections import Detections
from xmodal_cli.models.detector import RegionOutputs, fuse
from xmodal_cli.runs.device import autocast

Watcher = Callable[[int, int], None]  # (images seen, images in all)


@dataclass(frozen=True)
class Ensemble:
    """Detectors whose opinions are averaged.

    Args:
        branches: one detector, or several that are fused.
        proposals: where they look.
        cutoffs: which detections are kept.
    """

    branches: Sequence[Branch]
    proposals: Proposals
    cutoffs: Cutoffs


class Opinions:
    """What branches say of boxes of one image; each is asked once of the same boxes.

    Args:
        images: by modality, `(H, W, C)` as stored.
        size_hw: height and width of the image, in whose pixels boxes are.
        device, precision: where and how.
    """

    def __init__(
        self, images: Mapping[str, NDArray[Any]], size_hw: tuple[int, int], device: torch.device, precision: str
    ) -> None:
        self.size_hw = size_hw
        self._images, self._device, self._precision = images, device, precision
        self._known: dict[tuple[int, bytes], RegionOutputs] = {}

    def of(self, branch: Branch, boxes: Tensor) -> RegionOutputs:
        """Raw outputs for boxes `(R, 4)` of the image."""
        asked = id(branch), boxes.numpy().tobytes()
        if asked not in self._known:
            seen = network_image(self._images[branch.modality], branch.size.of(self.size_hw))[None].to(self._device)
            scaled = branch.detector.pool.scaled(boxes, branch.size.scale(self.size_hw)).to(self._device)
            self._known[asked] = _outputs(branch, seen, scaled, self._precision)
        return self._known[asked]


def detect(
    branches: Sequence[Branch],
    data: PreparedData,
    ids: Sequence[str],
    proposals: Proposals,
    cutoffs: Cutoffs,
    *,
    device: torch.device,
    precision: str = "fp32",
    watch: Watcher = lambda done, total: None,
) -> Detections:
    """Find objects in images of a data set with one ensemble; arguments as in `Ensemble` and `detect_ensembles`."""
    ensemble = Ensemble(branches, proposals, cutoffs)
    (found,) = detect_ensembles([ensemble], data, ids, device=device, precision=precision, watch=watch)
    return found


@torch.no_grad()
def detect_ensembles(
    ensembles: Sequence[Ensemble],
    data: PreparedData,
    ids: Sequence[str],
    *,
    device: torch.device,
    precision: str = "fp32",
    watch: Watcher = lambda done, total: None,
) -> list[Detections]:
    """Find objects in images of a data set with several ensembles in one pass; what they share is computed once.

    Args:
        ensembles: each has proposals of every image; an image with an empty list has no detections.
        data: the prepared data set.
        ids: which images.
        device, precision: where and how.
        watch: told how many images have been seen.

    Returns:
        Detections of each ensemble, as it finds them alone; `images` index `ids`.

    Raises:
        DataError: an image has no proposals.
    """
    for ensemble in ensembles:
        require(ensemble.proposals, ids)
    modalities = {branch.modality: None for ensemble in ensembles for branch in ensemble.branches}
    found: list[list[Detections]] = [[] for _ in ensembles]
    for number, name in enumerate(ids):
        images = {modality: data.read(modality, name) for modality in modalities}
        opinions = Opinions(images, data.size_hw(name), device, precision)
        for own, ensemble in zip(found, ensembles, strict=True):
            boxes, cutoffs = ensemble.proposals.boxes(name, ensemble.cutoffs.proposals), ensemble.cutoffs
            scores, moved = _scored(ensemble.branches, opinions, boxes, cutoffs)
            own.append(_best_of_image(number, scores, moved, cutoffs.per_image))
        watch(number + 1, len(ids))
    return [_left(own, ensemble.cutoffs, len(ids)) for own, ensemble in zip(found, ensembles, strict=True)]


def _left(found: list[Detections], cutoffs: Cutoffs, images: int) -> Detections:
    """What budget and suppression leave of what was found in each image."""
    return suppress(within_budget(Detections.of(found), cutoffs.per_image_mean * images), cutoffs.nms)


@torch.no_grad()
def detect_one(
    branches: Sequence[Branch],
    images: Mapping[str, NDArray[Any]],
    boxes_xyxy: NDArray[np.float32],
    cutoffs: Cutoffs,
    *,
    device: torch.device,
    precision: str = "fp32",
) -> Detections:
    """Find objects in one image that belongs to no data set; arguments as in `detect` and `score_boxes`."""
    first = images[branches[0].modality]
    size_hw = first.shape[0], first.shape[1]
    scores, moved = score_boxes(branches, images, size_hw, boxes_xyxy, cutoffs, device, precision)
    return suppress(_best_of_image(0, scores, moved, cutoffs.per_image), cutoffs.nms)


@torch.no_grad()
def score_boxes(
    branches: Sequence[Branch],
    images: Mapping[str, NDArray[Any]],
    size_hw: tuple[int, int],
    boxes_xyxy: NDArray[np.float32],
    cutoffs: Cutoffs,
    device: torch.device,
    precision: str,
) -> tuple[Tensor, Tensor]:
    """Class probabilities of every box of one image, and where each class would move it.

    Args:
        branches: one detector, or several that are fused.
        images: by modality, `(H, W, C)` as stored.
        size_hw: height and width of the image, in whose pixels boxes are.
        boxes_xyxy: `(R, 4)`.
        cutoffs: says which boxes are computed once.
        device, precision: where and how.

    Returns:
        `(R, K)` float32 probabilities without background, and `(R, K, 4)` boxes, on the CPU.

    Raises:
        XmodalError: the scores are not finite: the detector diverged.
    """
    return _scored(branches, Opinions(images, size_hw, device, precision), boxes_xyxy, cutoffs)


def _scored(
    branches: Sequence[Branch], opinions: Opinions, boxes_xyxy: NDArray[np.float32], cutoffs: Cutoffs
) -> tuple[Tensor, Tensor]:
    boxes, first, size_hw = torch.from_numpy(boxes_xyxy), branches[0], opinions.size_hw
    chosen, place = _merged(first.detector.pool.scaled(boxes, first.size.scale(size_hw)), cutoffs.merge_px)
    boxes = boxes[chosen]
    fused = fuse([opinions.of(branch, boxes) for branch in branches])
    if not bool(torch.isfinite(fused.scores).all()):
        seen = " and ".join(branch.modality for branch in branches)
        raise XmodalError(f"The scores of the detector of {seen} are not finite.", "Train it again with a lower --lr.")
    scores = fused.scores.softmax(1)[:, 1:].cpu()
    classes = scores.shape[1]
    deltas = torch.zeros(len(boxes), classes, 4) if fused.deltas is None else fused.deltas[:, 1:].cpu()
    return scores[place], decode(boxes, deltas, size_hw)[place]


def _outputs(branch: Branch, image: Tensor, boxes: Tensor, precision: str) -> RegionOutputs:
    detector = branch.detector
    with autocast(image.device, precision):
        outputs: RegionOutputs = detector(detector.input.normalise(image), [boxes])
    return detector.unnormalised(outputs)


def _merged(boxes: Tensor, merge_px: int) -> tuple[Tensor, Tensor]:
    """Indices of boxes whose rounded corners differ, and for every box which of those stands for it."""
    if not merge_px or not len(boxes):
        everyone = torch.arange(len(boxes))
        return everyone, everyone
    corners = boxes - torch.tensor([0.0, 0.0, 1.0, 1.0])  # first and last pixels, as in the original
    _, place = torch.unique((corners / merge_px).round(), dim=0, return_inverse=True)
    first = torch.full((int(place.max()) + 1,), len(boxes)).scatter_reduce(0, place, torch.arange(len(boxes)), "amin")
    return first, place


def _best_of_image(number: int, scores: Tensor, boxes: Tensor, most: int) -> Detections:
    """The best boxes of each class in one image."""
    kept, rows = scores.topk(min(most, len(scores)), dim=0)  # (n, K)
    labels = torch.arange(scores.shape[1]).expand_as(rows)
    return Detections(
        np.full(rows.numel(), number),
        labels.flatten().numpy(),
        kept.flatten().numpy(),
        boxes[rows, labels].reshape(-1, 4).numpy(),
    )


def within_budget(found: Detections, most: int) -> Detections:
    """The best detections of each class over all images, where there are more than `most`.

    The original keeps a heap of so many scores and drops what is not above its smallest.
    """
    keep = np.ones(len(found), bool)
    for label in np.unique(found.labels):
        own = found.labels == label
        if own.sum() > most:
            keep[own] = found.scores[own] > np.partition(found.scores[own], -most)[-most]
    return found[keep]


def suppress(found: Detections, iou: float) -> Detections:
    """Greedy non-maximum suppression within each class of each image: an overlap of `iou` or more suppresses.

    Returns:
        What is left, by image, class and decreasing score.
    """
    below = math.nextafter(iou, 0)  # the operator suppresses what is above
    order = np.lexsort((-found.scores, found.labels, found.images))
    keys = np.stack([found.images[order], found.labels[order]])
    groups = np.split(order, np.flatnonzero((np.diff(keys) != 0).any(0)) + 1) if len(order) else []
    boxes, scores = torch.from_numpy(found.boxes_xyxy), torch.from_numpy(found.scores.astype(np.float32))
    kept = [group[nms(boxes[group], scores[group], below).numpy()] for group in groups]
    return found[np.concatenate(kept)] if kept else found
