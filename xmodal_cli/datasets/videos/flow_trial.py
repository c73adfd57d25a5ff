"""What optical flow of a folder of videos will take: the dry run of `datasets/videos/flow.py`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli.data import images
from xmodal_cli.data.videos import FrameRow
from xmodal_cli.datasets.videos.clips import FramePair, frame_pairs
from xmodal_cli.datasets.videos.flow import FAR_PX, RAFT, Flow, FlowReport, FlowSettings, check_flow
from xmodal_cli.datasets.videos.names import find_videos
from xmodal_cli.errors import DataError
from xmodal_cli.modalities import Frame, encode_frame
from xmodal_cli.modalities.flow_estimators import ESTIMATORS, check_frames

TRIED = 3  # pairs timed, after one that warms caches up
LOOKED_AT = 20  # videos, until one of them can be decoded


def try_flow(videos: Path, settings: FlowSettings, count: int, workers: int) -> FlowReport:
    """Estimate a few flows in memory, and say what all of them will take.

    Args:
        videos: their folder.
        settings: how flow is made.
        count: images in all.
        workers: processes.

    Raises:
        DataError: no video can be decoded.
    """
    check_flow(settings)
    network = _network(settings)
    seconds, sizes, far = [], [], []
    for pair in _some_pairs(videos):
        start = time.perf_counter()
        flow_px = _flow_of(pair, settings, network)
        encoded = [images.encode_png(encode_frame(name, Frame(flow_px))) for name in settings.modalities]
        seconds.append(time.perf_counter() - start)
        sizes.append(sum(map(len, encoded)))
        far.append(float(np.mean(np.abs(flow_px).max(axis=2) > FAR_PX)))
    workers = 1 if settings.method == RAFT else workers
    each = float(np.mean(seconds[1:] or seconds)) / workers
    return FlowReport(
        modalities=settings.modalities,
        method=settings.method,
        images=count,
        written=count * len(settings.modalities),
        finished=0,
        frames_per_second=1 / each,
        far_percent=100.0 * float(np.mean(far)),
        workers=workers,
        seconds=each * count,
        bytes=int(np.mean(sizes) * count),
        dry_run=True,
    )


def _network(settings: FlowSettings) -> Any:
    """RAFT, where it is wanted."""
    if settings.method != RAFT:
        return None
    from xmodal_cli.models.raft import load_raft
    from xmodal_cli.runs.device import resolve_device

    return load_raft(settings.weights, resolve_device(settings.device))


def _flow_of(pair: FramePair, settings: FlowSettings, network: Any) -> Flow:
    if network is None:
        return ESTIMATORS[settings.method](pair.image, pair.following)
    from xmodal_cli.models.raft import estimate

    check_frames(pair.image, pair.following)
    return estimate(network, [(pair.image, pair.following)])[0]


def _some_pairs(videos: Path) -> list[FramePair]:
    """The first pairs of the first video that has any."""
    rows = [FrameRow(f"{number}", "", number, number + 1) for number in range(1, TRIED + 2)]
    for path in list(find_videos(videos).values())[:LOOKED_AT]:
        pairs = []
        try:
            for pair in frame_pairs(path, rows):
                pairs.append(pair)
        except DataError:  # of a short video, what there is
            if not pairs:
                continue
        return pairs
    raise DataError(f"No two frames of the first videos in '{videos}' can be decoded.", "Look at the videos.")
