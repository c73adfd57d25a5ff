"""Annotated images as a PyTorch data set: an image at the network's size, regions drawn from it, what they should say.

Asked for `(epoch, index)`, a sample depends on the seed, the epoch and its ID alone. With mirroring the list of images
is twice as long, as in the original: index n + i is image i mirrored.

Shapes: N images of a batch, R regions of one image, C channels, h x w pixels that the network sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from xmodal_cli.data.annotations import Annotations
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import Proposals
from xmodal_cli.data.transforms import Draw, apply, generator
from xmodal_cli.detect.boxes import mirrored
from xmodal_cli.detect.sampling import Candidates, Sampling, candidates, sample
from xmodal_cli.models.regions import RegionPool

SMALLEST_SIDE = 32  # px of an image that a network can see


@dataclass(frozen=True)
class ImageSize:
    """How large a network sees images: short side in pixels, unless the long side would exceed `longest`.

    Example:
        >>> ImageSize(688, 2000).of((425, 560))
        (688, 907)
    """

    short: int
    longest: int

    def scale(self, image_hw: tuple[int, int]) -> float:
        """The one factor for both sides of an image."""
        return min(self.short / min(image_hw), self.longest / max(image_hw))

    def of(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """Height and width that the network sees."""
        scale = self.scale(image_hw)
        return round(image_hw[0] * scale), round(image_hw[1] * scale)


def network_image(
    image: NDArray[Any], size_hw: tuple[int, int], flip_rule: str = "mirror", *, flipped: bool = False
) -> Tensor:
    """A whole image `(H, W, C)` at the network's size: `(C, h, w)` of the same dtype."""
    return torch.from_numpy(apply(image, Draw(0.0, 0.0, 1.0, 1.0, size_hw, flipped), flip_rule)).permute(2, 0, 1)


class SeenImages:
    """Images of a data set as a network sees them, mirrored or not, kept if asked.

    Args:
        data: the prepared data set.
        size: how large images are seen.
        in_memory: keep them; only useful without worker processes.
    """

    def __init__(self, data: PreparedData, size: ImageSize, *, in_memory: bool) -> None:
        self.data, self.size = data, size
        self._kept: dict[tuple[str, str, bool], Tensor] | None = {} if in_memory else None

    def __call__(self, modality: str, name: str, *, flipped: bool) -> Tensor:
        """One image: `(C, h, w)` as stored."""
        key = modality, name, flipped
        if self._kept is not None and key in self._kept:
            return self._kept[key]
        size_hw, rule = self.size.of(self.data.size_hw(name)), self.data.modalities[modality].flip
        seen = network_image(self.data.read(modality, name), size_hw, rule, flipped=flipped)
        if self._kept is not None:
            self._kept[key] = seen
        return seen


class DetectionSamples(Dataset[dict[str, Any]]):
    """Annotated images of a split, with regions drawn anew whenever one is asked for.

    Args:
        data: the prepared data set.
        annotations: of each image, by ID; their order is that of the indices.
        modalities: which images to read.
        proposals: of every image.
        most: best proposals used.
        size: how large images are seen.
        pool: cuts the regions; knows how boxes are scaled.
        sampling: how regions are drawn.
        flip: whether mirrored images count as images of their own.
        seed: of the draws.
        in_memory: keep images at the network's size; only useful without worker processes.
    """

    def __init__(
        self,
        data: PreparedData,
        annotations: dict[str, Annotations],
        modalities: Sequence[str],
        proposals: Proposals,
        most: int,
        size: ImageSize,
        pool: RegionPool,
        sampling: Sampling,
        *,
        flip: bool = True,
        seed: int = 0,
        in_memory: bool = False,
    ) -> None:
        self.data, self.annotations, self.modalities = data, annotations, tuple(modalities)
        self.proposals, self.most, self.size, self.pool, self.sampling = proposals, most, size, pool, sampling
        self.flip, self.seed = flip, seed
        self.ids = list(annotations)
        self._seen = SeenImages(data, size, in_memory=in_memory)
        self._candidates: dict[str, Candidates] = {}
        self.maps: dict[int, list[Tensor]] = {}  # of frozen trunks, by index; they stand in for images

    def __len__(self) -> int:
        return len(self.ids) * (2 if self.flip else 1)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        cv2.setNumThreads(0)  # a step's threads belong to the network; also in worker processes
        epoch, index = key
        name, flipped = self._which(index)
        regions = sample(self.candidates(name), self.sampling, generator(self.seed, epoch, name, int(flipped)))
        height, width = self.data.size_hw(name)
        boxes, deltas = regions.boxes_xyxy, regions.deltas
        if flipped:
            boxes, deltas = mirrored(boxes, width), deltas * torch.tensor([-1.0, 1.0, 1.0, 1.0])
        drawn = {
            "id": name,
            "boxes": self.pool.scaled(boxes, self.size.scale((height, width))),
            "labels": regions.labels,
            "deltas": deltas,
        }
        if index in self.maps:
            return {**drawn, "maps": self.maps[index]}
        return {**drawn, "images": [self.image(modality, index) for modality in self.modalities]}

    def keep(self, ids: Sequence[str]) -> None:
        """Learn from these images only, in this order."""
        self.ids = list(ids)

    def candidates(self, name: str) -> Candidates:
        """All regions of an image that can be drawn, of objects the part inside it; found once and kept."""
        if name not in self._candidates:
            found = self.annotations[name]
            boxes, (height, width) = self.proposals.boxes(name, self.most), self.data.size_hw(name)
            objects = found.boxes_xyxy[~found.crowd].clip(0, [width, height, width, height]).astype(np.float32)
            self._candidates[name] = candidates(boxes, objects, found.labels[~found.crowd])
        return self._candidates[name]

    def image(self, modality: str, index: int) -> Tensor:
        """One image as the network sees it: `(C, h, w)` as stored."""
        name, flipped = self._which(index)
        return self._seen(modality, name, flipped=flipped)

    def _which(self, index: int) -> tuple[str, bool]:
        return self.ids[index % len(self.ids)], index >= len(self.ids)


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch of samples.

    Returns:
        `ids`; `images`, for each modality `(N, C, h, w)` padded to the largest, and `sizes_hw` before padding, or
        `maps` likewise; `boxes`, a list of `(R, 4)`; `labels` and `deltas` of all regions.
    """
    kind = "maps" if "maps" in samples[0] else "images"
    batch: dict[str, Any] = {
        "ids": [each["id"] for each in samples],
        "boxes": [each["boxes"] for each in samples],
        "labels": torch.cat([each["labels"] for each in samples]),
        "deltas": torch.cat([each["deltas"] for each in samples]),
        "sizes_hw": [tuple(each[kind][0].shape[1:]) for each in samples],
    }
    batch[kind] = [padded([each[kind][place] for each in samples]) for place in range(len(samples[0][kind]))]
    return batch


def padded(images: Sequence[Tensor]) -> Tensor:
    """Images `(C, h, w)` as one tensor, smaller ones with zeros below and to the right."""
    height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
    batch = torch.zeros(len(images), images[0].shape[0], height, width, dtype=images[0].dtype)
    for place, image in zip(batch, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    return batch
