"""The dictionary of modalities: light to import, one way to encode, clear about what is missing."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plane_scenes import SMALL_CAMERA, floor_and_wall

from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.modalities import MODALITIES, Frame, encode_frame, gray, hha, modality, thermal

DEPTH_M = floor_and_wall(20, 5, 1.3, 2.5).depth_m
RGB = np.random.default_rng(0).integers(0, 256, (*DEPTH_M.shape, 3), dtype=np.uint8)
RAW = np.random.default_rng(0).integers(17000, 20000, DEPTH_M.shape, dtype=np.uint16)
FLOW_PX = np.random.default_rng(0).normal(0, 4, (*DEPTH_M.shape, 2)).astype(np.float32)
FRAMES = {
    "hha": Frame(DEPTH_M, camera=SMALL_CAMERA, missing=DEPTH_M > 2.4),
    "disparity": Frame(DEPTH_M),
    "depth": Frame(DEPTH_M),
    "thermal": Frame(RAW, range=(18000.0, 19000.0)),
    "gray": Frame(RGB),
    "flow": Frame(FLOW_PX),
    "flow_kitti": Frame(FLOW_PX, missing=FLOW_PX[..., 0] > 5),
}


def test_names_are_known_without_loading_numpy_opencv_or_scipy() -> None:
    program = (
        "import sys; from xmodal_cli.modalities import MODALITIES; print(*MODALITIES);"
        "print([name for name in ('numpy', 'cv2', 'scipy', 'torch', 'numba') if name in sys.modules])"
    )

    lines = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )

    assert lines[0].split() == list(FRAMES)
    assert lines[1] == "[]"


@pytest.mark.parametrize("name", list(MODALITIES))
def test_every_modality_encodes_what_it_says(name: str) -> None:
    entry = MODALITIES[name]

    image = encode_frame(name, FRAMES[name])

    assert entry.name == name
    assert image.dtype == entry.dtype
    assert image.shape == (DEPTH_M.shape if entry.channels == 1 else (*DEPTH_M.shape, entry.channels))
    assert entry.range[0] <= image.min() < image.max() <= entry.range[1]
    assert entry.about.endswith(".")


def test_hha_of_a_frame_uses_its_camera_and_its_mask() -> None:
    frame = FRAMES["hha"]

    assert np.array_equal(encode_frame("hha", frame), hha.encode(DEPTH_M, SMALL_CAMERA, frame.missing))
    assert not np.array_equal(encode_frame("hha", frame), hha.encode(DEPTH_M, SMALL_CAMERA))


def test_worker_processes_give_the_same_bytes() -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        encoded = dict(zip(FRAMES, pool.map(encode_frame, FRAMES, FRAMES.values()), strict=True))

    for name, frame in FRAMES.items():
        assert np.array_equal(encoded[name], encode_frame(name, frame))


def test_a_misspelt_modality_gets_the_closest_name() -> None:
    with pytest.raises(SettingsError) as caught:
        modality("dispartiy")

    assert "Did you mean 'disparity'?" in str(caught.value.hint)
    assert "thermal" in caught.value.message


def test_hha_without_a_camera_names_the_option_and_the_way_round() -> None:
    with pytest.raises(SettingsError) as caught:
        encode_frame("hha", Frame(DEPTH_M))

    assert "--camera" in str(caught.value.hint)
    assert "disparity" in str(caught.value.hint)


def test_thermal_without_a_range_is_refused() -> None:
    with pytest.raises(SettingsError, match="range"):
        encode_frame("thermal", Frame(RAW))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 5), st.floats(0, 40), st.floats(60, 100))
def test_range_is_the_percentiles_of_all_pixels_together(seed: int, count: int, lower: float, upper: float) -> None:
    generator = np.random.default_rng(seed)
    images = [generator.integers(0, 60000, (9, 11 + i), dtype=np.uint16) for i in range(count)]

    found = thermal.measure_range(iter(images), (lower, upper))

    ordered = np.sort(np.concatenate([image.ravel() for image in images]))
    ranks = [int(share / 100 * (ordered.size - 1)) for share in (lower, upper)]
    assert found == tuple(ordered[ranks].astype(float))


def test_one_range_keeps_equal_temperatures_equal_in_all_images() -> None:
    cold, warm = (np.array([[18000, 18000 + extra]], dtype=np.uint16) for extra in (100, 1000))

    value_range = thermal.measure_range([cold, warm], (0, 100))

    assert value_range == (18000.0, 19000.0)
    assert thermal.encode(cold, value_range).tolist() == [[0, 26]]
    assert thermal.encode(warm, value_range).tolist() == [[0, 255]]


def test_values_outside_the_range_saturate() -> None:
    raw = np.array([[0, 100, 200, 65535]], dtype=np.uint16)

    assert thermal.encode(raw, (100.0, 200.0)).tolist() == [[0, 0, 255, 255]]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        pytest.param([], "no thermal image", id="none"),
        pytest.param([np.full((3, 3), 7, dtype=np.uint16)], "same value", id="constant"),
        pytest.param([np.zeros((3, 3))], "8 or 16 bits", id="floats"),
    ],
)
def test_a_range_that_cannot_be_measured_is_refused(images: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        thermal.measure_range(images)


def test_an_empty_range_and_a_colour_image_are_refused_as_thermal() -> None:
    with pytest.raises(DataError, match="empty"):
        thermal.encode(RAW, (5.0, 5.0))
    with pytest.raises(DataError, match="one channel"):
        thermal.encode(RGB.astype(np.uint16), (5.0, 6.0))


def test_gray_is_luma_and_gray_stays_gray() -> None:
    expected = RGB @ np.array([0.299, 0.587, 0.114])

    assert np.max(abs(gray.encode(RGB) - expected)) <= 0.51
    assert np.array_equal(gray.encode(RGB[..., 0]), RGB[..., 0])


@pytest.mark.parametrize("image", [RAW, RGB[..., :2], RGB.astype(np.float64)])
def test_gray_refuses_what_is_not_8_bit_colour_or_gray(image: np.ndarray) -> None:
    with pytest.raises(DataError, match="8-bit"):
        gray.encode(image)
