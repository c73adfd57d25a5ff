"""Videos in a folder and what they are called: IDs that every file of a data set can hold, and names that lists use.

A file's name may hold anything; an ID stands on a line of its own in split files, where `#` begins a remark and blanks
at the ends are lost. Accents are one character in some lists and two in the file names of some systems: both mean the
same.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from xmodal_cli.datasets.videos.clips import FRAME_SUFFIXES, SUFFIXES
from xmodal_cli.errors import DataError, closest


def find_videos(folder: Path) -> dict[str, Path]:
    """The videos in a folder and the folders below it.

    Returns:
        Files by ID, sorted by ID: the path below the folder without ending.

    Raises:
        DataError: no such folder, no video in it, or two with the same ID.
    """
    if not folder.is_dir():
        near = closest(folder.name, [p.name for p in folder.parent.iterdir()] if folder.parent.is_dir() else [])
        raise DataError(f"There is no folder '{folder}'.", near or "Check the path of --videos.")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.suffix.lower() not in SUFFIXES or _is_hidden(inside):
            continue
        if not path.is_file():
            continue
        if not _is_text(inside):
            raise DataError(f"The name of {str(path)!r} is not UTF-8.", "Rename the file.")
        identifier = safe_id(inside.with_suffix("").as_posix())
        if identifier in found:
            raise DataError(
                f"Two videos have the ID '{identifier}': '{found[identifier]}' and '{path}'.", "Rename one of them."
            )
        found[identifier] = path
    if not found:
        raise DataError(f"There is no video in '{folder}'.", f"Videos end in {', '.join(SUFFIXES)}.")
    return dict(sorted(found.items()))


def near(folder: Path) -> Iterator[Path]:
    """Where files that belong to some videos are looked for: in their folder, beside it, and in folders there."""
    for place in (folder, folder.resolve().parent):
        yield place
        for path in sorted(place.iterdir()):
            if path.is_dir() and os.access(path, os.R_OK | os.X_OK):
                yield from opened(path)


def opened(folder: Path) -> list[Path]:
    """A folder, and the one in it if that is all it holds, as with an archive that was unpacked into a folder."""
    visible = [path for path in folder.iterdir() if not path.name.startswith((".", "__"))]
    return [folder, *visible] if len(visible) == 1 and visible[0].is_dir() else [folder]


def _is_text(path: Path) -> bool:
    """Whether a path can be written into a text file: its bytes are UTF-8."""
    try:
        path.as_posix().encode()
    except UnicodeEncodeError:
        return False
    return True


def find_frame_folders(folder: Path) -> dict[str, Path]:
    """The folders below a folder that hold the frames of a video as images, by ID; sorted by ID."""
    found = {
        path.parent for path in folder.rglob("*") if path.suffix.lower() in FRAME_SUFFIXES and path.stem.isdecimal()
    }
    inside = {path: path.relative_to(folder) for path in found if path != folder}
    shown = {path: part for path, part in inside.items() if not _is_hidden(part) and _is_text(part)}
    return dict(sorted((safe_id(part.as_posix()), path) for path, part in shown.items()))


def _is_hidden(path: Path) -> bool:
    """Whether it lies in a hidden folder or is hidden itself; some archives hold such copies of everything."""
    return any(part.startswith(".") for part in path.parts)


def safe_id(name: str) -> str:
    """A name as an ID: accents composed; a `#` at the start, blanks at an end and control characters percent-encoded.

    Example:
        >>> safe_id("#20 Rhythm @home"), safe_id("a/#b "), safe_id("cafe" + chr(0x301)) == "caf" + chr(0xE9)
        ('%2320 Rhythm @home', 'a/%23b%20', True)
    """
    return "/".join(_safe_part(part) for part in unicodedata.normalize("NFC", name).split("/"))


def _safe_part(part: str) -> str:
    bare = part.strip()
    start = part.index(bare)
    inner = range(start, start + len(bare))
    return "".join(
        character
        if index in inner and not _ends_a_line(character) and (index, character) != (0, "#")
        else _code(character)
        for index, character in enumerate(part)
    )


def _ends_a_line(character: str) -> bool:
    """Whether a reader of text may take a character for the end of a line, or it has no width at all."""
    return unicodedata.category(character) in ("Cc", "Zl", "Zp")


def _code(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())
