"""Gray images: the brightness of a colour image, the simplest other modality and a control for experiments."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from xmodal_cli.errors import DataError


def encode(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Reduce a colour image to its luma (ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B); gray passes through.

    Args:
        image: (H, W, 3) uint8 RGB, or (H, W) uint8.

    Returns:
        (H, W) uint8.

    Raises:
        DataError: another type or number of channels.

    Example:
        >>> encode(np.array([[[255, 0, 0], [10, 10, 10]]], dtype=np.uint8)).tolist()
        [[76, 10]]
    """
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise DataError(
            f"A gray image is made from 8-bit RGB (H, W, 3) or gray (H, W); found {image.dtype} {image.shape}.",
            hint="Radiometric 16-bit images are --modality thermal.",
        )
    return image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
