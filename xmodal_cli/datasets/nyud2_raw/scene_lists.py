"""Split by scene: from the labelled data set, from a prepared one, or from a list of one's own.

The division of the labelled images into train and val is that of Gupta, Arbelaez, Malik (CVPR 2013), built in with
`prepare nyud2`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from xmodal_cli.data.splits import SCENE_FILE, SPLIT_FOLDER, read_names, read_scenes
from xmodal_cli.datasets.nyud2.labelled import AGAIN, scenes_of
from xmodal_cli.datasets.nyud2.splits import FIRST_NUMBER, IMAGE_COUNT, SPLITS, identifier, number_of, split_of
from xmodal_cli.errors import DataError

NEEDED = (
    "Name what says which scenes are in which split: --labelled nyu_depth_v2_labeled.mat, or --scenes with a data set "
    "made by `xmodal prepare nyud2`, its scenes.csv, a CSV file scene,split or a text file with one scene per line."
)


def splits_of_labelled(path: Path) -> dict[str, str]:
    """Split by scene from the field `scenes` of the labelled data set.

    Args:
        path: `nyu_depth_v2_labeled.mat`.

    Raises:
        DataError: the file is missing, no MATLAB 7.3 file, or lacks the field; or a scene is in two splits.
    """
    names = scenes_of(path)
    if len(names) != IMAGE_COUNT:
        raise DataError(f"'{path}' names the scenes of {len(names)} images; expected {IMAGE_COUNT}.", AGAIN)
    scenes = {identifier(number): scene for number, scene in enumerate(names, FIRST_NUMBER)}
    return _by_scene(scenes, lambda image: split_of(number_of(image)), path)


def splits_of_list(path: Path) -> tuple[dict[str, str], bool]:
    """Split by scene from a prepared data set, its `scenes.csv`, a CSV file `scene,split`, or names one per line.

    Returns:
        Split by scene, and whether the list is a mere list of names: then all of them are given as "train", and
        nothing is known of the others.

    Raises:
        DataError: the file is missing or holds something else, or a scene has two splits.
    """
    if path.is_dir():
        path = path / SCENE_FILE
    if not path.is_file():
        raise DataError(f"'{path}' is not there.", NEEDED)
    if path.suffix.lower() != ".csv":
        return dict.fromkeys(read_names(path), "train"), True
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(_read(path))) if any(row)]
    if all(len(row) == 2 for row in rows) and {row[1] for row in rows[1:]} <= set(SPLITS) and len(rows) > 1:
        body = rows[1:] if rows[0][1] not in SPLITS else rows
        return _by_scene({row[0]: row[0] for row in body}, dict(_pairs(body, path)).__getitem__, path), False
    return _of_prepared(path), False


def _of_prepared(path: Path) -> dict[str, str]:
    """Split by scene from `scenes.csv` and, where they lie beside it, the split files; else by the images' numbers."""
    scenes = read_scenes(path)
    known: dict[str, str] = {}
    for file in sorted((path.parent / SPLIT_FOLDER).glob("*.txt")):
        if file.stem in SPLITS:
            known |= dict.fromkeys(read_names(file), file.stem)
    if known:
        kept = {image: scene for image, scene in scenes.items() if image in known}
        return _by_scene(kept, known.__getitem__, path)
    numbers = {image: _number(image) for image in scenes}
    strange = [image for image, number in numbers.items() if number is None]
    if strange:
        raise DataError(f"'{path}': '{strange[0]}' is no image of NYU Depth v2 (img_5001 to img_6449).", NEEDED)
    return _by_scene(scenes, lambda image: split_of(numbers[image] or 0), path)


def _by_scene(scenes: Mapping[str, str], split_by: Callable[[str], str], path: Path) -> dict[str, str]:
    """Split by scene.

    Raises:
        DataError: a scene is in two splits.
    """
    found: dict[str, str] = {}
    for image, scene in scenes.items():
        split = split_by(image)
        if found.setdefault(scene, split) != split:
            raise DataError(
                f"'{path}': scene '{scene}' is in the splits {found[scene]} and {split}.", "Put it into one split."
            )
    return found


def _pairs(rows: list[list[str]], path: Path) -> list[tuple[str, str]]:
    seen: dict[str, str] = {}
    for scene, split in rows:
        if seen.setdefault(scene, split) != split:
            raise DataError(f"'{path}': scene '{scene}' is in the splits {seen[scene]} and {split}.")
    return list(seen.items())


def _number(image: str) -> int | None:
    """The image number that an ID such as img_5001 ends with, or the index from 1; None where it has neither."""
    found = re.search(r"(\d+)$", image)
    number = 0 if found is None else int(found[1])
    number += 0 if number >= FIRST_NUMBER else FIRST_NUMBER - 1
    return number if FIRST_NUMBER <= number < FIRST_NUMBER + IMAGE_COUNT else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"'{path}' is no text file.", NEEDED) from None
