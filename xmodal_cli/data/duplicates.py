"""Pictures that are almost the same: a perceptual hash for each image and the pairs of images whose hashes agree.

The hash is pHash: the signs of the 64 lowest frequencies of a small grey picture. It survives scaling, compression and
a change of brightness, and changes when the camera moves on. It finds copies and neighbouring frames, not scenes.

Shapes: N and M images, 64 bits each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

SMALL = 32  # side of the grey picture whose frequencies are taken
KEPT = 8  # lowest frequencies kept, across and down
# Bits of 64 in which two pictures of the same thing may differ. Measured on NYU Depth: re-encoded, rescaled and
# brightened copies of 100 images differ in at most 6; of the 157,734 pairs of a train and a val image, all of different
# scenes, the nearest differ in 14.
NEAR_BITS = 8
BLOCK = 4096  # images compared at a time: 4096 x 4096 float32 are 64 MiB


def picture_hash(image_rgb: NDArray[np.uint8]) -> int:
    """The perceptual hash of an image.

    Args:
        image_rgb: `(H, W, 3)` uint8.

    Returns:
        64 bits as an integer.

    Example:
        >>> picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        >>> picture_hash(picture) == picture_hash(picture.repeat(2, axis=0).repeat(2, axis=1))
        True
    """
    grey = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (SMALL, SMALL), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:KEPT, :KEPT].ravel()
    bits = low > np.median(low[1:])  # the first is the brightness and says nothing about the picture
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def near_pairs(hashes: Mapping[str, int], groups: Sequence[Sequence[str]]) -> Iterator[tuple[str, str, int]]:
    """Images of different groups that look almost the same.

    Args:
        hashes: perceptual hash by ID.
        groups: IDs of each split.

    Yields:
        Two IDs, of an earlier and a later group, and the number of bits that differ.

    Example:
        >>> list(near_pairs({"a": 0b1011, "b": 0b1001, "c": 2**64 - 1}, [["a"], ["b", "c"]]))
        [('a', 'b', 1)]
    """
    signs = {identifier: _signs(value) for identifier, value in hashes.items()}
    known = [[identifier for identifier in group if identifier in signs] for group in groups]
    for index, first in enumerate(known):
        rest = [identifier for group in known[index + 1 :] for identifier in group]
        for start in range(0, len(first), BLOCK):
            for other in range(0, len(rest), BLOCK):
                yield from _near(first[start : start + BLOCK], rest[other : other + BLOCK], signs)


def _near(
    first: Sequence[str], second: Sequence[str], signs: Mapping[str, NDArray[np.float32]]
) -> Iterator[tuple[str, str, int]]:
    """Compare two blocks at once: the product of two rows of signs is 64 minus twice the bits that differ."""
    agreement = np.stack([signs[i] for i in first]) @ np.stack([signs[i] for i in second]).T  # (N, M)
    for row, column in np.argwhere(agreement >= KEPT * KEPT - 2 * NEAR_BITS):
        yield first[row], second[column], int(KEPT * KEPT - agreement[row, column]) // 2


def _signs(value: int) -> NDArray[np.float32]:
    """64 bits as +1 and -1."""
    bits = np.unpackbits(np.frombuffer(value.to_bytes(8, "big"), np.uint8))
    return bits.astype(np.float32) * 2 - 1
