"""Promises of average precision: hand-made cases, the recipe word for word, an independent evaluator, and laws."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from xmodal_cli.errors import DataError
from xmodal_cli.metrics.average_precision import ApResult, average_precision, best_objects, voc_ap
from xmodal_cli.metrics.detections import Detections, Objects

CLASSES = ("bed", "chair", "sofa")
BOX = (0.0, 0.0, 10.0, 10.0)
FAR = (50.0, 50.0, 60.0, 60.0)
Row = tuple[int, int, float, tuple[float, ...]]


def found(*rows: Row) -> Detections:
    """Detections from rows of image, label, score, box."""
    images, labels, scores, boxes = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Detections(
        np.array(images, np.int64),
        np.array(labels, np.int64),
        np.array(scores, np.float64),
        np.array(boxes, np.float32).reshape(-1, 4),
    )


def there(*rows: tuple[int, int, tuple[float, ...]], crowd: tuple[int, ...] = ()) -> Objects:
    """Objects from rows of image, label, box; `crowd` has the numbers of those around crowds."""
    images, labels, boxes = zip(*rows, strict=True) if rows else ((), (), ())
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    return Objects(
        np.array(images, np.int64),
        np.array(labels, np.int64),
        corners,
        (corners[:, 2:] - corners[:, :2]).astype(np.float64).prod(1),
        np.isin(np.arange(len(images)), crowd),
    )


def scene(seed: int, images: int = 12, classes: int = 3, per_image: int = 5) -> tuple[Detections, Objects]:
    """Random objects, and detections of which some lie near objects; all scores differ."""
    random = np.random.default_rng(seed)
    count = images * per_image
    corner, size = random.random((count, 2)) * 60, 10 + random.random((count, 2)) * 30
    boxes = np.hstack([corner, corner + size]).astype(np.float32)
    objects = Objects(
        random.integers(0, images, count),
        random.integers(0, classes, count),
        boxes,
        size.prod(1),
        random.random(count) < 0.1,
    )
    near = random.integers(0, count, 4 * count)
    wild = random.random(len(near)) < 0.3
    moved = boxes[near] + random.normal(0, 3, (len(near), 4)).astype(np.float32)
    ordered = np.hstack([np.minimum(moved[:, :2], moved[:, 2:] - 1), moved[:, 2:]])
    detections = Detections(
        np.where(wild, random.integers(0, images, len(near)), objects.images[near]),
        objects.labels[near],
        random.permutation(len(near)) / len(near),
        ordered.astype(np.float32),
    )
    return detections, objects


def iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inner = max(wide, 0.0) * max(high, 0.0)
    return inner / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner)


def recipe_ap(detections: Detections, objects: Objects, label: int, threshold: float) -> float:
    """The definition in words, one detection after another, percent."""
    taken: set[int] = set()
    hits, alarms, points = 0, 0, []
    mine = [n for n in range(len(detections)) if detections.labels[n] == label]
    for n in sorted(mine, key=lambda n: -detections.scores[n]):
        best, most = -1, 0.0
        for m in range(len(objects)):
            if objects.labels[m] == label and objects.images[m] == detections.images[n]:
                overlap = iou(detections.boxes_xyxy[n].tolist(), objects.boxes_xyxy[m].tolist())
                if overlap > most:
                    best, most = m, overlap
        if best >= 0 and most >= threshold and objects.crowd[best]:
            continue
        if best >= 0 and most >= threshold and best not in taken:
            taken.add(best)
            hits += 1
        else:
            alarms += 1
        points.append((hits, hits / (hits + alarms)))
    total = sum(1 for m in range(len(objects)) if objects.labels[m] == label and not objects.crowd[m])
    area = 0.0
    for hit in range(1, hits + 1):
        area += max(precision for reached, precision in points if reached >= hit) / total
    return 100 * area


# Hand-made cases: objects, detections in order of score, AP of class 0.
TWO = ((0, 0, BOX), (0, 0, FAR))
CASES = {
    "nothing found": (TWO, (), 0.0),
    "all found": (TWO, ((0, 0, 0.9, BOX), (0, 0, 0.8, FAR)), 100.0),
    "one of two found": (TWO, ((0, 0, 0.9, BOX),), 50.0),
    "false alarm first": (TWO, ((0, 0, 0.9, (20, 0, 30, 10)), (0, 0, 0.8, BOX)), 25.0),
    "false alarm between two hits": (
        TWO,
        ((0, 0, 0.9, BOX), (0, 0, 0.8, (20, 0, 30, 10)), (0, 0, 0.7, FAR)),
        100 * (0.5 + 0.5 * 2 / 3),
    ),
    "false alarms behind the last hit": (TWO, ((0, 0, 0.9, BOX), (0, 0, 0.8, FAR), (0, 0, 0.1, (20, 0, 30, 9))), 100.0),
    "second hit on one object": (
        TWO,
        ((0, 0, 0.9, BOX), (0, 0, 0.8, BOX), (0, 0, 0.7, FAR)),
        100 * (0.5 + 0.5 * 2 / 3),
    ),
    "right place in another image": (TWO, ((1, 0, 0.9, BOX), (0, 0, 0.8, FAR)), 25.0),
    "right place of another class": (TWO, ((0, 1, 0.9, BOX), (0, 0, 0.8, FAR)), 50.0),
    "IoU of exactly a half": (((0, 0, BOX),), ((0, 0, 0.9, (0, 0, 10, 5)),), 100.0),
    "IoU just below a half": (((0, 0, BOX),), ((0, 0, 0.9, (0, 0, 10, 4.99)),), 0.0),
    "box without area": (((0, 0, BOX),), ((0, 0, 0.9, (5, 5, 5, 5)), (0, 0, 0.8, BOX)), 50.0),
    "corners the wrong way round": (((0, 0, BOX),), ((0, 0, 0.9, (10, 10, 0, 0)), (0, 0, 0.8, BOX)), 50.0),
    # The second detection overlaps most what the first one took; the other object would do, but is not tried.
    "no second choice": (
        ((0, 0, (0, 0, 10, 10)), (0, 0, (2, 0, 12, 10))),
        ((0, 0, 0.9, (0, 0, 10, 10)), (0, 0, 0.8, (0.5, 0, 10.5, 10))),
        50.0,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_hand_made_case_has_the_ap_worked_out_by_hand(case: str) -> None:
    objects, detections, expected = CASES[case]
    assert voc_ap(found(*detections), there(*objects), CLASSES).ap["bed"] == pytest.approx(expected)


def test_area_is_that_of_the_envelope_at_all_points_not_at_eleven() -> None:
    """VOC's own example of a drop: recall 0.1 at precision 1, 0.2 at 0.5, then 0.3 at 0.6; nothing more is found."""
    recall, precision = np.array([0.1, 0.2, 0.3]), np.array([1.0, 0.5, 0.6])
    assert average_precision(recall, precision) == pytest.approx(0.1 + 0.1 * 0.6 + 0.1 * 0.6)


