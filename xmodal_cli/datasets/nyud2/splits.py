"""The splits of NYU Depth v2: Gupta's train and val, the official test, and files that must agree with them.

The official `splits.mat` knows trainval (795) and test (654) only; the division of trainval is Gupta's (CVPR 2013) and
is shipped here (`splits.txt`, recipe Appendix A). Images are numbered 5001 to 6449 in the authors' files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli.errors import DataError

IMAGE_COUNT = 1449
FIRST_NUMBER = 5001
SPLITS = ("train", "val", "test")
PUBLISHED_SIZES = {"train": 381, "val": 414, "test": 654}
PREFIX = "img_"
Variables = Mapping[str, tuple[str, ...]]  # splits that a variable of a split file is the union of
OFFICIAL: Variables = {"trainNdxs": ("train", "val"), "testNdxs": ("test",)}
GUPTA: Variables = {
    "train": ("train",),
    "val": ("val",),
    "trainval": ("train", "val"),
    "test": ("test",),
    "tst": ("test",),
}


@cache
def split_numbers() -> Mapping[str, frozenset[int]]:
    """Image numbers by split.

    Example:
        >>> {split: len(numbers) for split, numbers in split_numbers().items()}
        {'train': 381, 'val': 414, 'test': 654}
        >>> min(split_numbers()["train"]), min(split_numbers()["test"])
        (5003, 5001)
    """
    text = resources.files(__package__).joinpath("splits.txt").read_text(encoding="utf-8")
    words = " ".join(line for line in text.splitlines() if not line.startswith("#")).split()
    numbers: dict[str, set[int]] = {}
    split = ""
    for word in words:
        if word.endswith(":"):
            split = word[:-1]
            continue
        first, _, last = word.partition("-")
        numbers.setdefault(split, set()).update(range(int(first), int(last or first) + 1))
    rest = set(range(1, IMAGE_COUNT + 1)).difference(*numbers.values())
    return {name: frozenset(FIRST_NUMBER - 1 + i for i in numbers.get(name, rest)) for name in SPLITS}


def split_of(number: int) -> str:
    """The split of an image number.

    Example:
        >>> [split_of(number) for number in (5001, 5003, 5010)]
        ['test', 'train', 'val']
    """
    return next(split for split, numbers in split_numbers().items() if number in numbers)


def identifier(number: int) -> str:
    """The ID of an image number.

    Example:
        >>> identifier(5001)
        'img_5001'
    """
    return f"{PREFIX}{number}"


def number_of(name: str) -> int:
    """The image number of an ID.

    Example:
        >>> number_of("img_5001")
        5001
    """
    return int(name.removeprefix(PREFIX))


def ids_by_split(ids: Iterable[str]) -> dict[str, list[str]]:
    """The splits of some images, sorted; splits without any are left out.

    Example:
        >>> ids_by_split(["img_5003", "img_5001", "img_5010"])
        {'train': ['img_5003'], 'val': ['img_5010'], 'test': ['img_5001']}
    """
    names = sorted(ids)
    found = {split: [n for n in names if number_of(n) in numbers] for split, numbers in split_numbers().items()}
    return {split: members for split, members in found.items() if members}


def check_split_file(path: Path) -> str:
    """Compare a split file, the official `splits.mat` or the authors' `nyusplits.mat`, with the shipped lists.

    Returns:
        What it was and that it agrees, as a sentence.

    Raises:
        DataError: it cannot be read, is no split file, or has other splits.
    """
    found = read_mat(path)
    for variables, shift in ((OFFICIAL, FIRST_NUMBER - 1), (GUPTA, 0)):
        present = [name for name in variables if name in found]
        if not present:
            continue
        for name in present:
            _check_same(path, name, _numbers(path, name, found[name], shift), variables[name])
        return f"'{path.name}' agrees: {', '.join(f'{name} {np.size(found[name])}' for name in present)}."
    raise DataError(
        f"'{path}' is no split file: it has none of {', '.join((*OFFICIAL, *GUPTA))}.",
        "Pass the official splits.mat, or the authors' nyusplits.mat, with --splits.",
    )


def read_mat(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file up to version 7, cells and structs as plain lists and dicts.

    Raises:
        DataError: missing, damaged, or of version 7.3.
    """
    import scipy.io

    try:
        found: dict[str, Any] = scipy.io.loadmat(path, simplify_cells=True)
    except FileNotFoundError:
        raise DataError(f"There is no file '{path}'.", "Check the path.") from None
    except NotImplementedError:
        raise DataError(
            f"'{path}' is a MATLAB 7.3 file; expected version 5 to 7.", "Save it again: save(FILE, ..., '-v7')"
        ) from None
    except Exception as error:  # the reader raises whatever broken bytes lead it to
        raise DataError(f"'{path}' cannot be read: {type(error).__name__} {error}.", "Copy the file again.") from None
    return found


def _numbers(path: Path, name: str, values: Any, shift: int) -> set[int]:
    array = np.asarray(values).ravel()
    if array.dtype.kind not in "uif":
        raise DataError(f"'{path}': {name} holds {array.dtype}; expected image numbers.")
    return {int(value) + shift for value in array}


def _check_same(path: Path, name: str, found: set[int], splits: tuple[str, ...]) -> None:
    expected = set().union(*(split_numbers()[split] for split in splits))
    if found == expected:
        return
    strangers, absent = sorted(found - expected), sorted(expected - found)
    parts = [
        f"{len(numbers)} {words} ({', '.join(map(str, numbers[:3]))}{', ...' if len(numbers) > 3 else ''})"
        for numbers, words in ((strangers, "are not in ours"), (absent, "are in ours alone"))
        if numbers
    ]
    raise DataError(
        f"'{path}': {name} is not {'+'.join(splits)} of the published split: {'; '.join(parts)}.",
        "Take the published file, or leave --splits out: the published lists are built in.",
    )
