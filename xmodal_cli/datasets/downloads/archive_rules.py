"""What an archive may contain: files and folders below its own folder, of a plausible size, each once.

An archive is somebody else's list of paths and sizes. Paths that leave the folder, links, devices and contents that
are out of all proportion to the archive are refused before anything is written there.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from xmodal_cli.errors import DataError

MOST_MEMBERS = 2_000_000  # COCO's largest archive has 118,288; ten rooms of raw NYUD2 video about as many
MOST_RATIO = 100  # unpacked bytes per byte; text compresses by 10, images and videos hardly at all
ALWAYS_BYTES = 1 << 28  # a small archive of zeros may hold this much
LONGEST_NAME = 255  # bytes of a part of a path, on every usual file system
LONGEST_PATH = 1024  # bytes


def safe_path(name: str) -> PurePosixPath | None:
    """The path of a member below the archive's folder; None for that folder itself.

    Raises:
        DataError: the path leaves the folder, or no file system could hold it.

    Example:
        >>> safe_path("data/./images/img_5001.png")
        PurePosixPath('data/images/img_5001.png')
        >>> safe_path("../passwd")
        Traceback (most recent call last):
        ...
        xmodal_cli.errors.DataError: A member of the archive is called '../passwd', which leaves its folder.
    """
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or name[1:3] in (":/", ":\\"):
        raise DataError(f"A member of the archive is called {name!r}, which leaves its folder.")
    if any(ord(letter) < 32 for letter in name) or "\\" in name:
        raise DataError(f"A member of the archive is called {name!r}, which is no name for a file.")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    encoded = [len(part.encode("utf-8", "surrogateescape")) for part in parts]
    if any(length > LONGEST_NAME for length in encoded) or sum(encoded) + len(parts) > LONGEST_PATH:
        raise DataError(f"A member of the archive is called {name[:60]!r}..., which is too long.")
    return PurePosixPath(*parts) if parts else None


class Allowance:
    """How much an archive may still unpack.

    Args:
        archive_bytes: its own size.
    """

    def __init__(self, archive_bytes: int) -> None:
        self.most_bytes = max(ALWAYS_BYTES, MOST_RATIO * archive_bytes)
        self.bytes = self.members = 0

    def member(self) -> None:
        """One more file or folder.

        Raises:
            DataError: too many.
        """
        self.members += 1
        if self.members > MOST_MEMBERS:
            raise DataError(f"The archive has more than {MOST_MEMBERS:,} members, which no published one has.")

    def take(self, count: int) -> None:
        """So many more bytes.

        Raises:
            DataError: out of all proportion.
        """
        self.bytes += count
        if self.bytes > self.most_bytes:
            raise DataError(
                f"The archive unpacks to more than {self.most_bytes:,} bytes, out of all proportion to its own size."
            )
