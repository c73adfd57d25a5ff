"""What masks are learned from: boxes on objects with the part of the object's mask that lies inside (recipe 5.3).

A class is drawn, each as often as any other; then an image, in proportion to how many boxes it has on objects of that
class; then some of these boxes, with replacement. Every draw comes from (seed, epoch, index).

Shapes: B boxes of a draw, S x S places of a box, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from xmodal_cli.data.annotations import Annotations
from xmodal_cli.data.masks import decode_mask
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import Proposals
from xmodal_cli.data.transforms import generator
from xmodal_cli.detect.samples import ImageSize, SeenImages
from xmodal_cli.errors import DataError
from xmodal_cli.metrics.recall import pairwise_iou
from xmodal_cli.models.hypercolumn import PLACES

SMALLEST_SIDE_PX = 2.0  # thinner boxes hold no shape


@dataclass(frozen=True)
class Eligible:
    """Boxes of one image that a mask can be learned from.

    Args:
        boxes_xyxy: `(N, 4)` float32 pixels, each object's own box first.
        objects: `(N,)` int64, the object of each, among the image's annotations.
        labels: `(N,)` int64, its class.
        annotated: how many of them are objects' own boxes.
    """

    boxes_xyxy: NDArray[np.float32]
    objects: NDArray[np.int64]
    labels: NDArray[np.int64]
    annotated: int


def eligible(
    found: Annotations, proposals_xyxy: NDArray[np.float32], size_hw: tuple[int, int], overlap: float
) -> Eligible:
    """The boxes of an image that overlap an object enough to show its shape, once for each such object.

    Two objects may lie in nearly one box, as a pillow does in front of another: as in the original, the box then shows
    either's mask.

    Args:
        found: the annotated objects; those around crowds are left out.
        proposals_xyxy: `(P, 4)`.
        size_hw: of the image.
        overlap: smallest IoU with the object's box.
    """
    height, width = size_hw
    own = found.boxes_xyxy.clip(0, [width, height, width, height]).astype(np.float32)
    there = np.flatnonzero(~found.crowd & ((own[:, 2:] - own[:, :2]) >= SMALLEST_SIDE_PX).all(1))
    boxes = np.concatenate([own[there], proposals_xyxy]).astype(np.float32)
    near = pairwise_iou(boxes, own[there]) >= overlap  # (G + P, G)
    themselves = np.arange(len(there))
    near[themselves, themselves] = False
    others, near_to = np.nonzero(near)
    objects = there[np.concatenate([themselves, near_to])].astype(np.int64)
    return Eligible(boxes[np.concatenate([themselves, others])], objects, found.labels[objects], len(there))


def mask_places(mask: NDArray[np.bool_], boxes_xyxy: NDArray[np.float32], *, centred: bool = True) -> NDArray[np.bool_]:
    """An object's mask at the places of boxes: the nearest pixel to each.

    Args:
        mask: `(H, W)`.
        boxes_xyxy: `(N, 4)` pixels, exclusive ends.
        centred: a place is the middle of its share of the box; the original spreads places from a box's first pixel to
            its last.

    Returns:
        `(N, S, S)`; places outside the image are ground.

    Example:
        >>> mask = np.zeros((20, 20), np.bool_)
        >>> mask[:, :10] = True
        >>> mask_places(mask, np.array([[0, 0, 20, 20]], np.float32))[0].mean()
        np.float64(0.5)
    """
    low, high = boxes_xyxy[:, :2, None].astype(np.float64), boxes_xyxy[:, 2:, None].astype(np.float64)
    if centred:
        at = np.floor(low + (np.arange(PLACES) + 0.5) / PLACES * (high - low))
    else:
        at = np.round(low + np.arange(PLACES) / (PLACES - 1) * (high - 1 - low))
    at = at.astype(np.int64)  # (N, 2, S): columns, rows
    columns, rows = at[:, 0], at[:, 1]
    inside_x, inside_y = (columns >= 0) & (columns < mask.shape[1]), (rows >= 0) & (rows < mask.shape[0])
    picked = mask[rows.clip(0, mask.shape[0] - 1)[:, :, None], columns.clip(0, mask.shape[1] - 1)[:, None, :]]
    return np.asarray(picked & inside_y[:, :, None] & inside_x[:, None, :], np.bool_)


class MaskSamples(Dataset[dict[str, Any]]):
    """Draws of a class, an image and some boxes on objects; there are as many as images.

    Args:
        data: the prepared data set.
        annotations: of each image, by ID.
        modality: which images to read.
        proposals: of every image.
        most: best proposals used.
        overlap: smallest IoU of a box with its object.
        boxes: of a draw, B.
        size: how large images are seen.
        centred: as in `mask_places`.
        seed: of the draws.
        in_memory: keep images at the network's size; only useful without worker processes.

    Raises:
        DataError: an object has no mask.
    """

    def __init__(
        self,
        data: PreparedData,
        annotations: Mapping[str, Annotations],
        modality: str,
        proposals: Proposals,
        most: int,
        *,
        overlap: float,
        boxes: int,
        size: ImageSize,
        centred: bool,
        seed: int,
        in_memory: bool,
    ) -> None:
        check_masks(data, annotations)
        self.data, self.annotations, self.modality, self.size = data, annotations, modality, size
        self.boxes, self.centred, self.seed = boxes, centred, seed
        self._seen = SeenImages(data, size, in_memory=in_memory)
        self.found = {
            name: eligible(each, proposals.boxes(name, most), data.size_hw(name), overlap)
            for name, each in annotations.items()
        }
        self.ids = [name for name, each in self.found.items() if len(each.labels)]
        self.counts = np.array(
            [np.bincount(self.found[name].labels, minlength=len(data.classes)) for name in self.ids], np.int64
        ).reshape(len(self.ids), len(data.classes))
        self.maps: dict[str, list[Tensor]] = {}  # of the frozen trunk, by ID; they stand in for images

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        cv2.setNumThreads(0)  # a step's threads belong to the network; also in worker processes
        random = generator(self.seed, *key, "masks")
        label = random.choice(np.flatnonzero(self.counts.sum(0)))
        name = self.ids[random.choice(len(self.ids), p=self.counts[:, label] / self.counts[:, label].sum())]
        return self.sample(name, random.choice(np.flatnonzero(self.found[name].labels == label), self.boxes))

    def sample(self, name: str, chosen: NDArray[np.int64]) -> dict[str, Any]:
        """Some boxes of an image.

        Args:
            name: the image.
            chosen: `(B,)` which of its eligible boxes.

        Returns:
            `id`, `boxes` (B, 4), `labels` (B,), `targets` (B, S, S) bool, `areas` (B,), and `maps`, or `image`.
        """
        there = self.found[name]
        boxes = there.boxes_xyxy[chosen]
        targets = np.empty((len(chosen), PLACES, PLACES), np.bool_)
        for number in np.unique(there.objects[chosen]):
            own = there.objects[chosen] == number
            mask = decode_mask(self.annotations[name].segmentations[number], self.data.size_hw(name))
            assert mask is not None
            targets[own] = mask_places(mask, boxes[own], centred=self.centred)
        drawn = {
            "id": name,
            "image_hw": self.data.size_hw(name),
            "boxes": torch.from_numpy(boxes),
            "labels": torch.from_numpy(there.labels[chosen]),
            "targets": torch.from_numpy(targets),
            "areas": torch.from_numpy((boxes[:, 2:] - boxes[:, :2]).prod(1)),
        }
        kept = {"maps": self.maps[name]} if name in self.maps else {"image": self.image(name)}
        return {**drawn, **kept}

    def image(self, name: str) -> Tensor:
        """One image as the network sees it: `(C, h, w)` as stored."""
        return self._seen(self.modality, name, flipped=False)


def check_masks(data: PreparedData, annotations: Mapping[str, Annotations]) -> None:
    """Find out whether every object has a mask.

    Raises:
        DataError: one has none.
    """
    without = [
        name
        for name, each in annotations.items()
        if any(not (each.segmentations and each.segmentations[n]) for n in np.flatnonzero(~each.crowd))
    ]
    if without:
        raise DataError(
            f"Objects of {len(without)} of {len(annotations)} images of {data.root} have no mask; the first is "
            f"'{without[0]}'.",
            "Masks are the `segmentation` of COCO's annotations, RLE or polygons: prepare the data set from a file "
            "that has them: xmodal prepare folder ... --annotations NAME=FILE",
        )


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch of draws: they stay apart, since images differ in size."""
    return {"ids": [each["id"] for each in samples], "draws": list(samples)}
