"""A tiny prepared data set, and transfers on it that take a second: in this process, or as processes to be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from warm_processes import PATIENCE_S, Forked

from xmodal_cli.data.images import write_png
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.folder.prepare import FolderSettings, prepare_folder
from xmodal_cli.runs.session import Watchers
from xmodal_cli.transfer.distill import COMMAND, distill
from xmodal_cli.transfer.settings import DistillSettings

HEIGHT, WIDTH = 48, 64
TRAIN = [f"hall/{number:02d}" for number in range(22)]
VAL = [f"attic/{number:02d}" for number in range(6)]
CLASSES = {1: "near", 2: "far", 3: "never"}

# A transfer that takes about a second: random teacher, both networks read half way up, few steps.
OPTIONS: dict[str, Any] = {
    "teacher": "squeezenet1_1",
    "teacher_weights": "random",
    "student": "squeezenet1_1",
    "modality": "disparity",
    "transfer": ("features.5:features.5=1",),
    "size": "64x80",
    "iterations": 4,
    "batch_size": 4,
    "precision": "fp32",
    "device": "cpu",
    "threads": 1,
    "workers": 0,
    "normalise": "channel",
    "lr": 0.001,
    "crop": 1.0,
    "cache": "off",
    "checkpoint_every": 100,
}


def make_tiny_data(folder: Path, out: Path, *, names: list[str] = TRAIN + VAL) -> PreparedData:
    """Scenes of smooth colours whose depth follows from the colours, each with a near red and a far blue box."""
    for number, name in enumerate(names):
        image, depth_mm = _scene(number)
        path = folder / "rgb" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image[:, :, ::-1])
        write_png(folder / "depth" / f"{name}.png", depth_mm)
    splits = {"train": [n for n in names if n in TRAIN], "val": [n for n in names if n in VAL]}
    annotations = {split: _write_annotations(folder / f"{split}.json", members) for split, members in splits.items()}
    prepare_folder(
        FolderSettings(
            out=out,
            modalities=("disparity",),
            rgb=str(folder / "rgb"),
            target=str(folder / "depth"),
            depth_unit=0.001,
            annotations=annotations,
            link="copy",
            workers=1,
        )
    )
    return PreparedData.open(out)


def _scene(number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    noise = np.random.default_rng(number).integers(40, 200, (6, 8, 3), dtype=np.uint8)
    image = np.asarray(cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))
    image[8:24, 4:20] = (220, 30, 30)
    image[20:44, 36:60] = (30, 30, 220)
    depth = 1000 + 12.0 * image[:, :, 1] + 8.0 * image[:, :, 2]
    return image, depth.astype(np.uint16)


def _write_annotations(path: Path, names: list[str]) -> Path:
    boxes = [(1, [4, 8, 16, 16]), (2, [36, 20, 24, 24])]
    document = {
        "images": [
            {"id": n, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT} for n, name in enumerate(names)
        ],
        "annotations": [
            {"id": 2 * n + k, "image_id": n, "category_id": kind, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for n in range(len(names))
            for k, (kind, box) in enumerate(boxes)
        ],
        "categories": [{"id": kind, "name": name} for kind, name in CLASSES.items()],
    }
    path.write_text(json.dumps(document))
    return path


def settings(data: PreparedData | Path, **changes: Any) -> DistillSettings:
    """Settings of a tiny transfer."""
    root = data.root if isinstance(data, PreparedData) else data
    return DistillSettings(**{"data": str(root), **OPTIONS, **changes})


def words(data: PreparedData | Path, runs: Path, name: str, **changes: Any) -> list[str]:
    """The same settings as words after `xmodal`."""
    root = data.root if isinstance(data, PreparedData) else data
    line = ["distill", "--data", str(root), "--runs", str(runs), "--run-name", name]
    for option, value in {**OPTIONS, **changes}.items():
        for each in value if isinstance(value, tuple) else (value,):
            line += [f"--{option.replace('_', '-')}", str(each)]
    return line


CUT_SHORT: dict[str, Any] = {"iterations": 24, "checkpoint_every": 5}


def cut_short(data: PreparedData, runs: Path, **changes: Any) -> Path:
    """A run of 24 steps that ended at step 10, after its checkpoint of step 5, as if its process had been killed."""
    kill_at_first_report(
        lambda watchers: distill(settings(data, **CUT_SHORT, **changes), runs=runs, name="cut", watchers=watchers)
    )
    return runs / COMMAND / "cut"


def kill_at_first_report(train: Callable[[Watchers], object]) -> None:
    """Train until the first step that is told to somebody, step 10, and end there as a killed process does."""

    class Killed(BaseException):
        pass

    def kill(progress: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        train(Watchers(training=kill))


def start(arguments: list[str], cache: Path) -> subprocess.Popen[str]:
    """A real process of the command line, calm, with its own cache folder and process group."""
    environment = {**os.environ, "XMODAL_CACHE": str(cache), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "xmodal_cli", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str] | Forked, code: int | None = 0) -> tuple[str, str]:
    """Wait for a process; its stdout and stderr, after comparing its exit code."""
    try:
        output, talk = process.communicate(timeout=PATIENCE_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert code is None or process.returncode == code, f"exit code {process.returncode}\n{output}\n{talk}"
    return output, talk


def student(run: Path) -> dict[str, Tensor]:
    """The tensors of a run's student."""
    return load_file(run / "student.safetensors")


def assert_same_student(first: Path, second: Path) -> None:
    """Every tensor of both students is equal in every bit."""
    assert_same_tensors(student(first), student(second))


def assert_same_tensors(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Both have the same names, and every tensor is equal in every bit."""
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different, f"{len(different)} of {len(one)} tensors differ: {different[:3]}"


def steps_in_metrics(run: Path, phase: str = "train") -> list[int]:
    """The steps that a run's metrics hold, in order of the file."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [record["step"] for record in records if record["phase"] == phase]
