"""The camera: read from the command line, moved by crops and scales, refused when it is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmodal_cli.errors import SettingsError
from xmodal_cli.modalities.geometry import Camera

focal = st.floats(1, 5000)
centre = st.floats(-2000, 5000)
cameras = st.builds(Camera, focal, focal, centre, centre)


def test_published_numbers_are_read_as_they_stand() -> None:
    camera = Camera.parse("518.858,519.470, 285.582,208.736")

    assert camera == Camera(518.858, 519.470, 285.582, 208.736)


def test_a_camera_counted_from_zero_moves_by_one_pixel() -> None:
    assert Camera.parse("500,510,319.5,239.5", origin=0) == Camera(500, 510, 320.5, 240.5)


def test_the_nyu_crop_moves_the_centre_by_40_and_45_pixels() -> None:
    full = Camera(518.85790117450188, 519.46961112127485, 325.58244941119034, 253.73616633400465)

    cropped = full.cropped(left=40, top=45)

    assert (cropped.cx, cropped.cy) == pytest.approx((285.58244941119034, 208.73616633400465), abs=1e-12)


@given(cameras, st.integers(-50, 500), st.integers(-50, 500), st.floats(0.1, 10))
def test_crops_and_scales_see_the_same_ray_through_the_same_point(
    camera: Camera, left: int, top: int, scale: float
) -> None:
    u, v = 123.0, 77.0  # 1-based position in the full image

    changed = camera.cropped(left, top).scaled(scale)

    moved_u, moved_v = ((x - 0.5) * scale + 0.5 for x in (u - left, v - top))
    assert (moved_u - changed.cx) / changed.fx == pytest.approx((u - camera.cx) / camera.fx, abs=1e-9)
    assert (moved_v - changed.cy) / changed.fy == pytest.approx((v - camera.cy) / camera.fy, abs=1e-9)


def test_width_and_height_may_be_scaled_differently() -> None:
    assert Camera(100, 100, 10.5, 10.5).scaled(2, 3) == Camera(200, 300, 20.5, 30.5)


@given(cameras)
def test_a_camera_survives_dataset_json(camera: Camera) -> None:
    assert Camera.from_dict(camera.to_dict()) == camera


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "0,500,3,4", "-1,500,3,4", "nan,1,1,1", "1,1,inf,1"]
)
def test_text_that_is_no_camera_is_refused_with_the_way_to_write_one(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Camera.parse(text)

    assert "--camera fx,fy,cx,cy" in str(caught.value.hint)


def test_an_origin_other_than_zero_or_one_is_refused() -> None:
    with pytest.raises(SettingsError, match="0 or 1"):
        Camera.parse("1,1,1,1", origin=2)


@pytest.mark.parametrize("numbers", [{}, {"fx": 1, "fy": 1, "cx": 1}, {"fx": "x", "fy": 1, "cx": 1, "cy": 1}])
def test_a_damaged_camera_in_dataset_json_is_refused(numbers: dict) -> None:
    with pytest.raises(SettingsError, match="fx, fy, cx and cy"):
        Camera.from_dict(numbers)
