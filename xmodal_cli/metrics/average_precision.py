"""Average precision as the paper measures it: VOC's matching, the area under the whole precision envelope.

Detections of a class are taken in decreasing score. Each is compared with the object of its class, in its image, that
it overlaps most: a hit if their IoU reaches the threshold and nobody hit that object before, else a false alarm. There
is no second choice. AP is the area under precision made monotone, over every recall reached (VOC since 2010), neither
at 11 points nor at COCO's 101. (The evaluation of the authors' published detection code; paper, section 4.1.)

Boxes around crowds count like VOC's difficult objects: nobody has to find them, and a detection that overlaps one of
them more than any other object, by at least the threshold, is neither a hit nor a false alarm.

Shapes: N detections and M objects of all images together, K classes, T hits of one class, I images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.metrics.detections import Detections, Objects, check_labels, check_objects

IOU = 0.5  # paper, section 4.1
BOOTSTRAP_DRAWS = 1000
NOTHING = -1  # the object of a detection that overlaps none


@dataclass(frozen=True)
class ClassCurve:
    """Precision against recall of one class; detections that are neither right nor wrong are left out.

    Args:
        name: the class.
        objects: `(I,)` int64, how many objects each image has, crowds left out.
        scores: `(N,)` scores of its detections, falling.
        hits: `(N,)` bool, whether each found an object first.
        images: `(N,)` int64, the image of each.
    """

    name: str
    objects: NDArray[np.int64] = field(repr=False)
    scores: NDArray[np.floating] = field(repr=False)
    hits: NDArray[np.bool_] = field(repr=False)
    images: NDArray[np.int64] = field(repr=False)

    @property
    def object_count(self) -> int:
        """How many objects there are to find."""
        return int(self.objects.sum())

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of the objects found by the best n detections, `(N,)`, from 0 to 1; zeros without objects."""
        return np.cumsum(self.hits) / max(self.object_count, 1)

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of hits among the best n detections, `(N,)`, from 0 to 1."""
        return np.cumsum(self.hits) / np.arange(1, len(self.hits) + 1)

    @property
    def ap(self) -> float | None:
        """Average precision in percent; None without objects."""
        return 100 * average_precision(self.recall, self.precision) if self.object_count else None


@dataclass(frozen=True)
class ApResult:
    """Average precision of every class, and what it came from.

    Args:
        curves: one per class, in the order of the classes.
        detections: how many detections each class has, those on crowds included.
        iou: smallest IoU of a hit.
    """

    curves: tuple[ClassCurve, ...]
    detections: dict[str, int]
    iou: float = IOU

    @property
    def ap(self) -> dict[str, float | None]:
        """Average precision by class in percent, None where there are no objects."""
        return {curve.name: curve.ap for curve in self.curves}

    @property
    def mAP(self) -> float:
        """Mean over the classes with objects, percent."""
        return float(np.mean([value for value in self.ap.values() if value is not None]))

    @property
    def objects(self) -> dict[str, int]:
        """How many objects each class has, crowds left out."""
        return {curve.name: curve.object_count for curve in self.curves}

    @property
    def classes_without_objects(self) -> tuple[str, ...]:
        """Classes that the mean leaves out, because nothing of them is there to be found."""
        return tuple(curve.name for curve in self.curves if not curve.object_count)

    def bootstrap(self, draws: int = BOOTSTRAP_DRAWS, seed: int = 0) -> NDArray[np.float64]:
        """The mAP of sets of as many images, drawn anew from the images scored.

        Two results on the same images draw the same sets, so that the difference of their arrays says how sure it is
        that one is better than the other.

        Args:
            draws: how many sets.
            seed: of the draws.

        Returns:
            `(draws,)` percent.
        """
        images = len(self.curves[0].objects)
        drawn = np.random.default_rng(seed).integers(0, images, (draws, images))
        weights = np.stack([np.bincount(row, minlength=images) for row in drawn]).astype(np.float32)  # (draws, I)
        present = [curve for curve in self.curves if curve.object_count]
        found = np.stack([_drawn_ap(curve, weights) for curve in present])  # (K, draws), NaN where the set lacks it
        there = np.isfinite(found)
        return np.asarray(100 * np.where(there, found, 0).sum(0) / np.maximum(there.sum(0), 1))

    def interval(self, share: float = 0.95, draws: int = BOOTSTRAP_DRAWS) -> tuple[float, float]:
        """How far the mAP would spread on other images like these, percent; the same for the same detections.

        A set drawn anew holds images twice, whose hits come side by side: its envelope lies a point or so too high. So
        the bootstrap's spread is taken, and its mean is put where the mAP is.
        """
        drawn = self.bootstrap(draws)
        low, high = np.quantile(drawn - drawn.mean() + self.mAP, [(1 - share) / 2, (1 + share) / 2])
        return max(float(low), 0.0), min(float(high), 100.0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `results.json` and `--json`; percent."""
        return {
            "metric": "voc",
            "iou": self.iou,
            "mAP": round(self.mAP, 2),
            "AP": {name: None if value is None else round(value, 2) for name, value in self.ap.items()},
            "interval_95": [round(bound, 2) for bound in self.interval()],
            "classes_without_objects": list(self.classes_without_objects),
            "objects": self.objects,
            "detections": self.detections,
        }


