from __future__ import annotations

import numpy as np
import pytest
from rigs import CAMERA, make_rig, prepared, write_annotations

from xmodal_cli.data.images import read_rgb
from xmodal_cli.pictures.contact_sheet import (
    CAPTION_HEIGHT,
    CELL_WIDTH,
    GAP,
    as_picture,
    choose_pairs,
    draw_contact_sheet,
    write_contact_sheet,
)


@pytest.fixture
def data(tmp_path):
    rig = make_rig(tmp_path / "rig", "abcdefgh")
    val = write_annotations(tmp_path / "val.json", "h")
    options = {"modalities": ("hha", "depth"), "camera": CAMERA, "annotations": {"val": val}, "link": "copy"}
    return prepared(rig, tmp_path / "out", **options)


def test_a_sheet_has_a_row_a_pair_and_a_column_a_modality(data):
    sheet = draw_contact_sheet(data, 4)
    cell_height = CELL_WIDTH * 24 // 32 + GAP
    rows = len(choose_pairs(data, 4))
    assert sheet.shape == (CAPTION_HEIGHT + rows * (CAPTION_HEIGHT + cell_height), 3 * (CELL_WIDTH + GAP), 3)


def test_every_split_is_shown_and_no_pair_twice(data):
    chosen = choose_pairs(data, 3)
    assert {split for split, _ in chosen} == {"train", "val"}
    assert len(set(chosen)) == len(chosen)
    assert len(choose_pairs(data, 1000)) == 8


def test_boxes_are_drawn_in_every_modality(data):
    boxed = draw_contact_sheet(data, 8)
    (data.root / "annotations/val.json").unlink()
    plain = draw_contact_sheet(type(data).open(data.root), 8)
    changed = (boxed != plain).any(axis=2)[-CELL_WIDTH * 24 // 32 :]  # the row of the one labelled image
    columns = [changed[:, c * (CELL_WIDTH + GAP) : c * (CELL_WIDTH + GAP) + CELL_WIDTH] for c in range(3)]
    assert all(column.any() for column in columns)


def test_a_damaged_image_leaves_a_cell_empty(data):
    data.path("hha", "a").write_bytes(b"")
    assert draw_contact_sheet(data, 8).shape[1] == 3 * (CELL_WIDTH + GAP)


def test_sixteen_bit_depth_is_shown_in_colours_and_grey_stays_grey():
    depth = np.linspace(500, 9000, 64).astype(np.uint16).reshape(8, 8, 1)
    assert len(np.unique(as_picture(depth).reshape(-1, 3), axis=0)) > 30
    grey = as_picture(np.arange(64, dtype=np.uint8).reshape(8, 8, 1))
    assert (grey == grey[:, :, :1]).all()


def test_the_file_is_the_drawing(data, tmp_path):
    path = write_contact_sheet(data, tmp_path / "deep/sheet.png", 4)
    assert np.array_equal(read_rgb(path), draw_contact_sheet(data, 4))
