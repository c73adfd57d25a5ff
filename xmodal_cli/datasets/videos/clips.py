"""Videos decoded with OpenCV: exact frame numbers, whatever a file says about itself.

Frames are counted by decoding: a seek lands beside the frame it was asked for in many formats, and the number of frames
in a header is a guess (the published JHMDB clips claim a fifth too many). Frames are counted from 1. A folder of images
named after their numbers (`00001.png`), as JHMDB is published too, is a video like any other; its images are copied,
not encoded anew.

Shapes: `(H, W, 3)` uint8 R, G, B.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

# What is wrong with a file is said in our own words; FFmpeg reads this when a video is opened.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np
from numpy.typing import NDArray

from xmodal_cli.data import images
from xmodal_cli.data.videos import FrameRow
from xmodal_cli.errors import DataError

SUFFIXES = (".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts", ".mts")
FRAME_SUFFIXES = (".png", ".jpg", ".jpeg")  # of a folder of frames
# Beyond it a "frame rate" is the tick of a clock: formats of variable rate claim 90,000 or 10^6.
FASTEST_FPS = 2000.0

Image = NDArray[np.uint8]
# What is kept of a frame, by its number: of a decoded image, or of the file that a frame is.
Keep = Callable[[int, Image | Path], Any]


@dataclass(frozen=True)
class VideoFacts:
    """What a video file says about itself.

    Args:
        declared: frames, a guess; 0 where it says nothing.
        fps: frames per second; None where it says nothing believable.
        size_hw: pixels.
    """

    declared: int
    fps: float | None
    size_hw: tuple[int, int]


@dataclass(frozen=True)
class Taken:
    """Frames that were taken from a video.

    Args:
        facts: what the file says.
        kept: what `keep` made of each frame, by its number.
        frames: how many frames were decoded: all of them where fewer were found than were hoped for.
        short: whether there are fewer frames than the file says.
    """

    facts: VideoFacts
    kept: dict[int, Any]
    frames: int
    short: bool


@dataclass(frozen=True)
class FramePair:
    """A frame and the one that follows it: what optical flow is made of.

    Args:
        row: which they are.
        image: `(H, W, 3)`.
        following: `(H, W, 3)`.
    """

    row: FrameRow
    image: Image
    following: Image


def take(path: Path, choose: Callable[[int], Sequence[int]], keep: Keep) -> Taken:
    """Take frames from a video of which nobody knows how many it has.

    What a header says is believed until the video ends before; then the choice is made again from what there is.

    Args:
        path: the video.
        choose: the numbers of the frames wanted, from the number of frames that there are; each needs a next one.
        keep: called with each frame when it is its turn, so that no more than one is held; those that a second choice
            leaves out are among them.

    Raises:
        DataError: no video, or no frame can be decoded.
    """
    if path.is_dir():
        return _take_from_folder(path, choose, keep)
    facts = read_facts(path)
    frames = facts.declared if facts.declared > 1 else count_frames(path)
    taken, seen = _take(path, choose(frames), keep)
    if seen == 0:
        raise DataError(f"No frame of the video '{path}' can be decoded.", "Copy or convert the file again.")
    short = seen < _last(choose(frames))
    if short:
        frames = seen
        wanted = choose(frames)
        if not set(wanted) <= taken.keys():
            taken, seen = _take(path, wanted, keep)
        taken = {number: taken[number] for number in wanted}
    return Taken(facts, taken, frames, short)


def frame_pairs(path: Path, rows: Sequence[FrameRow]) -> Iterator[FramePair]:
    """Decode frames and those that follow them, each frame once.

    Args:
        path: the video.
        rows: frames of this video.

    Yields:
        Pairs in order of the frames.

    Raises:
        DataError: no video, or it has fewer frames than it had.
    """
    waiting = sorted(rows, key=lambda row: row.frame)
    wanted = {number for row in waiting for number in (row.frame, row.next)}
    held: dict[int, Image] = {}
    for number, image in _decode(path, wanted, max(wanted, default=0)):
        if image is None:
            continue
        held[number] = image
        while waiting and waiting[0].next <= number:
            row = waiting.pop(0)
            yield FramePair(row, held[row.frame], held[row.next])
        first = waiting[0].frame if waiting else number + 1
        held = {number: image for number, image in held.items() if number >= first}
    if waiting:
        raise DataError(
            f"The video '{path}' ends before frame {waiting[0].next}, which images were taken from.",
            "Put the video back, or prepare the data set again with --overwrite.",
        )


def read_facts(path: Path) -> VideoFacts:
    """What a video file says about itself.

    Raises:
        DataError: it is missing, empty or no video.
    """
    with _opened(path) as video:
        fps = video.get(cv2.CAP_PROP_FPS)
        declared = video.get(cv2.CAP_PROP_FRAME_COUNT)
        size = int(video.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(video.get(cv2.CAP_PROP_FRAME_WIDTH))
    believable = math.isfinite(fps) and 0 < fps <= FASTEST_FPS
    return VideoFacts(
        declared=int(declared) if math.isfinite(declared) and declared > 0 else 0,
        fps=round(fps, 4) if believable else None,
        size_hw=size,
    )


def count_frames(path: Path) -> int:
    """How many frames a video has, found by decoding it."""
    return sum(1 for _ in _decode(path, frozenset(), None))


def spread(frames: Sequence[int], most: int | None) -> list[int]:
    """Some of many frames, evenly: the middle of each of `most` equal stretches.

    Example:
        >>> spread(range(1, 101), 5), spread([3, 4], 5), spread([3, 4], None)
        ([11, 31, 51, 71, 91], [3, 4], [3, 4])
    """
    if most is None or len(frames) <= most:
        return list(frames)
    return [frames[(2 * index + 1) * len(frames) // (2 * most)] for index in range(most)]


def frame_files(folder: Path) -> list[Path]:
    """The images of a folder of frames, in order; none where it is no such folder.

    Raises:
        DataError: a number is missing or comes twice.
    """
    found = [path for path in folder.iterdir() if path.suffix.lower() in FRAME_SUFFIXES and path.stem.isdecimal()]
    ordered = sorted(found, key=lambda path: int(path.stem))
    if [int(path.stem) for path in ordered] != list(range(1, len(ordered) + 1)):
        raise DataError(
            f"The {len(ordered)} frames in '{folder}' are not numbered from 1 without a gap.", "Copy the folder again."
        )
    return ordered


def _take_from_folder(folder: Path, choose: Callable[[int], Sequence[int]], keep: Keep) -> Taken:
    """Some frames of a folder of them.

    Raises:
        DataError: there is none, one is damaged, or they end differently.
    """
    ordered = frame_files(folder)
    if len({path.suffix for path in ordered}) != 1:
        raise DataError(f"'{folder}' has no frames, or frames of several formats.", "Copy the folder again.")
    height, width = images.read_rgb(ordered[0]).shape[:2]
    kept = {number: keep(number, ordered[number - 1]) for number in choose(len(ordered))}
    return Taken(VideoFacts(len(ordered), None, (height, width)), kept, len(ordered), False)


def _last(wanted: Sequence[int]) -> int:
    """The last frame that must be there: the one after the last wanted, and a first one in any case."""
    return max(wanted, default=0) + 1


def _take(path: Path, wanted: Sequence[int], keep: Keep) -> tuple[dict[int, Any], int]:
    """What is kept of the frames wanted that are there, and how many frames were decoded."""
    kept: dict[int, Any] = {}
    seen = 0
    for seen, image in _decode(path, set(wanted), _last(wanted)):
        if image is not None:
            kept[seen] = keep(seen, image)
    return kept, seen


def _decode(path: Path, wanted: AbstractSet[int], end: int | None) -> Iterator[tuple[int, Image | None]]:
    """Every frame up to `end` with its number; the image only of those wanted."""
    if path.is_dir():
        for number, file in enumerate(frame_files(path)[:end], start=1):
            yield number, images.read_rgb(file) if number in wanted else None
        return
    with _opened(path) as video:
        for number in count(1) if end is None else range(1, end + 1):
            if not video.grab():
                return
            if number not in wanted:
                yield number, None
                continue
            found, image = video.retrieve()
            if not found:
                return
            yield number, np.ascontiguousarray(image[:, :, ::-1])


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An open video; FFmpeg alone, since OpenCV's other readers take digits in a name for a pattern.

    Raises:
        DataError: it is missing, empty or no video.
    """
    if not path.is_file() or path.stat().st_size == 0:
        problem = "is empty (0 bytes)" if path.is_file() else "does not exist"
        raise DataError(f"The video '{path}' {problem}.", "Copy the file again.")
    # An absolute path: in others FFmpeg takes what stands before a colon for a protocol.
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        video = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG)
    finally:
        cv2.utils.logging.setLogLevel(level)
    try:
        if not video.isOpened():
            raise DataError(f"'{path}' is no video that can be decoded.", "Copy or convert the file again.")
        yield video
    finally:
        video.release()
