"""Proposals for the tiny data set, and detectors trained on it in a second: in this process, or as processes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from safetensors.torch import load_file
from tiny_runs import CUT_SHORT, HEIGHT, WIDTH, assert_same_tensors, kill_at_first_report
from torch import Tensor

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import write_proposals
from xmodal_cli.data.transforms import generator
from xmodal_cli.detect.finetune import finetune
from xmodal_cli.detect.settings import FinetuneSettings

METHOD = "tiny"
NEAR, FAR = (4.0, 8.0, 20.0, 24.0), (36.0, 20.0, 60.0, 44.0)  # the two objects of every tiny image

# A detector that takes about a second: a random network read half way up, a small head, few steps.
OPTIONS: dict[str, Any] = {
    "modality": "disparity",
    "backbone": "squeezenet1_1",
    "layer": "features.5",
    "proposals": METHOD,
    "size": 64,
    "regions": 16,
    "pool_size": 3,
    "batch_size": 2,
    "iterations": 4,
    "precision": "fp32",
    "device": "cpu",
    "threads": 1,
    "workers": 0,
    "lr": 0.001,
    "checkpoint_every": 100,
}
IN_FILES: dict[str, Any] = {"head": [16, 12], "reduced": 8}  # settings that have no option


def tiny_proposals(name: str) -> NDArray[np.float32]:
    """Boxes on each object, boxes near it, and boxes anywhere: `(22, 4)`, the same every time."""
    random = generator(0, "tiny proposals", name)
    boxes = [np.add(each, random.integers(-2, 3, 4)) for each in (NEAR, FAR) for _ in range(4)]
    boxes += [np.add(each, [8, 8, 8, 8]) + random.integers(-2, 3, 4) for each in (NEAR, FAR) for _ in range(2)]
    corners = random.uniform(0, 1, (10, 2, 2)) * [WIDTH - 12, HEIGHT - 12]
    first, last = corners.min(1), corners.max(1) + 12
    boxes += list(np.hstack([first, last]))
    return np.clip(np.array(boxes), 0, [WIDTH, HEIGHT, WIDTH, HEIGHT]).astype(np.float32)


def with_proposals(tiny_data: PreparedData, out: Path) -> PreparedData:
    """A copy of the tiny data set that has proposals for every image."""
    shutil.copytree(tiny_data.root, out)
    data = PreparedData.open(out)
    write_proposals(out, METHOD, [(name, tiny_proposals(name)) for name in data.all_ids], {"settings": {}})
    return data


def settings(data: PreparedData | Path, **changes: Any) -> FinetuneSettings:
    """Settings of a tiny detector."""
    root = data.root if isinstance(data, PreparedData) else data
    return FinetuneSettings.from_dict({"data": str(root), **OPTIONS, **IN_FILES, **changes})


def words(data: PreparedData | Path, runs: Path, name: str, **changes: Any) -> list[str]:
    """The same settings as words after `xmodal`; those without an option stand in a file beside the runs."""
    root = data.root if isinstance(data, PreparedData) else data
    file = runs / "tiny.yaml"
    if not file.exists():
        file.write_text(yaml.safe_dump(IN_FILES))
    line = ["finetune", "--data", str(root), "--runs", str(runs), "--run-name", name, "--config", str(file)]
    for option, value in {**OPTIONS, **changes}.items():
        if value is not None:
            line += [f"--{option.replace('_', '-')}", str(value)]
    return line


def cut_short(data: PreparedData, runs: Path, **changes: Any) -> Path:
    """A run of 24 steps that ended at step 10, after its checkpoint of step 5, as if its process had been killed."""
    kill_at_first_report(
        lambda watchers: finetune(settings(data, **CUT_SHORT, **changes), runs=runs, name="cut", watchers=watchers)
    )
    return runs / "finetune" / "cut"


def detector(run: Path, file: str = "detector.safetensors") -> dict[str, Tensor]:
    """The tensors of a run's detector."""
    return load_file(run / file)


def assert_same_detector(first: Path, second: Path, file: str = "detector.safetensors") -> None:
    """Every tensor of both detectors is equal in every bit."""
    assert_same_tensors(detector(first, file), detector(second, file))
