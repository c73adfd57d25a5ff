"""Split by scene: from the labelled data set, from a prepared one, or from a list of one's own.

The division of the labelled images into train and val is that of Gupta, Arbelaez, Malik (CVPR 2013); their numbers
stand here as ranges of 1-based indices into the labelled data set (image number = 5000 + index). All others are test.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from xmodal_cli.data.splits import SCENE_FILE, SPLIT_FOLDER, read_names, read_scenes
from xmodal_cli.errors import DataError

LABELLED_IMAGES = 1449
FIRST_NUMBER = 5000
SPLITS = ("train", "val", "test")
NEEDED = (
    "Name what says which scenes are in which split: --labelled nyu_depth_v2_labeled.mat, or --scenes with a data set "
    "made by `xmodal prepare nyud2`, its scenes.csv, a CSV file scene,split or a text file with one scene per line."
)
TRAIN = """
3-8 19-20 44-45 58 80-83 120-124 135-136 156-166 177-179 213-219 251-263 274-278 303-309 318-324 353-354 391-394
415-429 449-461 478-507 527-530 540-548 572-578 595-602 614-616 639-643 652-655 665-667 682-685 695-696 714-716 729-730
745-758 805-809 824-832 853-856 872-905 920-925 936-944 963-964 978-990 1005-1009 1024-1031 1040-1047 1054-1056
1085-1087 1105 1120-1122 1137-1143 1168-1169 1177-1178 1197-1200 1221-1225 1236-1246 1266-1274 1296 1309-1313 1333-1334
1350-1352 1366-1367 1392-1393 1415-1420
"""
VAL = """
10-13 22-27 48-55 64-75 92-116 130 138-152 170 203-206 223-249 265-270 286-295 313-314 336-350 365-383 398-410 436-440
467-468 514 534-536 552-554 584-590 608-611 622-632 646-649 659-662 674-675 691-692 700-705 719-723 735-742 788-799
815-820 847-849 863-868 909-916 929-931 948-958 968-969 996-1000 1013-1020 1035-1037 1050-1051 1059-1074 1097 1110-1116
1132-1134 1159-1161 1172-1173 1185-1191 1213-1215 1231-1232 1251-1253 1281-1284 1300-1301 1316-1328 1341-1346 1357-1363
1370-1383 1402-1406 1425-1429 1434-1440
"""


def split_of_index(index: int) -> str:
    """The split of a labelled image.

    Args:
        index: from 1.

    Example:
        >>> [split_of_index(index) for index in (1, 3, 10)]
        ['test', 'train', 'val']
    """
    return "train" if index in _TRAIN else "val" if index in _VAL else "test"


def splits_of_labelled(path: Path) -> dict[str, str]:
    """Split by scene from the field `scenes` of the labelled data set.

    Args:
        path: `nyu_depth_v2_labeled.mat`.

    Raises:
        DataError: the file is missing, no MATLAB 7.3 file, or lacks the field.
    """
    import h5py

    hint = "Fetch nyu_depth_v2_labeled.mat again, or use --scenes."
    if not path.is_file():
        raise DataError(f"'{path}' is not there.", hint)
    try:
        with h5py.File(path, "r") as file:
            if "scenes" not in file:
                raise DataError(f"'{path}' has no field 'scenes'; it has {', '.join(sorted(file)) or 'none'}.", hint)
            names = [_text(file, reference) for reference in file["scenes"][()].ravel()]
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"'{path}' is no MATLAB 7.3 (HDF5) file that can be read: {error}.", hint) from None
    if len(names) != LABELLED_IMAGES:
        raise DataError(f"'{path}' names the scenes of {len(names)} images; expected {LABELLED_IMAGES}.", hint)
    return _by_scene({str(i): scene for i, scene in enumerate(names, 1)}, lambda i: split_of_index(int(i)), path)


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
        kept = {identifier: scene for identifier, scene in scenes.items() if identifier in known}
        return _by_scene(kept, known.__getitem__, path)
    strange = [identifier for identifier in scenes if not _index(identifier)]
    if strange:
        raise DataError(f"'{path}': '{strange[0]}' is no image of NYU Depth v2 (img_5001 to img_6449).", NEEDED)
    return _by_scene(scenes, lambda identifier: split_of_index(_index(identifier)), path)


def _by_scene(scenes: Mapping[str, str], split_of: Callable[[str], str], path: Path) -> dict[str, str]:
    """Split by scene.

    Raises:
        DataError: a scene is in two splits.
    """
    found: dict[str, str] = {}
    for identifier, scene in scenes.items():
        split = split_of(identifier)
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


def _index(identifier: str) -> int:
    """The 1-based index that an ID such as img_5001 ends with, as image number or as index; 0 where it has none."""
    found = re.search(r"(\d+)$", identifier)
    number = 0 if found is None else int(found[1])
    index = number - FIRST_NUMBER if number > FIRST_NUMBER else number
    return index if 1 <= index <= LABELLED_IMAGES else 0


def _text(file: Any, reference: Any) -> str:
    """A MATLAB string: numbers of its characters, as a column."""
    return "".join(map(chr, file[reference][()].ravel()))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"'{path}' is no text file.", NEEDED) from None


def _indices(ranges: str) -> frozenset[int]:
    edges = [part.split("-") for part in ranges.split()]
    return frozenset(index for edge in edges for index in range(int(edge[0]), int(edge[-1]) + 1))


_TRAIN, _VAL = _indices(TRAIN), _indices(VAL)
