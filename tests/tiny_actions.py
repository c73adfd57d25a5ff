"""A tiny JHMDB whose actions are ways of moving, with flow, and classifiers that learn to tell them in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from made_videos import BOX, work, write_moving_video
from tiny_runs import CUT_SHORT, kill_at_first_report

from xmodal_cli.classify.settings import ClassificationSettings
from xmodal_cli.classify.training import classify
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.videos.flow import FlowSettings, add_flow
from xmodal_cli.datasets.videos.jhmdb import JhmdbSettings, prepare_jhmdb

HW, FRAMES, TAKEN = (48, 64), 6, 4
# The step from frame to frame of each action; mirrored, each is still itself.
STEPS = {"run": (3, 0), "sit": (0, 2), "stand": (0, 0)}
TRAIN, TEST = 4, 2  # clips of each action

OPTIONS: dict[str, Any] = {
    "modality": "flow",
    "backbone": "squeezenet1_1",
    "layer": "features.5",
    "size": 48,
    "crop": 0.8,
    "dropout": 0.0,
    "batch_size": 8,
    "iterations": 4,
    "lr": 0.001,
    "precision": "fp32",
    "device": "cpu",
    "threads": 1,
    "workers": 0,
    "checkpoint_every": 100,
}


def make_tiny_actions(folder: Path, out: Path) -> PreparedData:
    """Clips of a moving texture: 12 of split train, 6 of split test, four images each, with a box."""
    boxes = ["action,clip,frame,x,y,width,height"]
    lines = ["action,clip,split"]
    for action, (x, y) in STEPS.items():
        for number in range(TRAIN + TEST):
            faster, clip = number % 2, f"{action}-{number}"
            step = (x + faster * (x > 0), y + faster * (y > 0))
            write_moving_video(folder / action / f"{clip}.avi", FRAMES, step_xy=step, hw=HW, patch=False)
            boxes += [f"{action},{clip},{frame},{','.join(map(str, BOX))}" for frame in range(1, FRAMES + 1)]
            lines.append(f"{action},{clip},{'train' if number < TRAIN else 'test'}")
    (folder / "boxes.csv").write_text("\n".join(boxes) + "\n")
    (folder / "splits.csv").write_text("\n".join(lines) + "\n")
    made = work(folder, out, per_video=TAKEN)
    prepare_jhmdb(JhmdbSettings(made, boxes=folder / "boxes.csv", lists=folder / "splits.csv"))
    add_flow(PreparedData.open(out), FlowSettings(workers=1))
    return PreparedData.open(out)


def settings(data: PreparedData | Path, **changes: Any) -> ClassificationSettings:
    """Settings of a tiny classifier."""
    root = data.root if isinstance(data, PreparedData) else data
    return ClassificationSettings.from_dict({"data": str(root), **OPTIONS, **changes})


def cut_short(data: PreparedData, runs: Path, **changes: Any) -> Path:
    """A run of 24 steps that ended at step 10, after its checkpoint of step 5, as if its process had been killed."""
    kill_at_first_report(
        lambda watchers: classify(settings(data, **CUT_SHORT, **changes), runs=runs, name="cut", watchers=watchers)
    )
    return runs / "classification" / "cut"
