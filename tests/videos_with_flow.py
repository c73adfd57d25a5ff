"""A small data set of videos with optical flow, made in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from made_videos import work

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.videos.flow import FlowSettings, add_flow
from xmodal_cli.datasets.videos.video import VideoSettings, prepare_video


def with_flow(videos: Path, out: Path, **changes: Any) -> PreparedData:
    """Frames of the videos, and their flow by settings that differ from the usual ones in `changes`."""
    prepare_video(VideoSettings(work(videos, out)))
    add_flow(PreparedData.open(out), FlowSettings(**{"workers": 1, **changes}))
    return PreparedData.open(out)
