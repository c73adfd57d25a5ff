"""What a region proposal network learns from, and its task: annotated boxes of all classes as one, crowds left out.

With mirroring the list of images is twice as long, as for detectors: index n + i is image i mirrored.

Shapes: N images of a batch, G objects of an image, C channels, h x w pixels that the network sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from xmodal_cli.data.annotations import Annotations
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.boxes import mirrored
from xmodal_cli.detect.samples import ImageSize, SeenImages, padded
from xmodal_cli.detect.task import normalised
from xmodal_cli.models.rpn import Rpn, RpnOutputs

SMALLEST_SIDE_PX = 1.0  # of an object inside its image, in the image's pixels


class RpnSamples(Dataset[dict[str, Any]]):
    """Annotated images, and their objects' boxes at the size that the network sees.

    Args:
        data: the prepared data set.
        boxes: `(G, 4)` float32 xyxy by ID, image pixels; their order is that of the indices.
        modality: which images to read.
        size: how large they are seen.
        flip: whether mirrored images count as images of their own.
        in_memory: keep images at the network's size; only useful without worker processes.
    """

    def __init__(
        self,
        data: PreparedData,
        boxes: Mapping[str, NDArray[np.float32]],
        modality: str,
        size: ImageSize,
        *,
        flip: bool = True,
        in_memory: bool = False,
    ) -> None:
        self.data, self.boxes, self.modality, self.size, self.flip = data, dict(boxes), modality, size, flip
        self.ids = list(boxes)
        self._seen = SeenImages(data, size, in_memory=in_memory)

    def __len__(self) -> int:
        return len(self.ids) * (2 if self.flip else 1)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        cv2.setNumThreads(0)  # a step's threads belong to the network; also in worker processes
        _, index = key
        name, flipped = self.ids[index % len(self.ids)], index >= len(self.ids)
        image_hw = self.data.size_hw(name)
        boxes = scaled(torch.from_numpy(self.boxes[name]), image_hw, size_hw := self.size.of(image_hw))
        if flipped:
            boxes = mirrored(boxes, size_hw[1])
        return {"id": name, "image": self._seen(self.modality, name, flipped=flipped), "boxes": boxes}


def learnable(annotations: Mapping[str, Annotations], data: PreparedData) -> dict[str, NDArray[np.float32]]:
    """The boxes to learn from: clipped to their images, without crowds and what lies outside; images that have any."""
    found = {}
    for name, each in annotations.items():
        height, width = data.size_hw(name)
        edges = np.array([width, height, width, height], np.float32)
        boxes = np.clip(each.boxes_xyxy[~each.crowd], 0, edges).astype(np.float32)
        boxes = boxes[(boxes[:, 2:] - boxes[:, :2] >= SMALLEST_SIDE_PX).all(1)]
        if len(boxes):
            found[name] = boxes
    return found


def scaled(boxes_xyxy: Tensor, from_hw: tuple[int, int], to_hw: tuple[int, int]) -> Tensor:
    """Boxes of an image when it is resized; each side has a factor of its own, since sizes are whole pixels.

    Example:
        >>> scaled(torch.tensor([[0.0, 0.0, 10.0, 20.0]]), (20, 10), (40, 10)).tolist()
        [[0.0, 0.0, 10.0, 40.0]]
    """
    (height, width), (new_height, new_width) = from_hw, to_hw
    return boxes_xyxy * torch.tensor([new_width / width, new_height / height] * 2, device=boxes_xyxy.device)


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch: `ids`; `images` `(N, C, h, w)` padded to the largest, `sizes_hw` before; `boxes`, a list of (G, 4)."""
    return {
        "ids": [each["id"] for each in samples],
        "images": padded([each["image"] for each in samples]),
        "sizes_hw": [tuple(each["image"].shape[1:]) for each in samples],
        "boxes": [each["boxes"] for each in samples],
    }


class RpnTask:
    """Teach a network which anchors hold an object, and to move them onto it.

    Args:
        module: the network.
        device: where it learns.
    """

    def __init__(self, module: Rpn, device: torch.device) -> None:
        self.module, self.device = module, device

    def step(self, module: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The sum of both losses of a batch, in float32."""
        images = batch["images"].to(self.device, non_blocking=True)
        boxes = [each.to(self.device, non_blocking=True) for each in batch["boxes"]]
        outputs = module(normalised(images, batch["sizes_hw"], self.module.input))
        with torch.autocast(self.device.type, enabled=False):
            whole = RpnOutputs(*(each.float() for each in outputs))
            named, moved = self.module.losses(whole, boxes)
        return {"loss": named + moved, "objectness_loss": named, "box_loss": moved}

    def evaluate(self) -> dict[str, float]:
        """Nothing: no image of the split is held out."""
        return {}

    def check(self) -> None:
        """Nothing is frozen."""
