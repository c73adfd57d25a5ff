"""HHA: the authors' image to the last byte, known geometry, gravity as measured, and what input is refused."""

from __future__ import annotations

import time
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plane_scenes import SMALL_CAMERA, SMALL_SHAPE, degrees_between, floor_and_wall, plane_depth

from xmodal_cli.errors import DataError
from xmodal_cli.modalities import hha
from xmodal_cli.modalities.depth import fill_holes, to_metres
from xmodal_cli.modalities.geometry import Camera

FLOOR, WALL, NOTHING = 38, 128, 218


@pytest.mark.real
@pytest.mark.parametrize("mask", ["none", "no pixel missing"])
def test_image_equals_the_authors_matlab_output_in_every_byte(golden, mask: str) -> None:
    missing = None if mask == "none" else np.zeros(golden.depth_m.shape, dtype=bool)

    found = hha.analyse(golden.depth_m, golden.camera, missing)

    assert found.image.shape == (480, 640, 3)
    assert np.count_nonzero(found.image != golden.matlab_hha) == 0
    assert found.gravity == pytest.approx([-0.0388, 0.9992, -0.0091], abs=5e-5)
    assert found.no_normal == 0


@pytest.mark.real
def test_with_the_real_mask_63403_pixels_have_no_normal(golden) -> None:
    found = hha.analyse(golden.depth_m, golden.camera, golden.missing)

    assert found.no_normal == 63403
    assert np.count_nonzero(found.image[..., 2] == NOTHING) >= 63403
    assert found.gravity == pytest.approx([-0.0405, 0.9992, -0.0063], abs=5e-4)


@pytest.mark.real
def test_with_the_real_mask_every_byte_equals_direct_convolution(golden, direct: ModuleType) -> None:
    found = hha.analyse(golden.depth_m, golden.camera, golden.missing)

    image, gravity, no_normal = direct.direct_hha(golden.depth_m, golden.camera, golden.missing)

    assert np.count_nonzero(found.image != image) == 0
    assert found.gravity == pytest.approx(gravity, abs=1e-6)
    assert found.no_normal == no_normal


@pytest.mark.real
def test_gravity_agrees_with_the_measured_one_on_a_kinect_sequence(real_data: Path) -> None:
    folder = real_data / "kinect"
    matrix = np.loadtxt(folder / "camera-intrinsics.txt")
    camera = Camera(matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2])
    gravity_in_world = np.loadtxt(folder / "gravity-direction.txt")
    errors = []
    for path in sorted(folder.glob("*.depth.png")):
        raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        missing = raw == 0
        depth_m = fill_holes(to_metres(raw, unit=0.001), missing)
        camera_to_world = np.loadtxt(path.with_name(path.name.replace("depth.png", "pose.txt")))[:3, :3]
        found = hha.analyse(depth_m, camera, missing)
        errors.append(degrees_between(found.gravity, camera_to_world.T @ gravity_in_world))

    assert len(errors) == 100
    assert np.median(errors) < 2.5
    assert max(errors) < 5.0


@settings(max_examples=20, deadline=None)
@given(st.floats(1.1, 9.0))
def test_wall_facing_the_camera_is_vertical_and_at_its_distance(distance_m: float) -> None:
    found = hha.analyse(np.full(SMALL_SHAPE, distance_m), SMALL_CAMERA)

    assert found.gravity == pytest.approx([0, 1, 0], abs=1e-9)
    assert np.all(found.image[..., 2] == WALL)
    assert np.all(abs(found.image[..., 0] - min(255.0, 310 / distance_m)) <= 0.5 + 1e-9)


@settings(max_examples=20, deadline=None)
@given(st.floats(18, 30), st.floats(-12, 12), st.floats(1.0, 1.6), st.floats(3.0, 4.0))
def test_floor_and_wall_get_their_known_gravity_height_and_angle(
    tilt_deg: float, roll_deg: float, height_m: float, wall_m: float
) -> None:
    scene = floor_and_wall(tilt_deg, roll_deg, height_m, wall_m)

    found = hha.analyse(scene.depth_m, SMALL_CAMERA)

    assert degrees_between(found.gravity, scene.down) < 1.5
    assert found.floor_cm == pytest.approx(-100 * height_m, rel=0.05)
    window = np.ones((2 * hha.ANGLE_RADIUS + 1,) * 2, dtype=np.uint8)
    floor, wall = (
        cv2.erode(where.astype(np.uint8), window).astype(bool) for where in (scene.is_floor, ~scene.is_floor)
    )
    assert np.all(abs(found.image[floor, 2].astype(int) - FLOOR) <= 2)
    assert np.all(abs(found.image[wall, 2].astype(int) - WALL) <= 2)
    assert np.all(found.image[floor, 1] <= 8)


