"""`prepare jhmdb`: the JHMDB clips with a box in every annotated frame, 21 actions and one of the three splits.

Facts of the data set: recipe section 7. Boxes on disk are `x, y, width, height`, counted from 1; frames likewise. The
last frame of a clip has no next one, so no flow; it is left out, in colour too, so that both show the same frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from xmodal_cli.datasets.downloads.fetched import catalogue_path, unpacked_of, unpacked_path
from xmodal_cli.datasets.folder.settings import absolute
from xmodal_cli.datasets.videos.frames import Clip
from xmodal_cli.datasets.videos.jhmdb_files import (
    BOX_FILES,
    BoxesByFrame,
    ClipName,
    find_boxes,
    find_lists,
    read_boxes,
    read_lists,
)
from xmodal_cli.datasets.videos.names import find_frame_folders, find_videos, safe_id
from xmodal_cli.datasets.videos.plan import VideoPlan, WorkSettings, check_work, recorded_settings
from xmodal_cli.datasets.videos.prepare import Progress, prepare_videos
from xmodal_cli.datasets.videos.report import VideosReport
from xmodal_cli.errors import DataError, closest

SPLITS = (1, 2, 3)
ACTIONS = (
    "brush_hair",
    "catch",
    "clap",
    "climb_stairs",
    "golf",
    "jump",
    "kick_ball",
    "pick",
    "pour",
    "pullup",
    "push",
    "run",
    "shoot_ball",
    "shoot_bow",
    "shoot_gun",
    "sit",
    "stand",
    "swing_baseball",
    "throw",
    "walk",
    "wave",
)
CLIP_ARCHIVES = ("Rename_Images.tar.gz", "JHMDB_video.zip")  # the same clips as images and as videos
EXAMPLES = 3  # names shown in a note


@dataclass(frozen=True)
class JhmdbSettings:
    """The options of `prepare jhmdb`.

    Args:
        work: what all data sets of videos share.
        boxes: `jhmdb_annot.mat` or a CSV file; None looks beside the clips.
        lists: folder of `<action>_test_split<k>.txt`, or a CSV file; None looks beside the clips.
        split: 1, 2 or 3.
    """

    work: WorkSettings
    boxes: Path | None = None
    lists: Path | None = None
    split: int = 1


class JhmdbFiles(NamedTuple):
    """What JHMDB is made of: clips, boxes, lists."""

    videos: Path
    boxes: Path
    lists: Path


def downloaded() -> JhmdbFiles:
    """What `xmodal download jhmdb` fetched.

    Raises:
        DownloadError: it was not, or not all of it.
    """
    return JhmdbFiles(
        unpacked_path(unpacked_of(CLIP_ARCHIVES)), catalogue_path(BOX_FILES[0]), unpacked_path("splits.zip")
    )


def prepare_jhmdb(settings: JhmdbSettings, progress: Progress | None = None) -> VideosReport:
    """Make a prepared data set of JHMDB; arguments and errors as in `prepare_videos`."""
    return prepare_videos(jhmdb_plan(settings), progress)


def jhmdb_plan(settings: JhmdbSettings) -> VideoPlan:
    """Which clips become which split, with their boxes.

    Raises:
        SettingsError: options that make no sense.
        DataError: no clips, boxes or lists, or they do not belong together.
    """
    work = settings.work
    known = settings.split in SPLITS
    check_work(work, *([] if known else [f"--split is 1, 2 or 3; found {settings.split}."]))
    videos = by_clip(_find_clips(work.videos))
    boxes_file = settings.boxes or find_boxes(work.videos)
    lists = settings.lists or find_lists(work.videos, settings.split)
    boxes = read_boxes(boxes_file)
    splits = read_lists(lists, settings.split)
    _check_actions(splits, lists)
    clips, missing, notes = _match(work, videos, boxes, splits)
    if not clips:
        some = ", ".join(f"'{'/'.join(clip)}'" for clip in list(splits)[:EXAMPLES])
        raise DataError(
            f"None of the clips that '{lists}' lists ({some}, ...) is in '{work.videos}' with boxes in '{boxes_file}'.",
            "Clips lie in folders named after their action: DIR/wave/CLIP.avi.",
        )
    recorded = recorded_settings("jhmdb", work, boxes=absolute(boxes_file), lists=absolute(lists), split=settings.split)
    return VideoPlan(work, tuple(clips), recorded, f"split {settings.split}", ACTIONS, tuple(notes), missing)


def _find_clips(folder: Path) -> dict[str, Path]:
    """The clips: folders of frames, as the archive `Rename_Images` has them, else videos."""
    return (find_frame_folders(folder) if folder.is_dir() else {}) or find_videos(folder)


def by_clip(videos: Mapping[str, Path]) -> dict[ClipName, Path]:
    """Video files by action (the folder's name) and clip.

    Raises:
        DataError: two files are the same clip.
    """
    found: dict[ClipName, Path] = {}
    for path in videos.values():
        name = ClipName(safe_id(path.parent.name), safe_id(path.name if path.is_dir() else path.stem))
        if name in found:
            raise DataError(f"The clip '{'/'.join(name)}' is there twice: '{found[name]}' and '{path}'.")
        found[name] = path
    return found


def _check_actions(splits: Mapping[ClipName, str], lists: Path) -> None:
    strangers = sorted({clip.action for clip in splits} - set(ACTIONS))
    if strangers:
        raise DataError(
            f"'{lists}' has the action '{strangers[0]}', which is none of JHMDB's {len(ACTIONS)}.",
            closest(strangers[0], ACTIONS) or "Other videos are prepared with `xmodal prepare video`.",
        )


def _match(
    work: WorkSettings,
    videos: Mapping[ClipName, Path],
    boxes: Mapping[ClipName, BoxesByFrame],
    splits: Mapping[ClipName, str],
) -> tuple[list[Clip], dict[str, str], list[str]]:
    """Clips that are listed, have boxes and a file; listed ones without a file; notes on the others."""
    clips, missing, without_boxes = [], {}, []
    for name, split in sorted(splits.items()):
        video = "/".join(name)
        if name not in videos:
            missing[video] = f"The clip '{video}' of split {split} is not in '{work.videos}'."
        elif name not in boxes:
            without_boxes.append(video)
        else:
            file = videos[name].relative_to(work.videos).as_posix()
            clips.append(Clip(video, file, split, video, name.action, boxes[name]))
    notes = []
    if without_boxes:
        notes.append(_note(without_boxes, "listed clips have no boxes and were left out"))
    if unlisted := ["/".join(name) for name in sorted(videos.keys() - splits.keys())]:
        notes.append(_note(unlisted, "videos are in no list and were left out"))
    return clips, missing, notes


def _note(names: list[str], what: str) -> str:
    some = ", ".join(f"'{name}'" for name in names[:EXAMPLES]) + (", ..." if len(names) > EXAMPLES else "")
    return f"{len(names)} {what}: {some}."
