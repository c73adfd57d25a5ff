"""One video, from its file to images of a prepared data set: the work that runs in a pool of processes.

A finished video leaves a small file of its own, so that an interrupted run goes on. What is wrong with a video comes
back as a sentence; it does not stop the others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from xmodal_cli import files
from xmodal_cli.data import images
from xmodal_cli.data.manifest import ManifestRow
from xmodal_cli.data.prepared import RGB
from xmodal_cli.data.videos import FrameRow, VideoRow, video_state
from xmodal_cli.datasets.videos.clips import Image, spread, take
from xmodal_cli.errors import DataError

PARTS = ".videos"  # holds what finished videos need to become part of the data set
DIGITS = 5  # of a frame's number, as in the published flow images of JHMDB


@dataclass(frozen=True)
class VideoRecipe:
    """What to make of every video.

    Args:
        root: the prepared data set.
        folder: of the videos.
        per_video: frames of each; None takes all that are wanted.
    """

    root: Path
    folder: Path
    per_video: int | None


@dataclass(frozen=True)
class Clip:
    """One video that is to become part of a data set.

    Args:
        video: its ID.
        file: relative to the folder of videos.
        split: of all its frames.
        scene: of all its frames.
        action: what is done in it; empty where nobody says.
        boxes_xywh: the annotated box by frame: pixels from 0, exclusive ends; None where any frame may be taken.
    """

    video: str
    file: str
    split: str
    scene: str
    action: str = ""
    boxes_xywh: Mapping[int, tuple[float, float, float, float]] | None = None


@dataclass(frozen=True)
class ClipResult:
    """What became of one video.

    Args:
        video: its ID.
        about: what is known of the file; None where something is wrong.
        modified_ns: when the file was last changed.
        asked: a hash of what was to be made of it.
        rows: manifest rows of its frames.
        frames: which frames they are.
        without_next: annotated frames that are left out because no frame follows them.
        without_frame: annotated frames that the video does not have.
        short: whether the video has fewer frames than it says.
        error: what is wrong.
        hint: how to mend it.
        made: images written in this run.
    """

    video: str
    about: VideoRow | None = None
    modified_ns: int = 0
    asked: str = ""
    rows: tuple[ManifestRow, ...] = ()
    frames: tuple[FrameRow, ...] = ()
    without_next: int = 0
    without_frame: int = 0
    short: bool = False
    error: str | None = None
    hint: str | None = None
    made: int = field(default=0, compare=False)


def prepare_clip(recipe: VideoRecipe, clip: Clip) -> ClipResult:
    """Take the frames of one video; errors of its data come back in the result.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    finished = _read_part(recipe, clip)
    if finished is not None:
        return finished
    path = recipe.folder / clip.file
    try:
        size, modified_ns = video_state(path)
    except OSError as error:
        return ClipResult(clip.video, error=f"'{path}' cannot be read: {error.strerror}.")
    try:
        taken = take(path, partial(choose, recipe, clip), partial(_write, recipe, clip))
    except DataError as error:
        return ClipResult(clip.video, error=error.message, hint=error.hint)
    height, width = taken.facts.size_hw
    about = VideoRow(clip.video, clip.file, size, taken.facts.fps, width, height, clip.action)
    rows = tuple(row for _, row in sorted(taken.kept.items()))
    result = ClipResult(
        video=clip.video,
        about=about,
        modified_ns=modified_ns,
        asked=asked_of(recipe, clip),
        rows=rows,
        frames=tuple(FrameRow(frame_id(clip, n), clip.video, n, n + 1) for n in sorted(taken.kept)),
        without_next=int(clip.boxes_xywh is not None and taken.frames in clip.boxes_xywh),
        without_frame=sum(number > taken.frames for number in clip.boxes_xywh or ()),
        short=taken.short,
        made=len(rows),
    )
    _write_part(recipe, result)
    return result


