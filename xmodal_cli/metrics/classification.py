"""How well images and clips were named: top-1 accuracy, its mean over classes, and intervals.

A clip is named by the mean of the probabilities of its images. The images of a clip are nearly the same picture:
intervals draw whole clips anew.

Shapes: N images, M clips, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.metrics.results import bootstrap_interval


@dataclass(frozen=True)
class Accuracy:
    """Top-1 accuracy of some samples.

    Args:
        classes: names of the classes.
        labels: `(N,)` int64, what each is.
        named: `(N,)` int64, what it was called.
        groups: `(N,)` int64, number of the clip that it is of.
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    named: NDArray[np.int64]
    groups: NDArray[np.int64]

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self.labels)

    @property
    def accuracy(self) -> float:
        """Share named rightly, percent."""
        return float((self.labels == self.named).mean()) * 100

    @property
    def by_class(self) -> dict[str, float | None]:
        """The same of each class; None where no sample is of it."""
        right = self.labels == self.named
        chosen = {name: self.labels == number for number, name in enumerate(self.classes)}
        return {name: float(right[of].mean()) * 100 if of.any() else None for name, of in chosen.items()}

    @property
    def class_mean_accuracy(self) -> float:
        """Mean over the classes that samples are of, percent."""
        return float(np.mean([share for share in self.by_class.values() if share is not None]))

    def interval(self, share: float = 0.95) -> tuple[float, float]:
        """A bootstrap interval of the accuracy, percent, from drawing clips anew."""
        return bootstrap_interval((self.labels == self.named).astype(float), self.groups, share)

    def counts(self) -> dict[str, int]:
        """How many samples are of each class."""
        found = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, found, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `results.json` and `--json`; percent."""
        shares = self.by_class.items()
        return {
            "accuracy": round(self.accuracy, 2),
            "class_mean_accuracy": round(self.class_mean_accuracy, 2),
            "interval_95": [round(bound, 2) for bound in self.interval()],
            "count": len(self),
            "by_class": {name: None if share is None else round(share, 2) for name, share in shares},
        }


def image_accuracy(
    probabilities: NDArray[np.floating], labels: NDArray[np.int64], clips: NDArray[np.int64], classes: tuple[str, ...]
) -> Accuracy:
    """Accuracy of images.

    Args:
        probabilities: `(N, K)`.
        labels: `(N,)`.
        clips: `(N,)`, number of each image's clip.
        classes: K names.
    """
    return Accuracy(classes, labels, probabilities.argmax(1), clips)


def clip_accuracy(
    probabilities: NDArray[np.floating], labels: NDArray[np.int64], clips: NDArray[np.int64], classes: tuple[str, ...]
) -> Accuracy | None:
    """Accuracy of clips; None where no clip has two images, or one has images of several classes.

    Example:
        >>> says = np.array([[0.6, 0.4], [0.6, 0.4], [0.0, 1.0]])
        >>> found = clip_accuracy(says, np.array([1, 1, 1]), np.array([7, 7, 7]), ("sit", "stand"))
        >>> found.accuracy  # two of three images say sit, their mean says stand
        100.0
    """
    numbers, group = np.unique(clips, return_inverse=True)
    kinds = np.zeros((len(numbers), len(classes)), np.bool_)
    kinds[group, labels] = True
    if len(numbers) == len(clips) or (kinds.sum(1) > 1).any():
        return None
    sums = np.zeros((len(numbers), len(classes)))
    np.add.at(sums, group, probabilities)
    return Accuracy(classes, kinds.argmax(1), sums.argmax(1), np.arange(len(numbers)))
