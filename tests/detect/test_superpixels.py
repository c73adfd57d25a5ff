"""Promises of superpixels: they cover an image, respect its edges, and turn masks of boxes into whole regions."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from xmodal_cli.data.images import write_png
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.mask_samples import mask_places
from xmodal_cli.detect.superpixels import (
    FOLDER,
    imported,
    on_pixels,
    on_superpixels,
    paste,
    superpixels,
    superpixels_of,
)
from xmodal_cli.errors import DataError

HW = (30, 40)


def picture() -> NDArray[np.uint8]:
    image = cv2.resize(np.random.default_rng(0).integers(0, 60, (6, 8, 3), dtype=np.uint8), (80, 60))
    image[20:44, 30:70] = (220, 180, 40)
    return np.asarray(image, np.uint8)


def blocks(side: int = 5) -> NDArray[np.int32]:
    rows, columns = np.mgrid[: HW[0], : HW[1]] // side
    return (rows * (HW[1] // side) + columns).astype(np.int32)


def as_mask(flat: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return flat.reshape(HW[1], HW[0]).T.astype(bool)


@pytest.mark.parametrize("names", [("rgb",), ("rgb", "depth"), ("thermal",), ("hha",)])
def test_any_modalities_give_labels_without_gaps(names: tuple[str, ...]) -> None:
    depth = (1000 + 5 * picture()[:, :, :1].astype(np.uint16)).astype(np.uint16)
    images = {name: depth if name == "depth" else picture() for name in names}
    labels = superpixels(images, count=60)
    assert labels.shape == (60, 80)
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert 2 <= labels.max() + 1 <= 90


def test_large_images_are_cut_small_and_labelled_whole() -> None:
    large = cv2.resize(picture(), (320, 240), interpolation=cv2.INTER_NEAREST)
    labels = superpixels({"rgb": large}, count=40, side_px=80)
    assert labels.shape == (240, 320)
    assert labels.max() < 40


def test_a_clear_edge_is_not_crossed() -> None:
    labels = superpixels({"rgb": picture()}, count=100)
    inside = np.unique(labels[23:41, 33:67])
    assert not np.isin(labels[:16], inside).any()


def test_a_plain_image_still_has_superpixels() -> None:
    labels = superpixels({"rgb": np.zeros((60, 80, 3), np.uint8)}, count=50)
    assert labels.shape == (60, 80)
    assert labels.max() < 50


@given(st.sets(st.integers(0, 47), min_size=1))
def test_a_union_of_superpixels_is_not_changed(chosen: set[int]) -> None:
    labels = blocks()
    union = np.isin(labels, list(chosen))
    box = np.array([[0, 0, HW[1], HW[0]]], np.float32)
    found = on_superpixels(_square(union.astype(np.float32))[None], box, labels)
    assert np.array_equal(as_mask(found[0]), union)


def _square(shape: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same shape at 600 x 600 places: finer than the pixels, so that every pixel reads its own place."""
    return np.asarray(cv2.resize(shape, (600, 600), interpolation=cv2.INTER_NEAREST), np.float32)


def test_pixels_outside_the_box_count_as_ground() -> None:
    labels = blocks(10)
    full = np.ones((1, 50, 50), np.float32)
    third = on_superpixels(full, np.array([[0, 0, 3, 10]], np.float32), labels)
    half = on_superpixels(full, np.array([[0, 0, 5, 10]], np.float32), labels)
    assert not third.any()
    assert np.array_equal(as_mask(half[0]), labels == 0)


def test_the_threshold_is_of_the_mean() -> None:
    box = np.array([[0, 0, HW[1], HW[0]]], np.float32)
    for value, kept in ((0.39, False), (0.41, True)):
        found = on_superpixels(np.full((1, 50, 50), value, np.float32), box, blocks(), 0.4)
        assert found.all() == kept
        assert found.any() == kept


def test_pasting_reads_the_place_of_every_pixels_centre() -> None:
    probabilities = np.arange(2500, dtype=np.float32).reshape(50, 50)
    rows, columns, values = paste(probabilities, np.array([4.7, -3.0, 25.0, 9.9]), HW)
    assert (rows, columns) == (slice(0, 10), slice(5, 25))
    for y in range(10):
        for x in range(5, 25):
            assert values[y, x - 5] == probabilities[int((y + 3.5) * 50 / 12.9), int((x + 0.5 - 4.7) * 50 / 20.3)]


def test_pasting_can_round_as_the_original_does() -> None:
    probabilities = np.arange(2500, dtype=np.float32).reshape(50, 50)
    rows, columns, values = paste(probabilities, np.array([4.2, -3.0, 25.0, 9.9]), HW, centred=False)
    assert (rows, columns) == (slice(0, 10), slice(5, 25))
    for y in range(10):
        for x in range(5, 25):
            assert values[y, x - 5] == probabilities[int((y + 3) * 50 / 13), int((x - 5) * 50 / 20)]


@given(st.floats(0, 1), st.floats(0, 1), st.floats(6, 14), st.floats(6, 14))
def test_a_mask_comes_back_as_it_was_learned(left: float, top: float, width: float, height: float) -> None:
    """A disc at the places of its box, laid on pixels again, is that disc: small objects suffer first."""
    box = np.array([10 + left, 5 + top, 10 + left + width, 5 + top + height], np.float32)
    rows, columns = np.mgrid[: HW[0], : HW[1]] + 0.5
    middle, radius = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    disc = ((columns - middle[0]) / radius[0]) ** 2 + ((rows - middle[1]) / radius[1]) ** 2 <= 1
    places = mask_places(disc, box[None]).astype(np.float32)
    found = as_mask(on_pixels(places, box[None], HW, 0.5)[0])
    assert (found & disc).sum() / (found | disc).sum() > 0.9


def test_boxes_outside_the_image_give_empty_masks() -> None:
    outside = np.array([[100, 100, 120, 120], [-20, -20, -5, -5], [3, 3, 3, 3]], np.float32)
    full = np.ones((3, 50, 50), np.float32)
    assert not on_pixels(full, outside, HW, 0.4).any()
    assert not on_superpixels(full, outside, blocks()).any()


def test_superpixels_of_the_data_set_come_first(tiny_data: PreparedData, tmp_path: Path) -> None:
    name = tiny_data.ids("val")[0]
    height, width = tiny_data.size_hw(name)
    shutil.copytree(tiny_data.root, tmp_path / "data")
    own = PreparedData.open(tmp_path / "data")
    assert imported(own, name) is None
    stored = np.zeros((height, width), np.uint16)
    stored[:, 10:] = 7
    write_png(own.root / FOLDER / f"{name}.png", stored)
    assert np.array_equal(superpixels_of(own, name), (stored > 0).astype(np.int32))
    write_png(own.root / FOLDER / f"{name}.png", stored[:10])
    with pytest.raises(DataError, match="expected one channel"):
        imported(own, name)
