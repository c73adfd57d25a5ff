"""Promises of the recall curves: every line is there, where the figures say, and a picture of any split is readable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.data.images import read_rgb
from xmodal_cli.detect.proposal_report import SplitRecall
from xmodal_cli.metrics.recall import measure_grid, measure_recall
from xmodal_cli.pictures.axes import BOTTOM, PANEL_HEIGHT, PANEL_WIDTH, RIGHT, TOP
from xmodal_cli.pictures.canvas import BLUE, ORANGE
from xmodal_cli.pictures.recall_curves import draw_recall_curves, write_recall_curves

OBJECTS = np.array([[4, 4, 40, 30], [10, 20, 50, 60]], np.float32)


def recall_of(boxes: NDArray[np.float32]) -> SplitRecall:
    return SplitRecall(measure_recall([(boxes, OBJECTS)]), measure_grid([((64, 64), OBJECTS)]))


def rows_of(picture: NDArray[np.uint8], colour: tuple[int, int, int], column: int) -> NDArray[np.int64]:
    near = np.abs(picture[:, column].astype(int) - colour).sum(axis=1) < 90
    return np.flatnonzero(near)


def test_each_split_has_a_row_and_every_line_its_colour() -> None:
    found = recall_of(OBJECTS)
    picture = draw_recall_curves({"train": found, "val": found}, "mine")
    assert picture.shape == (2 * PANEL_HEIGHT, 2 * PANEL_WIDTH, 3)
    for colour in (BLUE, ORANGE):
        assert (np.abs(picture.astype(int) - colour).sum(axis=2) < 30).sum() > 200


def test_a_line_lies_where_its_figure_says() -> None:
    boxes = np.concatenate([OBJECTS[:1], np.tile(np.float32([[0, 0, 1, 1]]), (60, 1))])
    picture = draw_recall_curves({"val": recall_of(boxes)}, "mine")
    half = TOP + (PANEL_HEIGHT - TOP - BOTTOM) / 2
    rows = rows_of(picture, ORANGE, PANEL_WIDTH - RIGHT - 20)  # recall 0.5 at IoU 0.7 with many boxes
    assert np.abs(rows - half).min() <= 2


def test_the_picture_is_written_as_a_file(tmp_path: Path) -> None:
    path = write_recall_curves({"val": recall_of(OBJECTS)}, "mine", tmp_path / "recall.png")
    assert read_rgb(path).shape == (PANEL_HEIGHT, 2 * PANEL_WIDTH, 3)
