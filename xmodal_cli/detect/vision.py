"""What torchvision's detectors find: each makes its own proposals, so that several are fused after they have detected.

Shapes: N detections of all images, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import box_iou

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.predict import suppress
from xmodal_cli.detect.vision_join import Vision
from xmodal_cli.metrics.detections import Detections

Watcher = Callable[[int, int], None]  # (images seen, images in all)
SAME_OBJECT, SUPPRESSED = 0.5, 0.5  # IoU: two detectors mean the same object; torchvision's own suppression


@torch.no_grad()
def look(vision: Vision, image: NDArray[Any], device: torch.device) -> Detections:
    """Find objects in one image `(H, W, C)` as stored; labels index the detector's classes from 0."""
    low, high = vision.seen.range
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).to(device).float()
    found = vision.detector.module.to(device)([(pixels - low) / (high - low)])[0]
    labels, scores, boxes = (found[key].cpu().numpy() for key in ("labels", "scores", "boxes"))
    real = labels > 0  # 0 is background
    count = int(real.sum())
    return Detections(np.zeros(count, np.int64), labels[real] - 1, scores[real], boxes[real].astype(np.float32))


def detect_each(
    visions: Sequence[Vision],
    data: PreparedData,
    ids: Sequence[str],
    device: torch.device,
    watch: Watcher = lambda done, total: None,
) -> Detections:
    """Find objects in images of a data set with one detector, or with several fused; `images` index `ids`."""
    found = []
    for number, name in enumerate(ids):
        each = [look(vision, data.read(vision.modality, name), device) for vision in visions]
        together = each[0] if len(each) == 1 else fuse_found(each)
        found.append(replace(together, images=np.full(len(together), number)))
        watch(number + 1, len(ids))
    return Detections.of(found)


def fuse_found(found: Sequence[Detections]) -> Detections:
    """What several detectors found in one image, as one: every box scored by all of them, doubles suppressed.

    A box's score is the mean over the detectors of their best score for the same class at an overlap of 0.5 or more;
    a detector that found nothing there says 0.

    Example:
        >>> box = np.array([[0, 0, 8, 8]], np.float32)
        >>> one, other = (Detections(np.array([0]), np.array([2]), np.array([s]), box) for s in (0.9, 0.5))
        >>> fuse_found([one, other]).scores.tolist()
        [0.7]
    """
    everything = Detections.of(list(found))
    scores = np.zeros(len(everything))
    boxes = torch.from_numpy(everything.boxes_xyxy)
    for each in found:
        overlap = box_iou(boxes, torch.from_numpy(each.boxes_xyxy)).numpy()
        same = (overlap >= SAME_OBJECT) & (everything.labels[:, None] == each.labels[None])
        scores += np.where(same, each.scores[None], 0.0).max(1, initial=0.0)
    return suppress(replace(everything, scores=scores / len(found)), SUPPRESSED)
