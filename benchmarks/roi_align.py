"""RoIAlign of a training step on a CPU: torchvision's operator and ours in turn, forward and backward, processor time.

    OMP_NUM_THREADS=1 python benchmarks/roi_align.py

Two images of 64 regions, 7 x 7 cells of 256 channels, as a small detector trains; maps of 14 x 19 and 40 x 53 cells.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.ops import roi_align as torchvision_roi_align

from xmodal_cli.models.roi_align import roi_align

IMAGES, REGIONS, CHANNELS, SIZE, SAMPLES, TURNS = 2, 64, 256, 7, 2, 12


def theirs(maps: Tensor, boxes: list[Tensor]) -> Tensor:
    aligned: Tensor = torchvision_roi_align(maps, boxes, (SIZE, SIZE), 1.0, SAMPLES, aligned=True)
    return aligned


def ours(maps: Tensor, boxes: list[Tensor]) -> Tensor:
    return roi_align(maps, boxes, SIZE, SAMPLES)


def milliseconds(align: Callable[[Tensor, list[Tensor]], Tensor], maps: Tensor, boxes: list[Tensor]) -> float:
    """Processor time of one forward and backward pass."""
    began = time.process_time()
    cells = align(maps, boxes)
    cells.backward(torch.ones_like(cells))
    return 1000 * (time.process_time() - began)


def main() -> None:
    torch.manual_seed(0)
    for height, width in ((14, 19), (40, 53)):
        maps = torch.randn(IMAGES, CHANNELS, height, width, requires_grad=True)
        low = torch.rand(IMAGES, REGIONS, 2) * torch.tensor([width, height]) * 0.7
        boxes = list(torch.cat([low, low + 1 + torch.rand_like(low) * torch.tensor([width, height]) * 0.5], 2))
        times = [(milliseconds(theirs, maps, boxes), milliseconds(ours, maps, boxes)) for _ in range(TURNS)][2:]
        slow, fast = (statistics.median(each) for each in zip(*times, strict=True))
        print(f"{height} x {width} cells: torchvision {slow:.0f} ms, ours {fast:.0f} ms, ratio {slow / fast:.1f}")


if __name__ == "__main__":
    main()
