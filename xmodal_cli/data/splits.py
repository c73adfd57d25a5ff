"""Splits and scenes: which images are trained on, which are reported, and what a training run may look at meanwhile.

A scene is never in two splits: neighbouring frames of one room are almost the same picture, and a test on them would
measure memory. Where scenes are not known, contiguous blocks of names stand in for them, because frames are numbered in
the order they were taken. Every choice here is a function of the names alone: no seed, no clock.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from xmodal_cli import files
from xmodal_cli.errors import DataError, SettingsError

SPLIT_FOLDER = "splits"
SCENE_FILE = "scenes.csv"
SCENE_COLUMNS = ("id", "scene")
TRAIN = "train"
# Blocks held out are spread over the names, so that they do not all show one room, but kept this long where there is
# enough, so that few frames have a neighbour on the other side.
BLOCK_COUNT = 5
SHORTEST_BLOCK = 8


def divide(ids: Iterable[str], fraction: float, scenes: Mapping[str, str] | None = None) -> tuple[list[str], list[str]]:
    """Divide IDs into a larger and a smaller part, by whole scenes if they are known, else by blocks of names.

    Args:
        ids: what to divide.
        fraction: share of the second part, above 0 and below 1.
        scenes: scene by ID; an ID without one is a scene of its own.

    Returns:
        The larger and the smaller part, each sorted; neither is empty when there are two IDs or more.

    Raises:
        SettingsError: the fraction is not between 0 and 1.

    Example:
        >>> divide(["a1", "a2", "b1", "b2"], 0.5, {"a1": "a", "a2": "a", "b1": "b", "b2": "b"})
        (['a1', 'a2'], ['b1', 'b2'])
        >>> divide(["1", "2", "3", "4"], 0.25)
        (['1', '2', '4'], ['3'])
    """
    if not 0 < fraction < 1:
        raise SettingsError(f"A split's share is above 0 and below 1; found {fraction}.", "Try 0.1.")
    names = sorted(set(ids))
    if len(names) < 2:
        return names, []
    wanted = min(max(1, round(fraction * len(names))), len(names) - 1)
    known = {scenes[name] for name in names if name in scenes} if scenes else set()
    held = _whole_scenes(names, wanted, scenes or {}) if len(known) > 1 else _blocks(names, wanted)
    return [name for name in names if name not in held], sorted(held)


def draw(ids: Iterable[str], count: int, seed: int) -> list[str]:
    """Some of the IDs, in the order of a hash of seed and name: more of them with the same seed hold the fewer.

    Args:
        ids: what to draw from.
        count: how many.
        seed: of the draw.

    Returns:
        `count` IDs, sorted.

    Raises:
        SettingsError: there are not as many.

    Example:
        >>> few, more = draw("abcdefgh", 2, seed=0), draw("hgfedcba", 5, seed=0)
        >>> len(few), set(few) < set(more)
        (2, True)
    """
    names = sorted(set(ids))
    if not 1 <= count <= len(names):
        raise SettingsError(f"{count} of {len(names)} cannot be drawn.", f"Ask for 1 to {len(names)}.")
    return sorted(sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())[:count])


def check_scenes(splits: Mapping[str, Iterable[str]], scenes: Mapping[str, str]) -> list[str]:
    """The scenes that stand in more than one split, each as a sentence; empty when all is well.

    Example:
        >>> check_scenes({"train": ["a"], "val": ["b"]}, {"a": "kitchen", "b": "kitchen"})
        ["Scene 'kitchen' is in the splits train and val ('a' and 'b')."]
    """
    seen: dict[str, tuple[str, str]] = {}
    shared: dict[str, str] = {}
    for split, ids in splits.items():
        for identifier in ids:
            scene = scenes.get(identifier)
            if scene is None:
                continue
            first, example = seen.setdefault(scene, (split, identifier))
            if first != split and scene not in shared:
                shared[scene] = (
                    f"Scene '{scene}' is in the splits {first} and {split} ('{example}' and '{identifier}')."
                )
    return list(shared.values())


def read_names(path: Path) -> list[str]:
    """The names in a split file: one per line, blank lines and lines that begin with `#` left out.

    Raises:
        DataError: the file is missing, is no text or names nothing.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}.", "Check the path.") from None
    except UnicodeDecodeError:
        raise DataError(f"'{path}' is no text file.", "A split file has one ID per line.") from None
    names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise DataError(f"'{path}' names no image.", "A split file has one ID per line.")
    return names


def write_split(root: Path, split: str, ids: Sequence[str]) -> None:
    """Write `splits/NAME.txt`, one ID per line, sorted."""
    folder = root / SPLIT_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / f"{split}.txt", "".join(f"{name}\n" for name in sorted(ids)))


def read_scenes(path: Path) -> dict[str, str]:
    """Scenes from a CSV file `ID,scene`; a first line `id,scene` is a heading.

    Returns:
        Scene by name, as written.

    Raises:
        DataError: the file is missing, a line has no two cells, or an ID has two scenes.
    """
    scenes: dict[str, str] = {}
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}.", "Check the path.") from None
    for number, row in enumerate(rows, start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and [cell.lower() for cell in cells] == list(SCENE_COLUMNS)):
            continue
        if len(cells) != 2 or not all(cells):
            raise DataError(f"'{path}', line {number}: expected ID,scene; found '{','.join(row)}'.")
        if scenes.setdefault(cells[0], cells[1]) != cells[1]:
            raise DataError(f"'{path}', line {number}: '{cells[0]}' has two scenes.")
    return scenes


def write_scenes(root: Path, scenes: Mapping[str, str]) -> None:
    """Write `scenes.csv`, sorted by ID."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(SCENE_COLUMNS)
    writer.writerows(sorted(scenes.items()))
    files.write_text(root / SCENE_FILE, text.getvalue())


def _whole_scenes(names: Sequence[str], wanted: int, scenes: Mapping[str, str]) -> set[str]:
    """Names of whole scenes, about `wanted` of them; scenes come in the order of a hash of their names."""
    members: dict[str, list[str]] = {}
    for name in names:
        members.setdefault(scenes.get(name, f"\0{name}"), []).append(name)
    order = sorted(members, key=lambda scene: hashlib.sha256(scene.encode()).digest())
    held: set[str] = set()
    for scene in order:
        # A scene is taken while that brings the count nearer to what is wanted; one scene always stays behind.
        count = len(held) + len(members[scene])
        if count < len(names) and abs(count - wanted) < abs(len(held) - wanted):
            held.update(members[scene])
    return held or set(members[min(order, key=lambda scene: len(members[scene]))])


def _blocks(names: Sequence[str], wanted: int) -> set[str]:
    """Blocks of neighbouring names, spread evenly: the middle of each of a few equal stretches."""
    count = max(1, min(BLOCK_COUNT, wanted // SHORTEST_BLOCK))
    held: set[str] = set()
    for block in range(count):
        start, end = (len(names) * edge // count for edge in (block, block + 1))
        length = wanted * (block + 1) // count - wanted * block // count
        first = start + (end - start - length + 1) // 2
        held.update(names[first : first + length])
    return held
