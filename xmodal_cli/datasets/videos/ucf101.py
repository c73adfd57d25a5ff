"""`prepare ucf101`: frames of UCF101's train list; the paper takes five of each train1 video (section 4.2).

The lists are `trainlist01.txt` with lines `Action/v_Action_g08_c01.avi 1` and `testlist01.txt` without the number.
Clips of one group (`g08`) are cut from one video: the group is the scene. The action is kept for every video.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from xmodal_cli.data.splits import TRAIN, read_names
from xmodal_cli.datasets.downloads.fetched import unpacked_of, unpacked_path
from xmodal_cli.datasets.folder.settings import absolute
from xmodal_cli.datasets.videos.frames import Clip
from xmodal_cli.datasets.videos.names import find_videos, near, opened, safe_id
from xmodal_cli.datasets.videos.plan import VideoPlan, WorkSettings, check_work, recorded_settings
from xmodal_cli.datasets.videos.prepare import Progress, prepare_videos
from xmodal_cli.datasets.videos.report import VideosReport
from xmodal_cli.errors import DataError

SPLITS = (1, 2, 3)
TEST = "test"
VIDEO_ARCHIVES = ("UCF101.rar", "UCF101_videos.zip")  # the second without folders of actions
LIST_ARCHIVE = "UCF101TrainTestSplits-RecognitionTask.zip"
LIST_FOLDER = "ucfTrainTestlist"  # as the published archive names it
GROUP = re.compile(r"(.*_g\d+)_c\d+")
LINE = re.compile(r"(.+?)(?:\s+\d+)?")


@dataclass(frozen=True)
class Ucf101Settings:
    """The options of `prepare ucf101`.

    Args:
        work: what all data sets of videos share.
        lists: folder of `trainlist01.txt`; None looks beside the videos.
        split: 1, 2 or 3.
        test: whether the test list is wanted too.
    """

    work: WorkSettings
    lists: Path | None = None
    split: int = 1
    test: bool = False


class Ucf101Files(NamedTuple):
    """What UCF101 is made of: videos and lists."""

    videos: Path
    lists: Path


def downloaded() -> Ucf101Files:
    """What `xmodal download ucf101` or `ucf101-zip` fetched.

    Raises:
        DownloadError: it was not, or not all of it.
    """
    return Ucf101Files(unpacked_path(unpacked_of(VIDEO_ARCHIVES)), unpacked_path(LIST_ARCHIVE))


def prepare_ucf101(settings: Ucf101Settings, progress: Progress | None = None) -> VideosReport:
    """Make a prepared data set of UCF101; arguments and errors as in `prepare_videos`."""
    return prepare_videos(ucf101_plan(settings), progress)


def ucf101_plan(settings: Ucf101Settings) -> VideoPlan:
    """Which videos become which split.

    Raises:
        SettingsError: options that make no sense.
        DataError: no videos or lists, or they do not belong together.
    """
    work = settings.work
    known = settings.split in SPLITS
    check_work(work, *([] if known else [f"--split is 1, 2 or 3; found {settings.split}."]))
    videos = _by_name(find_videos(work.videos).values())
    lists = _find_lists(work.videos, settings.lists, settings.split)
    clips: dict[str, Clip] = {}
    missing = {}
    for split in (TRAIN, TEST) if settings.test else (TRAIN,):
        for listed in _listed(lists / f"{split}list{settings.split:02d}.txt"):
            action, _, stem = listed.rpartition("/")
            path = _find(videos, action, stem)
            if path is None:
                missing[listed] = f"The video '{listed}' of split {split} is not in '{work.videos}'."
                continue
            if listed in clips:
                raise DataError(f"The lists in '{lists}' have the video '{listed}' twice.")
            group = GROUP.fullmatch(stem)
            scene = f"{action}/{group[1] if group else stem}"
            clips[listed] = Clip(listed, path.relative_to(work.videos).as_posix(), split, scene, action)
    if not clips:
        raise DataError(
            f"None of the {len(missing)} videos that '{lists}' lists is in '{work.videos}'.",
            "Videos are found by their names, in folders of actions or in one: UCF-101/Archery/v_Archery_g08_c01.avi.",
        )
    recorded = recorded_settings("ucf101", work, lists=absolute(lists), split=settings.split, test=settings.test)
    ordered = tuple(clips[video] for video in sorted(clips))
    return VideoPlan(work, ordered, recorded, f"list {settings.split}", (), (), missing)


def _by_name(found: Iterable[Path]) -> dict[tuple[str, str], Path]:
    """The videos by their folder and name, and by "" and their name where no other has it.

    One of the published archives has them in folders of actions, another has not.

    Raises:
        DataError: two have the same folder and name.
    """
    videos: dict[tuple[str, str], Path] = {}
    alone: dict[tuple[str, str], list[Path]] = {}
    for path in found:
        key = _key(path.parent.name, path.stem)
        if key in videos:
            raise DataError(f"The video '{'/'.join(key)}' is there twice: '{videos[key]}' and '{path}'.", "Remove one.")
        videos[key] = path
        alone.setdefault(_key("", path.stem), []).append(path)
    return videos | {key: paths[0] for key, paths in alone.items() if len(paths) == 1}


def _find(videos: Mapping[tuple[str, str], Path], action: str, stem: str) -> Path | None:
    """The file of a listed video: in its action's folder, else one whose name holds its action."""
    path = videos.get(_key(action, stem))
    return videos.get(_key("", stem)) if path is None and f"_{action}_".lower() in stem.lower() else path


def _key(action: str, stem: str) -> tuple[str, str]:
    """What a video is recognised by; lists and folders differ in capitals (`HandstandPushups`)."""
    return safe_id(action).lower(), safe_id(stem).lower()


def _listed(path: Path) -> list[str]:
    """The videos of a list as `Action/stem`."""
    found = []
    for line in read_names(path):
        match = LINE.fullmatch(line)
        name = safe_id((match[1] if match else line).replace("\\", "/"))
        if name.count("/") != 1:
            raise DataError(f"'{path}': expected lines 'Action/VIDEO.avi'; found '{line}'.")
        found.append(name.removesuffix(".avi"))
    return found


def _find_lists(videos: Path, given: Path | None, split: int) -> Path:
    """The folder of lists: the one that was named, or that an archive has in it, else one near the videos."""
    name = f"trainlist{split:02d}.txt"
    places = near(videos) if given is None else iter(opened(given) if given.is_dir() else ())
    found = next((place for place in places if (place / name).is_file()), None)
    if found is None:
        where = f"in or beside '{videos}'" if given is None else f"in '{given}'"
        raise DataError(f"There is no {name} {where}.", f"Name its folder: --lists {LIST_FOLDER}")
    return found
