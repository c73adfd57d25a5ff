"""Tiny MJPG videos whose frames say their number by their brightness, and folders of them as published data sets."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scipy.io
from numpy.typing import NDArray

from xmodal_cli.datasets.videos.plan import WorkSettings

HEIGHT, WIDTH = 48, 64
STEP = 5  # of brightness from frame to frame
BOX = (11, 6, 20, 30)  # x, y, width, height, counted from 1


def write_video(path: Path, frames: int, *, fps: float = 30.0, hw: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    """A video whose frame number n, from 1, has the brightness 5 n."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), fps, (hw[1], hw[0]))
    assert writer.isOpened()
    for number in range(1, frames + 1):
        writer.write(np.full((*hw, 3), STEP * number, np.uint8))
    writer.release()
    return path


def overstate(path: Path, said: int, true: int) -> None:
    """Let a video's header claim more frames than there are, as the published JHMDB clips do."""
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"avih", 24), (b"strh", 40)):
        place = content.index(mark) + offset
        assert int.from_bytes(content[place : place + 4], "little") == true
        content[place : place + 4] = said.to_bytes(4, "little")
    path.write_bytes(content)


def number_shown(image: NDArray[Any]) -> int:
    """The number of the frame that an image shows."""
    return round(float(image.mean()) / STEP)


def work(videos: Path, out: Path, **changes: Any) -> WorkSettings:
    """Settings that work in this process."""
    return WorkSettings(**{"videos": videos, "out": out, "workers": 1, **changes})


def make_jhmdb(folder: Path, clips: Mapping[str, tuple[int, int]]) -> Path:
    """A folder as JHMDB is published: clips by action, `splits/`, and boxes as CSV.

    Args:
        folder: to be made.
        clips: frames of the video and 1 (train) or 2 (test) by `action/clip`.
    """
    boxes = ["action,clip,frame,x,y,width,height"]
    lists: dict[str, list[str]] = {}
    for name, (frames, part) in clips.items():
        action, clip = name.split("/")
        write_video(folder / "clips" / f"{name}.avi", frames)
        boxes += [f"{action},{clip},{frame},{','.join(map(str, BOX))}" for frame in range(1, frames + 1)]
        lists.setdefault(action, []).append(f"{clip}.avi {part} ")
    (folder / "boxes.csv").write_text("\n".join(boxes) + "\n", encoding="utf-8")
    for action, lines in lists.items():
        path = folder / "splits" / f"{action}_test_split1.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_matlab_boxes(boxes: Path, path: Path) -> None:
    """The boxes of JHMDB's CSV file as its `jhmdb_annot.mat` has them."""
    with boxes.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    annot = {
        "action": np.array([[row["action"]] for row in rows], dtype=object),
        "video_id": np.array([[row["clip"]] for row in rows], dtype=object),
        "frame": np.array([[int(row["frame"])] for row in rows], np.uint16),
        "bound": np.array([[float(row[key]) for key in ("x", "y", "width", "height")] for row in rows], np.float32),
    }
    scipy.io.savemat(path, {"annot": annot})


def make_ucf101(folder: Path, train: Sequence[str], test: Sequence[str]) -> Path:
    """A folder with `UCF-101/` and `ucfTrainTestlist/` as published."""
    for name in (*train, *test):
        write_video(folder / "UCF-101" / name, 12)
    (folder / "ucfTrainTestlist").mkdir()
    (folder / "ucfTrainTestlist/trainlist01.txt").write_text("".join(f"{name} 1\n" for name in train))
    (folder / "ucfTrainTestlist/testlist01.txt").write_text("".join(f"{name}\n" for name in test))
    return folder


def write_moving_video(
    path: Path, frames: int, *, step_xy: tuple[int, int] = (3, -2), hw: tuple[int, int] = (96, 128), patch: bool = True
) -> Path:
    """A video of a smooth texture in which a patch, or everything, moves by the same step from frame to frame.

    The patch begins at (40, 40), has 40 x 32 pixels, and lies on a still ground.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    ground, above = (
        cv2.resize(
            random.integers(0, 256, (hw[0] // 8, hw[1] // 8, 3), np.uint8), hw[::-1], interpolation=cv2.INTER_CUBIC
        )
        for _ in range(2)
    )
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 30.0, hw[::-1])
    assert writer.isOpened()
    for number in range(frames):
        x, y = number * step_xy[0], number * step_xy[1]
        image = ground.copy() if patch else np.roll(ground, (y, x), (0, 1))
        if patch:
            image[40 + y : 72 + y, 40 + x : 80 + x] = above[40:72, 40:80]
        writer.write(image)
    writer.release()
    return path
