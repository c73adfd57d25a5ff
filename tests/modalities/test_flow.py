"""Optical flow as images: the authors' numbers, KITTI's numbers, and mirroring."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmodal_cli.data.transforms import mirror
from xmodal_cli.errors import DataError
from xmodal_cli.modalities import flow


def field(x: float, y: float) -> np.ndarray:
    return np.array([[[x, y]]], np.float32)


def test_no_motion_is_128_in_all_three_channels_and_the_length_begins_there() -> None:
    assert flow.encode(field(0, 0))[0, 0].tolist() == [128, 128, 128]
    assert flow.encode(field(-1, 2))[0, 0].tolist() == [112, 160, round(16 * 5**0.5 + 128)]
    assert flow.encode(field(8, -8))[0, 0].tolist() == [255, 0, 255]


@given(st.floats(-7.875, 7.875, width=32), st.floats(-7.875, 7.875, width=32))
def test_decoding_is_good_to_half_a_level(x: float, y: float) -> None:
    assert np.abs(flow.decode(flow.encode(field(x, y))) - field(x, y)).max() <= 1 / 32 + 1e-6


@given(st.floats(-500, 500, width=32), st.floats(-500, 500, width=32))
def test_the_16_bit_form_is_good_to_half_a_step_of_kitti(x: float, y: float) -> None:
    found, valid = flow.decode_kitti(flow.encode_kitti(field(x, y)))
    assert np.abs(found - field(x, y)).max() <= 1 / 128 + 1e-4
    assert valid.all()


def test_unknown_flow_is_0_in_the_16_bit_form() -> None:
    image = flow.encode_kitti(np.ones((1, 2, 2)), np.array([[True, False]]))
    assert image[0].tolist() == [[32832, 32832, 1], [0, 0, 0]]


@pytest.mark.parametrize("encode", [flow.encode, flow.encode_kitti])
def test_a_mirrored_image_is_the_image_of_mirrored_flow(encode) -> None:
    flow_px = np.random.default_rng(0).integers(-100, 101, (4, 6, 2)) / 16
    mirrored = flow_px[:, ::-1] * [-1, 1]
    assert np.array_equal(mirror(encode(flow_px), "negate_x"), encode(mirrored))


def test_a_mirrored_16_bit_pixel_without_flow_stays_without() -> None:
    image = flow.encode_kitti(np.ones((1, 2, 2)), np.array([[True, False]]))
    assert mirror(image, "negate_x")[0, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("bad", [np.zeros((2, 2)), np.zeros((2, 2, 3)), np.full((1, 1, 2), np.nan)])
def test_what_is_no_flow_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(DataError):
        flow.encode(bad)
