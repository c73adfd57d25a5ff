"""`prepare ucf101`: frames of UCF101's train list; the paper takes five of each train1 video (section 4.2).

The lists are `trainlist01.txt` with lines `Action/v_Action_g08_c01.avi 1` and `testlist01.txt` without the number.
Clips of one group (`g08`) are cut from one video: the group is the scene. The action is kept for every video.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from xmodal_cli.data.splits import TRAIN, read_names
from xmodal_cli.datasets.folder.settings import absolute
from xmodal_cli.datasets.videos.frames import Clip
from xmodal_cli.datasets.videos.names import find_videos, safe_id
from xmodal_cli.datasets.videos.plan import VideoPlan, WorkSettings, check_work, recorded_settings
from xmodal_cli.datasets.videos.prepare import Progress, prepare_videos
from xmodal_cli.datasets.videos.report import VideosReport
from xmodal_cli.errors import DataError

SPLITS = (1, 2, 3)
TEST = "test"
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
    videos = {_key(path.parent.name, path.stem): path for path in find_videos(work.videos).values()}
    lists = settings.lists or _find_lists(work.videos, settings.split)
    clips: dict[str, Clip] = {}
    missing = {}
    for split in (TRAIN, TEST) if settings.test else (TRAIN,):
        for listed in _listed(lists / f"{split}list{settings.split:02d}.txt"):
            action, _, stem = listed.rpartition("/")
            path = videos.get(_key(action, stem))
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
            "Videos lie in folders named after their action, as in the published archive: UCF-101/Archery/....avi.",
        )
    recorded = recorded_settings("ucf101", work, lists=absolute(lists), split=settings.split, test=settings.test)
    ordered = tuple(clips[video] for video in sorted(clips))
    return VideoPlan(work, ordered, recorded, f"list {settings.split}", (), (), missing)


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


def _find_lists(folder: Path, split: int) -> Path:
    name = f"trainlist{split:02d}.txt"
    for place in (folder, folder / LIST_FOLDER, folder.resolve().parent, folder.resolve().parent / LIST_FOLDER):
        if (place / name).is_file():
            return place
    raise DataError(f"There is no {name} in or beside '{folder}'.", f"Name its folder: --lists {LIST_FOLDER}")
