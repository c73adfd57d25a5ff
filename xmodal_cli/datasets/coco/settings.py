"""What `prepare coco` was asked to do: files, classes and their names, checked without opening an image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from xmodal_cli.datasets.folder.settings import SPLIT_NAME, absolute
from xmodal_cli.datasets.frames import Link
from xmodal_cli.datasets.shards import Shard
from xmodal_cli.errors import DataError, SettingsError, closest

Empty = Literal["auto", "keep", "drop"]

# The seven classes that COCO and NYUD2 share, under NYUD2's names: those of the paper's Table 5. NYUD2's monitor is a
# class of its own and not COCO's tv.
NYUD2_SHARED = {
    "bed": "bed",
    "chair": "chair",
    "sink": "sink",
    "couch": "sofa",
    "dining table": "table",
    "tv": "television",
    "toilet": "toilet",
}
CHOICES: dict[str, dict[str, str]] = {"nyud2-shared": NYUD2_SHARED}
# What the published files are called: instances_train2017.json, instances_minival2014.json, ...
USUAL = ("train", "val", "test")  # splits that files may be named after
PUBLISHED = re.compile(r"(?:instances|person_keypoints)_([A-Za-z]+)\d*")


@dataclass(frozen=True)
class CocoSettings:
    """The options of `prepare coco`.

    Args:
        out: the prepared data set to make.
        annotations: COCO instance files by split.
        images: folders that the images lie below, by split; "" for all splits.
        classes: categories to keep, or names from `CHOICES`; empty keeps all.
        renamed: names in the data set by category.
        empty: images that show none of the classes: `keep`, `drop`, or `auto`, which drops them from train.
        limit: images of each split; None takes all.
        link: how images get into the data set.
        skip_bad: leave out what is wrong, count it and go on.
        overwrite: make a data set anew that is there with other settings.
        shard: which part to prepare; None prepares all.
        workers: processes; None decides.
        dry_run: look at everything, write nothing.
        name: of the data set; None takes the folder's.
    """

    out: Path
    annotations: Mapping[str, Path]
    images: Mapping[str, str]
    classes: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    empty: Empty = "auto"
    limit: int | None = None
    link: Link = "hard"
    skip_bad: bool = False
    overwrite: bool = False
    shard: Shard | None = None
    workers: int | None = None
    dry_run: bool = False
    name: str | None = None


def split_named(path: Path, alone: bool) -> str:
    """The split that a published annotation file is for, by its name; `train` for a file that stands alone.

    Args:
        path: the file.
        alone: whether no other one was given.

    Raises:
        SettingsError: the name says nothing, and there are several files.

    Example:
        >>> split_named(Path("annotations/instances_val2017.json"), alone=False)
        'val'
    """
    found = PUBLISHED.fullmatch(path.stem)
    if found is not None:
        return found[1].lower()
    if alone:
        return "train"
    raise SettingsError(
        f"Which split is '{path}' for? Its name does not say (instances_val2017.json would).",
        f"Say it: --annotations {path.stem if path.stem in USUAL else 'val'}={path}",
    )


def check_settings(settings: CocoSettings) -> None:
    """Check the options; all problems are reported at once.

    Raises:
        SettingsError: one or more make no sense.
    """
    problems = []
    if not settings.annotations:
        problems.append("No annotation file was named: --annotations FILE.")
    if not settings.images:
        problems.append("The folder of the images was not named: --images DIR.")
    for name in settings.annotations:
        if not SPLIT_NAME.fullmatch(name):
            problems.append(f"'{name}' is no name for a split: letters, digits, -, _ and . are allowed.")
    if settings.images and "" not in settings.images:
        for name in settings.annotations.keys() ^ settings.images.keys():
            other = "--images" if name in settings.annotations else "--annotations"
            problems.append(f"The split '{name}' has no {other} {name}=...")
    elif len(settings.images) > 1:
        problems.append("--images is one folder for all splits, or SPLIT=DIR for each of them; found both.")
    if settings.limit is not None and settings.limit < 1:
        problems.append(f"--limit is images of each split, 1 or more; found {settings.limit}.")
    if problems:
        raise SettingsError("\n".join(problems), "See `xmodal prepare coco --help` for examples.")


def chosen_classes(settings: CocoSettings, known: Sequence[str], path: Path) -> dict[str, str]:
    """Which categories are kept, and what they are called in the data set.

    Args:
        settings: classes and new names.
        known: the categories of the annotation files.
        path: one of these files, for the message.

    Returns:
        Name in the data set by category, in the order of `known`.

    Raises:
        SettingsError: a class is not among the categories, or a new name is for a class that is not kept.
    """
    wanted: dict[str, str] = {}
    for name in settings.classes or known:
        wanted |= CHOICES.get(name, {name: name})
    problems, near = [], []
    for name in [*wanted, *settings.renamed]:
        if name not in known:
            problems.append(f"'{path}' has no category '{name}'.")
            near.append(closest(name, known) or f"There are: {', '.join(known)}.")
        elif name not in wanted:
            problems.append(f"--map renames '{name}', which is not among the --classes.")
    if problems:
        hint = near[0] if near else "Add it to --classes, or leave it out of --map."
        raise SettingsError("\n".join(dict.fromkeys(problems)), hint)
    wanted |= settings.renamed
    return {name: wanted[name] for name in known if name in wanted}


def recorded(settings: CocoSettings) -> dict[str, Any]:
    """The settings that decide what the data set is, as they are recorded and compared."""
    return {
        "source": "coco",
        "annotations": {split: absolute(path) for split, path in settings.annotations.items()},
        "images": {split: absolute(folder) for split, folder in settings.images.items()},
        "classes": list(settings.classes),
        "map": dict(settings.renamed),
        "empty": settings.empty,
        "limit": settings.limit,
    }


def one_id_each(categories: Mapping[int, str], names: Mapping[str, str]) -> dict[int, int]:
    """The id that each kept category gets: its own; categories that share a new name share the lowest of theirs.

    Args:
        categories: names by id.
        names: names in the data set by category.

    Raises:
        DataError: nothing is left.

    Example:
        >>> one_id_each({1: "cup", 2: "dog", 3: "bowl"}, {"cup": "dish", "bowl": "dish"})
        {1: 1, 3: 1}
    """
    first: dict[str, int] = {}
    ids = {}
    for identifier, name in sorted(categories.items()):
        if name in names:
            ids[identifier] = first.setdefault(names[name], identifier)
    if not ids:
        raise DataError("None of the classes is left.", "Name others with --classes.")
    return ids
