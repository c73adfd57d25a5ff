"""The two image formats of the raw video: PPM colour, and 16-bit PGM depth whose bytes stand the wrong way round.

A PGM file holds the high byte first; the recorder of NYU Depth v2 wrote the low byte first (hence `swapbytes` in the
toolbox). A file that another program has written again in the right order is recognised: the Kinect has 11 bits, so
in the wrong order nearly every number is too large.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.datasets.nyud2_raw.camera import NOTHING, SIZE_HW
from xmodal_cli.errors import DataError

_HEADER = re.compile(rb"(P[56])\s(?:\s*#[^\n]*\n)*\s*(\d+)\s(?:\s*#[^\n]*\n)*\s*(\d+)\s(?:\s*#[^\n]*\n)*\s*(\d+)\s")
LONGEST_HEADER = 1024  # bytes searched for a header, comments among them


def decode_ppm(content: bytes, name: str) -> NDArray[np.uint8]:
    """The colour image in the bytes of a PPM file.

    Args:
        content: the whole file.
        name: of the file, for messages.

    Returns:
        (480, 640, 3) uint8, R, G, B; it looks into `content` and cannot be written to.

    Raises:
        DataError: another format or size, or cut off.
    """
    start = _start(content, name, b"P6", (255,))
    pixels = _pixels(content, name, start, np.dtype(np.uint8), 3)
    return pixels.reshape(*SIZE_HW, 3)


def decode_pgm(content: bytes, name: str) -> NDArray[np.uint16]:
    r"""The raw depth in the bytes of a PGM file, low byte first as the recorder wrote it.

    Args:
        content: the whole file.
        name: of the file, for messages.

    Returns:
        (480, 640) uint16, 0 to 2047.

    Raises:
        DataError: another format or size, cut off, or numbers that no Kinect gives.

    Example:
        >>> file = b"P5 640 480 65535\n" + bytes([0x20, 0x03]) * (640 * 480)
        >>> int(decode_pgm(file, "d-1-1.pgm")[0, 0])
        800
    """
    start = _start(content, name, b"P5", range(256, 1 << 16))
    for order in ("<u2", ">u2"):
        raw = _pixels(content, name, start, np.dtype(order), 1).reshape(SIZE_HW)
        if raw.max() <= NOTHING:
            return raw.astype(np.uint16, copy=False)
    raise DataError(f"'{name}' holds numbers above {NOTHING} in either order of bytes: no raw depth of a Kinect.")


def _start(content: bytes, name: str, magic: bytes, depths: range | tuple[int, ...]) -> int:
    """Where the pixels begin, once the header is found to be the right one."""
    found = _HEADER.match(content[:LONGEST_HEADER])
    kind = magic.decode()
    if not content:
        raise DataError(f"'{name}' is empty.")
    if found is None or found[1] != magic:
        raise DataError(f"'{name}' is no {kind} file: it begins with {content[:12]!r}.")
    width, height, largest = int(found[2]), int(found[3]), int(found[4])
    if (height, width) != SIZE_HW:
        raise DataError(f"'{name}' has {width} x {height} pixels; raw frames have {SIZE_HW[1]} x {SIZE_HW[0]}.")
    if largest not in depths:
        raise DataError(f"'{name}' has values up to {largest}; raw {kind} files have {depths[0]} to {depths[-1]}.")
    return found.end()


def _pixels(content: bytes, name: str, start: int, dtype: np.dtype[Any], channels: int) -> NDArray[Any]:
    count = SIZE_HW[0] * SIZE_HW[1] * channels
    wanted = start + count * dtype.itemsize
    if len(content) < wanted:
        raise DataError(f"'{name}' is cut off: {len(content)} bytes of {wanted}.")
    return np.frombuffer(content, dtype, count, start)
