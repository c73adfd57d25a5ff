"""COCO's figures of detections, by an evaluator that others keep: mAP over IoU 0.50 to 0.95, AP50, AP75, sizes, AR.

The evaluator is faster-coco-eval, pycocotools' interface and numbers with the matching in C++. It differs from the
paper's AP (`metrics/average_precision.py`) also at IoU 0.5: a detection may turn to its second choice, a crowd may be
overlapped by part of a detection, and precision is read at 101 recalls. COCO's standard stays: per image and class the
100 best detections count, as many as the paper's detectors keep; the result says how many there were beyond.

Shapes: N detections and M objects of all images together, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.metrics.detections import Detections, Objects, check_labels, check_objects

Masks = Sequence[Mapping[str, Any]]  # compressed RLE, one for each detection or object

BEST = (1, 10, 100)  # detections per image and class that count; COCO's standard, the last one for AP
AREAS = ("all", "small", "medium", "large")  # the evaluator's order; borders at 32 x 32 and 96 x 96 px
IOU_50, IOU_75 = 0, 5  # where these thresholds stand among 0.50, 0.55, ... 0.95


@dataclass(frozen=True)
class CocoResult:
    """COCO's figures, in percent.

    Args:
        ap: AP over IoU 0.50 to 0.95 by class, None where there are no objects.
        ap50_by_class: the same at IoU 0.5 alone.
        mAP, ap50, ap75: means over classes.
        by_size: AP of small, medium and large objects, None where there are none.
        recall: average recall with the best 1, 10 and 100 detections per image and class.
        objects: how many objects each class has, crowds left out.
        detections: how many detections each class has.
        beyond_best: detections that do not count since 100 of their image and class are surer.
    """

    ap: dict[str, float | None]
    ap50_by_class: dict[str, float | None]
    mAP: float
    ap50: float
    ap75: float
    by_size: dict[str, float | None]
    recall: dict[int, float]
    objects: dict[str, int]
    detections: dict[str, int]
    beyond_best: int

    @property
    def classes_without_objects(self) -> tuple[str, ...]:
        """Classes that the means leave out, because nothing of them is there to be found."""
        return tuple(name for name, count in self.objects.items() if not count)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `results.json` and `--json`; percent."""
        return {
            "metric": "coco",
            "mAP": _rounded(self.mAP),
            "AP50": _rounded(self.ap50),
            "AP75": _rounded(self.ap75),
            **{f"AP_{size}": _rounded(value) for size, value in self.by_size.items()},
            **{f"AR_{best}": _rounded(value) for best, value in self.recall.items()},
            "AP": {name: _rounded(value) for name, value in self.ap.items()},
            "AP50_by_class": {name: _rounded(value) for name, value in self.ap50_by_class.items()},
            "classes_without_objects": list(self.classes_without_objects),
            "objects": self.objects,
            "detections": self.detections,
            f"detections_beyond_{BEST[-1]}_per_image_and_class": self.beyond_best,
        }


def coco_ap(
    detections: Detections, objects: Objects, classes: Sequence[str], masks: tuple[Masks, Masks] | None = None
) -> CocoResult:
    """Score detections as COCO does.

    Args:
        detections: what was found.
        objects: what is there, numbered by the same list of images.
        classes: class names, which the labels of both index.
        masks: compressed RLE of detections and of objects; where given, masks are compared in place of boxes.

    Raises:
        DataError: there is not one object to find.
        ValueError: a label means no class.

    Example:
        >>> box = np.array([[0, 0, 10, 10]], np.float32)
        >>> there = Objects(np.array([0]), np.array([0]), box, np.array([100.0]), np.array([False]))
        >>> result = coco_ap(Detections(np.array([0]), np.array([0]), np.array([0.9]), box), there, ["bed", "chair"])
        >>> result.mAP, result.by_size["small"], result.ap["chair"]
        (100.0, 100.0, None)
    """
    check_labels(detections.labels, len(classes))
    check_objects(objects, len(classes))
    precision, recall = _evaluate(detections, objects, classes, masks)
    of_class, of_class_50 = precision[:, :, :, 0, -1], precision[IOU_50, :, :, 0, -1]
    counts = objects.counts(len(classes)).tolist()
    return CocoResult(
        ap={name: _mean(of_class[:, :, number]) for number, name in enumerate(classes)},
        ap50_by_class={name: _mean(of_class_50[:, number]) for number, name in enumerate(classes)},
        mAP=_mean(of_class) or 0.0,
        ap50=_mean(of_class_50) or 0.0,
        ap75=_mean(precision[IOU_75, :, :, 0, -1]) or 0.0,
        by_size={size: _mean(precision[:, :, :, number, -1]) for number, size in enumerate(AREAS) if number},
        recall={best: _mean(recall[:, :, 0, number]) or 0.0 for number, best in enumerate(BEST)},
        objects=dict(zip(classes, counts, strict=True)),
        detections=dict(zip(classes, detections.counts(len(classes)).tolist(), strict=True)),
        beyond_best=_beyond_best(detections, len(classes)),
    )


