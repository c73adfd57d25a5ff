"""Where pictures are kept: `RUN/pictures/`, each file with the name of the command that made it inside.

A file is written anew only where the same command made it: the name stands in a text chunk of a PNG and in a meta tag
of an HTML page. Whatever else lies there is somebody's, and left alone.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from xmodal_cli import files
from xmodal_cli.data.images import encode_png
from xmodal_cli.errors import SettingsError
from xmodal_cli.pictures.canvas import Picture
from xmodal_cli.runs.folder import RunFolder

PICTURES = "pictures"
HEADER_END = 33  # bytes of a PNG's signature and header chunk: other chunks may follow
SEARCHED = 2048  # bytes of a file in which its maker is looked for


def picture_path(run: RunFolder, name: str, out: Path | None = None) -> Path:
    """Where a picture of a run goes: where it is told, else into the run's own folder."""
    return out if out is not None else run.path / PICTURES / name


def maker_mark(command: str) -> str:
    """What is written into a file about who made it."""
    return f"xmodal {command}"


def keep_picture(path: Path, picture: Picture, command: str) -> Path:
    """Write a picture as PNG.

    Args:
        path: the file; missing folders are made.
        picture: `(H, W, 3)` uint8 RGB.
        command: whose picture it is, e.g. `visualize filters`.

    Returns:
        The path.

    Raises:
        SettingsError: something else has that name, or the folder cannot be written.
    """
    return keep(path, signed_png(encode_png(picture), command), command)


def keep(path: Path, content: bytes, command: str) -> Path:
    """Write a file that says who made it; arguments and errors as in `keep_picture`."""
    try:
        if path.exists() and maker_mark(command).encode() not in path.read_bytes()[:SEARCHED]:
            raise SettingsError(
                f"{path} is there already, and `xmodal {command}` did not make it.", "Give another name with --out."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(path, content)
    except (PermissionError, NotADirectoryError, IsADirectoryError) as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}.", "Name another file with --out.") from None
    return path


def signed_png(content: bytes, command: str) -> bytes:
    r"""A PNG with a text chunk that says which command made it.

    Example:
        >>> import numpy as np
        >>> signed = signed_png(encode_png(np.zeros((2, 2), np.uint8)), "visualize filters")
        >>> b"Software\x00xmodal visualize filters" in signed
        True
    """
    body = b"tEXt" + b"Software\x00" + maker_mark(command).encode("latin-1")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return content[:HEADER_END] + chunk + content[HEADER_END:]
