"""Gravity: found from floors and walls, held steady where nothing tells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plane_scenes import degrees_between

from xmodal_cli.modalities import gravity


def rotation(tilt_deg: float, roll_deg: float) -> np.ndarray:
    t, r = np.deg2rad([tilt_deg, roll_deg])
    about_x = np.array([[1, 0, 0], [0, np.cos(t), -np.sin(t)], [0, np.sin(t), np.cos(t)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return about_z @ about_x


@settings(max_examples=40, deadline=None)
@given(st.floats(-25, 25), st.floats(-25, 25), st.floats(0.1, 0.9), st.integers(0, 2**31))
def test_gravity_of_floors_and_walls_is_found(tilt_deg: float, roll_deg: float, floor_share: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    turn = generator.uniform(0, 2 * np.pi, 2000)
    normals = np.stack([np.cos(turn), np.zeros(2000), np.sin(turn)])  # upright walls all around
    normals[:, : int(2000 * floor_share)] = np.array([[0.0], [1.0], [0.0]])
    turned = rotation(tilt_deg, roll_deg) @ (normals + generator.normal(0, 0.03, normals.shape))
    turned /= np.linalg.norm(turned, axis=0)

    down = gravity.estimate(turned)

    assert np.linalg.norm(down) == pytest.approx(1)
    assert degrees_between(down, rotation(tilt_deg, roll_deg) @ np.array([0.0, 1.0, 0.0])) < 2


def test_zero_vectors_do_not_count() -> None:
    floor_and_wall = rotation(15, 5) @ np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])

    padded = np.concatenate([floor_and_wall, np.zeros((3, 100))], axis=1)

    assert gravity.estimate(padded) == pytest.approx(gravity.estimate(floor_and_wall), abs=1e-12)


def test_bare_wall_leaves_gravity_as_near_to_the_image_columns_as_it_can() -> None:
    leaning = np.array([0.0, 0.3, np.sqrt(1 - 0.09)])  # 17 degrees: a wall seen by a tilted camera

    down = gravity.estimate(np.tile(leaning[:, None], 500))

    assert down @ leaning == pytest.approx(0, abs=1e-9)
    assert down[0] == pytest.approx(0, abs=1e-6)
    assert down[1] > 0.9


def test_no_normals_at_all_leave_gravity_along_the_image_columns() -> None:
    assert gravity.estimate(np.zeros((3, 20, 30))).tolist() == [0, 1, 0]


def test_gravity_equals_ten_plain_iterations(direct) -> None:
    generator = np.random.default_rng(5)
    normals = generator.normal(0, 1, (3, 5000)) * np.array([[1.0], [2.0], [0.7]])
    normals /= np.linalg.norm(normals, axis=0)

    assert gravity.estimate(normals) == pytest.approx(direct.direct_gravity(normals), abs=1e-9)