def test_crowd_need_not_be_found_and_whoever_hits_it_is_neither_right_nor_wrong() -> None:
    objects = there((0, 0, BOX), (0, 0, FAR), crowd=(1,))
    result = voc_ap(found((0, 0, 0.9, FAR), (0, 0, 0.8, FAR), (0, 0, 0.7, BOX)), objects, CLASSES)
    assert result.ap["bed"] == 100
    assert result.objects["bed"] == 1
    assert result.detections["bed"] == 3
    missed = voc_ap(found((0, 0, 0.9, (53, 53, 60, 60)), (0, 0, 0.7, BOX)), objects, CLASSES)
    assert missed.ap["bed"] == 50  # IoU 0.49 with the crowd: a false alarm


def test_classes_without_objects_are_named_and_leave_the_mean() -> None:
    objects = there((0, 0, BOX), (0, 2, FAR), crowd=(1,))
    result = voc_ap(found((0, 0, 0.9, BOX), (0, 1, 0.8, BOX), (0, 2, 0.8, FAR)), objects, CLASSES)
    assert result.ap == {"bed": 100.0, "chair": None, "sofa": None}
    assert (result.mAP, result.classes_without_objects) == (100.0, ("chair", "sofa"))


def test_of_equal_scores_the_earlier_comes_first() -> None:
    wrong_first = voc_ap(found((0, 0, 0.5, FAR), (0, 0, 0.5, BOX)), there((0, 0, BOX)), CLASSES)
    right_first = voc_ap(found((0, 0, 0.5, BOX), (0, 0, 0.5, FAR)), there((0, 0, BOX)), CLASSES)
    assert (wrong_first.mAP, right_first.mAP) == (50.0, 100.0)


