"""How a hand-held camera goes through a room: a smooth walk at eye height between two views that show much.

Poses are a function of time, so that a frame has a next one a thirtieth of a second later whatever frames are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.datasets.rooms.camera import Pose, look
from xmodal_cli.datasets.rooms.pieces import CLASSES
from xmodal_cli.datasets.rooms.scene import Scene

FRAME_S = 1 / 15  # from a frame to the next: the Kinect's rate halved, as recorders do that write both images
DRAWN = 24  # views that are compared
FREE_M = 0.35  # kept between the camera and everything
EYE_M = (1.1, 1.65)
HALF_VIEW_RAD = np.deg2rad(27)  # what counts as seen: a little within the Kinect's 63 degrees
SEEN_M = (1.1, 4.2)  # distances at which a thing has a good size in the picture
# What a thing in view is worth: large pieces stand in fewer rooms and fill the picture sooner than small ones.
RARE, COMMON = ("bathtub", "bed", "counter", "desk", "sofa", "toilet"), ("lamp", "garbage-bin", "box", "television")
WORTH = np.array([2.0 if name in RARE else 0.5 if name in COMMON else 1.0 for name in CLASSES])
WALK_S = (2.0, 3.5)  # a few steps
SHAKE_RAD, SHAKE_M = 0.012, 0.01  # of a hand


@dataclass(frozen=True)
class View:
    """A place to look from: position, direction of sight on the floor, and upward, in metres and radians."""

    position_m: NDArray[np.float64]
    yaw_rad: float
    pitch_rad: float


@dataclass(frozen=True)
class Walk:
    """A walk from one view to another.

    Args:
        start: first view.
        end: last view.
        seconds: how long it takes.
        roll_rad: how askew the camera is held.
        phases: `(6,)` of the hand's tremor.
        rates_hz: `(6,)` of the hand's tremor.
    """

    start: View
    end: View
    seconds: float
    roll_rad: float
    phases: NDArray[np.float64]
    rates_hz: NDArray[np.float64]

    def pose(self, time_s: float) -> Pose:
        """Where the camera is at a time from 0 to `seconds`."""
        share = time_s / self.seconds
        share = share * share * (3 - 2 * share)
        shake = np.sin(2 * np.pi * self.rates_hz * time_s + self.phases)
        position = (1 - share) * self.start.position_m + share * self.end.position_m + SHAKE_M * shake[:3]
        turn = (self.end.yaw_rad - self.start.yaw_rad + np.pi) % (2 * np.pi) - np.pi
        return look(
            position,
            self.start.yaw_rad + share * turn + SHAKE_RAD * shake[3],
            (1 - share) * self.start.pitch_rad + share * self.end.pitch_rad + SHAKE_RAD * shake[4],
            self.roll_rad + SHAKE_RAD * shake[5],
        )


def walk(scene: Scene, random: np.random.Generator) -> Walk:
    """A walk through a room whose two ends show many things at a good distance.

    Args:
        scene: the room.
        random: of this room's walk.
    """
    views = [_view(scene, random) for _ in range(DRAWN)]
    seen = np.array([_worth(scene, view) for view in views])
    first = int(seen.argmax())
    # The second end: also rich, neither in the same place nor looking the other way, and with a free way to it.
    worth = [
        value - 3 * abs(_apart(views[first], view) - 1.0) - 9 * _blocked(scene, views[first], view)
        for value, view in zip(seen, views, strict=True)
    ]
    worth[first] = -np.inf
    second = int(np.argmax(worth))
    return Walk(
        views[first],
        views[second],
        float(random.uniform(*WALK_S)),
        float(random.normal(0, 0.03)),
        random.uniform(0, 2 * np.pi, 6),
        random.uniform(0.5, 1.5, 6),
    )


def times(count: int, seconds: float, random: np.random.Generator) -> NDArray[np.float64]:
    """The times of the frames that are kept, `(count,)` seconds: one from each of as many equal stretches."""
    stretch = (seconds - 2 * FRAME_S) / count
    return (np.arange(count) + random.uniform(0.2, 0.8, count)) * stretch


def _view(scene: Scene, random: np.random.Generator) -> View:
    """A free place, looking about at one of the things in the room."""
    half = scene.size_m[:2] / 2 - FREE_M
    for _ in range(20):
        position = np.array([*random.uniform(-half, half), random.uniform(*EYE_M)])
        if _free(scene, position):
            break
    aim = np.zeros(3)
    if len(scene.labels):
        worth = WORTH[scene.labels]
        aim = scene.centres[int(random.choice(len(worth), p=worth / worth.sum()))]
    away = aim - position
    pitch = np.arctan2(away[2], np.hypot(away[0], away[1])) * 0.7 + random.normal(-0.04, 0.05)
    yaw = np.arctan2(away[1], away[0]) + random.normal(0, 0.15)
    return View(position, float(yaw), float(np.clip(pitch, -0.6, 0.05)))


def _free(scene: Scene, position: NDArray[np.float64]) -> bool:
    """Whether a place has enough air around it."""
    boxes = scene.boxes
    return not ((boxes[:, 0] - FREE_M < position) & (position < boxes[:, 1] + FREE_M)).all(1).any()


def _worth(scene: Scene, view: View) -> float:
    """How many things are seen at a good distance."""
    away = scene.centres - view.position_m
    distance = np.hypot(away[:, 0], away[:, 1])
    turn = np.abs((np.arctan2(away[:, 1], away[:, 0]) - view.yaw_rad + np.pi) % (2 * np.pi) - np.pi)
    good = (turn < HALF_VIEW_RAD) & (distance > SEEN_M[0]) & (distance < SEEN_M[1])
    near = (turn < np.pi / 4) & (distance <= SEEN_M[0])  # fills the picture
    return float(WORTH[scene.labels] @ (good - 1.5 * near))


def _apart(first: View, second: View) -> float:
    """Metres between two views, a radian of turning counted as a metre and a half."""
    turn = abs((second.yaw_rad - first.yaw_rad + np.pi) % (2 * np.pi) - np.pi)
    return float(np.linalg.norm(second.position_m - first.position_m) + 1.5 * turn)


def _blocked(scene: Scene, first: View, second: View) -> bool:
    between = (first.position_m * (1 - share) + second.position_m * share for share in (0.25, 0.5, 0.75))
    return not all(_free(scene, position) for position in between)
