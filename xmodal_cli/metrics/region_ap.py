"""AP^r, the paper's figure of masks: average precision where overlap is that of regions, not of boxes (recipe 5.4).

Everything else is as for boxes (`average_precision.py`): per image and class a detection is compared with the object
that its mask overlaps most; a hit if their IoU reaches the threshold and no surer one hit that object before. Tables 2
and 3 give it at IoU 0.5 and 0.7. COCO's AP of masks stands beside it.

Shapes: N detections and M objects of all images together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.metrics.average_precision import NOTHING, ApResult, judged
from xmodal_cli.metrics.coco import CocoResult, Masks, coco_ap
from xmodal_cli.metrics.detections import Detections, Objects, check_labels, check_objects

IOUS = (0.5, 0.7)  # paper, Tables 2 and 3


@dataclass(frozen=True)
class RegionResult:
    """AP^r at several thresholds, and COCO's figures of the same masks.

    Args:
        by_iou: the paper's figures by threshold, the main one first.
        coco: COCO's.
    """

    by_iou: dict[float, ApResult]
    coco: CocoResult

    @property
    def _main(self) -> ApResult:
        return next(iter(self.by_iou.values()))

    @property
    def mAP(self) -> float:
        """Mean AP^r over the classes with objects, percent, at the first threshold."""
        return self._main.mAP

    @property
    def ap(self) -> dict[str, float | None]:
        """AP^r by class in percent at the first threshold, None where there are no objects."""
        return self._main.ap

    @property
    def objects(self) -> dict[str, int]:
        """How many objects each class has, crowds left out."""
        return self._main.objects

    @property
    def detections(self) -> dict[str, int]:
        """How many detections each class has."""
        return self._main.detections

    @property
    def classes_without_objects(self) -> tuple[str, ...]:
        """Classes that the means leave out."""
        return self._main.classes_without_objects

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `results.json` and `--json`; percent, where nothing else is said at the first threshold."""
        coco = self.coco.to_dict()
        return {
            **self._main.to_dict(),
            "metric": "region",
            "mAP_r": {str(iou): round(each.mAP, 2) for iou, each in self.by_iou.items()},
            "AP_r": {str(iou): each.to_dict()["AP"] for iou, each in self.by_iou.items()},
            "interval_95_r": {str(iou): each.to_dict()["interval_95"] for iou, each in self.by_iou.items()},
            "coco": {key: value for key, value in coco.items() if key not in ("metric", "objects", "detections")},
        }

    def rows(self) -> list[list[object]]:
        """A table of class, AP^r at every threshold, COCO's AP, objects and detections, closed by the means."""
        columns = [*(each.ap for each in self.by_iou.values()), self.coco.ap]
        rows: list[list[object]] = [
            [name, *map(_shown, (column[name] for column in columns)), self.objects[name], self.detections[name]]
            for name in self.objects
        ]
        means = [*(each.mAP for each in self.by_iou.values()), self.coco.mAP]
        counts = sum(self.objects.values()), sum(self.detections.values())
        return [*rows, ["mean", *map(_shown, means), *counts]]

    def columns(self) -> list[str]:
        """Heads of the table."""
        return ["class", *(f"AP^r {iou}" for iou in self.by_iou), "COCO mask AP", "objects", "detections"]


def region_ap(
    detections: Detections,
    objects: Objects,
    classes: Sequence[str],
    found: Masks,
    there: Masks,
    ious: Sequence[float] = IOUS,
) -> RegionResult:
    """Score masks as the paper does, and as COCO does.

    Args:
        detections: what was found; of equal scores the earlier one comes first. Boxes are not looked at.
        objects: what is there, numbered by the same list of images.
        classes: class names, which the labels of both index.
        found: N masks as compressed RLE, those of the detections.
        there: M masks, those of the objects.
        ious: thresholds, at least one.

    Raises:
        DataError: there is not one object to find.
        ValueError: a label means no class.
    """
    check_labels(detections.labels, len(classes))
    check_objects(objects, len(classes))
    best, overlaps = best_regions(detections, objects, found, there)
    by_iou = {iou: judged(detections, objects, classes, best, overlaps, iou) for iou in ious}
    return RegionResult(by_iou, coco_ap(detections, objects, classes, (found, there)))


def best_regions(
    detections: Detections, objects: Objects, found: Masks, there: Masks
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The object of its class and image whose mask each detection's overlaps most.

    Args:
        detections, objects, found, there: as in `region_ap`.

    Returns:
        `(N,)` index into the objects, `NOTHING` where no mask overlaps; of equals the first; and `(N,)` the IoU.
    """
    from faster_coco_eval.core import mask as coco_masks

    best, most = np.full(len(detections), NOTHING, np.int64), np.zeros(len(detections))
    groups = _by_image_and_class(objects)
    for key, mine in _by_image_and_class(detections).items():
        others = groups.get(key)
        if others is None:
            continue
        iou = coco_masks.iou([found[n] for n in mine], [there[n] for n in others], [0] * len(others))
        overlaps = np.asarray(iou, np.float64).reshape(len(mine), len(others))
        first = overlaps.argmax(1)
        most[mine] = overlaps[np.arange(len(mine)), first]
        best[mine] = np.where(most[mine] > 0, others[first], NOTHING)
    return best, most


def _by_image_and_class(flat: Detections | Objects) -> dict[tuple[int, int], NDArray[np.int64]]:
    """Indices of the detections or objects of each image and class, rising."""
    order = np.lexsort((flat.labels, flat.images))
    keys = np.stack([flat.images[order], flat.labels[order]])
    groups = np.split(order, np.flatnonzero((np.diff(keys) != 0).any(0)) + 1) if len(order) else []
    return {(int(flat.images[group[0]]), int(flat.labels[group[0]])): np.sort(group) for group in groups}


def _shown(value: float | None) -> str:
    return "no objects" if value is None else f"{value:.1f}"
