"""Pairs as a PyTorch data set: both images of a scene through one geometric draw, as tensors of stored values.

Values stay as stored (8- or 16-bit); the networks' own input specification turns them into what they expect, on the
device. Asked for `(epoch, index)`, a sample depends on the seed, the epoch and its ID alone.

Shapes: N pairs, C channels, `h x w` the size that the networks see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from xmodal_cli.data.prepared import ModalityInfo, PreparedData
from xmodal_cli.data.transforms import Augmentation, Draw, apply, draw, generator, whole_image


class Pairs(Dataset[dict[str, Any]]):
    """Some pairs of a prepared data set, seen through random windows.

    Args:
        data: the prepared data set.
        ids: which pairs.
        modalities: which images of each pair to read, e.g. `("rgb", "hha")`.
        augmentation: what the draw may do; None sees whole images at `size_hw`.
        size_hw: height and width of whole images, when there is no augmentation.
        seed: of the draws.
        in_memory: keep decoded images, for data that fits; only useful without worker processes.
        strangers: by modality, for each pair the index of another one whose image it gets in place of its own: the
            control that shows what pairing is worth.
    """

    def __init__(
        self,
        data: PreparedData,
        ids: Sequence[str],
        modalities: Sequence[str],
        *,
        augmentation: Augmentation | None = None,
        size_hw: tuple[int, int],
        seed: int = 0,
        in_memory: bool = False,
        strangers: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        self.data, self.ids, self.modalities = data, list(ids), tuple(modalities)
        self.augmentation, self.size_hw, self.seed = augmentation, size_hw, seed
        self.strangers = dict(strangers or {})
        self._memory: dict[tuple[str, str], NDArray[np.generic]] | None = {} if in_memory else None

    def __len__(self) -> int:
        return len(self.ids)

    def draw(self, epoch: int, index: int) -> Draw:
        """The geometric draw of a sample."""
        name = self.ids[index]
        image_hw = self.data.size_hw(name)
        if self.augmentation is None:
            return whole_image(image_hw, self.size_hw)
        return draw(self.augmentation, image_hw, generator(self.seed, epoch, name))

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        cv2.setNumThreads(0)  # a step's threads belong to the network; also in worker processes
        epoch, index = key
        window = self.draw(epoch, index)
        sample: dict[str, Any] = {"id": self.ids[index], "index": index, "draw": window}
        for modality in self.modalities:
            other = self.strangers[modality][index] if modality in self.strangers else index
            image = apply(self._read(modality, self.ids[other]), window, self.data.modalities[modality].flip)
            sample[modality] = torch.from_numpy(image).permute(2, 0, 1)  # (C, h, w)
        return sample

    def _read(self, modality: str, name: str) -> NDArray[np.generic]:
        if self._memory is None:
            return self.data.read(modality, name)
        if (modality, name) not in self._memory:
            self._memory[modality, name] = self.data.read(modality, name)
        return self._memory[modality, name]


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch of samples: tensors stacked, IDs listed.

    Returns:
        `{"ids": list of N, modality: (N, C, h, w), ...}` with whatever other tensors the samples carry.
    """
    batch: dict[str, Any] = {"ids": [sample["id"] for sample in samples]}
    for key, value in samples[0].items():
        if isinstance(value, Tensor):
            batch[key] = torch.stack([sample[key] for sample in samples])
    return batch


def value_range(info: ModalityInfo) -> tuple[float, float]:
    """The stored values that a network's input maps to 0 and 1: all of a byte, else the modality's range."""
    return (0.0, 255.0) if info.dtype == "uint8" else info.range


def channel_statistics(
    data: PreparedData, modality: str, ids: Sequence[str], *, most: int = 200
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over a split, in shares of the modality's range.

    Args:
        data: the prepared data set.
        modality: which images.
        ids: which pairs; beyond `most`, evenly chosen ones.
        most: how many images to read at most.

    Returns:
        Two tuples of C numbers: values scaled so that the modality's range becomes 0 to 1.
    """
    low, high = value_range(data.modality(modality))
    chosen = [ids[i] for i in np.unique(np.linspace(0, len(ids) - 1, min(most, len(ids))).round().astype(int))]
    cells, total, squares = 0, np.zeros(1), np.zeros(1)
    for name in chosen:
        values = (data.read(modality, name).astype(np.float64) - low) / (high - low)
        flat = values.reshape(-1, values.shape[-1])
        cells, total, squares = cells + len(flat), total + flat.sum(0), squares + np.square(flat).sum(0)
    mean = total / cells
    std = np.sqrt(np.maximum(squares / cells - np.square(mean), 0))
    floor = 1 / (high - low)  # one stored step: a channel that never changes must not be divided by nothing
    return tuple(map(float, mean)), tuple(map(float, np.maximum(std, floor)))
