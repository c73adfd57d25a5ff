"""How trainings went: loss and what was watched over steps, of one run or of several in one figure.

Shapes: `(H, W, 3)` uint8 RGB pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xmodal_cli.detect.branches import ZERO_SHOT
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.pictures import canvas
from xmodal_cli.pictures.axes import Corner, Line, Points, axis_for, draw_panel, finished, line_style
from xmodal_cli.pictures.canvas import Picture
from xmodal_cli.runs.folder import RunFolder

LOG_FROM = 30.0  # a loss that falls by this factor is drawn on a logarithmic axis
LOSS = "loss"
# What is drawn: key of a record, phase that it stands in, title, the corner that such curves leave empty.
KINDS: tuple[tuple[str, str, str, Corner], ...] = (
    (LOSS, "train", "training loss", "upper right"),
    ("explained_variance", "evaluate", "explained variance of held-out pairs", "lower right"),
    ("mAP", "evaluate", "mAP of held-out images, percent", "lower right"),
    ("accuracy", "evaluate", "accuracy on held-out images, percent", "lower right"),
)


@dataclass(frozen=True)
class Curves:
    """What a run's `metrics.jsonl` holds, as curves.

    Args:
        run: its folder.
        points: by key of `KINDS` steps and values; keys without a value are missing.
    """

    run: RunFolder
    points: dict[str, Points]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {
            "run": str(self.run.path),
            **{key: [[int(x), float(y)] for x, y in zip(*points, strict=True)] for key, points in self.points.items()},
        }


def read_curves(run: RunFolder) -> Curves:
    """The curves of a run, finished or not.

    Raises:
        SettingsError: it is of a detector that was joined, not trained.
        DataError: its metrics are missing, damaged, or empty.
    """
    if run.command == ZERO_SHOT:
        made = run.config()["settings"]
        raise SettingsError(
            f"{run.path} is a detector that was put together, not trained: it has no curves.",
            f"Look at those of what is in it: xmodal visualize curves {made['student'] or made['detector']}; or "
            f"at what it finds: xmodal visualize detections {run.path}",
        )
    records = run.metrics()
    points = {}
    for key, phase, _, _ in KINDS:
        found = [(each["step"], each.get(key)) for each in records if each["phase"] == phase]
        kept = [
            (step, float(value)) for step, value in found if isinstance(value, int | float) and math.isfinite(value)
        ]
        if kept:
            steps, values = zip(*kept, strict=True)
            points[key] = np.array(steps, np.float64), np.array(values, np.float64)
    if not points:
        raise DataError(
            f"The run {run.path} has reported nothing yet: its metrics hold no loss.", "Wait for its first steps."
        )
    return Curves(run, points)


def draw_curves(runs: Sequence[Curves]) -> Picture:
    """One panel for each figure that any of the runs has, a line a run.

    Args:
        runs: at least one.

    Returns:
        `(H, W, 3)` uint8 RGB.
    """
    names = names_of([each.run for each in runs])
    panels = []
    for key, _, title, corner in KINDS:
        lines = [
            Line(name, each.points[key], *line_style(number))
            for number, (name, each) in enumerate(zip(names, runs, strict=True))
            if key in each.points
        ]
        if lines:
            panels.append(_panel(key, title, corner, lines))
    return canvas.framed(finished([panels]), 4)


def _panel(key: str, title: str, corner: Corner, lines: Sequence[Line]) -> Picture:
    steps, values = (np.concatenate([line.points[axis] for line in lines]) for axis in (0, 1))
    fell = key == LOSS and values.min() > 0 and values.max() / values.min() > LOG_FROM
    x = axis_for("step", steps, from_zero=True)
    y = axis_for(title, values, from_zero=key != LOSS, logarithmic=fell)
    return draw_panel(title, x, y, lines, corner)


def names_of(runs: Sequence[RunFolder]) -> list[str]:
    """A name for each run: its folder's, with the one above where two are alike."""
    plain = [run.path.name for run in runs]
    if len(set(plain)) == len(plain):
        return plain
    return [f"{run.path.parent.name}/{run.path.name}" for run in runs]


def last_figures(curves: Curves) -> list[object]:
    """A row of a table: steps, and the last value of each kind; empty where there is none."""
    steps = max(int(points[0][-1]) for points in curves.points.values())
    last = [f"{curves.points[key][1][-1]:.4g}" if key in curves.points else "" for key, *_ in KINDS]
    return [steps, *last]