@settings(max_examples=10, deadline=None)
@given(st.floats(18, 30), st.floats(-10, 10), st.integers(0, 2**31))
def test_mirrored_depth_gives_mirrored_hha(tilt_deg: float, roll_deg: float, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(1.0, 0.003, SMALL_SHAPE)
    depth_m = floor_and_wall(tilt_deg, roll_deg, 1.3, 2.5).depth_m * noise
    mirrored_camera = Camera(SMALL_CAMERA.fx, SMALL_CAMERA.fy, SMALL_SHAPE[1] + 1 - SMALL_CAMERA.cx, SMALL_CAMERA.cy)

    image = hha.encode(depth_m, SMALL_CAMERA)
    mirrored = hha.encode(np.ascontiguousarray(depth_m[:, ::-1]), mirrored_camera)

    difference = abs(image.astype(int) - mirrored[:, ::-1].astype(int))
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= difference.size / 1000


def test_unseen_pixels_take_no_part_in_the_normals_of_others() -> None:
    depth_m = floor_and_wall(20, 5, 1.3, 2.5).depth_m
    missing = np.zeros(SMALL_SHAPE, dtype=bool)
    missing[30:60, 40:80] = True
    other_m = np.where(missing, 1.5 * depth_m, depth_m)

    found, other = (hha.analyse(depth, SMALL_CAMERA, missing) for depth in (depth_m, other_m))

    assert np.array_equal(found.image[..., 2], other.image[..., 2])
    assert np.array_equal(found.gravity, other.gravity)
    assert not np.array_equal(found.image[..., 0], other.image[..., 0])


def test_middle_of_a_hole_larger_than_the_window_has_angle_218() -> None:
    missing = np.zeros(SMALL_SHAPE, dtype=bool)
    missing[30:60, 40:80] = True

    found = hha.analyse(np.full(SMALL_SHAPE, 2.0), SMALL_CAMERA, missing)

    reach = hha.ANGLE_RADIUS
    assert np.all(found.image[30 + reach : 60 - reach, 40 + reach : 80 - reach, 2] == NOTHING)
    assert found.no_normal == (30 - 2 * reach) * (40 - 2 * reach)
    assert np.count_nonzero(found.image[..., 2] == NOTHING) == found.no_normal


def test_no_pixel_seen_at_all_gives_angle_218_everywhere() -> None:
    found = hha.analyse(np.full((20, 30), 2.0), SMALL_CAMERA, np.ones((20, 30), dtype=bool))

    assert np.all(found.image[..., 2] == NOTHING)
    assert found.no_normal == 600
    assert found.gravity.tolist() == [0, 1, 0]


def test_floor_that_is_not_seen_is_taken_to_be_130_cm_below_the_camera() -> None:
    wall_far_above = plane_depth(np.array([0.0, 0.0, 1.0]), 1.0)

    found = hha.analyse(wall_far_above, SMALL_CAMERA)

    assert found.floor_cm == -130
    row_of_the_optical_axis = round(SMALL_CAMERA.cy) - 1
    assert found.image[row_of_the_optical_axis, 5, 1] == 130


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.tuples(st.integers(1, 60), st.integers(1, 40)), st.sampled_from([0.0, 0.5, 0.95]))
def test_images_of_any_size_and_any_holes_miss_as_many_normals_as_direct_convolution(
    direct: ModuleType, seed: int, shape: tuple[int, int], missing_share: float
) -> None:
    generator = np.random.default_rng(seed)
    camera = Camera(100.0, 100.0, shape[1] / 2, shape[0] / 2)
    depth_m = 2.0 + cv2.GaussianBlur(generator.normal(0, 1, shape), (0, 0), 3)
    missing = generator.random(shape) < missing_share

    found = hha.analyse(depth_m, camera, missing)

    assert found.image.shape == (*shape, 3)
    assert found.no_normal == direct.direct_hha(depth_m, camera, missing)[2]
    assert np.linalg.norm(found.gravity) == pytest.approx(1)


def test_hha_is_at_least_five_times_as_fast_as_direct_convolution(direct: ModuleType) -> None:
    depth_m, missing = direct.made_up_frame()

    def seconds(call) -> float:
        start = time.process_time()
        call()
        return time.process_time() - start

    hha.encode(depth_m, direct.COLOUR_CAMERA, missing)
    ours = min(seconds(lambda: hha.encode(depth_m, direct.COLOUR_CAMERA, missing)) for _ in range(5))
    assert ours < seconds(lambda: direct.direct_hha(depth_m, direct.COLOUR_CAMERA, missing)) / 5


@pytest.mark.parametrize(
    ("depth_m", "missing", "message"),
    [
        pytest.param(np.zeros((4, 5)), None, "filled", id="hole"),
        pytest.param(np.full((4, 5), np.nan), None, "filled", id="not a number"),
        pytest.param(np.full((4, 5), np.inf), None, "filled", id="infinite"),
        pytest.param(np.full((4, 5), -1.0), None, "filled", id="negative"),
        pytest.param(np.ones((4, 5, 3)), None, "one image", id="colour"),
        pytest.param(np.ones((0, 5)), None, "one image", id="empty"),
        pytest.param(np.ones((4, 5)), np.zeros((5, 4), dtype=bool), "mask", id="mask of another size"),
        pytest.param(np.ones((4, 5)), np.zeros((4, 5), dtype=np.uint8), "mask", id="mask of bytes"),
    ],
)
def test_depth_that_is_not_filled_or_not_an_image_is_refused(depth_m, missing, message: str) -> None:
    with pytest.raises(DataError, match=message):
        hha.encode(depth_m, SMALL_CAMERA, missing)
