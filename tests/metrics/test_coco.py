"""Promises of COCO's figures: the numbers of the original evaluator, its standard limits said aloud, and silence."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import replace

import numpy as np
import pytest

from xmodal_cli.errors import DataError
from xmodal_cli.metrics.average_precision import voc_ap
from xmodal_cli.metrics.coco import CocoResult, coco_ap
from xmodal_cli.metrics.detections import Detections, Objects

CLASSES = ("bed", "chair", "sofa")
IMAGES = 30


def scene(seed: int) -> tuple[Detections, Objects]:
    """Objects of all sizes, some of them crowds; detections near them, and some anywhere."""
    random = np.random.default_rng(seed)
    count = 6 * IMAGES
    corner, size = random.random((count, 2)) * 200, 8 + random.random((count, 2)) ** 2 * 200
    boxes = np.hstack([corner, corner + size]).astype(np.float32)
    crowd, labels = random.random(count) < 0.1, random.integers(0, 2, count)
    objects = Objects(random.integers(0, IMAGES, count), labels, boxes, size.prod(1), crowd)
    near = random.integers(0, count, 5 * count)
    shift = random.normal(0, 0.1, (len(near), 2)) * size[near]
    found = np.hstack([corner[near] + shift, corner[near] + shift + size[near]])
    images = np.where(random.random(len(near)) < 0.2, random.integers(0, IMAGES, len(near)), objects.images[near])
    scores = random.random(len(near), np.float32)
    return Detections(images, labels[near], scores, found.astype(np.float32)), objects


def original(detections: Detections, objects: Objects) -> np.ndarray:
    """What pycocotools itself summarises: its twelve figures, percent."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def xywh(flat: Detections | Objects) -> np.ndarray:
        boxes = flat.boxes_xyxy.astype(float)
        return np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])

    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": n} for n in range(IMAGES)],
        "categories": [{"id": n, "name": name} for n, name in enumerate(CLASSES)],
        "annotations": [
            {"id": n + 1, "image_id": int(i), "category_id": int(c), "bbox": list(b), "area": a, "iscrowd": int(k)}
            for n, (i, c, b, a, k) in enumerate(
                zip(objects.images, objects.labels, xywh(objects), objects.areas, objects.crowd, strict=True)
            )
        ],
    }
    results = [
        {"image_id": int(i), "category_id": int(c), "bbox": list(b), "score": float(s)}
        for i, c, b, s in zip(detections.images, detections.labels, xywh(detections), detections.scores, strict=True)
    ]
    with redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return np.asarray(evaluator.stats) * 100


def figures(result: CocoResult) -> list[float | None]:
    """Ours in the order of the original's first nine."""
    return [result.mAP, result.ap50, result.ap75, *result.by_size.values(), *result.recall.values()]


@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_the_original_evaluator(seed: int) -> None:
    detections, objects = scene(seed)
    result = coco_ap(detections, objects, CLASSES)
    np.testing.assert_allclose(np.array(figures(result), float), original(detections, objects)[:9], atol=1e-6)
    assert result.ap["sofa"] is None
    assert np.mean([result.ap["bed"], result.ap["chair"]]) == pytest.approx(result.mAP)


def test_at_iou_one_half_it_is_within_a_point_of_the_papers_ap() -> None:
    detections, objects = scene(1)
    objects = replace(objects, crowd=np.zeros(len(objects), np.bool_))
    ours, theirs = voc_ap(detections, objects, CLASSES), coco_ap(detections, objects, CLASSES)
    for name in ("bed", "chair"):
        assert ours.ap[name] == pytest.approx(theirs.ap50_by_class[name], abs=1)


def test_a_hundred_of_image_and_class_count_and_the_rest_is_said() -> None:
    box = np.array([[0, 0, 50, 50]], np.float32)
    objects = Objects(np.array([0]), np.array([0]), box, np.array([2500.0]), np.array([False]))

    def among(count: int) -> CocoResult:
        """One right detection, the least sure of many."""
        boxes = np.vstack([np.tile(box + 100, (count - 1, 1)), box])
        zeros = np.zeros(count, np.int64)
        return coco_ap(Detections(zeros, zeros, np.linspace(1, 0.5, count), boxes), objects, CLASSES)

    inside, outside = among(100), among(101)
    assert (inside.recall[100], inside.beyond_best) == (100, 0)
    assert (outside.recall[100], outside.beyond_best) == (0, 1)
    assert outside.to_dict()["detections_beyond_100_per_image_and_class"] == 1
    assert outside.detections["bed"] == 101


def test_document_holds_what_the_contract_names() -> None:
    detections, objects = scene(2)
    document = coco_ap(detections, objects, CLASSES).to_dict()
    assert document["metric"] == "coco"
    assert set(document["AP"]) == set(CLASSES)
    assert document["AP"]["sofa"] is None
    assert document["classes_without_objects"] == ["sofa"]
    assert document["objects"]["bed"] == int((~objects.crowd & (objects.labels == 0)).sum())
    assert {"mAP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR_1", "AR_10", "AR_100"} <= set(document)


def test_sizes_without_objects_have_no_figure() -> None:
    box = np.array([[0, 0, 50, 50]], np.float32)
    objects = Objects(np.array([0]), np.array([0]), box, np.array([2500.0]), np.array([False]))
    result = coco_ap(Detections(np.array([0]), np.array([0]), np.array([0.9]), box), objects, CLASSES)
    assert result.by_size == {"small": None, "medium": 100, "large": None}


def test_evaluator_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    coco_ap(*scene(3), CLASSES)
    assert capfd.readouterr() == ("", "")


def test_what_cannot_be_scored_is_refused() -> None:
    detections, objects = scene(0)
    with pytest.raises(DataError, match="no object"):
        coco_ap(detections, objects[np.zeros(0, np.int64)], CLASSES)
    with pytest.raises(ValueError, match="for 1 classes"):
        coco_ap(detections, objects, CLASSES[:1])
