"""The scale of the teacher's features, measured on the training pairs and kept with the run.

A teacher's channels differ in size by orders of magnitude and L2 only hears the loud ones. The paper puts one scaling
layer between the networks so that feature norms are comparable (`scale`; its constant is unknown, recipe 3.3);
`channel` gives every channel the same voice.

Shapes: N images, C channels, `h x w` grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from safetensors.torch import save as packed
from torch import Tensor

from xmodal_cli import files

NORMALISATIONS = ("channel", "scale", "none")

# A channel that hardly ever fires would be blown up to pure noise: no divisor is below this share of the mean one.
SMALLEST_SHARE = 0.05


@dataclass(frozen=True)
class FeatureStatistics:
    """What was measured of a teacher layer on the training pairs.

    Args:
        mean: `(C,)` float32, mean of each channel.
        std: `(C,)` float32, standard deviation of each channel.
        mean_norm: mean length of a cell's feature vector.
        smallest: the smallest value met: a layer with negative values cannot be met by an adapter that ends in ReLU.
    """

    mean: Tensor
    std: Tensor
    mean_norm: float
    smallest: float

    def divisor(self, how: str) -> Tensor:
        """What the teacher's features are divided by.

        Args:
            how: `channel`: each channel's standard deviation; `scale`: one number that makes the mean norm sqrt(C), so
                that elements are of order one; `none`: 1.

        Returns:
            `(C,)` float32.
        """
        if how == "channel":
            return self.std + SMALLEST_SHARE * self.std.mean()
        if how == "scale":
            return torch.full_like(self.std, max(self.mean_norm, 1e-12) / len(self.std) ** 0.5)
        return torch.ones_like(self.std)

    @property
    def non_negative(self) -> bool:
        """Whether the layer ends in a rectifier."""
        return self.smallest >= 0


class FeatureSums:
    """Gathers the statistics of one layer batch by batch, in double precision.

    Example:
        >>> sums = FeatureSums()
        >>> sums.add(torch.ones(2, 3, 4, 4))
        >>> statistics = sums.statistics()
        >>> statistics.std.tolist(), statistics.non_negative
        ([0.0, 0.0, 0.0], True)
    """

    def __init__(self) -> None:
        self.cells, self.norms, self.smallest = 0, 0.0, float("inf")
        self.total = self.squares = torch.zeros((), dtype=torch.float64)

    def add(self, maps: Tensor) -> None:
        """Add a batch of maps `(N, C, h, w)`, any float dtype."""
        vectors = maps.detach().cpu().double().movedim(1, -1).flatten(0, -2)  # (N h w, C)
        self.cells += len(vectors)
        self.total = self.total + vectors.sum(0)
        self.squares = self.squares + vectors.square().sum(0)
        self.norms += float(vectors.norm(dim=1).sum())
        self.smallest = min(self.smallest, float(vectors.min()))

    def statistics(self) -> FeatureStatistics:
        """What was gathered so far."""
        mean = self.total / self.cells
        variance = (self.squares / self.cells - mean.square()).clamp_min(0)
        return FeatureStatistics(mean.float(), variance.sqrt().float(), self.norms / self.cells, self.smallest)


def save(path: Path, points: Sequence[FeatureStatistics]) -> None:
    """Write the statistics of every transfer point, as a safetensors file, atomically."""
    tensors: dict[str, Tensor] = {}
    for number, each in enumerate(points):
        scalars = torch.tensor([each.mean_norm, each.smallest], dtype=torch.float64)
        tensors |= {f"{number}.mean": each.mean, f"{number}.std": each.std, f"{number}.norm_and_smallest": scalars}
    files.write_bytes(path, packed(tensors))


def load(path: Path, points: int) -> list[FeatureStatistics]:
    """Read the statistics of so many transfer points."""
    tensors = load_file(path)
    found = []
    for number in range(points):
        norm, smallest = tensors[f"{number}.norm_and_smallest"].tolist()
        found.append(FeatureStatistics(tensors[f"{number}.mean"], tensors[f"{number}.std"], norm, smallest))
    return found
