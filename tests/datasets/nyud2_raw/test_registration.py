"""Promises of the registration: depth of a scene that is known exactly lands where the colour camera sees it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from made_scenes import BOX_RGB, Scene, raw_colour, raw_depth, truth

from xmodal_cli.datasets.nyud2_raw import camera
from xmodal_cli.datasets.nyud2_raw.registration import register, undistort_colour


def half_step_m(depth_m: np.ndarray) -> np.ndarray:
    """Half of the step between neighbouring raw numbers, metres."""
    return np.asarray(depth_m**2 / camera.STEPS_A / 2)


@pytest.mark.parametrize(
    "scene",
    [Scene(), Scene((-0.5, 0.1, 1.0), 2.0), Scene((0.0, 0.6, 1.0), 2.5), Scene((0.0, 0.0, 1.0), 4.0)],
    ids=["slanted", "turned left", "like a floor", "frontal"],
)
def test_a_plane_is_registered_to_a_fraction_of_a_pixel(scene: Scene) -> None:
    found, true_m = register(raw_depth(scene)).astype(np.float64), truth(scene)[0]
    seen = found > 0
    error = found - true_m
    down, across = np.gradient(true_m)
    allowed = half_step_m(true_m) * 1.1 + 0.55 * (abs(across) + abs(down)) + 1e-4
    assert seen.mean() > 0.97
    assert (abs(error) <= allowed)[seen].all()
    for slope in (across, down):  # the shift, in pixels, that explains the error best
        if abs(slope).mean() > 1e-3:
            shift = (error * slope)[seen].sum() / (slope * slope)[seen].sum()
            assert abs(shift) < 0.2


def test_a_box_hides_what_is_behind_it_and_leaves_a_shadow() -> None:
    scene = Scene((0.0, 0.0, 1.0), 4.0, box_z_m=1.2)
    found = register(raw_depth(scene))
    true_m, on_box = truth(scene)
    inside = cv2.erode(on_box.astype(np.uint8), np.ones((3, 3))) > 0
    outside = cv2.dilate(on_box.astype(np.uint8), np.ones((3, 3))) == 0
    assert np.abs(found - 1.2)[inside & (found > 0)].max() < half_step_m(np.array(1.25)) + 1e-4
    assert np.abs(found - true_m)[outside & (found > 0)].max() < half_step_m(np.array(4.05)) + 1e-3
    assert (found[inside] > 0).mean() > 0.999
    shadow = (found == 0) & outside
    width = shadow[np.flatnonzero(on_box.any(axis=1))[20:-20]].sum(axis=1)
    expected = 0.0250 * 518.86 * (1 / 1.2 - 1 / 4.0)
    assert abs(np.median(width) - expected) < 2.0


def test_colour_and_depth_show_the_box_at_the_same_place() -> None:
    scene = Scene((0.0, 0.0, 1.0), 4.0, box_z_m=1.2)
    rgb, found = undistort_colour(raw_colour(scene)).astype(int), register(raw_depth(scene))
    red = np.abs(rgb - np.array(BOX_RGB)).sum(axis=2) < 150
    true_box = truth(scene)[1]
    assert rgb.shape == (425, 560, 3)
    edge = cv2.dilate(true_box.astype(np.uint8), np.ones((3, 3))) != cv2.erode(
        true_box.astype(np.uint8), np.ones((3, 3))
    )
    assert (red == true_box)[~edge].all()
    assert ((found < 2.0) == true_box)[~edge & (found > 0)].all()


def test_of_two_points_on_one_pixel_the_nearest_counts() -> None:
    raw = np.full((480, 640), 2047, np.uint16)
    raw[240, 320], raw[240, 321] = 1000, 700  # parallax moves the near one left, onto or past the far one
    alone_far, alone_near = raw.copy(), raw.copy()
    alone_far[240, 321] = alone_near[240, 320] = 2047
    both, near, far = register(raw), register(alone_near), register(alone_far)
    assert (near > 0).sum() == (far > 0).sum() == 1
    assert np.array_equal(both, np.where(near > 0, near, far))
    for column in range(300, 345):  # somewhere they fall together
        raw[:] = 2047
        raw[240, 320], raw[240, column] = 1000, 700
        found = register(raw)
        if (found > 0).sum() == 1 and column != 320:
            assert found.max() < 1.0
            return
    pytest.fail("no two points fell on one pixel")


def test_what_the_sensor_did_not_see_is_zero() -> None:
    assert not register(np.full((480, 640), 2047, np.uint16)).any()
    assert not register(np.zeros((480, 640), np.uint16)).any()


def test_the_constants_are_those_of_a_kinect() -> None:
    turn = camera.DEPTH_TO_COLOUR
    assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(turn) == pytest.approx(1.0, abs=1e-6)
    assert camera.CROPPED.cx == pytest.approx(285.58244941119034)
    assert camera.CROPPED.cy == pytest.approx(208.73616633400465)
