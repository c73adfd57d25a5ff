"""Promises of recall: equal to a plain loop over boxes and objects, and windows that never looked at the image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from xmodal_cli.metrics.recall import (
    COUNTS,
    CURVE_IOUS,
    grid_windows,
    measure_grid,
    measure_recall,
    pairwise_iou,
    recall_table,
)

Boxes = NDArray[np.float32]


def boxes_of(count: int, seed: int) -> Boxes:
    random = np.random.default_rng(seed)
    begin = random.integers(0, 12, (count, 2))
    return np.hstack([begin, begin + random.integers(1, 9, (count, 2))]).astype(np.float32)


def plain_iou(one: Boxes, other: Boxes) -> float:
    """IoU of boxes with whole corners, by counting pixels."""
    canvas = np.zeros((2, 24, 24), bool)
    for layer, (x1, y1, x2, y2) in zip(canvas, (one, other), strict=True):
        layer[int(y1) : int(y2), int(x1) : int(x2)] = True
    return float((canvas[0] & canvas[1]).sum() / (canvas[0] | canvas[1]).sum())


def plain_recall(images: list[tuple[Boxes, Boxes]], count: int, iou: float) -> float:
    hit, objects = 0, 0
    for proposals, targets in images:
        for target in targets:
            objects += 1
            hit += any(plain_iou(box, target) >= iou for box in proposals[:count])
    return hit / objects


def test_recall_equals_a_plain_loop() -> None:
    images = [(boxes_of(40, n), boxes_of(6, 100 + n)) for n in range(5)]
    report = measure_recall(images, [1, 7, 30, 100])
    assert (report.images, report.objects, report.boxes_per_image) == (5, 30, 40.0)
    for count in report.counts:
        for iou in (0.5, 0.7, 0.9):
            assert report.at(count, iou) == pytest.approx(plain_recall(images, count, iou))
        steps = [plain_recall(images, count, iou) for iou in np.arange(10, 20) / 20]
        assert report.average_recall(count) == pytest.approx(np.mean(steps))


def test_iou_equals_counted_pixels() -> None:
    one, other = boxes_of(15, 1), boxes_of(15, 2)
    expected = [[plain_iou(a, b) for b in other] for a in one]
    assert np.allclose(pairwise_iou(one, other), expected)


def test_a_box_that_is_the_object_covers_it_at_every_iou() -> None:
    objects = boxes_of(5, 3)
    report = measure_recall([(objects, objects)], [5])
    assert (report.recall == 1).all()
    assert report.average_recall(5) == 1


def test_one_box_may_cover_two_objects() -> None:
    box = np.array([[0, 0, 10, 10]])
    assert measure_recall([(box, np.array([[0, 0, 10, 9], [0, 0, 10, 8]]))], [1]).at(1, 0.7) == 1


def test_an_iou_exactly_at_the_threshold_counts() -> None:
    assert measure_recall([(np.array([[0, 0, 10, 7]]), np.array([[0, 0, 10, 10]]))], [1]).at(1, 0.7) == 1


def test_images_without_boxes_miss_and_images_without_objects_do_not_count() -> None:
    none = np.zeros((0, 4))
    objects = boxes_of(3, 0)
    report = measure_recall([(none, objects), (objects, objects), (objects, none)], [10])
    assert report.at(10, 0.5) == pytest.approx(0.5)
    assert report.objects == 6


def test_without_any_object_recall_is_unknown() -> None:
    assert np.isnan(measure_recall([(boxes_of(3, 0), np.zeros((0, 4)))], [10]).recall).all()
    assert np.isnan(measure_recall([], [10]).recall).all()


def test_recall_grows_with_boxes_and_falls_with_iou() -> None:
    report = measure_recall([(boxes_of(60, n), boxes_of(5, 50 + n)) for n in range(4)])
    assert (np.diff(report.recall, axis=0) >= 0).all()
    assert (np.diff(report.recall, axis=1) <= 0).all()


def test_a_figure_that_was_not_measured_is_no_figure() -> None:
    report = measure_recall([(boxes_of(3, 0), boxes_of(3, 0))], [10])
    with pytest.raises(ValueError):
        report.at(11, 0.5)
    with pytest.raises(ValueError):
        report.at(10, 0.51)


def test_the_document_and_the_table_say_the_same() -> None:
    images = [(boxes_of(40, n), boxes_of(6, 100 + n)) for n in range(5)]
    report, control = measure_recall(images), measure_grid([((24, 24), objects) for _, objects in images])
    document = report.to_dict()
    columns, rows = recall_table(report, control)
    assert [row[0] for row in rows] == list(document["at"]) == [str(count) for count in COUNTS]
    assert rows[0][1:4] == [f"{value:.3f}" for value in document["at"]["100"].values()]
    assert rows[0][4] == f"{control.at(100, 0.5):.3f}"
    assert len(columns) == len(rows[0])
    assert len(document["curves"]["recall"][0]) == len(CURVE_IOUS)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 100, 777, 2000])
@pytest.mark.parametrize("size_hw", [(425, 560), (10, 300)])
def test_windows_are_as_many_as_asked_and_inside(size_hw: tuple[int, int], count: int) -> None:
    windows = grid_windows(size_hw, count)
    assert windows.shape == (count, 4)
    assert len(np.unique(windows, axis=0)) == count
    assert (windows[:, 2:] > windows[:, :2]).all()
    assert (windows >= 0).all()
    assert (windows <= np.array([size_hw[1], size_hw[0]] * 2)).all()


def test_windows_are_always_the_same_and_the_largest_first() -> None:
    windows = grid_windows((425, 560), 500)
    assert np.array_equal(windows, grid_windows((425, 560), 500))
    areas = (windows[:, 2:] - windows[:, :2]).prod(axis=1)
    assert (np.diff(areas) <= areas[:-1] * 1e-5).all()


@pytest.mark.real
def test_windows_cover_real_objects_at_half_and_not_beyond(real_data: Path) -> None:
    document = json.loads((real_data / "nyud2-8bit" / "val.json").read_text())
    images = {image["id"]: (image["height"], image["width"]) for image in document["images"]}
    objects: dict[int, list[list[float]]] = {image: [] for image in images}
    for entry in document["annotations"]:
        x, y, width, height = entry["bbox"]
        objects[entry["image_id"]].append([x, y, x + width, y + height])
    report = measure_grid([(images[n], np.array(found).reshape(-1, 4)) for n, found in objects.items()], [2000])
    assert 0.80 < report.at(2000, 0.5) < 0.90
    assert 0.25 < report.at(2000, 0.7) < 0.40
