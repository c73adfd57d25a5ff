"""Promises of colourisation: holes take the depth of what looks alike, as the equations over all pixels say."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg

from xmodal_cli.datasets.nyud2_raw.colourise import fill_holes
from xmodal_cli.errors import DataError


def whole_system(depth_m: np.ndarray, missing: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """The equations for every pixel, written pixel by pixel from the paper, weight 1 on what is measured."""
    grey = (0.299 * rgb[..., 0] + 0.587 * rgb[..., 1] + 0.114 * rgb[..., 2]).round() / 255
    height, width = grey.shape
    matrix, right = scipy.sparse.lil_matrix((grey.size, grey.size)), np.zeros(grey.size)
    for row in range(height):
        for column in range(width):
            here = row * width + column
            window = [
                (r, c)
                for r in range(max(0, row - 1), min(height, row + 2))
                for c in range(max(0, column - 1), min(width, column + 2))
            ]
            others = [at for at in window if at != (row, column)]
            differences = np.array([(grey[at] - grey[row, column]) ** 2 for at in others])
            spread = 0.6 * np.var([grey[at] for at in window])
            spread = max(spread, -differences.min() / np.log(0.01), 2e-6)
            weights = np.exp(-differences / spread)
            for at, weight in zip(others, weights / weights.sum(), strict=True):
                matrix[here, at[0] * width + at[1]] = -weight
            matrix[here, here] = 1.0 if missing[row, column] else 2.0
            right[here] = 0.0 if missing[row, column] else depth_m[row, column]
    solved = scipy.sparse.linalg.spsolve(matrix.tocsc(), right).reshape(grey.shape)
    return np.where(missing, solved, depth_m)


def test_solving_near_holes_equals_solving_everywhere() -> None:
    random = np.random.default_rng(3)
    rgb = np.full((40, 44, 3), 60, np.uint8)
    rgb[:, 25:] = 190
    rgb += random.integers(0, 12, rgb.shape, np.uint8)
    depth_m = np.where(np.arange(44) < 25, 1.5, 3.0) + random.normal(0, 0.01, (40, 44))
    missing = np.zeros((40, 44), np.bool_)
    missing[15:24, 18:30] = missing[0:3, 0:6] = True
    found, expected = fill_holes(depth_m, missing, rgb), whole_system(depth_m, missing, rgb)
    assert np.abs(found - expected).max() < 1e-4
    assert np.array_equal(found[~missing], depth_m[~missing])
    assert abs(found[19, 22] - 1.5) < 0.05
    assert abs(found[19, 27] - 3.0) < 0.05


def test_depth_that_is_missing_everywhere_is_refused() -> None:
    with pytest.raises(DataError, match="Every pixel"):
        fill_holes(np.zeros((4, 4)), np.ones((4, 4), np.bool_), np.zeros((4, 4, 3), np.uint8))
