"""What every `prepare` of videos is asked to do, and what it decides before it opens a video."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from xmodal_cli.datasets.folder.settings import absolute
from xmodal_cli.datasets.shards import SHARD, Shard
from xmodal_cli.datasets.videos.frames import Clip, VideoRecipe, asked_of
from xmodal_cli.errors import SettingsError

FRAMES_PER_VIDEO = 5  # of the paper's UCF101 pairs (section 4.2)


@dataclass(frozen=True)
class WorkSettings:
    """The options that `prepare video`, `jhmdb` and `ucf101` share.

    Args:
        videos: folder of the videos.
        out: the prepared data set to make.
        per_video: frames of each video, evenly spread; None takes all that are wanted.
        name: of the data set; None takes the folder's.
        skip_bad: leave out videos that cannot be decoded, count them and go on.
        overwrite: make the data set anew if it is there with other settings.
        workers: processes; None decides.
        dry_run: look at everything, estimate time and size, write nothing.
        shard: the part of the videos that is prepared here; None for all.
    """

    videos: Path
    out: Path
    per_video: int | None = FRAMES_PER_VIDEO
    name: str | None = None
    skip_bad: bool = False
    overwrite: bool = False
    workers: int | None = None
    dry_run: bool = False
    shard: Shard | None = None


@dataclass(frozen=True)
class VideoPlan:
    """Which frames of which videos become which splits.

    Args:
        work: the options.
        clips: the videos of the whole data set, in order of their IDs.
        recorded: settings that decide what the images are, as they are recorded and compared.
        splits_by: what decided the splits.
        classes: of the boxes; empty where there are none.
        notes: what is worth a look, such as annotations whose video is not there.
        missing: what is wrong with each video that is listed and is not there, by ID.
    """

    work: WorkSettings
    clips: tuple[Clip, ...]
    recorded: Mapping[str, Any]
    splits_by: str
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def recipe(self) -> VideoRecipe:
        """What every video is made into."""
        return VideoRecipe(self.work.out, self.work.videos, self.work.per_video)

    @cached_property
    def own(self) -> tuple[Clip, ...]:
        """The videos that are prepared here: all, or those of a part.

        Raises:
            SettingsError: there are fewer videos than parts.
        """
        if self.work.shard is None:
            return self.clips
        videos = set(self.work.shard.own(clip.video for clip in self.clips))
        return tuple(clip for clip in self.clips if clip.video in videos)

    @cached_property
    def asked(self) -> str:
        """A hash of everything that decides what the whole data set holds, apart from the videos."""
        parts = [asked_of(self.recipe, clip) for clip in self.clips] + sorted(self.missing)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def part(self) -> dict[str, Any]:
        """What the provenance says of a part; empty for the whole data set."""
        if self.work.shard is None:
            return {}
        whole = self.work.shard.record((clip.video for clip in self.clips), self.asked)
        return {SHARD: {**whole, "counted": ["images", "annotations"]}}


def recorded_settings(kind: str, work: WorkSettings, **others: Any) -> dict[str, Any]:
    """The settings that decide what the images are: the kind of videos, their folder, frames of each, and others."""
    return {"source": kind, "videos": absolute(work.videos), "frames_per_video": work.per_video, **others}


def check_work(work: WorkSettings, *others: str) -> None:
    """Make sure that the options make sense; `others` are problems that were found elsewhere.

    Raises:
        SettingsError: they do not; all problems are named.
    """
    problems = [*others]
    if work.per_video is not None and work.per_video < 1:
        problems.append(f"--frames-per-video is 1 or more; found {work.per_video}.")
    if problems:
        raise SettingsError("\n".join(problems), "See --help for examples.")