def _evaluate(
    detections: Detections, objects: Objects, classes: Sequence[str], masks: tuple[Masks, Masks] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The evaluator's precision `(10 IoUs, 101 recalls, K, 4 areas, 3 bests)` and recall `(10, K, 4, 3)`; -1: none."""
    from faster_coco_eval import COCO, COCOeval_faster

    numbers = np.concatenate([detections.images, objects.images]).tolist()
    all_masks = [mask for part in masks or () for mask in part]
    sizes = {image: tuple(mask["size"]) for image, mask in zip(numbers, all_masks, strict=False)}
    common = {
        "images": [
            {"id": image, **dict(zip(("height", "width"), sizes.get(image, ()), strict=False))}
            for image in sorted(set(numbers))
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes)],
    }
    columns = [{}, {}] if masks is None else [{"segmentation": list(each)} for each in masks]
    there = _entries(objects, area=objects.areas.tolist(), iscrowd=objects.crowd.astype(int).tolist(), **columns[1])
    found = _entries(
        detections, area=_areas(detections, masks and masks[0]), score=detections.scores.tolist(), **columns[0]
    )
    kind = "bbox" if masks is None else "segm"
    evaluator = COCOeval_faster(COCO({**common, "annotations": there}), COCO({**common, "annotations": found}), kind)
    evaluator.params.maxDets = list(BEST)
    evaluator.evaluate()
    evaluator.accumulate()
    return np.asarray(evaluator.eval["precision"]), np.asarray(evaluator.eval["recall"])


def _areas(detections: Detections, masks: Masks | None) -> list[float]:
    """Pixels of every detection's mask, or of its box."""
    if masks is not None:
        from faster_coco_eval.core import mask as coco_masks

        return [float(area) for area in coco_masks.area(list(masks))] if masks else []
    sizes = np.clip(detections.boxes_xyxy[:, 2:] - detections.boxes_xyxy[:, :2], 0, None).astype(np.float64).prod(1)
    return [float(size) for size in sizes]


def _entries(flat: Detections | Objects, **columns: list[Any]) -> list[dict[str, Any]]:
    """Annotation entries as the evaluator wants them; ids count from 1, since 0 means none to it."""
    corners = flat.boxes_xyxy.astype(np.float64)
    boxes_xywh = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    rows = zip(flat.images.tolist(), flat.labels.tolist(), boxes_xywh.tolist(), *columns.values(), strict=True)
    names = ("image_id", "category_id", "bbox", *columns)
    return [
        {"id": number, "iscrowd": 0, **dict(zip(names, row, strict=True))} for number, row in enumerate(rows, start=1)
    ]


def _beyond_best(detections: Detections, classes: int) -> int:
    _, counts = np.unique(detections.images * classes + detections.labels, return_counts=True)
    return int(np.clip(counts - BEST[-1], 0, None).sum())


def _mean(values: NDArray[np.float64]) -> float | None:
    """Mean of figures that exist, in percent; None if none does."""
    there = values[values >= 0]
    return 100 * float(there.mean()) if there.size else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
