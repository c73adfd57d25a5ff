"""Which regions of an image a detector learns from, and what they should say: Fast R-CNN's sampling (recipe 4.1, 4.3).

Annotated boxes join the proposals. A region that overlaps an object by half is of that object's class and is drawn to
its box; every other is background. Every draw comes from (seed, epoch, image), like all others.

Shapes: R regions, P proposals, G annotated objects of one image.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xmodal_cli.detect.boxes import encode, overlaps

SMALLEST_SIDE_PX = 2.0  # thinner regions have no width between their first and last pixel: nothing to regress from


@dataclass(frozen=True)
class Sampling:
    """How regions are drawn; the defaults are the paper's.

    Args:
        regions: per image.
        foreground: largest share of regions on objects.
        foreground_iou: smallest overlap of a region on an object.
        background_iou: overlaps `[low, high)` of background.
    """

    regions: int = 64
    foreground: float = 0.25
    foreground_iou: float = 0.5
    background_iou: tuple[float, float] = (0.0, 0.5)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Regions:
    """Regions of one image with what they should say.

    Args:
        boxes_xyxy: `(R, 4)` float32 pixels of the image.
        labels: `(R,)` int64, 0 for background, else class index + 1.
        deltas: `(R, 4)` float32 to the object's box; zero for background.
    """

    boxes_xyxy: Tensor
    labels: Tensor
    deltas: Tensor


@dataclass(frozen=True)
class Candidates:
    """All regions of one image that can be drawn.

    Args:
        boxes_xyxy: `(G + P, 4)` float32, annotated boxes first.
        overlaps: `(G + P,)` float32, IoU with the object that each overlaps most.
        labels: `(G + P,)` int64, class index + 1 of that object.
        objects_xyxy: `(G + P, 4)` float32, its box.
    """

    boxes_xyxy: Tensor
    overlaps: Tensor
    labels: Tensor
    objects_xyxy: Tensor

    def usable(self) -> bool:
        """Whether the paper's code would draw this image: it has an object, and a region that overlaps one by less."""
        return bool((self.overlaps > 0.5).any()) and bool(((self.overlaps > 0) & (self.overlaps < 0.5)).any())

    def on_objects(self, iou: float) -> tuple[Tensor, Tensor]:
        """Deltas `(n, 4)` and labels `(n,)` of all regions that overlap their object by `iou` or more."""
        chosen = self.overlaps >= iou
        return encode(self.boxes_xyxy[chosen], self.objects_xyxy[chosen]), self.labels[chosen]


def candidates(
    proposals_xyxy: NDArray[np.float32], objects_xyxy: NDArray[np.float32], labels: NDArray[np.int64]
) -> Candidates:
    """Annotated boxes and proposals of an image, each with the object that it overlaps most, whatever its class.

    Args:
        proposals_xyxy: `(P, 4)`, pixels, exclusive ends; thinner ones than two pixels are left out.
        objects_xyxy: `(G, 4)`, likewise.
        labels: `(G,)`, index into the classes.
    """
    keep = _wide(objects_xyxy)
    objects, kinds = torch.from_numpy(objects_xyxy[keep]), torch.from_numpy(labels[keep]) + 1
    boxes = torch.cat([objects, torch.from_numpy(proposals_xyxy[_wide(proposals_xyxy)])])
    if not len(objects):
        zeros = torch.zeros(len(boxes))
        return Candidates(boxes, zeros, zeros.long(), torch.zeros(len(boxes), 4))
    best, nearest = overlaps(boxes, objects).max(1)
    return Candidates(boxes, best, kinds[nearest], objects[nearest])


def sample(found: Candidates, sampling: Sampling, random: np.random.Generator) -> Regions:
    """Draw regions of one image.

    Args:
        found: its candidates.
        sampling: how many of which kind.
        random: from `data.transforms.generator`.

    Returns:
        At most `sampling.regions`: objects first, then background; fewer where there are not enough.
    """
    low, high = sampling.background_iou
    overlaps = found.overlaps.numpy()
    foreground = np.flatnonzero(overlaps >= sampling.foreground_iou)
    background = np.flatnonzero((overlaps < high) & (overlaps >= low))
    wanted = min(round(sampling.foreground * sampling.regions), len(foreground))
    on_objects = random.choice(foreground, wanted, replace=False)
    others = random.choice(background, min(sampling.regions - wanted, len(background)), replace=False)
    chosen = torch.from_numpy(np.concatenate([on_objects, others]).astype(np.int64))
    labels, deltas = found.labels[chosen].clone(), torch.zeros(len(chosen), 4)
    labels[wanted:] = 0
    deltas[:wanted] = encode(found.boxes_xyxy[chosen[:wanted]], found.objects_xyxy[chosen[:wanted]])
    return Regions(found.boxes_xyxy[chosen], labels, deltas)


def _wide(boxes_xyxy: NDArray[np.float32]) -> NDArray[np.bool_]:
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    return np.asarray((sides >= SMALLEST_SIDE_PX).all(1))
