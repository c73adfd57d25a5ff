"""JHMDB's files of boxes and splits, as published and as plain CSV.

Boxes come as `jhmdb_annot.mat` (a struct `annot` of `action`, `video_id`, `frame`, `bound`) or as a CSV file with the
columns `action,clip,frame,x,y,width,height`; both count pixels and frames from 1. Splits come as a text file for each
action, `wave_test_split1.txt` with lines `clip.avi 1` (train), `2` (test) or `0` (neither), or as a CSV file with the
columns `action,clip,split`.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xmodal_cli.datasets.videos.names import near, opened, safe_id
from xmodal_cli.errors import DataError

BOX_COLUMNS = ("action", "clip", "frame", "x", "y", "width", "height")
LIST_COLUMNS = ("action", "clip", "split")
BOX_FILES = ("jhmdb_annot.mat", "boxes.csv")
NUMBERED = {"0": None, "1": "train", "2": "test"}

BoxesByFrame = Mapping[int, tuple[float, float, float, float]]


class ClipName(NamedTuple):
    """A clip, by its action and its own name."""

    action: str
    clip: str


def find_boxes(folder: Path) -> Path:
    """The file of boxes in a folder, below it or beside it.

    Raises:
        DataError: there is none.
    """
    for path in near(folder):
        for name in BOX_FILES:
            if (path / name).is_file():
                return path / name
    raise DataError(
        f"There is neither {' nor '.join(BOX_FILES)} in or beside '{folder}'.", "Name the file of boxes: --boxes FILE"
    )


def find_lists(folder: Path, split: int) -> Path:
    """The folder of split files, or a CSV file of one split, in a folder, below it or beside it.

    Raises:
        DataError: there is none.
    """
    for path in near(folder):
        if next(path.glob(f"*_test_split{split}.txt"), None) is not None:
            return path
        listed = sorted(path.glob(f"split{split}*.csv"))
        if listed:
            return listed[0]
    raise DataError(
        f"There is no list of split {split} (ACTION_test_split{split}.txt) in or beside '{folder}'.",
        "Name the folder of lists: --lists DIR",
    )


def read_boxes(path: Path) -> dict[ClipName, dict[int, tuple[float, float, float, float]]]:
    """The boxes of every clip, by frame.

    Args:
        path: a `.mat` or `.csv` file.

    Returns:
        `x, y, width, height` in pixels from 0, by frame from 1.

    Raises:
        DataError: the file cannot be read, or a box is none.
    """
    entries = _mat_boxes(path) if path.suffix.lower() == ".mat" else _csv_boxes(path)
    found: dict[ClipName, dict[int, tuple[float, float, float, float]]] = {}
    for name, frame, box in entries:
        if frame < 1 or not all(map(math.isfinite, box)) or min(box[2:]) <= 0:
            raise DataError(
                f"'{path}': frame {frame} of '{'/'.join(name)}' has the box {list(box)}; expected a frame from 1 and "
                "x, y, width, height with a size above 0."
            )
        if frame in found.setdefault(name, {}):
            raise DataError(f"'{path}' has two boxes in frame {frame} of '{'/'.join(name)}'; JHMDB has one.")
        found[name][frame] = (box[0] - 1, box[1] - 1, box[2], box[3])
    return found


def read_lists(path: Path, split: int) -> dict[ClipName, str]:
    """Which split each clip belongs to.

    Args:
        path: a folder of text files, or a CSV file.
        split: 1, 2 or 3.

    Returns:
        `train` or `test` by clip.

    Raises:
        DataError: the lists cannot be read, or put a clip into both.
    """
    found: dict[ClipName, str] = {}
    for name, part in _csv_list(path) if path.suffix.lower() == ".csv" else _text_lists(path, split):
        if part is not None and found.setdefault(name, part) != part:
            raise DataError(f"'{path}' has the clip '{'/'.join(name)}' in both train and test.")
    if not found:
        raise DataError(f"'{path}' lists no clip.", f"A line of ACTION_test_split{split}.txt is 'CLIP.avi 1'.")
    return found


def _mat_boxes(path: Path) -> Iterator[tuple[ClipName, int, tuple[float, ...]]]:
    import scipy.io

    try:
        annot = scipy.io.loadmat(path, simplify_cells=True)["annot"]
        columns = [list(annot[name]) for name in ("action", "video_id", "frame", "bound")]
        rows = [
            (ClipName(safe_id(str(action)), safe_id(str(clip))), int(frame), tuple(map(float, box)))
            for action, clip, frame, box in zip(*columns, strict=True)
        ]
        if not all(len(box) == 4 for _, _, box in rows):
            raise ValueError("a bound has no four numbers")
    except FileNotFoundError:
        raise DataError(f"'{path}' does not exist.", "Check the path of --boxes.") from None
    except Exception as error:  # the reader raises whatever broken bytes lead it to
        raise DataError(
            f"'{path}' is not JHMDB's file of boxes: {type(error).__name__} {error}.",
            "Expected a MATLAB 5 file with the struct 'annot' of action, video_id, frame and bound.",
        ) from None
    yield from rows


def _csv_boxes(path: Path) -> Iterator[tuple[ClipName, int, tuple[float, ...]]]:
    for line, row in _csv(path, BOX_COLUMNS):
        try:
            box = tuple(float(row[column]) for column in BOX_COLUMNS[3:])
            frame = int(row["frame"])
        except ValueError as error:
            raise DataError(f"'{path}', line {line}: {error}.") from None
        yield ClipName(safe_id(row["action"]), safe_id(row["clip"])), frame, box


def _csv_list(path: Path) -> Iterator[tuple[ClipName, str]]:
    for line, row in _csv(path, LIST_COLUMNS):
        if row["split"] not in ("train", "test"):
            raise DataError(f"'{path}', line {line}: the split is train or test; found '{row['split']}'.")
        yield ClipName(safe_id(row["action"]), safe_id(row["clip"])), row["split"]


def _csv(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines of a CSV file as dicts, with their number."""
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            reader = csv.DictReader(handle)
            if tuple(reader.fieldnames or ()) != tuple(columns):
                found = ", ".join(reader.fieldnames or ())
                raise DataError(f"'{path}' has the columns {found}; expected {', '.join(columns)}.")
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(f"'{path}', line {reader.line_num}: expected {len(columns)} cells.")
                yield reader.line_num, row
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}.", "Check the path.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"'{path}' is no CSV file: {error}.") from None


def _text_lists(path: Path, split: int) -> Iterator[tuple[ClipName, str | None]]:
    ending = f"_test_split{split}.txt"
    lists = [file for place in opened(path) for file in sorted(place.glob(f"*{ending}"))] if path.is_dir() else []
    if not lists:
        raise DataError(f"There is no ACTION{ending} in '{path}'.", "Name the folder of lists: --lists DIR")
    for file in lists:
        action = safe_id(file.name.removesuffix(ending))
        for number, line in enumerate(_lines(file), start=1):
            match = re.fullmatch(r"\s*(.+?)\s+([012])\s*", line)
            if match is None:
                raise DataError(
                    f"'{file}', line {number}: expected 'CLIP.avi 1' (train), 2 (test) or 0; found '{line}'."
                )
            yield ClipName(action, safe_id(Path(match[1]).stem)), NUMBERED[match[2]]


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' cannot be read: {error}.", "A split file is UTF-8 text.") from None
