"""Which files belong together: the images of a folder or a pattern by ID, and the IDs that two sources share.

A source is a folder, searched through, or a quoted pattern. In a folder an ID is the relative path without its ending
(`kitchen/0123`); in a pattern it is what the stars matched: `'DIR/*.color.jpg'` gives `DIR/0123.color.jpg` the ID
`0123`. Several stars give their matches joined by slashes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from xmodal_cli.data.images import SUFFIXES
from xmodal_cli.errors import DataError, closest

EXAMPLES = 3  # file names shown of each side when nothing matches


def find_images(source: str) -> dict[str, Path]:
    """The image files of a folder or a pattern, by ID.

    Args:
        source: a folder, or a pattern with `*` (within one folder name) or `**` (any folders).

    Returns:
        Files by ID, sorted by ID.

    Raises:
        DataError: there is no such folder, it holds no image, or two files have the same ID.
    """
    found: dict[str, Path] = {}
    for identifier, path in _candidates(source):
        if identifier in found:
            raise DataError(
                f"Two files have the ID '{identifier}': '{found[identifier]}' and '{path}'.",
                "Name one kind of file with a quoted pattern, such as 'DIR/*.png'.",
            )
        if identifier != identifier.strip() or "\n" in identifier or identifier.startswith("#"):
            raise DataError(f"'{path}' has blanks at an end, a line break or a leading # in its ID.", "Rename it.")
        found[identifier] = path
    if not found:
        raise DataError(f"'{source}' holds no image ({', '.join(SUFFIXES)}).", "Check the path; quote a pattern.")
    return dict(sorted(found.items()))


def match_pairs(rgb: Mapping[str, Path], target: Mapping[str, Path], rgb_name: str, target_name: str) -> list[str]:
    """The IDs that both sides have.

    Args:
        rgb: colour images by ID.
        target: images of the target sensor by ID.
        rgb_name: the source of `rgb` as the user wrote it, for the message.
        target_name: likewise for `target`.

    Returns:
        Sorted IDs.

    Raises:
        DataError: there is not one pair; the message shows names of both sides.

    Example:
        >>> match_pairs({"a": Path("a.jpg"), "b": Path("b.jpg")}, {"b": Path("b.png")}, "rgb", "depth")
        ['b']
    """
    pairs = sorted(rgb.keys() & target.keys())
    if pairs:
        return pairs
    raise DataError(
        f"No pairs: none of the {len(rgb)} IDs of '{rgb_name}' ({_some(rgb)}) is among the {len(target)} of "
        f"'{target_name}' ({_some(target)}).",
        "Quote patterns in which * matches the part that both names share, such as 'DIR/*.color.jpg'.",
    )


def match_names(names: Iterable[str], images: Mapping[str, Path]) -> dict[str, str]:
    """The IDs that file names in an annotation file, a split file or a scene list mean.

    A name is an ID, an ID with an ending, either of them behind more folders, or the bare name of one file. Folders
    that differ are no match.

    Args:
        names: names as written in the file.
        images: source images by ID.

    Returns:
        ID by name, for the names that mean an image.

    Example:
        >>> match_names(["0001.color.jpg", "0002"], {"0001": Path("kinect/0001.color.jpg"), "0002": Path("b/2.jpg")})
        {'0001.color.jpg': '0001', '0002': '0002'}
    """
    by_name: dict[str, str | None] = {}
    for identifier, path in images.items():
        for name in (path.name, path.stem, identifier.rsplit("/", 1)[-1]):
            by_name[name] = identifier if by_name.get(name, identifier) == identifier else None
    found: dict[str, str] = {}
    for name in names:
        plain = name.replace("\\", "/").removeprefix("./")
        meant = _by_path(plain, images) or by_name.get(plain.rsplit("/", 1)[-1])
        if meant is not None and (meant in plain or "/" not in meant or "/" not in plain):
            found[name] = meant
    return found


def _by_path(name: str, images: Mapping[str, Path]) -> str | None:
    """The image whose ID is the name, with or without ending, or with leading folders cut off one by one."""
    while True:
        if name in images:
            return name
        stem, dot, ending = name.rpartition(".")
        if dot and f".{ending.lower()}" in SUFFIXES and stem in images:
            return stem
        _, slash, name = name.partition("/")
        if not slash:
            return None


def _candidates(source: str) -> Iterable[tuple[str, Path]]:
    """ID and path of every image in a folder, or of every file that a pattern matches."""
    if "*" not in source:
        yield from _in_folder(Path(source))
        return
    parts = Path(source).as_posix().split("/")
    fixed = next(index for index, part in enumerate(parts) if "*" in part)
    root = Path("/".join(parts[:fixed]) or ("/" if source.startswith("/") else "."))
    _require_folder(root)
    wanted = _expression("/".join(parts[fixed:]))
    for path in sorted(root.rglob("*")):
        match = wanted.fullmatch(path.relative_to(root).as_posix())
        if match and path.suffix.lower() in SUFFIXES and path.is_file():
            yield "/".join(group.strip("/") for group in match.groups() if group), path


def _in_folder(folder: Path) -> Iterable[tuple[str, Path]]:
    _require_folder(folder)
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            yield path.relative_to(folder).as_posix()[: -len(path.suffix)], path


def _require_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    near = closest(folder.name, [p.name for p in folder.parent.iterdir()] if folder.parent.is_dir() else [])
    raise DataError(f"There is no folder '{folder}'.", near or "Check the path; quote a pattern such as 'DIR/*.png'.")


def _expression(pattern: str) -> re.Pattern[str]:
    """A pattern as a regular expression: `**` crosses folders, `*` does not, every other character means itself."""
    pieces = re.split(r"(\*\*/|\*)", pattern)
    stars = {"**/": "((?:[^/]+/)*)", "*": "([^/]*)"}
    return re.compile("".join(stars.get(piece, re.escape(piece)) for piece in pieces))


def _some(files: Mapping[str, Path]) -> str:
    names = [path.name for path in list(files.values())[:EXAMPLES]]
    return ", ".join(names) + (", ..." if len(files) > EXAMPLES else "")
