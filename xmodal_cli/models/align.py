"""Alignment of two grids by the centres of their pixels: the student's map is read where the teacher's cells look.

Networks rarely agree in padding, so cell (i, j) of one looks at another place than cell (i, j) of the other. VGG16 and
the paper's student differ by 10 px at pool5 (recipe 3.2). Stretching one map onto the other hides this; knowing each
grid's stride and first centre corrects it. The student's adapted map is resampled, never the teacher's, so that what is
learned from are the teacher's own values. On equal grids this is exactly the identity.

Shapes: N images, C channels, `s` student grid, `t` teacher grid.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from xmodal_cli.models.grid import Grid

SAMPLES_PER_CELL = 8  # places of a student cell that a coarser teacher cell is the mean of


def axis_weights(size_s: int, stride_s: float, first_s: float, size_t: int, stride_t: float, first_t: float) -> Tensor:
    """Interpolation weights along one axis.

    Linear between the two nearest student cells; where the teacher's cells are coarser, the mean of that over a stretch
    of the student's map, so that nothing between is skipped; beyond the student's first and last cell, that cell.

    Args:
        size_s, stride_s, first_s: cells, pixels between them, centre of the first in input pixels, of the student.
        size_t, stride_t, first_t: the same of the teacher.

    Returns:
        `(size_t, size_s)` float32, rows summing to 1.

    Example:
        >>> axis_weights(3, 16, 8, 2, 16, 16)
        tensor([[0.5000, 0.5000, 0.0000],
                [0.0000, 0.5000, 0.5000]])
    """
    position = (first_t - first_s + stride_t * torch.arange(size_t, dtype=torch.float64)) / stride_s
    stretch = 2 * max(0.0, stride_t / stride_s - 1)  # in student cells: with it, each cell's weight reaches to the next
    samples = 1 + SAMPLES_PER_CELL * math.ceil(stretch)
    around = stretch * ((torch.arange(samples, dtype=torch.float64) + 0.5) / samples - 0.5)  # symmetric: moves nothing
    places = (position[:, None] + around).clamp(0, size_s - 1)  # (size_t, samples)
    distance = (places[:, :, None] - torch.arange(size_s, dtype=torch.float64)).abs()
    return (1 - distance).clamp_min(0).mean(1).float()


class Alignment:
    """Resamples maps from the student's grid to the teacher's.

    Args:
        student: the grid of the student's layer for some input size.
        teacher: the grid of the teacher's layer for the same input size.

    Example:
        >>> grid = Grid((16.0, 16.0), (7.5, 7.5), (2, 3))
        >>> Alignment(grid, grid).is_identity
        True
    """

    def __init__(self, student: Grid, teacher: Grid) -> None:
        self.is_identity = student == teacher
        self.rows, self.columns = (
            axis_weights(
                student.size_hw[axis],
                student.stride_yx[axis],
                student.first_centre_yx[axis],
                teacher.size_hw[axis],
                teacher.stride_yx[axis],
                teacher.first_centre_yx[axis],
            )
            for axis in (0, 1)
        )

    def __call__(self, maps: Tensor) -> Tensor:
        """Resample maps.

        Args:
            maps: `(N, C, h_s, w_s)`.

        Returns:
            `(N, C, h_t, w_t)`; `maps` itself where the grids agree.
        """
        if self.is_identity:
            return maps
        rows, columns = (weights.to(maps) for weights in (self.rows, self.columns))
        return rows @ (maps @ columns.T)  # (N, C, h_s, w_t) -> (N, C, h_t, w_t)
