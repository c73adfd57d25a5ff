"""Which colour frame belongs to which depth frame: the nearest in time, as in `get_synched_frames.m` of the toolbox.

Depth leads: every depth frame takes the colour frame with the nearest time stamp, so that two depth frames may take the
same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xmodal_cli.datasets.nyud2_raw.sources import RawFile, SceneFolder


@dataclass(frozen=True)
class RawPair:
    """A depth frame and its colour frame.

    Args:
        number: of the depth frame in its folder, from 0, in order of time.
        depth: the depth file.
        colour: the colour file.
        gap_s: time of the colour frame less that of the depth frame, seconds.
    """

    number: int
    depth: RawFile
    colour: RawFile
    gap_s: float


def nearest(times_s: Sequence[float], among_s: Sequence[float]) -> list[int]:
    """For each time, where in `among_s` the nearest is; of two equally near ones the earlier.

    Args:
        times_s: seconds, any order.
        among_s: seconds, ascending, not empty.

    Example:
        >>> nearest([0.0, 1.4, 1.5, 9.0], [1.0, 2.0])
        [0, 0, 0, 1]
    """
    among = np.asarray(among_s, np.float64)
    times = np.asarray(times_s, np.float64)
    after = np.searchsorted(among, times).clip(1, max(1, len(among) - 1))
    if len(among) == 1:
        return [0] * len(times)
    before = after - 1
    chosen = np.where(times - among[before] <= among[after] - times, before, after)
    return [int(index) for index in chosen]


def synchronise(scene: SceneFolder, most_s: float) -> tuple[list[RawPair], int]:
    """The pairs of a scene in order of time, and how many depth frames have no colour frame near enough.

    Args:
        scene: its files.
        most_s: the largest distance in time within a pair, seconds.
    """
    if not scene.colour:
        return [], len(scene.depth)
    chosen = nearest([file.time_s for file in scene.depth], [file.time_s for file in scene.colour])
    pairs = [
        RawPair(number, depth, scene.colour[index], scene.colour[index].time_s - depth.time_s)
        for number, (depth, index) in enumerate(zip(scene.depth, chosen, strict=True))
    ]
    near = [pair for pair in pairs if abs(pair.gap_s) <= most_s]
    return near, len(pairs) - len(near)
