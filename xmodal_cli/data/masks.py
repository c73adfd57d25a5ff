"""Masks of objects: COCO's run-length encoding and polygons to pixels and back.

Shapes: `(H, W)` bool masks of a whole image, N masks of one image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.errors import DataError


def decode_mask(segmentation: Any, size_hw: tuple[int, int]) -> NDArray[np.bool_] | None:
    """A COCO segmentation as a mask.

    Args:
        segmentation: RLE, compressed or not, or polygons; None and empty ones are no mask.
        size_hw: of the image.

    Raises:
        DataError: it is none of these, or of another image size.

    Example:
        >>> decode_mask([[1, 0, 3, 0, 3, 2, 1, 2]], (2, 4)).astype(int).tolist()
        [[0, 1, 1, 0], [0, 1, 1, 0]]
    """
    from faster_coco_eval.core import mask as coco_masks

    rle = compressed(segmentation, size_hw)
    return None if rle is None else np.asarray(coco_masks.decode(rle), np.bool_)


def compressed(segmentation: Any, size_hw: tuple[int, int]) -> dict[str, Any] | None:
    """A COCO segmentation as compressed RLE: `{size: [H, W], counts}`; arguments and errors as in `decode_mask`."""
    from faster_coco_eval.core import mask as coco_masks

    if not segmentation:
        return None
    height, width = size_hw
    try:
        rle: dict[str, Any] = coco_masks.segmToRle(segmentation, width, height)
        found = coco_masks.decode(rle).shape
    except Exception as error:  # whatever the reader of the masks does with damage
        raise DataError(f"A mask cannot be read: {type(error).__name__} {error}.", "See docs/data.md.") from None
    if found != size_hw:
        raise DataError(f"A mask is of {found[0]} x {found[1]} pixels, its image of {height} x {width}.")
    return rle


def encode_masks(columns: NDArray[np.uint8], size_hw: tuple[int, int]) -> list[dict[str, Any]]:
    """Masks of one image as compressed RLE, whose counts are text, as JSON holds them.

    Args:
        columns: `(N, W * H)`, 0 or 1, pixels column by column, as the encoding runs.
        size_hw: of the image.

    Example:
        >>> rle = encode_masks(np.array([[0, 0, 1, 1, 0, 0]], np.uint8), (2, 3))[0]
        >>> decode_mask(rle, (2, 3)).astype(int).tolist()
        [[0, 1, 0], [0, 1, 0]]
    """
    from faster_coco_eval.core import mask as coco_masks

    height, width = size_hw
    stacked = columns.reshape(len(columns), width, height).transpose(2, 1, 0)  # (H, W, N), in Fortran's order
    return [{"size": [height, width], "counts": _text(each["counts"])} for each in coco_masks.encode(stacked)]


def _text(counts: str | bytes) -> str:
    return counts.decode("ascii") if isinstance(counts, bytes) else counts
