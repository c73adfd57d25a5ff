"""Images in and out: every pixel that xmodal sees comes through here, with its type and channel order made explicit.

Sixteen bits stay sixteen bits, colour is always R, G, B, and a damaged file is an error that names it: OpenCV decodes
a JPEG that was cut off without complaint and fills the rest with grey, so the file's own structure is checked first.
Pixels come as they are stored: an orientation tag in EXIF is not applied, because the paired image has none.

Shapes: `(H, W)` or `(H, W, C)`, rows from the top, columns from the left.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from xmodal_cli import files
from xmodal_cli.errors import DataError

# File endings that are recognised as images, in lower case.
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy", ".bmp", ".webp", ".pgm", ".ppm")

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_START = b"\xff\xd8"
JPEG_END = 0xD9
JPEG_SCAN = 0xDA
# In a JPEG's scan data FF 00 is an escaped byte, FF D0-D7 a restart, FF FF a filler; anything else is the next marker.
JPEG_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
# Run lengths instead of a full search: on HHA of NYU Depth 40 % less time and 14 % smaller files than zlib level 3.
# The strategy comes last: OpenCV resets it when it reads the level.
PNG_OPTIONS = (cv2.IMWRITE_PNG_COMPRESSION, 3, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)
# Each row as its difference from the row above. Older OpenCV cannot be told, and tries all filters.
FAST_PNG_OPTIONS = (
    *((cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP) if hasattr(cv2, "IMWRITE_PNG_FILTER") else ()),
    *PNG_OPTIONS,
)
JPEG_QUALITY = 95  # of colour images that are made here: no blocks to be learnt


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image as 8-bit colour, whatever it is stored as.

    Args:
        path: a PNG, JPEG, TIFF, BMP, WebP, PPM or NPY file; grey becomes three equal channels, alpha is dropped.

    Returns:
        `(H, W, 3)` uint8, R, G, B.

    Raises:
        DataError: the file is missing, empty, cut off or no image.
    """
    return decode_rgb(read_bytes(path), path)


def read_raw(path: Path) -> NDArray[Any]:
    """Read an image exactly as stored: 8 bits stay 8, 16 stay 16, floating point stays floating point.

    Args:
        path: a PNG, JPEG, TIFF, BMP, WebP, PGM, PPM or NPY file.

    Returns:
        `(H, W)` or `(H, W, C)`, dtype as stored, channels R, G, B(, A).

    Raises:
        DataError: the file is missing, empty, cut off or no image.
    """
    return decode_raw(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file that must be there and must not be empty.

    Raises:
        DataError: the file is missing, a folder, not readable or has no bytes.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"'{path}' does not exist.") from None
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}.") from None
    if not content:
        raise DataError(f"'{path}' is empty (0 bytes).", "Copy the file again.")
    return content


def decode_rgb(content: bytes, path: Path) -> NDArray[np.uint8]:
    """Decode the bytes of an image file to `(H, W, 3)` uint8 RGB; `path` is named in errors."""
    if path.suffix.lower() != ".npy":
        return _decode(content, path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    array = decode_raw(content, path)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise DataError(f"'{path}' holds {describe(array)}; a colour image is (H, W, 3) uint8.")
    return array


def decode_raw(content: bytes, path: Path) -> NDArray[Any]:
    """Decode the bytes of an image file as stored, colour as R, G, B(, A); `path` is named in errors."""
    if path.suffix.lower() != ".npy":
        return _decode(content, path, cv2.IMREAD_UNCHANGED)
    try:
        array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"'{path}' is not a complete NPY array: {error}.", "Save it again with numpy.save.") from None
    if array.ndim not in (2, 3) or array.size == 0 or array.dtype.kind not in "uif":
        raise DataError(f"'{path}' holds {describe(array)}; an image is a (H, W) or (H, W, C) array of numbers.")
    return array


def describe(array: NDArray[Any]) -> str:
    """Height, width, channels and type of an array in words, for messages.

    Example:
        >>> describe(np.zeros((425, 560, 3), np.uint8))
        '425 x 560 x 3 uint8'
    """
    return f"{' x '.join(str(size) for size in array.shape)} {array.dtype}"


