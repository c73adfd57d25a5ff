"""Made-up rooms as geometry: rays against formulas, flow against points, sensors against what they are said to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from xmodal_cli.datasets.rooms import sensor as room_sensor
from xmodal_cli.datasets.rooms.camera import flow_between, kinect, look, offsets, rays
from xmodal_cli.datasets.rooms.frames import RoomFrame, RoomRecipe, render_room
from xmodal_cli.datasets.rooms.pieces import CLASSES
from xmodal_cli.datasets.rooms.scene import Scene, boxes_of, furnish, meets
from xmodal_cli.datasets.rooms.solids import BOX, CYLINDER, ELLIPSOID, Sight, Solid, Surface, hit, leave_cube, yaw

SIZE_HW = (72, 96)
CAMERA = kinect(96, 72)
PLAIN = Surface(0, (1, 1, 1), (1, 1, 1), 1.0)
RECIPE = RoomRecipe(Path("nowhere"), 5, 1, SIZE_HW, ())


@pytest.fixture(scope="module")
def frames() -> list[RoomFrame]:
    return [frame for room in range(5) for frame in render_room(RECIPE, room)]


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [furnish(0, number) for number in range(40)]


def sight(position: tuple[float, float, float] = (0, 0, 0), pitch_rad: float = 0.0) -> Sight:
    pose = look(np.array(position, float), 0.3, pitch_rad, 0.05)
    return Sight(pose.position_m, pose.rotation, *offsets(CAMERA, SIZE_HW))


def points(seen: Sight, depth_m: np.ndarray) -> np.ndarray:
    """World points `(3, N)` of the pixels that see something."""
    directions = seen.axes @ rays(CAMERA, SIZE_HW).reshape(3, -1)
    found = directions * depth_m.ravel() + seen.origin_m[:, None]
    return found[:, np.isfinite(depth_m.ravel())]


def solid(kind: int, taper: float = 0.0) -> Solid:
    centre, half = np.array([3.0, 1.0, -0.2]), np.array([0.6, 0.4, 0.5])
    return Solid(kind, centre, half, yaw(0.7), PLAIN, taper)


@pytest.mark.parametrize(("kind", "taper"), [(BOX, 0.0), (ELLIPSOID, 0.0), (CYLINDER, 0.0), (CYLINDER, 0.3)])
def test_depth_puts_every_pixel_on_the_surface_of_the_solid(kind: int, taper: float) -> None:
    body = solid(kind, taper)
    seen = sight((0, 0, 0.6), -0.2)
    x, y, z = body.to_unit() @ (points(seen, hit(body, seen)) - body.centre_m[:, None])
    assert len(x) > 150
    if kind == BOX:
        value = np.max(np.abs([x, y, z]), axis=0)
    elif kind == ELLIPSOID:
        value = np.sqrt(x * x + y * y + z * z)
    else:
        value = np.maximum(np.hypot(x, y) / (1 + taper * z), np.abs(z))
    assert np.abs(value - 1).max() < 1e-4


@pytest.mark.parametrize("kind", [BOX, ELLIPSOID, CYLINDER])
def test_a_ray_that_misses_is_infinite_and_so_is_one_that_looks_away(kind: int) -> None:
    behind = replace(solid(kind), centre_m=np.array([-3.0, -1.0, 0.2]))
    assert np.isinf(hit(behind, sight())).all()
    assert np.isinf(hit(solid(kind), sight())).any()


def test_the_depth_of_a_wall_is_its_distance_along_the_axis() -> None:
    seen = Sight(np.array([0.0, 0, 0]), look(np.zeros(3), 0, 0, 0).rotation, *offsets(CAMERA, SIZE_HW))
    depth, face = leave_cube(Solid(BOX, np.zeros(3), np.array([2.5, 90.0, 90.0]), np.eye(3), PLAIN), seen)
    assert np.abs(depth - 2.5).max() < 1e-5
    assert (face == 1).all()


def test_flow_of_a_camera_that_stands_still_is_nothing() -> None:
    pose = look(np.array([0.0, 0, 1.4]), 1.0, -0.2, 0.03)
    depth = np.full(SIZE_HW, 2.0, np.float32)
    assert np.abs(flow_between(depth, pose, pose, CAMERA, rays(CAMERA, SIZE_HW))).max() < 1e-9


def test_flow_leads_every_point_to_where_the_next_camera_sees_it(frames: list[RoomFrame]) -> None:
    frame = frames[0]
    flow = flow_between(frame.found.depth_m, frame.pose, frame.following, CAMERA, rays(CAMERA, SIZE_HW))
    world = frame.pose.rotation @ (rays(CAMERA, SIZE_HW).reshape(3, -1).astype(float) * frame.found.depth_m.ravel())
    x, y, z = frame.following.rotation.T @ (world + (frame.pose.position_m - frame.following.position_m)[:, None])
    seen = np.stack([CAMERA.fx * x / z + CAMERA.cx, CAMERA.fy * y / z + CAMERA.cy], axis=-1).reshape(*SIZE_HW, 2)
    rows, columns = np.mgrid[1 : SIZE_HW[0] + 1, 1 : SIZE_HW[1] + 1]
    assert np.abs(flow).max() > 0.2
    assert np.abs(seen - np.stack([columns, rows], axis=-1) - flow).max() < 1e-3


def test_flow_meets_the_surface_that_the_next_frame_sees(frames: list[RoomFrame]) -> None:
    """The next frame, rendered by itself, has at the flow's end the depth of the moved point: nearly everywhere."""
    from xmodal_cli.datasets.rooms.trace import trace

    for frame in frames[:3]:
        flow = flow_between(frame.found.depth_m, frame.pose, frame.following, CAMERA, rays(CAMERA, SIZE_HW))
        following = trace(frame.model, frame.following, CAMERA, SIZE_HW).depth_m
        rows, columns = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
        to = np.rint(np.stack([rows, columns], -1) + flow[..., ::-1]).astype(int)
        inside = ((to >= 0) & (to < SIZE_HW)).all(-1)
        world = frame.pose.rotation @ (rays(CAMERA, SIZE_HW).reshape(3, -1) * frame.found.depth_m.ravel())
        moved = frame.following.rotation.T @ (world + (frame.pose.position_m - frame.following.position_m)[:, None])
        expected = moved[2].reshape(SIZE_HW)[inside]
        assert np.mean(np.abs(following[tuple(to[inside].T)] - expected) < 0.08) > 0.9


