"""Promises of drawn detections: the colour of the class on every edge, nothing else touched, the best on top."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from xmodal_cli.data.images import read_rgb
from xmodal_cli.detect.prediction import Prediction
from xmodal_cli.metrics.detections import Detections
from xmodal_cli.pictures.contact_sheet import COLOURS, as_picture
from xmodal_cli.pictures.detections import LABEL_HEIGHT, THICKNESS, draw_detections, write_detections_picture

GREY = 90
CLASSES = tuple(f"class {number}" for number in range(len(COLOURS) + 2))


def prediction(*found: tuple[int, float, list[int]], image: NDArray[Any] | None = None) -> Prediction:
    """Detections of (label, score, box), best first as they must be."""
    labels, scores, boxes = zip(*found, strict=True) if found else ((), (), np.zeros((0, 4)))
    detections = Detections(
        np.zeros(len(found), np.int64),
        np.array(labels, np.int64),
        np.array(scores, np.float32),
        np.array(boxes, np.float32).reshape(-1, 4),
    )
    shown = np.full((120, 200, 3), GREY, np.uint8) if image is None else image
    return Prediction(Path("x.png"), shown, detections, CLASSES)


def edge(picture: NDArray[np.uint8], box: list[int]) -> set[tuple[int, ...]]:
    """The colours on a box's left, right and lower edge; its label lies on the upper one."""
    left, top, right, bottom = box
    lines = [picture[top + 1 : bottom, left], picture[top + 1 : bottom, right - 1], picture[bottom - 1, left:right]]
    return {tuple(pixel) for line in lines for pixel in line.tolist()}


@pytest.mark.parametrize("label", [0, 1, len(COLOURS) - 1, len(COLOURS)])
def test_box_has_the_colour_of_its_class_on_its_edges(label: int) -> None:
    box = [40, 30, 180, 100]
    picture = draw_detections(prediction((label, 0.9, box)))
    assert edge(picture, box) == {COLOURS[label % len(COLOURS)]}
    inside = picture[30 + 2 * THICKNESS : 100 - 2 * THICKNESS, 40 + 2 * THICKNESS : 180 - 2 * THICKNESS]
    assert set(np.unique(inside)) == {GREY}


def test_nothing_is_drawn_away_from_the_box_and_its_label() -> None:
    left, top, right, bottom = 40, 40, 180, 100
    picture = draw_detections(prediction((0, 0.9, [left, top, right, bottom])))
    changed = np.argwhere((picture != GREY).any(2))
    assert changed.min(0).tolist() == [top - LABEL_HEIGHT, left - THICKNESS // 2]
    assert changed.max(0).tolist() == [bottom - 1 + THICKNESS // 2, right - 1 + THICKNESS // 2]


def test_image_without_detections_is_unchanged_and_never_the_same_memory() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    picture = draw_detections(prediction(image=image))
    assert np.array_equal(picture, image)
    assert not np.shares_memory(picture, image)


def test_image_itself_is_never_drawn_into() -> None:
    image = np.full((120, 200, 3), GREY, np.uint8)
    draw_detections(prediction((0, 0.9, [10, 30, 60, 90]), image=image))
    assert np.all(image == GREY)


def test_best_detection_lies_on_top() -> None:
    box = [40, 30, 180, 100]
    assert edge(draw_detections(prediction((1, 0.9, box), (0, 0.2, box))), box) == {COLOURS[1]}


def test_label_of_a_box_at_the_upper_edge_is_seen() -> None:
    picture = draw_detections(prediction((0, 0.9, [40, 0, 180, 100])))
    label = picture[:LABEL_HEIGHT, 44:60]
    assert (label == COLOURS[0]).all(2).any()
    assert (label < 60).all(2).any()  # its letters are dark


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint16, 1), (np.uint8, 1), (np.uint8, 4)])
def test_other_images_are_drawn_on_as_they_are_shown(dtype: Any, channels: int) -> None:
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (60, 80, channels)).astype(dtype)
    box = [10, 20, 70, 50]
    picture = draw_detections(prediction((2, 0.5, box), image=image))
    assert edge(picture, box) == {COLOURS[2]}
    assert np.array_equal(picture[55:], as_picture(image)[55:])


def test_box_reaching_the_image_borders_is_drawn_inside() -> None:
    picture = draw_detections(prediction((0, 0.9, [0, 0, 200, 120])))
    assert edge(picture, [0, 20, 200, 120]) == {COLOURS[0]}


def test_picture_is_written_as_it_was_drawn(tmp_path: Path) -> None:
    found = prediction((0, 0.9, [40, 30, 180, 100]))
    path = write_detections_picture(found, tmp_path / "new" / "x.png")
    assert np.array_equal(read_rgb(path), draw_detections(found))
