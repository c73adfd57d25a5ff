"""CaffeNet, the AlexNet of the paper, as its authors defined it for Caffe (recipe 3.1).

Not torchvision's AlexNet: wider, grouped convolutions, pooling before local response normalisation, and Caffe's pooling
sizes, which round up. The paper pads the first layers of its two AlexNets differently: the HHA student 7/0/0 (conv1,
pool1, pool2), so that its conv5 has VGG16's cells on whole images; the RGB network of the detector 5/1/1. Modules are
named as in Caffe, so `conv1.weight` is Caffe's blob; the paper's "conv1" as a layer is the map after the ReLU.

Shapes: N images, H x W pixels (BGR, 0..255, mean subtracted), h x w cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

CONV_STD = 0.01  # Gaussian fillers of the student's definition (recipe 3.1)
FC_STD = 0.005
BIAS_ONE = ("conv2", "conv4", "conv5", "fc6", "fc7")  # biases that start at 1, all others at 0
LRN_SIZE, LRN_ALPHA, LRN_BETA, LRN_K = 5, 1e-4, 0.75, 1.0
FC_CELLS = 6  # fc6 reads a map of 6 x 6 cells
FC_UNITS = 4096
DROPOUT = 0.5


@dataclass(frozen=True)
class Padding:
    """Zero padding of conv1, pool1 and pool2."""

    conv1: int
    pool1: int
    pool2: int


STUDENT = Padding(7, 0, 0)
RGB = Padding(5, 1, 1)


class CaffeNet(nn.Module):
    """CaffeNet with the paper's layer names.

    Args:
        padding: `STUDENT` (7/0/0) or `RGB` (5/1/1).
        in_channels: of the input.
        classes: outputs of fc8.

    Example:
        >>> net = CaffeNet(STUDENT)
        >>> net.features(torch.zeros(1, 3, 224, 224)).shape
        torch.Size([1, 256, 7, 7])
    """

    def __init__(self, padding: Padding = STUDENT, in_channels: int = 3, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 96, 11, stride=4, padding=padding.conv1)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(3, 2, padding=padding.pool1, ceil_mode=True)
        self.norm1 = nn.LocalResponseNorm(LRN_SIZE, LRN_ALPHA, LRN_BETA, LRN_K)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=2)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(3, 2, padding=padding.pool2, ceil_mode=True)
        self.norm2 = nn.LocalResponseNorm(LRN_SIZE, LRN_ALPHA, LRN_BETA, LRN_K)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.relu3 = nn.ReLU()
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=2)
        self.relu4 = nn.ReLU()
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=2)
        self.relu5 = nn.ReLU()
        self.pool5 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.to_cells = nn.AdaptiveAvgPool2d(FC_CELLS)  # the identity at the size the network was trained for
        self.fc6 = nn.Linear(256 * FC_CELLS * FC_CELLS, FC_UNITS)
        self.relu6 = nn.ReLU()
        self.drop6 = nn.Dropout(DROPOUT)
        self.fc7 = nn.Linear(FC_UNITS, FC_UNITS)
        self.relu7 = nn.ReLU()
        self.drop7 = nn.Dropout(DROPOUT)
        self.fc8 = nn.Linear(FC_UNITS, classes)
        self.fill()

    def fill(self) -> None:
        """Draw all weights and biases as the student's definition says."""
        for name, module in self.named_children():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, std=FC_STD if name in ("fc6", "fc7") else CONV_STD)
                if module.bias is not None:
                    nn.init.constant_(module.bias, float(name in BIAS_ONE))

    def features(self, images: Tensor) -> Tensor:
        """The map of pool5: `(N, C, H, W)` to `(N, 256, h, w)`."""
        x = self.norm1(self.pool1(self.relu1(self.conv1(images))))
        x = self.norm2(self.pool2(self.relu2(self.conv2(x))))
        x = self.relu4(self.conv4(self.relu3(self.conv3(x))))
        return self.pool5(self.relu5(self.conv5(x)))  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        """Class scores `(N, classes)`."""
        x = torch.flatten(self.to_cells(self.features(images)), 1)  # channel-major, as Caffe flattens
        x = self.drop6(self.relu6(self.fc6(x)))
        x = self.drop7(self.relu7(self.fc7(x)))
        return self.fc8(x)  # type: ignore[no-any-return]