def test_gravity_in_the_camera_is_what_a_plumb_line_shows(frames: list[RoomFrame]) -> None:
    for frame in frames:
        assert np.allclose(frame.pose.rotation @ frame.pose.gravity, [0, 0, -1])
        assert np.allclose(frame.pose.rotation.T @ frame.pose.rotation, np.eye(3))
        assert frame.pose.gravity[1] > 0.7  # held upright


def test_no_two_things_in_a_room_meet(scenes: list[Scene]) -> None:
    for scene in scenes[:10]:
        placed = [each for each in scene.placed if len(each.boxes)]
        for index, each in enumerate(placed):
            assert np.allclose(boxes_of(each.solids), each.boxes)
            assert not any(meets(each.boxes, other.boxes) for other in placed[:index])


def test_everything_stands_within_its_room(scenes: list[Scene]) -> None:
    for room in scenes:
        half = room.size_m[:2] / 2
        assert (np.abs(room.boxes[..., :2]) <= half + 1e-9).all()
        assert room.boxes[..., 2].min() > -1e-9
        assert room.boxes[..., 2].max() <= room.size_m[2]


def test_all_nineteen_classes_appear_and_none_rules(scenes: list[Scene]) -> None:
    labels = [placed.label for scene in scenes for placed in scene.placed if placed.label >= 0]
    counts = np.bincount(labels, minlength=len(CLASSES))
    assert len(CLASSES) == 19
    assert (counts > 0).all()
    assert counts.max() < 0.2 * counts.sum()


def test_raw_depth_is_in_the_steps_of_a_kinect_and_has_holes_at_edges(frames: list[RoomFrame]) -> None:
    for frame in frames:
        depth = frame.found.depth_m
        raw = room_sensor.raw_depth(depth, frame.shading, CAMERA, np.random.default_rng(0))
        seen = raw > 0
        step_m = depth * depth / (580 * 0.075 * 8)
        assert 0.4 < seen.mean() < 1
        assert (np.abs(raw / 1000 - depth) < 6 * step_m + 0.001)[seen].all()
        assert len(np.unique(raw)) < len(np.unique(room_sensor.exact_depth(depth)))


def test_raw_depth_has_a_hole_on_the_left_of_what_stands_before_a_wall(frames: list[RoomFrame]) -> None:
    depth, camera = np.full(SIZE_HW, 4.0, np.float32), kinect(640, 480)
    depth[20:50, 40:60] = 1.0
    ones = np.ones(SIZE_HW, np.float32)
    bright = replace(frames[0].shading, infrared=9 * ones, facing=ones)  # nothing is too dark
    hole = room_sensor.raw_depth(depth, bright, camera, np.random.default_rng(0)) == 0
    wide = int(camera.fx * room_sensor.BASELINE_M * (1 / 1.0 - 1 / 4.0))
    assert hole[20:50, 40 - wide : 40].all()
    hole[20:50, 39 - wide : 40] = False
    assert not hole.any()


def test_dark_slanted_and_distant_surfaces_are_not_seen_by_the_depth_sensor(frames: list[RoomFrame]) -> None:
    shading, wall = frames[0].shading, np.full(SIZE_HW, 2.0, np.float32)
    ones = np.ones(SIZE_HW, np.float32)

    def share(depth_m: np.ndarray, infrared: float, facing: float) -> float:
        surface = replace(shading, infrared=ones * np.float32(infrared), facing=ones * np.float32(facing))
        return float((room_sensor.raw_depth(depth_m, surface, CAMERA, np.random.default_rng(0)) == 0).mean())

    assert share(wall, 0.6, 1.0) == 0
    assert share(wall, 0.01, 1.0) > 0.9
    assert share(wall, 0.6, 0.03) > 0.9
    assert share(wall * 5, 0.6, 1.0) == 1
    assert share(wall / 5, 0.6, 1.0) == 1


def test_lamps_that_are_lit_and_screens_that_are_on_are_warm_and_windows_cold(scenes: list[Scene]) -> None:
    surfaces = [solid.surface for scene in scenes for placed in scene.placed for solid in placed.solids]
    warm = [surface.temperature_c for surface in surfaces if surface.glow and surface.temperature_c > 20]
    cold = [surface.temperature_c for surface in surfaces if surface.glow and surface.temperature_c < 20]
    assert min(warm) > 26
    assert max(cold) < 15
    assert all(17 < surface.temperature_c < 30 for surface in surfaces if not surface.glow)
