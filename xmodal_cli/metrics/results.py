"""Results as dataclasses: the command line prints them, tests compare them, notebooks use them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

BOOTSTRAP_DRAWS = 2000


@dataclass(frozen=True)
class SeedScore:
    """One seed's figures, in percent: share of regions named rightly, and the mean of that over classes."""

    seed: int
    accuracy: float
    class_mean_accuracy: float


@dataclass(frozen=True)
class ProbeResult:
    """What the region probe measured.

    Args:
        seeds: figures of each seed.
        classes_without_objects: classes that no scored region has; they leave the class mean.
        learned_regions: how many regions the classifier learned from.
        hits: `(N,)` float32, for each scored region the share of seeds that named it rightly.
        images: `(N,)` int64, for each scored region the number of its image.
    """

    seeds: tuple[SeedScore, ...]
    classes_without_objects: tuple[str, ...]
    learned_regions: int
    hits: NDArray[np.float32] = field(repr=False)
    images: NDArray[np.int64] = field(repr=False)

    @property
    def accuracy(self) -> float:
        """Mean accuracy over seeds, percent."""
        return float(np.mean([score.accuracy for score in self.seeds]))

    @property
    def class_mean_accuracy(self) -> float:
        """Mean class-mean accuracy over seeds, percent."""
        return float(np.mean([score.class_mean_accuracy for score in self.seeds]))

    def interval(self, share: float = 0.95) -> tuple[float, float]:
        """A bootstrap interval of the accuracy, percent, from drawing images (whose regions belong together) anew."""
        return bootstrap_interval(self.hits, self.images, share)

    def to_dict(self) -> dict[str, object]:
        """Plain values, for `results.json` and `--json`."""
        return {
            "probe": {
                "accuracy": round(self.accuracy, 2),
                "class_mean_accuracy": round(self.class_mean_accuracy, 2),
                "interval_95": [round(bound, 2) for bound in self.interval()],
                "seeds": [
                    {
                        "seed": score.seed,
                        "accuracy": round(score.accuracy, 2),
                        "class_mean_accuracy": round(score.class_mean_accuracy, 2),
                    }
                    for score in self.seeds
                ],
                "regions": {"learned": self.learned_regions, "scored": len(self.hits)},
                "classes_without_objects": list(self.classes_without_objects),
            }
        }


def bootstrap_interval(
    hits: NDArray[np.floating], groups: NDArray[np.int64], share: float = 0.95
) -> tuple[float, float]:
    """An interval of the mean of hits, percent, from drawing groups anew: what is in one group belongs together.

    Args:
        hits: `(N,)`, 1 for each sample that was named rightly, or a share.
        groups: `(N,)`, number of each sample's group.
        share: of the draws that lie inside.

    Example:
        >>> bootstrap_interval(np.array([1.0, 1.0, 1.0]), np.array([0, 0, 1]))
        (100.0, 100.0)
    """
    random = np.random.default_rng(0)
    numbers, group = np.unique(groups, return_inverse=True)
    right = np.bincount(group, weights=hits)
    count = np.bincount(group)
    draws = random.integers(0, len(numbers), (BOOTSTRAP_DRAWS, len(numbers)))
    accuracies = right[draws].sum(1) / count[draws].sum(1) * 100
    low, high = np.quantile(accuracies, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