def test_document_holds_what_the_contract_names() -> None:
    document = voc_ap(found((0, 0, 0.9, BOX)), there((0, 0, BOX), (1, 0, BOX), (1, 1, BOX)), CLASSES).to_dict()
    assert (document["metric"], document["mAP"]) == ("voc", 25.0)
    assert document["AP"] == {"bed": 50.0, "chair": 0.0, "sofa": None}
    assert document["classes_without_objects"] == ["sofa"]
    assert document["objects"] == {"bed": 2, "chair": 1, "sofa": 0}
    assert document["detections"] == {"bed": 1, "chair": 0, "sofa": 0}


def test_curve_is_recall_and_precision_after_each_detection() -> None:
    curve = voc_ap(found((0, 0, 0.2, FAR), (0, 0, 0.9, BOX), (0, 0, 0.5, BOX)), there(*TWO), CLASSES).curves[0]
    assert curve.scores.tolist() == [0.9, 0.5, 0.2]
    assert curve.hits.tolist() == [True, False, True]
    np.testing.assert_allclose(curve.recall, [0.5, 0.5, 1])
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 3])


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(DataError, match="no object"):
        voc_ap(found((0, 0, 0.9, BOX)), there(), CLASSES)
    with pytest.raises(DataError, match="no object"):
        voc_ap(found((0, 0, 0.9, BOX)), there((0, 0, BOX), crowd=(0,)), CLASSES)
    with pytest.raises(ValueError, match="labels from 3 to 3 for 3 classes"):
        voc_ap(found((0, 3, 0.9, BOX)), there((0, 0, BOX)), CLASSES)
    with pytest.raises(DataError, match="1 of 1 detections have a score that is not finite"):
        found((0, 0, float("nan"), BOX))
    with pytest.raises(DataError, match="box that is not finite"):
        found((0, 0, 0.5, (0, 0, float("inf"), 1)))
    with pytest.raises(ValueError, match="scores has the shape"):
        Detections(np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(2), np.zeros((1, 4), np.float32))


def test_several_parts_are_one_and_none_is_nothing() -> None:
    one, other = scene(0)[0], scene(1)[0]
    joined = Detections.of([one, Detections.of([]), other])
    assert len(joined) == len(one) + len(other)
    np.testing.assert_array_equal(joined[np.arange(len(one))].boxes_xyxy, one.boxes_xyxy)
    assert (len(Detections.of([])), len(Objects.of([]))) == (0, 0)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.75])
