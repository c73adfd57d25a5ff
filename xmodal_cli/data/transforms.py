"""One geometric draw for both images of a pair: which window of the scene is seen, at which size, mirrored or not.

The draw is made in fractions of the image, so that a pair keeps its alignment even when its two images differ in
resolution. It depends on (seed, epoch, sample) alone: neither worker processes, nor a resumed run, nor the number of
devices change what a sample looks like.

Shapes: `(H, W, C)` images, `(h, w)` the size that the network sees.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Augmentation:
    """What a geometric draw may do.

    Args:
        size_hw: height and width that the network sees, in pixels.
        smallest_crop: smallest share of the image's area that a window may have, in (0, 1]; 1 sees whole images.
        flip: whether half the samples are mirrored left to right.
        lattice: None draws windows of any area and place. `(whole_hw, step_px)` draws windows of exactly `size_hw` from
            the image at `whole_hw`, at offsets that are multiples of `step_px`: then a map of the whole image, computed
            once at that stride, can be cut at the same place.
    """

    size_hw: tuple[int, int]
    smallest_crop: float = 1.0
    flip: bool = True
    lattice: tuple[tuple[int, int], int] | None = None


@dataclass(frozen=True)
class Draw:
    """A window of the image (fractions of its width and height), the size it is resized to, and whether it is mirrored.

    Args:
        left, top, right, bottom: window borders, 0 to 1.
        size_hw: height and width after resizing, in pixels.
        flipped: mirrored left to right.
        offset_yx: of a window on a lattice: its first pixel in the whole image as it is seen, mirrored if the draw is.
    """

    left: float
    top: float
    right: float
    bottom: float
    size_hw: tuple[int, int]
    flipped: bool = False
    offset_yx: tuple[int, int] = (0, 0)


def generator(seed: int, *key: int | str) -> np.random.Generator:
    """A random generator that depends on nothing but its arguments.

    Example:
        >>> bool(generator(0, 1, "a").random() == generator(0, 1, "a").random())
        True
    """
    digest = hashlib.sha256("/".join(str(part) for part in (seed, *key)).encode()).digest()
    return np.random.Generator(np.random.Philox(int.from_bytes(digest[:16], "little")))


def short_side_to(short_side_px: int, image_hw: tuple[int, int]) -> tuple[int, int]:
    """The size of an image when its short side is so many pixels and its long side a multiple of 8.

    Example:
        >>> short_side_to(224, (425, 560))
        (224, 296)
    """
    scale = short_side_px / min(image_hw)
    height, width = (
        short_side_px if side == min(image_hw) else max(SIZE_STEP, round(side * scale / SIZE_STEP) * SIZE_STEP)
        for side in image_hw
    )
    return height, width


def whole_image(image_hw: tuple[int, int], size_hw: tuple[int, int], *, flipped: bool = False) -> Draw:
    """The largest centred window with the shape of `size_hw`: all of the image when the shapes agree.

    Args:
        image_hw: height and width of the image, in pixels.
        size_hw: height and width that the network sees, in pixels.
        flipped: mirrored left to right.

    Example:
        >>> whole_image((100, 200), (50, 50)).left
        0.25
    """
    width, height = _largest_window(image_hw, size_hw)
    return _window((1 - width) / 2, (1 - height) / 2, width, height, size_hw, flipped)


def draw(augmentation: Augmentation, image_hw: tuple[int, int], random: np.random.Generator) -> Draw:
    """Draw a window of random area and place, and whether to mirror it.

    The share of the area is uniform between `smallest_crop` and 1; the window has the shape of `size_hw`. Whole images
    are centred: they are what a cached teacher has seen.

    Args:
        augmentation: what may be drawn.
        image_hw: height and width of the image, in pixels.
        random: from `generator`.
    """
    if augmentation.lattice is not None:
        return _draw_on_lattice(augmentation.size_hw, *augmentation.lattice, augmentation.flip, image_hw, random)
    if augmentation.smallest_crop == 1:
        return whole_image(image_hw, augmentation.size_hw, flipped=bool(augmentation.flip and random.random() < 0.5))
    side = math.sqrt(random.uniform(augmentation.smallest_crop, 1.0))
    width, height = (side * whole for whole in _largest_window(image_hw, augmentation.size_hw))
    left, top = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
    flipped = bool(augmentation.flip and random.random() < 0.5)
    return _window(left, top, width, height, augmentation.size_hw, flipped)


def apply(image: NDArray[Any], window: Draw, flip_rule: str = "mirror") -> NDArray[Any]:
    """See an image through a draw.

    Borders are rounded to whole pixels; the window is averaged over areas when it shrinks, bilinear when it grows.

    Args:
        image: `(H, W, C)`, any dtype that OpenCV resizes (uint8, uint16, float32).
        window: the draw.
        flip_rule: `mirror`, or `negate_x` for optical flow, whose first channel also changes sign around mid-range.

    Returns:
        `(h, w, C)`, the dtype of `image`, contiguous.
    """
    height, width = image.shape[:2]
    left, right = round(window.left * width), round(window.right * width)
    top, bottom = round(window.top * height), round(window.bottom * height)
    cut = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    shrinks = cut.shape[0] > window.size_hw[0] and cut.shape[1] > window.size_hw[1]
    resized = cv2.resize(
        cut, window.size_hw[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    ).reshape(*window.size_hw, image.shape[2])
    return np.ascontiguousarray(mirror(resized, flip_rule) if window.flipped else resized)


def mirror(image: NDArray[Any], flip_rule: str = "mirror") -> NDArray[Any]:
    """Mirror an image left to right, by the rule of its modality.

    Args:
        image: `(H, W, C)`.
        flip_rule: `mirror`, or `negate_x`: the first channel v of an 8-bit flow image, zero at 128, becomes 256 - v; of
            a 16-bit one, zero at 32768, 65536 - v, and 0, which marks a pixel without flow, stays.

    Example:
        >>> mirror(np.array([[[130, 0, 0], [128, 0, 0]]], np.uint8), "negate_x")[0, :, 0]
        array([128, 126], dtype=uint8)
    """
    flipped = image[:, ::-1]
    if flip_rule == "mirror":
        return flipped
    negated = flipped.copy()
    levels = int(np.iinfo(image.dtype).max) + 1
    first = np.minimum(levels - flipped[..., 0].astype(np.int32), levels - 1)
    negated[..., 0] = first if levels == 256 else np.where(flipped[..., 0] == 0, 0, first)
    return negated


def _draw_on_lattice(
    size_hw: tuple[int, int],
    whole_hw: tuple[int, int],
    step_px: int,
    flip: bool,
    image_hw: tuple[int, int],
    random: np.random.Generator,
) -> Draw:
    """A window of exactly `size_hw` pixels that begins, in the image as it is seen, at a multiple of `step_px`."""
    top, left = (
        int(random.integers(0, (whole - size) // step_px + 1)) * step_px
        for whole, size in zip(whole_hw, size_hw, strict=True)
    )
    offset_yx = top, left
    flipped = bool(flip and random.random() < 0.5)
    if flipped:
        left = whole_hw[1] - size_hw[1] - left
    seen = whole_image(image_hw, whole_hw)  # what part of the image the whole-image map was computed on
    scale_y, scale_x = (seen.bottom - seen.top) / whole_hw[0], (seen.right - seen.left) / whole_hw[1]
    window = _window(
        seen.left + left * scale_x,
        seen.top + top * scale_y,
        size_hw[1] * scale_x,
        size_hw[0] * scale_y,
        size_hw,
        flipped,
    )
    return replace(window, offset_yx=offset_yx)


def _largest_window(image_hw: tuple[int, int], size_hw: tuple[int, int]) -> tuple[float, float]:
    """Width and height, as fractions of the image, of the largest window with the shape of `size_hw`.

    Shapes that differ by less than rounding to whole pixels explains count as equal, and the whole image is seen.
    """
    wanted = size_hw[1] / size_hw[0] * image_hw[0] / image_hw[1]
    if abs(wanted - 1) < SHAPE_TOLERANCE:
        return 1.0, 1.0
    return (wanted, 1.0) if wanted < 1 else (1.0, 1 / wanted)


def _window(left: float, top: float, width: float, height: float, size_hw: tuple[int, int], flipped: bool) -> Draw:
    return Draw(left, top, min(left + width, 1.0), min(top + height, 1.0), size_hw, flipped)


SIZE_STEP = 8  # px: long sides are multiples of it
SHAPE_TOLERANCE = 0.04  # sizes are rounded to multiples of 8, at most 4 px in 224 beyond the image's own shape
