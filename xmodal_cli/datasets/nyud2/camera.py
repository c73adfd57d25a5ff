"""The geometry of NYU Depth v2: its cameras, the crop that everybody uses, and metres to stored millimetres.

The colour camera's frame has a white border where the depth was projected; the authors keep rows 46 to 470 and columns
41 to 600, counted from 1 (recipe 1.2, `cropIt.m`). Cameras are counted from 1 as well (recipe 1.3).

Shapes: `(480, 640)` whole frames, `(425, 560)` cropped ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.modalities.geometry import Camera

FULL_SIZE_HW = (480, 640)
ROWS, COLUMNS = slice(45, 470), slice(40, 600)
CROP_SIZE_HW = (ROWS.stop - ROWS.start, COLUMNS.stop - COLUMNS.start)

FULL_CAMERA = Camera(518.85790117450188, 519.46961112127485, 325.58244941119034, 253.73616633400465)
CROP_CAMERA = FULL_CAMERA.cropped(left=COLUMNS.start, top=ROWS.start)
# Of the depth sensor itself; raw frames need it, the labelled ones are registered to the colour camera already.
DEPTH_CAMERA = Camera(582.62448167737955, 582.69103270988637, 313.04475870804731, 238.44389626620386)

FARTHEST_MM = 65535


def crop(image: NDArray[Any]) -> NDArray[Any]:
    """The part of a whole frame that is used.

    Args:
        image: `(480, 640, ...)`.

    Example:
        >>> crop(np.zeros((480, 640, 3))).shape
        (425, 560, 3)
    """
    return image[ROWS, COLUMNS]


def to_millimetres(depth_m: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    """Millimetres as MATLAB's `uint16(depth * 1000)` gives them: halves go up, what is too far saturates, NaN is 0.

    The product is rounded to the type of the depth first, as MATLAB does with single precision.

    Args:
        depth_m: `(H, W)` float32 or float64, metres.

    Example:
        >>> to_millimetres(np.array([[1.9235, 0.0, 99.0, np.nan]])).tolist()
        [[1924, 0, 65535, 0]]
    """
    product = (depth_m * depth_m.dtype.type(1000)).astype(np.float64)
    return np.clip(np.floor(np.nan_to_num(product) + 0.5), 0, FARTHEST_MM).astype(np.uint16)
