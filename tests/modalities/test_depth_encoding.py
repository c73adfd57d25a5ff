"""Metric depth and disparity: exact conversion, filled holes, smoothed steps, MATLAB's rounding."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plane_scenes import SMALL_CAMERA, floor_and_wall

from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.modalities import depth, disparity, hha
from xmodal_cli.modalities.geometry import Camera

STEP_M = 1 / 25.5


def stored_in_8_bits(depth_m: np.ndarray) -> np.ndarray:
    """Depth as the 8-bit NYU images give it back: the middles of steps of 4 cm."""
    return depth.to_metres(np.floor(depth_m / STEP_M).astype(np.uint8), unit=STEP_M, offset=STEP_M / 2)


@pytest.mark.parametrize(("unit", "steps_per_cm"), [(0.001, 10), (0.0001, 100)])
def test_disparity_of_every_16_bit_depth_is_rounded_without_error(unit: float, steps_per_cm: int) -> None:
    raw = np.arange(1, 65536, dtype=np.uint16)[None]

    found = disparity.encode(depth.to_metres(raw, unit))[0]

    steps = np.maximum(raw[0].astype(np.int64), 100 * steps_per_cm)
    exact = (2 * 31000 * steps_per_cm + steps) // (2 * steps)  # halves up, in whole numbers
    assert np.array_equal(found, np.stack([np.minimum(exact, 255)] * 3, axis=-1))


def test_disparity_is_the_first_channel_of_hha() -> None:
    depth_m = floor_and_wall(20, 5, 1.3, 2.5).depth_m

    found = disparity.encode(depth_m)

    assert found.dtype == np.uint8
    for channel in range(3):
        assert np.array_equal(found[..., channel], hha.encode(depth_m, SMALL_CAMERA)[..., 0])


@pytest.mark.parametrize("unit", [0.001, 0.0001, 0.0002, 1.0])
def test_metres_are_the_nearest_doubles_to_the_decimal_number(unit: float) -> None:
    raw = np.arange(0, 65536, 7, dtype=np.uint16)[None]

    assert np.array_equal(depth.to_metres(raw, unit)[0], raw[0] / round(1 / unit))


def test_8_bit_depth_gives_the_middles_of_its_steps() -> None:
    found = depth.to_metres(np.array([[0, 100, 255]], dtype=np.uint8), unit=0.0392157, offset=0.0196078)

    assert found[0] == pytest.approx((np.array([0, 100, 255]) + 0.5) / 25.5, abs=1e-5)


def test_floating_point_depth_is_converted_too() -> None:
    assert depth.to_metres(np.array([[1500.0]], dtype=np.float32), unit=0.001).tolist() == [[1.5]]


@pytest.mark.parametrize(("unit", "offset"), [(0.0, 0.0), (-0.001, 0.0), (np.nan, 0.0), (0.001, np.inf)])
def test_a_unit_that_is_no_length_is_refused(unit: float, offset: float) -> None:
    with pytest.raises(SettingsError, match="unit"):
        depth.to_metres(np.ones((2, 2), dtype=np.uint16), unit, offset)


@pytest.mark.parametrize("raw", [np.ones((2, 2, 3), dtype=np.uint8), np.ones((2, 2), dtype=bool)])
def test_an_image_that_is_not_one_channel_of_numbers_is_refused(raw: np.ndarray) -> None:
    with pytest.raises(DataError, match="one channel"):
        depth.to_metres(raw, 0.001)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.tuples(st.integers(1, 25), st.integers(1, 25)), st.floats(0.02, 1.0))
def test_holes_are_filled_from_a_nearest_valid_pixel(seed: int, shape: tuple[int, int], valid_share: float) -> None:
    generator = np.random.default_rng(seed)
    missing = generator.random(shape) >= valid_share
    missing[generator.integers(shape[0]), generator.integers(shape[1])] = False
    label = np.arange(1.0, missing.size + 1).reshape(shape)  # tells which pixel a depth was taken from

    filled = depth.fill_holes(np.where(missing, 0.0, label), missing)

    assert np.array_equal(filled[~missing], label[~missing])
    rows, columns = np.indices(shape)
    taken_row, taken_column = np.divmod(filled.astype(int) - 1, shape[1])
    assert not missing[taken_row, taken_column].any()
    to_taken = abs(rows - taken_row) + abs(columns - taken_column)
    valid_row, valid_column = np.nonzero(~missing)
    to_any = abs(rows[..., None] - valid_row) + abs(columns[..., None] - valid_column)
    assert np.array_equal(to_taken, to_any.min(axis=-1))


def test_depth_without_holes_comes_back_as_a_copy() -> None:
    depth_m = np.ones((3, 3))

    filled = depth.fill_holes(depth_m, np.zeros((3, 3), dtype=bool))
    filled[:] = 5

    assert np.all(depth_m == 1)


def test_what_stands_at_missing_pixels_is_ignored() -> None:
    depth_m = np.array([[np.nan, 2.0, np.inf]])

    assert depth.fill_holes(depth_m, np.array([[True, False, True]])).tolist() == [[2, 2, 2]]


def test_an_image_with_no_valid_pixel_is_refused() -> None:
    with pytest.raises(DataError, match="Every pixel"):
        depth.fill_holes(np.zeros((3, 3)), np.ones((3, 3), dtype=bool))


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(DataError, match="size"):
        depth.fill_holes(np.zeros((3, 3)), np.ones((3, 4), dtype=bool))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.tuples(st.integers(1, 60), st.integers(1, 60)))
def test_smoothing_leaves_no_pixel_outside_its_step(seed: int, shape: tuple[int, int]) -> None:
    terraces = stored_in_8_bits(np.random.default_rng(seed).uniform(0.3, 9.0, shape))

    smoothed = depth.smooth_quantised(terraces, STEP_M)

    assert np.max(abs(smoothed - terraces)) <= STEP_M / 2 + 1e-12


@settings(max_examples=10, deadline=None)
@given(st.floats(18, 30), st.floats(-10, 10), st.floats(1.0, 1.6))
def test_smoothing_brings_the_angles_of_planes_back(tilt_deg: float, roll_deg: float, height_m: float) -> None:
    scene = floor_and_wall(tilt_deg, roll_deg, height_m, 3.5)
    terraces = stored_in_8_bits(scene.depth_m)
    truth = hha.encode(scene.depth_m, SMALL_CAMERA)[..., 2].astype(int)

    before = abs(hha.encode(terraces, SMALL_CAMERA)[..., 2] - truth).mean()
    smoothed = depth.smooth_quantised(terraces, STEP_M)
    after = abs(hha.encode(smoothed, SMALL_CAMERA)[..., 2] - truth).mean()

    assert after < before / 2


def test_smoothing_does_not_blur_an_edge() -> None:
    depth_m = np.where(np.arange(80) < 40, 2.0, 3.0) * np.ones((60, 1))
    terraces = stored_in_8_bits(depth_m)

    smoothed = depth.smooth_quantised(terraces, STEP_M)

    assert np.max(abs(smoothed - terraces)) < 0.001


@pytest.mark.real
def test_smoothing_nearly_halves_the_angle_error_of_quantised_kinect_depth(real_data: Path) -> None:
    camera = Camera(585, 585, 320, 240)
    errors = {"before": [], "after": []}
    for number in (0, 330, 660):
        raw = cv2.imread(str(real_data / "kinect" / f"frame-{number:06d}.depth.png"), cv2.IMREAD_UNCHANGED)
        missing = raw == 0
        depth_m = depth.fill_holes(depth.to_metres(raw, 0.001), missing)
        truth = hha.encode(depth_m, camera, missing)[..., 2].astype(int)
        terraces = stored_in_8_bits(depth_m)
        for name, version in (("before", terraces), ("after", depth.smooth_quantised(terraces, STEP_M))):
            errors[name].append(abs(hha.encode(version, camera, missing)[..., 2] - truth).mean())

    assert np.mean(errors["before"]) > 16
    assert np.mean(errors["after"]) < 9.5


def test_smoothing_refuses_holes_and_steps_of_no_width() -> None:
    with pytest.raises(DataError, match="holes"):
        depth.smooth_quantised(np.zeros((3, 3)), STEP_M)
    with pytest.raises(SettingsError, match="steps"):
        depth.smooth_quantised(np.ones((3, 3)), 0.0)


def test_millimetres_are_rounded_like_matlab_and_saturate() -> None:
    found = depth.encode(np.array([[0.0, 1.0004, 1.0005, 65.535, 80.0]]))

    assert found.dtype == np.uint16
    assert found.tolist() == [[0, 1000, 1001, 65535, 65535]]


def test_every_16_bit_millimetre_survives_the_round_trip() -> None:
    raw = np.arange(65536, dtype=np.uint16)[None]

    assert np.array_equal(depth.encode(depth.to_metres(raw, 0.001)), raw)
