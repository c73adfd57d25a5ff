"""The nineteen classes of the benchmark, and which of the 894 names of the labelled data they are (recipe 1.4).

Categories are counted from 1 in alphabetical order, as in the paper's code, where 0 is background. Names of the data
have blanks where the benchmark's have hyphens. `garbage bin` and `monitor` are not among the forty classes of
`classMapping40.mat`, so names decide, not that file.
"""

from __future__ import annotations

from collections.abc import Sequence

from xmodal_cli.errors import DataError

NAME_COUNT = 894  # names in the published file
# Place of each class in the published list of names, counted from 1; ground truth of the archive refers to it.
LABEL_IDS = {
    "bathtub": 136,
    "bed": 157,
    "bookshelf": 88,
    "box": 26,
    "chair": 5,
    "counter": 7,
    "desk": 36,
    "door": 28,
    "dresser": 169,
    "garbage-bin": 12,
    "lamp": 144,
    "monitor": 49,
    "night-stand": 158,
    "pillow": 119,
    "sink": 24,
    "sofa": 83,
    "table": 19,
    "television": 172,
    "toilet": 124,
}
CLASSES = tuple(LABEL_IDS)
CATEGORIES = {name: number for number, name in enumerate(CLASSES, start=1)}  # COCO category id by class
PUBLISHED = {label: CATEGORIES[name] for name, label in LABEL_IDS.items()}  # category id by label id


def class_name(name: str) -> str:
    """A name of the data as the benchmark writes it.

    Example:
        >>> class_name("night stand")
        'night-stand'
    """
    return name.strip().replace(" ", "-")


def categories_by_label(names: Sequence[str], where: str) -> dict[int, int]:
    """Category id by label id, from a file's own list of names.

    Args:
        names: what labels 1, 2, ... are called.
        where: the file, for messages.

    Raises:
        DataError: a class of the benchmark is not in the list.

    Example:
        >>> names = [name.replace("-", " ") for name in reversed(CLASSES)]
        >>> categories_by_label(names, "a.mat")[1] == CATEGORIES["toilet"]
        True
    """
    found = {class_name(name): label for label, name in reversed(list(enumerate(names, start=1)))}
    absent = [name for name in CLASSES if name not in found]
    if absent:
        raise DataError(
            f"'{where}' has {len(names)} names of things, and none is {', '.join(absent)}: "
            f"the published list of {NAME_COUNT} has all {len(CLASSES)} classes.",
            "Take the published nyu_depth_v2_labeled.mat.",
        )
    return {found[name]: CATEGORIES[name] for name in CLASSES}
