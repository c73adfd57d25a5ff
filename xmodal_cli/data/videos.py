"""Which frame of which video an image is: `videos.csv` and `frames.csv` of a data set that was made of videos.

The next frame of each image is not stored: it is named here, and decoded from the video when optical flow is made of
the two. Frames are counted from 1, as JHMDB counts them; the frame named as next always exists.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from xmodal_cli import files
from xmodal_cli.data.prepared import RGB, PreparedData
from xmodal_cli.errors import DataError

VIDEO_FILE = "videos.csv"
FRAME_FILE = "frames.csv"


@dataclass(frozen=True)
class VideoRow:
    """One video that images were taken from.

    Args:
        video: its ID, which the IDs of its frames begin with.
        file: its path relative to the folder of videos, with forward slashes.
        bytes: size of the file, or of all files of a folder of frames.
        fps: frames per second as the file says; None where it says nothing believable.
        width: pixels.
        height: pixels.
        action: what is done in it; empty where nobody says.
    """

    video: str
    file: str
    bytes: int
    fps: float | None
    width: int
    height: int
    action: str = ""


@dataclass(frozen=True)
class FrameRow:
    """One image and the frame that follows it.

    Args:
        id: of the image.
        video: its video.
        frame: its number in the video, counted from 1.
        next: the number of the frame that follows.
    """

    id: str
    video: str
    frame: int
    next: int


Row = TypeVar("Row", VideoRow, FrameRow)


def write_videos(root: Path, rows: Iterable[VideoRow]) -> None:
    """Write `videos.csv`, sorted by video."""
    _write(root / VIDEO_FILE, VideoRow, sorted(rows, key=lambda row: row.video))


def write_frames(root: Path, rows: Iterable[FrameRow]) -> None:
    """Write `frames.csv`, sorted by ID."""
    _write(root / FRAME_FILE, FrameRow, sorted(rows, key=lambda row: row.id))


def read_videos(root: Path) -> dict[str, VideoRow]:
    """The videos of a data set, by their ID.

    Raises:
        DataError: the data set was not made of videos, or the file is damaged.
    """
    return {row.video: row for row in _read(root / VIDEO_FILE, VideoRow, _video_row)}


def read_frames(root: Path) -> dict[str, FrameRow]:
    """The frame that each image of a data set is, and the one that follows it, by ID.

    Raises:
        DataError: the data set was not made of videos, or the file is damaged.
    """
    return {row.id: row for row in _read(root / FRAME_FILE, FrameRow, _frame_row)}


def video_folder(data: PreparedData, given: Path | None = None) -> Path:
    """The folder that the videos of a data set lie in.

    Args:
        data: the data set.
        given: where they lie now, if they were moved; None asks the data set.

    Raises:
        DataError: the data set was not made of videos, or the folder is gone.
    """
    recorded = data.provenance.get("modalities", {}).get(RGB, {}).get("settings", {}).get("videos")
    if given is None and recorded is None:
        raise _not_of_videos(data.root)
    folder = Path(given or recorded)
    if not folder.is_dir():
        raise DataError(
            f"The videos that '{data.root}' was made of are not at '{folder}'.", "Name their folder: --videos DIR"
        )
    return folder


def video_path(folder: Path, row: VideoRow) -> Path:
    """The file of a video, which must be the one that the images were taken from.

    Raises:
        DataError: it is gone, or has another size.
    """
    path = folder / row.file
    size = video_state(path)[0] if path.exists() else None
    if size != row.bytes:
        found = "does not exist" if size is None else f"has {size} bytes; the images were taken from {row.bytes} bytes"
        raise DataError(f"'{path}' {found}.", "Put the video back, or prepare the data set again with --overwrite.")
    return path


def video_state(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in nanoseconds of a video: a file, or a folder of frames.

    Raises:
        OSError: it cannot be read.
    """
    states = [each.stat() for each in path.iterdir() if each.is_file()] if path.is_dir() else [path.stat()]
    return sum(state.st_size for state in states), max((state.st_mtime_ns for state in states), default=0)


def frames_by_video(frames: Mapping[str, FrameRow], ids: Iterable[str]) -> dict[str, list[FrameRow]]:
    """The frames of some images by video, in order of their number: a video is decoded once.

    Example:
        >>> frames = {"v/00003": FrameRow("v/00003", "v", 3, 4), "v/00001": FrameRow("v/00001", "v", 1, 2)}
        >>> [row.frame for row in frames_by_video(frames, frames)["v"]]
        [1, 3]
    """
    found: dict[str, list[FrameRow]] = {}
    for identifier in ids:
        found.setdefault(frames[identifier].video, []).append(frames[identifier])
    return {video: sorted(rows, key=lambda row: row.frame) for video, rows in found.items()}


def _not_of_videos(root: Path) -> DataError:
    return DataError(
        f"The data set '{root}' was not made of videos.", "Make one: xmodal prepare video --videos DIR --out DATA"
    )


def _write(path: Path, kind: type[Row], rows: Sequence[Row]) -> None:
    names = [field.name for field in fields(kind)]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(["" if (cell := getattr(row, name)) is None else cell for name in names] for row in rows)
    files.write_text(path, text.getvalue())


def _read(path: Path, kind: type[Row], make: Any) -> list[Row]:
    names = [field.name for field in fields(kind)]
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            reader = csv.reader(handle)
            heading = next(reader, [])
            if heading != names:
                raise ValueError(f"the columns are {', '.join(heading)}; expected {', '.join(names)}")
            return [make(*cells) for cells in reader]
    except FileNotFoundError:
        raise _not_of_videos(path.parent) from None
    except (ValueError, TypeError) as error:  # UnicodeDecodeError is a ValueError
        raise DataError(f"'{path}' is damaged: {error}.", "Prepare the data set again with --overwrite.") from None


def _video_row(video: str, file: str, size: str, fps: str, width: str, height: str, action: str) -> VideoRow:
    return VideoRow(video, file, int(size), float(fps) if fps else None, int(width), int(height), action)


def _frame_row(identifier: str, video: str, frame: str, following: str) -> FrameRow:
    return FrameRow(identifier, video, int(frame), int(following))
