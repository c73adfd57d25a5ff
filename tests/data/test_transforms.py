"""Promises of the paired geometric draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xmodal_cli.data.transforms import Augmentation, Draw, apply, draw, generator, mirror, whole_image

IMAGE_HW = (96, 128)
SIDES = st.integers(8, 300)
SEEDS = st.integers(0, 2**31)


@given(SIDES, SIDES, SIDES, SIDES, st.floats(0.05, 1.0), SEEDS)
def test_window_lies_inside_the_image(height: int, width: int, h: int, w: int, crop: float, seed: int) -> None:
    window = draw(Augmentation((h, w), crop), (height, width), generator(seed))
    assert 0 <= window.left < window.right <= 1
    assert 0 <= window.top < window.bottom <= 1


@given(SIDES, SIDES, st.floats(0.05, 1.0), SEEDS)
def test_window_has_at_least_the_smallest_share_of_the_area(height: int, width: int, crop: float, seed: int) -> None:
    window = draw(Augmentation((height, width), crop), (height, width), generator(seed))
    assert (window.right - window.left) * (window.bottom - window.top) >= crop - 1e-9


@given(st.integers(1, 6), st.integers(0, 4), st.integers(0, 4), st.sampled_from([4, 8, 16]), SIDES, SIDES, SEEDS)
def test_lattice_offsets_are_multiples_of_the_step(
    cells: int, down: int, right: int, step: int, height: int, width: int, seed: int
) -> None:
    size_hw = (cells * step + 8, 2 * cells * step + 8)
    whole_hw = (size_hw[0] + down * step, size_hw[1] + right * step)
    window = draw(Augmentation(size_hw, 0.5, True, (whole_hw, step)), (height, width), generator(seed))
    for offset, whole, size in zip(window.offset_yx, whole_hw, size_hw, strict=True):
        assert offset % step == 0
        assert 0 <= offset <= whole - size
    assert -1e-9 <= window.left < window.right <= 1
    assert -1e-9 <= window.top < window.bottom <= 1


@pytest.mark.parametrize("image_hw", [(96, 128), (96, 96), (60, 128)])
@pytest.mark.parametrize("seed", range(4))
def test_lattice_window_shows_what_is_cut_from_the_whole_image(image_hw: tuple[int, int], seed: int) -> None:
    """Also when the image's shape differs from the whole image's, which is then seen centred."""
    whole_hw, step = (96, 128), 16
    image = np.linspace(0, 60_000, image_hw[0] * image_hw[1]).reshape(*image_hw, 1).astype(np.float32)
    window = draw(Augmentation((64, 96), 0.5, True, (whole_hw, step)), image_hw, generator(seed))
    whole = apply(image, whole_image(image_hw, whole_hw, flipped=window.flipped))
    top, left = window.offset_yx
    cut = whole[top : top + 64, left : left + 96]
    inner = (slice(4, -4), slice(4, -4))  # at its border a resized window cannot know what lies beyond
    row = 60_000 / image_hw[0]  # what one pixel down is worth: borders are rounded to whole pixels of the image
    assert np.abs(apply(image, window)[inner] - cut[inner]).max() <= row


@given(SEEDS, st.integers(0, 50), st.text(max_size=8))
def test_draws_depend_on_seed_epoch_and_name_only(seed: int, epoch: int, name: str) -> None:
    augmentation = Augmentation((32, 32), 0.3)
    first = draw(augmentation, IMAGE_HW, generator(seed, epoch, name))
    generator(seed, epoch + 1, name).random(100)
    np.random.default_rng(seed).random(100)
    assert draw(augmentation, IMAGE_HW, generator(seed, epoch, name)) == first


def test_draws_differ_between_seeds_epochs_and_names() -> None:
    augmentation = Augmentation((32, 32), 0.3)
    keys = [(0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b")]
    assert len({draw(augmentation, IMAGE_HW, generator(seed, *key)) for seed, *key in keys}) == len(keys)


@settings(max_examples=30)
@given(SEEDS, st.booleans())
def test_both_images_of_a_pair_show_the_same_place(seed: int, finer: bool) -> None:
    """The same marker in both images, one of them of twice the resolution, lands at the same place."""
    window = draw(Augmentation((48, 64), 0.3), IMAGE_HW, generator(seed))
    coarse = np.zeros((*IMAGE_HW, 1), np.float32)
    coarse[::16, ::16] = 255
    coarse = np.kron(coarse[::8, ::8, 0], np.ones((8, 8), np.float32))[..., None]
    scale = 2 if finer else 1
    other = np.kron(coarse[..., 0], np.ones((scale, scale), np.float32))[..., None]
    difference = np.abs(apply(coarse, window) - apply(other, window))
    assert difference.mean() < 255 * 0.12
    assert np.corrcoef(apply(coarse, window).ravel(), apply(other, window).ravel())[0, 1] > 0.9


def test_same_draw_gives_the_same_pixels_of_equal_images() -> None:
    image = np.random.default_rng(0).integers(0, 256, (*IMAGE_HW, 3), dtype=np.uint8)
    window = draw(Augmentation((48, 64), 0.3), IMAGE_HW, generator(5))
    np.testing.assert_array_equal(apply(image, window), apply(image[..., [0, 1, 2]].copy(), window))


def test_whole_image_of_the_same_shape_loses_nothing() -> None:
    assert whole_image((425, 560), (224, 296)) == Draw(0, 0, 1, 1, (224, 296))


def test_crop_of_one_is_the_centred_whole_image() -> None:
    """What a cached teacher has seen, even where the shapes differ."""
    for seed in range(20):
        window = draw(Augmentation((64, 64), 1.0), (64, 128), generator(seed))
        assert (window.left, window.right) == (0.25, 0.75)


def test_half_of_the_draws_are_flipped_unless_forbidden() -> None:
    flips = [draw(Augmentation((8, 8), 0.5), (8, 8), generator(0, i)).flipped for i in range(400)]
    assert 150 < sum(flips) < 250
    assert not any(draw(Augmentation((8, 8), 0.5, flip=False), (8, 8), generator(0, i)).flipped for i in range(50))


def test_flip_mirrors_and_a_second_flip_restores() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    np.testing.assert_array_equal(mirror(image)[:, 0], image[:, 3])
    np.testing.assert_array_equal(mirror(mirror(image)), image)


def test_flip_of_flow_negates_its_horizontal_part_only() -> None:
    image = np.array([[[128, 7, 9], [100, 8, 9], [255, 9, 9]]], np.uint8)
    flipped = mirror(image, "negate_x")
    assert flipped[0, :, 0].tolist() == [1, 156, 128]
    assert flipped[0, :, 1:].tolist() == [[9, 9], [8, 9], [7, 9]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_apply_keeps_the_type_and_gives_the_size_asked_for(dtype: type) -> None:
    image = np.ones((31, 47, 1), dtype)
    seen = apply(image, whole_image((31, 47), (16, 40)))
    assert seen.shape == (16, 40, 1)
    assert seen.dtype == dtype
    assert (seen == 1).all()