def write_png(path: Path, image: NDArray[Any]) -> None:
    """Write an image as PNG, whole or not at all; missing folders are made.

    Args:
        path: file to write; an existing one is replaced.
        image: `(H, W)`, `(H, W, 1)` or `(H, W, 3)` RGB, uint8 or uint16.

    Raises:
        ValueError: PNG cannot hold this shape or type.
        OSError: the disk is full or the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(path, encode_png(image))


def encode_png(image: NDArray[Any], *, fast: bool = False) -> bytes:
    """The bytes of a PNG file that holds an image.

    Args:
        image: `(H, W)`, `(H, W, 1)` or `(H, W, 3)` RGB, uint8 or uint16.
        fast: one filter for all rows instead of the best for each: half the time, files about a fifth larger.

    Example:
        >>> decode_raw(encode_png(np.full((2, 3), 40000, np.uint16)), Path("a.png")).max()
        np.uint16(40000)
    """
    if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,)):
        raise ValueError(f"A PNG holds (H, W) or (H, W, 3) of uint8 or uint16; found {describe(image)}.")
    done, encoded = cv2.imencode(".png", _to_bgr(image), FAST_PNG_OPTIONS if fast else PNG_OPTIONS)
    if not done:
        raise ValueError(f"OpenCV could not encode {describe(image)} as PNG.")
    return bytes(encoded.tobytes())


def encode_jpeg(image_rgb: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> bytes:
    """The bytes of a JPEG file that shows a colour image.

    Args:
        image_rgb: `(H, W, 3)` uint8, R, G, B.
        quality: 1 to 100.

    Example:
        >>> decode_rgb(encode_jpeg(np.full((8, 8, 3), 200, np.uint8)), Path("a.jpg"))[0, 0].tolist()
        [200, 200, 200]
    """
    if image_rgb.dtype != np.uint8 or image_rgb.ndim != 3 or image_rgb.shape[2] != 3:
        raise ValueError(f"A JPEG holds (H, W, 3) of uint8; found {describe(image_rgb)}.")
    done, encoded = cv2.imencode(".jpg", _to_bgr(image_rgb), (cv2.IMWRITE_JPEG_QUALITY, quality))
    if not done:
        raise ValueError(f"OpenCV could not encode {describe(image_rgb)} as JPEG.")
    return bytes(encoded.tobytes())


def _to_bgr(image: NDArray[Any]) -> NDArray[Any]:
    """An image as OpenCV wants it: contiguous, and B, G, R where it has three channels."""
    whole = np.ascontiguousarray(image)
    return np.asarray(cv2.cvtColor(whole, cv2.COLOR_RGB2BGR)) if whole.shape[2:] == (3,) else whole


def is_complete(content: bytes) -> bool:
    """Whether a JPEG or PNG reaches its own end; other formats are judged by their decoder.

    Example:
        >>> png = encode_png(np.zeros((4, 4), np.uint8))
        >>> is_complete(png), is_complete(png[:-5])
        (True, False)
    """
    if content.startswith(PNG_SIGNATURE):
        return _png_is_complete(content)
    if content.startswith(JPEG_START):
        return _jpeg_is_complete(content)
    return True


def _decode(content: bytes, path: Path, flags: int) -> NDArray[Any]:
    if not is_complete(content):
        raise DataError(
            f"'{path}' is cut off or damaged: its {len(content)} bytes end before the image does.",
            "Copy the file again.",
        )
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise DataError(
            f"'{path}' cannot be decoded: its {len(content)} bytes are damaged or no image.",
            "Copy the file again.",
        )
    if image.ndim == 3 and image.shape[2] in (3, 4):
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    return image


def _png_is_complete(content: bytes) -> bool:
    """Walk the chunks: every length must fit, every checksum must agree, and IEND must come."""
    at = len(PNG_SIGNATURE)
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        end = at + 12 + length
        if end > len(content):
            return False
        (checksum,) = struct.unpack_from(">I", content, end - 4)
        if zlib.crc32(memoryview(content)[at + 4 : end - 4]) != checksum:
            return False
        if content[at + 4 : at + 8] == b"IEND":
            return True
        at = end
    return False


def _jpeg_is_complete(content: bytes) -> bool:
    """Walk the segments up to the end-of-image marker, through every scan's entropy-coded data."""
    at = len(JPEG_START)
    while at + 4 <= len(content):
        if content[at] != 0xFF:
            return False
        marker = content[at + 1]
        if marker == 0xFF:  # a filler byte before a marker
            at += 1
            continue
        if marker == JPEG_END:
            return True
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        if marker == JPEG_SCAN:
            found = JPEG_MARKER.search(content, at)
            if found is None:
                return False
            at = found.start()
    return content[at : at + 2] == bytes((0xFF, JPEG_END))
