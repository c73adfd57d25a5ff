"""Promises of AP^r: perfect masks, hand-made cases, and an independent evaluator on the same masks."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from xmodal_cli.data.masks import encode_masks
from xmodal_cli.errors import DataError
from xmodal_cli.metrics.average_precision import voc_ap
from xmodal_cli.metrics.detections import Detections, Objects
from xmodal_cli.metrics.region_ap import RegionResult, region_ap

HW = (40, 60)
CLASSES = ("bed", "chair", "sofa")


def rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    return encode_masks(mask.T.reshape(1, -1).astype(np.uint8), HW)[0]


def rectangle(left: int, top: int, right: int, bottom: int) -> NDArray[np.bool_]:
    mask = np.zeros(HW, np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def objects(images: list[int], labels: list[int], masks: list[NDArray[np.bool_]]) -> Objects:
    boxes = np.zeros((len(masks), 4), np.float32)
    areas = np.array([mask.sum() for mask in masks], np.float64)
    return Objects(np.array(images), np.array(labels), boxes, areas, np.zeros(len(masks), np.bool_))


def detections(images: list[int], labels: list[int], scores: list[float]) -> Detections:
    return Detections(np.array(images), np.array(labels), np.array(scores), np.zeros((len(images), 4), np.float32))


def scene(seed: int) -> tuple[Detections, Objects, list[NDArray[np.bool_]], list[NDArray[np.bool_]]]:
    """Objects of a class that lie apart, and masks that come near them, more or less; all scores differ."""
    random = np.random.default_rng(seed)
    images, labels, there = [], [], []
    found_images, found_labels, found = [], [], []
    for image in range(8):
        for label in range(3):
            for column in range(random.integers(0, 3)):
                left, top = 30 * column + random.integers(0, 6), random.integers(0, 15)
                mask = rectangle(left, top, left + random.integers(8, 22), top + random.integers(8, 22))
                images.append(image), labels.append(label), there.append(mask)
                for _ in range(random.integers(0, 3)):
                    found_images.append(image), found_labels.append(label)
                    found.append(np.roll(mask, random.integers(-5, 6, 2), (0, 1)))
    scores = random.permutation(len(found)) / len(found)
    return detections(found_images, found_labels, scores.tolist()), objects(images, labels, there), found, there


def scored(
    found: Detections, there: Objects, masks: list[NDArray[np.bool_]], own: list[NDArray[np.bool_]]
) -> RegionResult:
    return region_ap(found, there, CLASSES, [rle(each) for each in masks], [rle(each) for each in own])


def coco_by_pycocotools(
    found: Detections, there: Objects, masks: list[NDArray[np.bool_]], own: list[NDArray[np.bool_]], iou: float
) -> dict[str, float]:
    """AP by class, of an evaluator made by others, at recalls so dense that its sum is the area."""
    from pycocotools import mask as coco_masks
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def entries(flat: Detections | Objects, shapes: list[NDArray[np.bool_]]) -> list[dict[str, Any]]:
        return [
            {
                "id": n + 1,
                "image_id": int(flat.images[n]),
                "category_id": int(flat.labels[n]) + 1,
                "iscrowd": 0,
                "area": float(shape.sum()),
                "segmentation": coco_masks.encode(np.asfortranarray(shape.astype(np.uint8))),
                **({"score": float(flat.scores[n])} if isinstance(flat, Detections) else {}),
            }
            for n, shape in enumerate(shapes)
        ]

    with redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": n, "height": HW[0], "width": HW[1]} for n in range(8)],
            "categories": [{"id": n + 1, "name": name} for n, name in enumerate(CLASSES)],
            "annotations": entries(there, own),
        }
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(entries(found, masks)), "segm")
        evaluator.params.iouThrs = np.array([iou])
        evaluator.params.recThrs = np.linspace(0, 1, 20001)
        evaluator.evaluate()
        evaluator.accumulate()
    precision = evaluator.eval["precision"][0, :, :, 0, -1]  # recalls, classes
    return {name: 100 * float(precision[:, n].mean()) for n, name in enumerate(CLASSES)}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("iou", [0.5, 0.7])
def test_an_independent_evaluator_agrees(seed: int, iou: float) -> None:
    found, there, masks, own = scene(seed)
    ours = scored(found, there, masks, own).by_iou[iou].ap
    assert ours == pytest.approx(coco_by_pycocotools(found, there, masks, own, iou), abs=0.05)
    assert any(0 < (value or 0) < 100 for value in ours.values())


def test_perfect_masks_give_100() -> None:
    _, there, _, own = scene(0)
    found = detections(there.images.tolist(), there.labels.tolist(), np.linspace(0, 1, len(own)).tolist())
    result = scored(found, there, own, own)
    assert [each.mAP for each in result.by_iou.values()] == [100.0, 100.0]
    assert result.coco.mAP == pytest.approx(100.0)


def test_filled_boxes_score_as_boxes_do() -> None:
    """Where masks fill their boxes, the figure of masks is that of boxes."""
    corners = np.array([[0, 0, 10, 10], [20, 5, 40, 30], [0, 0, 9, 10], [22, 5, 40, 33]], np.float32)
    masks = [rectangle(*map(int, box)) for box in corners]
    there = Objects(np.zeros(2, int), np.array([0, 1]), corners[:2], np.full(2, 100.0), np.zeros(2, bool))
    found = Detections(np.zeros(2, int), np.array([0, 1]), np.array([0.9, 0.5]), corners[2:])
    boxes = [voc_ap(found, there, CLASSES, iou=iou).ap for iou in (0.5, 0.7)]
    assert boxes == [each.ap for each in scored(found, there, masks[2:], masks[:2]).by_iou.values()]


def test_the_second_mask_on_an_object_is_wrong_and_has_no_second_choice() -> None:
    own = [rectangle(0, 0, 20, 20), rectangle(20, 0, 40, 20)]
    masks = [own[0], rectangle(0, 0, 22, 20)]
    result = scored(detections([0, 0], [0, 0], [0.9, 0.8]), objects([0, 0], [0, 0], own), masks, own)
    assert result.by_iou[0.5].curves[0].hits.tolist() == [True, False]
    assert result.mAP == pytest.approx(50.0)


def test_masks_of_another_class_or_image_do_not_count() -> None:
    mask = rectangle(0, 0, 20, 20)
    found = detections([0, 1], [1, 0], [0.9, 0.8])
    assert scored(found, objects([0], [0], [mask]), [mask, mask], [mask]).mAP == 0


def test_empty_masks_hit_nothing() -> None:
    own, empty = rectangle(0, 0, 20, 20), np.zeros(HW, np.bool_)
    assert scored(detections([0], [0], [0.9]), objects([0], [0], [own]), [empty], [own]).mAP == 0


def test_crowds_need_not_be_found_and_forgive_what_lies_on_them() -> None:
    """As boxes around crowds do; one whose mask nobody drew is overlapped by nothing."""
    own, crowd = rectangle(0, 0, 20, 20), rectangle(30, 0, 50, 20)
    found = detections([0, 0], [0, 0], [0.8, 0.9])
    there = replace(objects([0, 0], [0, 0], [own, crowd]), crowd=np.array([False, True]))
    result = scored(found, there, [own, crowd], [own, crowd])
    assert result.by_iou[0.5].curves[0].hits.tolist() == [True]
    assert result.coco.mAP == pytest.approx(100.0)
    nowhere = encode_masks(np.zeros((1, 1), np.uint8), (1, 1))[0]
    undrawn = region_ap(found, there, CLASSES, [rle(own), rle(crowd)], [rle(own), nowhere])
    assert undrawn.by_iou[0.5].curves[0].hits.tolist() == [False, True]


def test_nothing_found_is_zero_and_nothing_there_is_an_error() -> None:
    own = rectangle(0, 0, 20, 20)
    nothing = Detections.of([])
    assert scored(nothing, objects([0], [0], [own]), [], [own]).mAP == 0
    with pytest.raises(DataError, match="no object"):
        scored(nothing, Objects.of([]), [], [])


def test_the_document_has_both_thresholds_and_what_against_reads() -> None:
    document = scored(*scene(1)).to_dict()
    assert document["metric"] == "region"
    assert document["mAP"] == document["mAP_r"]["0.5"] >= document["mAP_r"]["0.7"]
    assert {"AP", "objects", "interval_95", "coco"} <= document.keys()
