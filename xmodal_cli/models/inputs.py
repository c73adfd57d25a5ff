"""What a network wants to be fed: channel order, pixel range, mean and standard deviation.

It belongs to a network's weights, not to the data: the same image goes differently into torchvision's VGG16 (RGB, 0..1,
mean and std) and into Caffe's (BGR, 0..255, mean only).

Shapes: N images, C channels, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from xmodal_cli.errors import SettingsError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Means of VGG in blue, green, red, which the paper subtracts from every modality, HHA included (recipe 2.2).
CAFFE_MEAN_BGR = (102.9801, 115.9465, 122.7717)
BYTE = 255.0


@dataclass(frozen=True)
class InputSpec:
    """How stored pixels become a network's input: `(scale to 0..1, order, minus mean, divided by std)`.

    Args:
        mean: one value per channel, in the network's channel order, in units of the range scaled to 0..1.
        std: the same.
        range: the pixel values that are mapped to 0 and 1.
        order: `rgb` leaves channels as they are stored, `bgr` reverses them.

    Example:
        >>> spec = InputSpec((0.5,), (0.5,))
        >>> spec.normalise(torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2)).flatten().tolist()
        [-1.0, 1.0]
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    range: tuple[float, float] = (0.0, BYTE)
    order: Literal["rgb", "bgr"] = "rgb"

    def normalise(self, images: Tensor) -> Tensor:
        """Turn stored images into the network's input.

        Args:
            images: `(N, C, H, W)` of any dtype, values within `range`, channels as stored.

        Returns:
            `(N, C, H, W)` float32.

        Raises:
            SettingsError: the number of channels is another one.
        """
        if images.shape[1] != len(self.mean):
            raise SettingsError(
                f"The network takes {len(self.mean)} channels, the images have {images.shape[1]}.",
                f"Build it with in_channels={images.shape[1]}.",
            )
        low, high = self.range
        std = torch.tensor(self.std, dtype=torch.float64)
        scale = 1 / ((high - low) * std)
        shift = -(low / (high - low) + torch.tensor(self.mean, dtype=torch.float64)) / std
        values = images.float()
        ordered = values.flip(1) if self.order == "bgr" else values
        scale, shift = (value.float().view(1, -1, 1, 1).to(images.device) for value in (scale, shift))
        return ordered * scale + shift

    def with_channels(self, channels: int) -> InputSpec:
        """The same for another number of channels: all get the mean of the means and of the deviations."""
        if channels == len(self.mean):
            return self
        mean, std = sum(self.mean) / len(self.mean), sum(self.std) / len(self.std)
        return InputSpec((mean,) * channels, (std,) * channels, self.range, self.order)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as cards hold them."""
        return {"mean": list(self.mean), "std": list(self.std), "range": list(self.range), "order": self.order}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> InputSpec:
        """The specification that `to_dict` wrote."""
        low, high = values["range"]
        return cls(tuple(values["mean"]), tuple(values["std"]), (low, high), values["order"])


CAFFE_INPUT = InputSpec(
    mean=tuple(value / BYTE for value in CAFFE_MEAN_BGR), std=(1 / BYTE,) * 3, range=(0.0, BYTE), order="bgr"
)