def voc_ap(detections: Detections, objects: Objects, classes: Sequence[str], *, iou: float = IOU) -> ApResult:
    """Score detections as the paper does.

    Args:
        detections: what was found; of equal scores the earlier one comes first.
        objects: what is there, numbered by the same list of images.
        classes: class names, which the labels of both index.
        iou: smallest IoU of a hit, above 0.

    Raises:
        DataError: there is not one object to find.
        ValueError: a label means no class.

    Example:
        >>> box = np.array([[0, 0, 10, 10]], np.float32)
        >>> there = Objects(np.array([0]), np.array([0]), box, np.array([100.0]), np.array([False]))
        >>> found = Detections(np.array([0, 0]), np.array([0, 0]), np.array([0.9, 0.8]), np.repeat(box, 2, 0))
        >>> result = voc_ap(found, there, ["bed", "chair"])
        >>> result.mAP, result.ap, result.classes_without_objects
        (100.0, {'bed': 100.0, 'chair': None}, ('chair',))
    """
    check_labels(detections.labels, len(classes))
    check_objects(objects, len(classes))
    best, most = np.full(len(detections), NOTHING, np.int64), np.zeros(len(detections))
    for number in range(len(classes)):
        mine, there = np.flatnonzero(detections.labels == number), np.flatnonzero(objects.labels == number)
        own, most[mine] = best_objects(detections[mine], objects[there])
        best[mine] = np.where(own == NOTHING, NOTHING, there[own] if len(there) else NOTHING)
    return judged(detections, objects, classes, best, most, iou)


def judged(
    detections: Detections,
    objects: Objects,
    classes: Sequence[str],
    best: NDArray[np.int64],
    overlaps: NDArray[np.float64],
    iou: float,
) -> ApResult:
    """Score detections of which it is known what they overlap most, boxes or masks.

    Args:
        detections, objects, classes: as in `voc_ap`.
        best: `(N,)`, the object of its class and image that each detection overlaps most, `NOTHING` for none.
        overlaps: `(N,)`, their IoU.
        iou: smallest of a hit.
    """
    images = 1 + max(int(part.images.max(initial=0)) for part in (detections, objects))
    ends = np.cumsum(np.bincount(detections.labels, minlength=len(classes)))[:-1]
    members = np.split(np.argsort(detections.labels.astype(np.int32), kind="stable"), ends)  # (N of the class,) each
    curves = []
    for number, (name, mine) in enumerate(zip(classes, members, strict=True)):
        falling = mine[np.argsort(-detections.scores[mine], kind="stable")]
        found, there = detections[falling], objects[np.flatnonzero(objects.labels == number)]
        hits, counted = _judge(best[falling], overlaps[falling], objects.crowd, iou)
        to_find = np.bincount(there.images[~there.crowd], minlength=images)
        curves.append(ClassCurve(name, to_find, found.scores[counted], hits[counted], found.images[counted]))
    counts = detections.counts(len(classes)).tolist()
    return ApResult(tuple(curves), dict(zip(classes, counts, strict=True)), iou)


