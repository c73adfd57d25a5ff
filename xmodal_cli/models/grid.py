"""Where the cells of a feature map look: stride, centre of the first cell, number of cells.

Two networks rarely agree in these (the paper's student and VGG16 differ by 10 px at pool5, recipe 3.2); features are
compared by where they look, so every map carries its grid.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Grid:
    """The geometry of a feature map over its input image.

    Args:
        stride_yx: input pixels between neighbouring cells, down and across.
        first_centre_yx: centre of cell (0, 0) in 0-based input pixels (the first pixel's centre is 0), down and across.
        size_hw: number of cells, rows and columns.
        field_hw: rows and columns of input pixels that a cell sees: its receptive field, centred on the cell. What
            attention and global pooling add to it is not counted.

    Example:
        >>> Grid((16.0, 16.0), (7.5, 7.5), (2, 3)).centres()
        ([7.5, 23.5], [7.5, 23.5, 39.5])
    """

    stride_yx: tuple[float, float]
    first_centre_yx: tuple[float, float]
    size_hw: tuple[int, int]
    field_hw: tuple[float, float] = field(default=(1.0, 1.0), compare=False, repr=False)

    def centres(self) -> tuple[list[float], list[float]]:
        """The centres of all rows and of all columns, in 0-based input pixels."""
        rows, columns = (
            [first + stride * index for index in range(size)]
            for first, stride, size in zip(self.first_centre_yx, self.stride_yx, self.size_hw, strict=True)
        )
        return rows, columns

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "stride_yx": list(self.stride_yx),
            "first_centre_yx": list(self.first_centre_yx),
            "size_hw": list(self.size_hw),
        }
