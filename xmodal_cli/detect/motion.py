"""Motion saliency: of many boxes, those that hold a good part of what moves (Gkioxari and Malik, CVPR 2015).

The rule is that of the authors' published code (recipe, section 7), on the 8-bit flow images of the paper: the length
of the flow, times its mean around each pixel, above a threshold. Where nothing moves, every box
is kept, since nothing can be told; the original keeps none there.

Shapes: flow images are `(H, W, 3)` uint8 (x, y, length, from 128); N boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.errors import SettingsError
from xmodal_cli.modalities.flow import MIDDLE

FLOW = "flow"  # the modality that is looked at
LEFT_OUT = "boxes_without_motion"  # how the report counts them
WINDOW_PX = 5  # of the mean
HIGHEST_THRESHOLD = 0.2
SHARE_OF_LARGEST = 0.7  # lowers the threshold where motion is slow
LEAST_INCLUSION = 0.3  # of the salient pixels that a box must hold

Boxes = NDArray[np.float32]


def salient(flow_image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where motion is salient: f times its mean over 5 x 5 pixels, relative to the largest f, above a threshold.

    Args:
        flow_image: `(H, W, 3)` uint8, the paper's encoding; f is (length - 128) / 128.

    Returns:
        `(H, W)` bool; all False where nothing moves.

    Example:
        >>> image = np.full((9, 9, 3), 128, np.uint8)
        >>> image[2:7, 2:7, 2] = 192
        >>> int(salient(image).sum())  # a square of 25 pixels, less its corners, around which too little moves
        21
    """
    length = (flow_image[..., 2].astype(np.float64) - MIDDLE) / MIDDLE
    largest = length.max()
    if largest <= 0:
        return np.zeros(length.shape, np.bool_)
    # Nothing moves outside the picture: MATLAB's imfilter pads with zeros.
    around = cv2.blur(length, (WINDOW_PX, WINDOW_PX), borderType=cv2.BORDER_CONSTANT)
    saliency = around * length / largest
    found: NDArray[np.bool_] = saliency >= min(HIGHEST_THRESHOLD, SHARE_OF_LARGEST * saliency.max())
    return found


def moving(boxes_xyxy: Boxes, where: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which boxes hold at least 0.3 of the salient pixels; all of them where there are none.

    Args:
        boxes_xyxy: `(N, 4)`.
        where: `(H, W)` bool, from `salient`.

    Returns:
        `(N,)` bool.

    Example:
        >>> where = np.zeros((4, 4), np.bool_)
        >>> where[0] = True
        >>> moving(np.array([[0, 0, 2, 4], [0, 0, 1, 4], [0, 1, 4, 4]], np.float32), where).tolist()
        [True, False, False]
    """
    height, width = where.shape
    sums = np.zeros((height + 1, width + 1), np.int64)
    sums[1:, 1:] = where.cumsum(0).cumsum(1)
    left, top = (
        np.clip(np.floor(boxes_xyxy[:, axis]), 0, size).astype(int) for axis, size in ((0, width), (1, height))
    )
    right, down = (
        np.clip(np.ceil(boxes_xyxy[:, axis]), 0, size).astype(int) for axis, size in ((2, width), (3, height))
    )
    held = sums[down, right] - sums[top, right] - sums[down, left] + sums[top, left]
    found: NDArray[np.bool_] = held >= LEAST_INCLUSION * sums[-1, -1]
    return found


def check_flow(data: PreparedData) -> None:
    """Make sure that a data set shows motion.

    Raises:
        SettingsError: it has no flow in the paper's encoding.
    """
    if FLOW not in data.modalities or data.modality(FLOW).encoding != FLOW:
        raise SettingsError(
            f"--motion-saliency looks at flow, and the data set '{data.root}' has {', '.join(data.modalities)}.",
            "Add it with the command that made the data set of videos, and --modality flow.",
        )


def with_motion(
    data: PreparedData, boxes: Iterable[tuple[str, Boxes]], counts: dict[str, int]
) -> Iterator[tuple[str, Boxes]]:
    """Proposals of a data set without the boxes that hold too little motion.

    Args:
        data: the data set.
        boxes: `(N, 4)` by ID, a stream.
        counts: how many boxes were left out is added here.
    """
    counts[LEFT_OUT] = 0
    for identifier, found in boxes:
        kept = filtered(found, data.read(FLOW, identifier))
        counts[LEFT_OUT] += len(found) - len(kept)
        yield identifier, kept


def filtered(boxes_xyxy: Boxes, flow_image: NDArray[Any]) -> Boxes:
    """The boxes, `(N, 4)`, that hold enough of the motion of an image, in their order."""
    return boxes_xyxy[moving(boxes_xyxy, salient(flow_image))]
