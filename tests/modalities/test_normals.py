"""Normals: exact on planes, equal to direct convolution, exact about which windows hold no plane."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plane_scenes import SMALL_CAMERA, SMALL_SHAPE, plane_depth

from xmodal_cli.modalities import normals

RADII = (3, 10)


def unit(x: float, y: float, z: float = 1.0) -> np.ndarray:
    return np.array([x, y, z]) / np.linalg.norm([x, y, z])


@settings(max_examples=25, deadline=None)
@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.3, 50), st.integers(0, 2**31), st.sampled_from([0.0, 0.3, 0.7]))
def test_normals_of_a_plane_are_the_plane_s_whatever_is_missing(
    x: float, y: float, distance_m: float, seed: int, missing_share: float
) -> None:
    normal = unit(x, y)
    depth_cm = 100 * plane_depth(normal, distance_m)
    missing = np.random.default_rng(seed).random(SMALL_SHAPE) < missing_share

    for field in normals.estimate(depth_cm, SMALL_CAMERA, missing, RADII):
        cosine = np.tensordot(normal, field.vectors, axes=1)
        # A window of a handful of pixels, or of pixels on one line, carries the original's rounding noise.
        assert np.quantile(cosine, 0.02) > 1 - 1e-9


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(RADII))
def test_normals_equal_direct_convolution(direct: ModuleType, seed: int, radius: int) -> None:
    generator = np.random.default_rng(seed)
    depth_cm = 100 * plane_depth(unit(0.3, 0.4), 2.0) * generator.normal(1, 0.01, SMALL_SHAPE)
    missing = np.zeros(SMALL_SHAPE, dtype=bool)
    top, left = generator.integers(0, 40, 2)
    missing[top : top + 45, left : left + 55] = True

    (field,) = normals.estimate(depth_cm, SMALL_CAMERA, missing, (radius,))

    expected = direct.direct_normals(depth_cm, missing, radius, SMALL_CAMERA)
    assert np.array_equal(field.none, np.isnan(expected[0]))
    assert np.allclose(field.vectors[:, ~field.none], expected[:, ~field.none], atol=1e-6)
    assert np.all(field.vectors[:, field.none] == 0)


def test_windows_of_pixels_on_one_line_equal_the_original_to_the_last_bit(direct: ModuleType) -> None:
    generator = np.random.default_rng(1)
    depth_cm = generator.uniform(100, 400, SMALL_SHAPE)
    missing = np.ones(SMALL_SHAPE, dtype=bool)
    missing[20, 30:60] = False  # a row of pixels
    missing[35:55, 90] = False  # a column of pixels
    missing[80, [20, 25, 100]] = False  # single ones

    for radius in RADII:
        (field,) = normals.estimate(depth_cm, SMALL_CAMERA, missing, (radius,))

        expected = direct.direct_normals(depth_cm, missing, radius, SMALL_CAMERA)
        assert np.array_equal(field.none, np.isnan(expected[0]))
        assert np.array_equal(field.vectors[:, ~field.none], expected[:, ~field.none])
        assert not field.none.all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31))
def test_normals_have_length_one_and_point_away_from_the_camera(seed: int) -> None:
    generator = np.random.default_rng(seed)
    depth_cm = generator.uniform(50, 800, SMALL_SHAPE)
    missing = generator.random(SMALL_SHAPE) < 0.97

    u, v = normals.axis_offsets(SMALL_CAMERA, *SMALL_SHAPE)
    for field in normals.estimate(depth_cm, SMALL_CAMERA, missing, RADII):
        x, y, z = field.vectors
        length = np.sqrt(x * x + y * y + z * z)
        assert length[~field.none] == pytest.approx(1)
        assert np.min(x * u / SMALL_CAMERA.fx + y * v / SMALL_CAMERA.fy + z) > -1e-9


def test_normals_do_not_depend_on_how_the_image_is_cut_into_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    depth_cm = 100 * plane_depth(unit(0.3, 0.4), 2.0) * generator.normal(1, 0.01, SMALL_SHAPE)
    missing = generator.random(SMALL_SHAPE) < 0.3

    fields = {}
    for rows in (7, 1000):
        monkeypatch.setattr(normals, "STRIP_ROWS", rows)
        fields[rows] = normals.estimate(depth_cm, SMALL_CAMERA, missing, RADII)

    for one, other in zip(fields[7], fields[1000], strict=True):
        assert np.array_equal(one.none, other.none)
        assert np.allclose(one.vectors, other.vectors, atol=1e-9)


def test_a_window_without_a_single_pixel_has_no_normal_even_far_from_large_numbers() -> None:
    depth_cm = np.full(SMALL_SHAPE, 1e-3)  # disparities a million times those of a room leave rounding noise behind
    missing = np.zeros(SMALL_SHAPE, dtype=bool)
    missing[:, 64:] = True

    (field,) = normals.estimate(depth_cm, SMALL_CAMERA, missing, (3,))

    assert np.all(field.none[:, 64 + 3 :])
    assert not np.any(field.none[:, : 64 + 1])
