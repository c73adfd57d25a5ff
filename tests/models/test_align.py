"""Promises of the alignment of two grids by their cells' centres."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xmodal_cli.models.align import Alignment, axis_weights
from xmodal_cli.models.grid import Grid

STRIDES = st.sampled_from([4.0, 8.0, 14.0, 16.0, 32.0])
SIZES = st.integers(1, 12)
FIRSTS = st.floats(-20, 40)


def centres(grid: Grid, axis: int) -> torch.Tensor:
    return grid.first_centre_yx[axis] + grid.stride_yx[axis] * torch.arange(grid.size_hw[axis], dtype=torch.float32)


@given(SIZES, STRIDES, FIRSTS, SIZES, STRIDES, FIRSTS)
def test_every_row_of_weights_sums_to_one(
    size_s: int, stride_s: float, first_s: float, size_t: int, stride_t: float, first_t: float
) -> None:
    weights = axis_weights(size_s, stride_s, first_s, size_t, stride_t, first_t)
    assert weights.shape == (size_t, size_s)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(size_t))


@given(SIZES, SIZES, STRIDES, STRIDES, FIRSTS, FIRSTS)
def test_equal_grids_leave_the_very_same_tensor(
    height: int, width: int, stride_y: float, stride_x: float, first_y: float, first_x: float
) -> None:
    grid = Grid((stride_y, stride_x), (first_y, first_x), (height, width))
    maps = torch.randn(2, 3, height, width)
    assert Alignment(grid, grid)(maps) is maps


@given(STRIDES, STRIDES, st.floats(-20, 20), st.floats(-20, 20), st.integers(6, 12), st.integers(2, 8))
def test_a_ramp_seen_by_the_student_is_what_the_teacher_sees_of_it(
    stride_s: float, stride_t: float, first_s: float, first_t: float, size_s: int, size_t: int
) -> None:
    """A map whose value is the place its cell looks at recovers any shift and any ratio of strides, inside the map."""
    student = Grid((stride_s, stride_s), (first_s, first_s), (size_s, size_s))
    teacher = Grid((stride_t, stride_t), (first_t, first_t), (size_t, size_t))
    ramp = centres(student, 0)[:, None] + 1000 * centres(student, 1)[None]
    seen = Alignment(student, teacher)(ramp[None, None])[0, 0]
    expected = centres(teacher, 0)[:, None] + 1000 * centres(teacher, 1)[None]
    reach = max(stride_s, stride_t)
    inside = (centres(teacher, 0) >= first_s + reach) & (
        centres(teacher, 0) <= first_s + (size_s - 1) * stride_s - reach
    )
    inner = inside[:, None] & inside[None]
    torch.testing.assert_close(seen[inner], expected[inner], rtol=1e-5, atol=0.05)


def test_vgg_and_the_papers_student_differ_by_ten_pixels() -> None:
    """Recipe 3.2: cells of the student's pool5 look 10 px away from the teacher's at a stride of 32."""
    weights = axis_weights(3, 32, 26, 3, 32, 16)
    assert weights[1].tolist() == pytest.approx([10 / 32, 22 / 32, 0.0])


def test_beyond_the_students_map_its_last_cell_is_repeated() -> None:
    weights = axis_weights(2, 16, 8, 4, 16, 8)
    assert weights[2:].tolist() == [[0, 1], [0, 1]]


def test_coarser_teacher_hears_every_student_cell() -> None:
    weights = axis_weights(16, 8, 4, 4, 32, 16)
    assert (weights.sum(0) > 0).all()


def test_finer_teacher_interpolates_between_student_cells() -> None:
    weights = axis_weights(2, 16, 0, 5, 4, 0)
    torch.testing.assert_close(weights[:, 1], torch.tensor([0, 0.25, 0.5, 0.75, 1.0]))


def test_gradients_reach_the_student_through_the_alignment() -> None:
    maps = torch.randn(1, 2, 4, 4, requires_grad=True)
    Alignment(Grid((8, 8), (4, 4), (4, 4)), Grid((16, 16), (8, 8), (2, 2)))(maps).sum().backward()
    assert maps.grad is not None
    assert maps.grad.sum().item() == pytest.approx(2 * 4)
