"""What is scored: detections and annotated objects of a whole split, as flat arrays that know their image.

Shapes: N detections or objects of all images together. Boxes are `x1, y1, x2, y2` in float pixels counted from 0 with
exclusive ends (x2 = x1 + width).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.errors import DataError

Flat = TypeVar("Flat", "Detections", "Objects")


@dataclass(frozen=True)
class Detections:
    """Boxes that a detector found, with the class and the score of each.

    Args:
        images: `(N,)` int64, which image of a list of IDs each is in.
        labels: `(N,)` int64, index into the classes, from 0; background is no class.
        scores: `(N,)` float32 or float64, any finite range, higher is surer.
        boxes_xyxy: `(N, 4)` float32.

    Raises:
        ValueError: the arrays do not belong together.
        DataError: a score or a corner is not a finite number.

    Example:
        >>> one = Detections(np.array([0]), np.array([2]), np.array([0.9]), np.array([[0, 0, 8, 8]], np.float32))
        >>> len(one), len(Detections.of([]))
        (1, 0)
    """

    images: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: NDArray[np.floating]
    boxes_xyxy: NDArray[np.float32]

    def __post_init__(self) -> None:
        _check_lengths(self)
        for name, values in (("score", self.scores), ("box", self.boxes_xyxy.sum(1))):
            wrong = np.flatnonzero(~np.isfinite(values))
            if wrong.size:
                raise DataError(
                    f"{wrong.size} of {len(self)} detections have a {name} that is not finite, the first is number "
                    f"{wrong[0]}, in image {self.images[wrong[0]]}.",
                    "A network that diverged gives such values: look at its training curve.",
                )

    def __len__(self) -> int:
        """How many detections there are."""
        return len(self.labels)

    def __getitem__(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Detections:
        """Some of the detections, by index or by mask."""
        return _chosen(self, chosen)

    def counts(self, classes: int) -> NDArray[np.int64]:
        """How many detections each class has, `(classes,)`."""
        return np.bincount(self.labels, minlength=classes)

    @classmethod
    def of(cls, parts: list[Detections]) -> Detections:
        """The detections of several parts, such as images, as one."""
        empty = cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros((0, 4), np.float32))
        return _joined(parts) if parts else empty


@dataclass(frozen=True)
class Objects:
    """Annotated objects: what a detector should have found.

    Args:
        images: `(N,)` int64, which image of a list of IDs each is in.
        labels: `(N,)` int64, index into the classes, from 0.
        boxes_xyxy: `(N, 4)` float32.
        areas: `(N,)` float64, pixels; of the mask where there is one, for COCO's small, medium and large.
        crowd: `(N,)` bool, boxes around groups: no detector has to find them.

    Raises:
        ValueError: the arrays do not belong together.
    """

    images: NDArray[np.int64]
    labels: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float32]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]

    def __post_init__(self) -> None:
        _check_lengths(self)

    def __len__(self) -> int:
        """How many objects there are, those around crowds included."""
        return len(self.labels)

    def __getitem__(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Objects:
        """Some of the objects, by index or by mask."""
        return _chosen(self, chosen)

    @classmethod
    def of(cls, parts: list[Objects]) -> Objects:
        """The objects of several parts, such as images, as one."""
        ints, flags = np.zeros(0, np.int64), np.zeros(0, np.bool_)
        return _joined(parts) if parts else cls(ints, ints, np.zeros((0, 4), np.float32), np.zeros(0), flags)

    def counts(self, classes: int) -> NDArray[np.int64]:
        """How many objects each class has, `(classes,)`; those around crowds do not count."""
        return np.bincount(self.labels[~self.crowd], minlength=classes)


def check_labels(labels: NDArray[np.int64], classes: int) -> None:
    """Find labels that mean no class.

    Raises:
        ValueError: there is one; a detector's background class must be taken off before.
    """
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels from {labels.min()} to {labels.max()} for {classes} classes; expected 0 and up")


def check_objects(objects: Objects, classes: int) -> None:
    """Find out whether there is anything to score with.

    Raises:
        DataError: there is not one object to find.
        ValueError: a label means no class.
    """
    check_labels(objects.labels, classes)
    if objects.crowd.all():
        raise DataError(
            f"There is no object of the {classes} classes to find, so nothing can be scored.",
            "Score a split that has annotations.",
        )


def _chosen(flat: Flat, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Flat:
    return type(flat)(*(getattr(flat, part.name)[chosen] for part in fields(flat)))


def _joined(parts: list[Flat]) -> Flat:
    names = [part.name for part in fields(parts[0])]
    return type(parts[0])(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _check_lengths(flat: Detections | Objects) -> None:
    count = len(flat.labels)
    for part in fields(flat):
        expected = (count, 4) if part.name == "boxes_xyxy" else (count,)
        found = getattr(flat, part.name).shape
        if found != expected:
            raise ValueError(f"{part.name} has the shape {found}, expected {expected}")
