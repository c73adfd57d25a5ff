"""`prepare video`: frames from any folder of videos. Every video is a scene."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xmodal_cli.data.splits import TRAIN, divide
from xmodal_cli.datasets.videos.frames import Clip
from xmodal_cli.datasets.videos.names import find_videos
from xmodal_cli.datasets.videos.plan import VideoPlan, WorkSettings, check_work, recorded_settings
from xmodal_cli.datasets.videos.prepare import Progress, prepare_videos
from xmodal_cli.datasets.videos.report import VideosReport
from xmodal_cli.errors import DataError


@dataclass(frozen=True)
class VideoSettings:
    """The options of `prepare video`.

    Args:
        work: what all data sets of videos share.
        val_fraction: share of the videos for the split val; None for none.
        actions: whether videos lie in folders named after what is done in them, which is kept for each.
    """

    work: WorkSettings
    val_fraction: float | None = None
    actions: bool = False


def prepare_video(settings: VideoSettings, progress: Progress | None = None) -> VideosReport:
    """Make a prepared data set of a folder of videos; arguments and errors as in `prepare_videos`."""
    return prepare_videos(video_plan(settings), progress)


def video_plan(settings: VideoSettings) -> VideoPlan:
    """Which videos become which split.

    Raises:
        SettingsError: options that make no sense.
        DataError: there is no video, or one lies in no folder of an action.
    """
    work, fraction = settings.work, settings.val_fraction
    wrong = fraction is not None and not 0 < fraction < 1
    check_work(work, *([f"--val-fraction is above 0 and below 1; found {fraction}."] if wrong else []))
    found = find_videos(work.videos)
    actions = _actions(found, work.videos) if settings.actions else {}
    # Videos are divided as scenes are: by a hash of their names, so that one more video moves few of the others.
    val = set(divide(found, fraction, {video: video for video in found})[1]) if fraction is not None else set()
    clips = [
        Clip(
            video,
            path.relative_to(work.videos).as_posix(),
            "val" if video in val else TRAIN,
            video,
            actions.get(video, ""),
        )
        for video, path in found.items()
    ]
    named = {"actions": True} if settings.actions else {}  # data sets of before have no such setting
    recorded = recorded_settings("video", work, val_fraction=fraction, **named)
    return VideoPlan(work, tuple(clips), recorded, "videos")


def _actions(found: Mapping[str, Path], folder: Path) -> dict[str, str]:
    """The action of each video: the first folder of its ID.

    Raises:
        DataError: a video lies in none.
    """
    outside = [video for video in found if "/" not in video]
    if outside:
        raise DataError(
            f"{len(outside)} of {len(found)} videos lie in no folder below '{folder}', such as '{found[outside[0]]}': "
            "their action is not known.",
            "Put every video into a folder named after its action, DIR/ACTION/VIDEO.avi, or leave --actions out.",
        )
    return {video: video.split("/")[0] for video in found}