def choose(recipe: VideoRecipe, clip: Clip, frames: int) -> list[int]:
    """The frames to take of a video that has so many: annotated ones if there are boxes, none without a next one.

    Example:
        >>> choose(VideoRecipe(Path("out"), Path("in"), 2), Clip("v", "v.avi", "train", "v"), 9)
        [3, 7]
    """
    last = frames - 1
    if clip.boxes_xywh is None:
        return spread(range(1, last + 1), recipe.per_video)
    return spread(sorted(number for number in clip.boxes_xywh if 1 <= number <= last), recipe.per_video)


def frame_id(clip: Clip, number: int) -> str:
    """The ID of a frame.

    Example:
        >>> frame_id(Clip("walk/a", "a.avi", "train", "a"), 7)
        'walk/a/00007'
    """
    return f"{clip.video}/{number:0{DIGITS}d}"


def asked_of(recipe: VideoRecipe, clip: Clip) -> str:
    """A hash of everything that decides what is made of a video, apart from the video."""
    boxes = None if clip.boxes_xywh is None else sorted(clip.boxes_xywh.items())
    asked = [clip.video, clip.file, clip.split, clip.scene, clip.action, boxes, recipe.per_video]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def sizes_of(recipe: VideoRecipe, clip: Clip) -> list[int]:
    """How large the frames of one video would be, in bytes; for a dry run."""
    sized = take(recipe.folder / clip.file, partial(choose, recipe, clip), lambda _, frame: len(_content(frame)[0]))
    return list(sized.kept.values())


def _content(frame: Image | Path) -> tuple[bytes, tuple[int, int]]:
    """The file that a frame becomes, or is already, and its height and width.

    Raises:
        DataError: the file is damaged.
    """
    if isinstance(frame, Path):
        content = images.read_bytes(frame)
        height, width = images.decode_rgb(content, frame).shape[:2]
        return content, (height, width)
    return images.encode_jpeg(frame), (frame.shape[0], frame.shape[1])


def _write(recipe: VideoRecipe, clip: Clip, number: int, frame: Image | Path) -> ManifestRow:
    """Write one frame.

    Raises:
        DataError: it is a damaged file.
        OSError: the disk is full or the folder cannot be written.
    """
    content, (height, width) = _content(frame)
    identifier = frame_id(clip, number)
    file = f"{RGB}/{identifier}{frame.suffix if isinstance(frame, Path) else '.jpg'}"
    path = recipe.root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(path, content, sync=False)
    return ManifestRow(identifier, RGB, file, height, width, len(content), hashlib.sha256(content).hexdigest())


def part_path(root: Path, video: str) -> Path:
    """Where a finished video leaves what it needs to become part of the data set."""
    return root / PARTS / f"{hashlib.sha256(video.encode()).hexdigest()[:24]}.json"


def _write_part(recipe: VideoRecipe, result: ClipResult) -> None:
    path = part_path(recipe.root, result.video)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(path, json.dumps(asdict(result)).encode(), sync=False)


def _read_part(recipe: VideoRecipe, clip: Clip) -> ClipResult | None:
    """What an earlier run left of a video that has not changed since, if all its images are there."""
    try:
        kept = _from_dict(json.loads(part_path(recipe.root, clip.video).read_bytes()))
        state = video_state(recipe.folder / clip.file)
        whole = all((recipe.root / row.file).stat().st_size == row.bytes for row in kept.rows)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    unchanged = kept.about is not None and (kept.about.bytes, kept.modified_ns) == state
    return kept if whole and unchanged and kept.asked == asked_of(recipe, clip) else None


def _from_dict(kept: dict[str, Any]) -> ClipResult:
    parts: dict[str, Sequence[Any]] = {
        "rows": tuple(ManifestRow(**row) for row in kept["rows"]),
        "frames": tuple(FrameRow(**row) for row in kept["frames"]),
    }
    return ClipResult(**{**kept, **parts, "about": VideoRow(**kept["about"]), "made": 0})