def average_precision(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """The area under the precision envelope over all recalls reached.

    Args:
        recall: `(N,)` from 0 to 1, rising.
        precision: `(N,)` from 0 to 1.

    Returns:
        From 0 to 1.

    Example:
        A hit, a false alarm, a hit, of two objects: the envelope is 1 up to recall 0.5 and 2/3 from there.
        >>> round(average_precision(np.array([0.5, 0.5, 1.0]), np.array([1, 1 / 2, 2 / 3])), 4)
        0.8333
    """
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def _judge(
    best: NDArray[np.int64], overlaps: NDArray[np.float64], crowds: NDArray[np.bool_], iou: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which detections of one class, in falling score, hit; and which count at all: two arrays `(N,)`.

    Args:
        best: `(N,)`, the object that each overlaps most.
        overlaps: `(N,)`, their IoU.
        crowds: whether each object is a crowd.
        iou: smallest of a hit.
    """
    near = (best != NOTHING) & (overlaps >= iou)
    crowd = np.zeros(len(best), np.bool_)
    crowd[near] = crowds[best[near]]
    claims = np.flatnonzero(near & ~crowd)
    _, first = np.unique(best[claims], return_index=True)  # the first claim on each object is its best detection
    hits = np.zeros(len(best), np.bool_)
    hits[claims[first]] = True
    return hits, ~crowd


def best_objects(found: Detections, there: Objects) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The object in its image that each detection overlaps most, whatever their classes.

    Args:
        found: N detections.
        there: the objects.

    Returns:
        `(N,)` index into the objects, -1 where nothing overlaps; of equals the first; and `(N,)` the IoU.
    """
    by_image = np.argsort(there.images, kind="stable")
    images = there.images[by_image]
    first, last = np.searchsorted(images, found.images), np.searchsorted(images, found.images, "right")
    # All pairs of a detection and an object of its image, those of one detection side by side.
    counts = last - first
    paired = np.flatnonzero(counts)
    detection = np.repeat(paired, counts[paired])
    starts = np.cumsum(counts[paired]) - counts[paired]
    other = by_image[np.arange(len(detection)) - np.repeat(starts - first[paired], counts[paired])]
    overlaps = _paired_iou(found.boxes_xyxy[detection], there.boxes_xyxy[other])
    best, most = np.full(len(found), NOTHING, np.int64), np.zeros(len(found))
    if len(paired):
        most[paired] = np.maximum.reduceat(overlaps, starts)
        equal = np.flatnonzero((overlaps == most[detection]) & (overlaps > 0))
        best[detection[equal[::-1]]] = other[equal[::-1]]  # written last: the first of equals
    return best, most


def _paired_iou(one_xyxy: NDArray[np.float32], other_xyxy: NDArray[np.float32]) -> NDArray[np.float64]:
    """IoU of each box with the box beside it, `(P,)`; 0 where both have no area."""
    a, b = one_xyxy.astype(np.float64), other_xyxy.astype(np.float64)
    inner = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None).prod(1)
    areas = [np.clip(box[:, 2:] - box[:, :2], 0, None).prod(1) for box in (a, b)]
    union = areas[0] + areas[1] - inner
    return np.asarray(np.divide(inner, union, out=np.zeros_like(inner), where=union > 0))


def _drawn_ap(curve: ClassCurve, weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """AP of one class, from 0 to 1, where images count several times or not at all; NaN where no object is left.

    The envelope only changes at hits, so all it takes is how many false alarms of each image lie between them.

    Args:
        curve: hits and false alarms in order.
        weights: `(draws, I)`, how often each image counts.
    """
    total, where = weights @ curve.objects.astype(np.float32), np.flatnonzero(curve.hits)  # (draws,) (T,)
    if not len(where):
        return np.where(total > 0, 0.0, np.nan)
    before = slice(0, where[-1] + 1)
    wrong = ~curve.hits[before]
    step = (np.cumsum(curve.hits[before]) * weights.shape[1] + curve.images[before])[wrong]
    alarms = np.bincount(step, minlength=len(where) * weights.shape[1]).reshape(len(where), -1)  # (T, I)
    false = np.cumsum(weights @ alarms.T.astype(np.float32), axis=1)  # (draws, T)
    gained = weights[:, curve.images[where]].astype(np.float64)  # (draws, T)
    right = np.cumsum(gained, axis=1)
    precision = np.divide(right, right + false, out=np.zeros_like(right), where=right > 0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    area = (gained * envelope).sum(1)
    return np.where(total > 0, area / np.maximum(total, 1), np.nan)