def test_ap_is_that_of_the_definition_in_words(seed: int, threshold: float) -> None:
    detections, objects = scene(seed)
    result = voc_ap(detections, objects, CLASSES, iou=threshold)
    for label, name in enumerate(CLASSES):
        assert result.ap[name] == pytest.approx(recipe_ap(detections, objects, label, threshold), abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_ap_is_within_a_point_of_pycocotools_at_iou_one_half(seed: int) -> None:
    """Pycocotools reads the curve at 101 recalls and grants a second choice: nearly the same with many objects."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    detections, objects = scene(seed, images=100)
    objects = replace(objects, crowd=np.zeros(len(objects), np.bool_))

    def entries(flat: Detections | Objects) -> list[dict[str, object]]:
        sizes = flat.boxes_xyxy[:, 2:] - flat.boxes_xyxy[:, :2]
        return [
            {
                "id": n + 1,
                "image_id": int(flat.images[n]),
                "category_id": int(flat.labels[n]),
                "bbox": [*flat.boxes_xyxy[n, :2].tolist(), *sizes[n].tolist()],
                "area": float(sizes[n].prod()),
                "iscrowd": 0,
                **({"score": float(flat.scores[n])} if isinstance(flat, Detections) else {}),
            }
            for n in range(len(flat))
        ]

    files = []
    with redirect_stdout(io.StringIO()):
        for flat in (objects, detections):
            file = COCO()
            file.dataset = {
                "images": [{"id": n} for n in range(100)],
                "categories": [{"id": n, "name": name} for n, name in enumerate(CLASSES)],
                "annotations": entries(flat),
            }
            file.createIndex()
            files.append(file)
        evaluator = COCOeval(*files, "bbox")
        evaluator.params.iouThrs = np.array([0.5])
        evaluator.evaluate()
        evaluator.accumulate()
    theirs = evaluator.eval["precision"][0, :, :, 0, -1].mean(0) * 100
    ours = voc_ap(detections, objects, CLASSES)
    np.testing.assert_allclose([ours.ap[name] for name in CLASSES], theirs, atol=1)


@pytest.mark.parametrize("seed", range(6))
def test_ap_is_that_of_an_independent_library(seed: int) -> None:
    """The package mean-average-precision in its VOC mode; it wants the last pixel of a box, not its end."""
    library = pytest.importorskip("mean_average_precision", reason="pip install mean-average-precision")
    detections, objects = scene(seed, images=30)
    objects = replace(objects, crowd=np.zeros(len(objects), np.bool_))
    metric = library.MetricBuilder.build_evaluation_metric("map_2d", async_mode=False, num_classes=len(CLASSES))
    for image in range(30):
        mine, theirs = detections[detections.images == image], objects[objects.images == image]
        none = np.zeros((len(theirs), 2))  # neither difficult nor crowd
        metric.add(
            np.column_stack([mine.boxes_xyxy - [0, 0, 1, 1], mine.labels, mine.scores]),
            np.column_stack([theirs.boxes_xyxy - [0, 0, 1, 1], theirs.labels, none]),
        )
    found = metric.value(iou_thresholds=[0.5])[0.5]
    result = voc_ap(detections, objects, CLASSES)
    for label, name in enumerate(CLASSES):
        assert result.ap[name] == pytest.approx(100 * float(found[label]["ap"]), abs=1e-4)


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 4))
def test_ap_lies_between_0_and_100_and_order_does_not_matter(seed: int, images: int, per_image: int) -> None:
    detections, objects = scene(seed, images=images, per_image=per_image)
    assume(not objects.crowd.all())
    result = voc_ap(detections, objects, CLASSES)
    assert all(value is None or 0 <= value <= 100 for value in result.ap.values())
    random = np.random.default_rng(seed)
    shuffled = voc_ap(
        detections[random.permutation(len(detections))], objects[random.permutation(len(objects))], CLASSES
    )
    assert shuffled.ap == pytest.approx(result.ap)


@given(st.integers(0, 10_000))
def test_duplicates_never_raise_ap(seed: int) -> None:
    detections, objects = scene(seed, images=4)
    again = replace(detections, scores=detections.scores - 1e-6)
    doubled = voc_ap(Detections.of([detections, again]), objects, CLASSES)
    for name, ap in voc_ap(detections, objects, CLASSES).ap.items():
        assert ap is None or (doubled.ap[name] or 0) <= ap + 1e-9


@given(st.integers(0, 10_000))
def test_perfect_detections_score_100_whatever_their_scores(seed: int) -> None:
    _, objects = scene(seed)
    scores = np.random.default_rng(seed).normal(size=len(objects))
    perfect = Detections(objects.images, objects.labels, scores, objects.boxes_xyxy)
    assert list(voc_ap(perfect, objects, CLASSES).ap.values()) == pytest.approx([100.0] * 3)


def test_best_object_is_the_one_of_the_image_that_overlaps_most() -> None:
    objects = there((1, 0, BOX), (0, 0, (2, 0, 12, 10)), (0, 0, BOX), (0, 0, BOX))
    best, overlap = best_objects(found((0, 0, 0.9, BOX), (2, 0, 0.9, BOX), (0, 0, 0.9, FAR)), objects)
    assert best.tolist() == [2, -1, -1]
    assert overlap.tolist() == [1, 0, 0]


def repeated(detections: Detections, objects: Objects, chosen: list[int]) -> ApResult:
    """The result where the chosen images, some of them several times, are the whole set."""
    parts = [
        (
            replace(detections[detections.images == image], images=np.full((detections.images == image).sum(), n)),
            replace(objects[objects.images == image], images=np.full((objects.images == image).sum(), n)),
        )
        for n, image in enumerate(chosen)
    ]
    return voc_ap(Detections.of([each[0] for each in parts]), Objects.of([each[1] for each in parts]), CLASSES)


def test_bootstrap_is_the_ap_of_sets_of_images_drawn_anew() -> None:
    detections, objects = scene(5, images=10)
    result = voc_ap(detections, objects, CLASSES)
    drawn = np.random.default_rng(3).integers(0, 10, (20, 10))
    expected = [repeated(detections, objects, row.tolist()).mAP for row in drawn]
    np.testing.assert_allclose(result.bootstrap(20, seed=3), expected, atol=1e-3)


def test_interval_contains_the_figure_narrows_with_more_images_and_is_always_the_same() -> None:
    widths = []
    for images in (20, 320):
        result = voc_ap(*scene(1, images=images), CLASSES)
        low, high = result.interval()
        assert low <= result.mAP <= high
        assert result.interval() == (low, high)
        widths.append(high - low)
    assert widths[1] < 0.6 * widths[0]
