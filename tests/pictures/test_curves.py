"""Promises of curves: their points are those of metrics.jsonl, they lie where they should, damage is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny_runs import steps_in_metrics

from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.pictures.axes import BOTTOM, LEFT, PANEL_HEIGHT, PANEL_WIDTH, RIGHT, TOP, axis_for
from xmodal_cli.pictures.canvas import BLUE
from xmodal_cli.pictures.curves import draw_curves, names_of, read_curves
from xmodal_cli.runs.folder import CONFIG, METRICS, RunFolder, open_run


def run_with(folder: Path, *records: dict[str, object]) -> RunFolder:
    folder.mkdir(parents=True)
    (folder / METRICS).write_text("".join(json.dumps(record) + "\n" for record in records))
    return RunFolder(folder, "distill")


def test_points_are_those_of_the_metrics(transferred: RunFolder) -> None:
    records = [json.loads(line) for line in (transferred.path / METRICS).read_text().splitlines()]
    points = read_curves(transferred).points
    assert points["loss"][0].tolist() == steps_in_metrics(transferred.path)
    assert points["loss"][1].tolist() == [each["loss"] for each in records if each["phase"] == "train"]
    assert points["explained_variance"][0].tolist() == steps_in_metrics(transferred.path, "evaluate")
    assert "mAP" not in points


def test_a_point_is_drawn_where_its_figures_say(tmp_path: Path) -> None:
    losses = [2.0, 1.0, 1.0, 0.0]
    run = run_with(tmp_path / "a", *[{"phase": "train", "step": 10 * n, "loss": x} for n, x in enumerate(losses)])
    picture = draw_curves([read_curves(run)])
    margin = (picture.shape[0] - PANEL_HEIGHT) // 2
    x, y = axis_for("", np.array([0.0, 30.0])), axis_for("", np.array([0.0, 2.0]))
    column = margin + LEFT + (PANEL_WIDTH - LEFT - RIGHT) * float(x.place(np.array(20.0)))
    row = margin + TOP + (PANEL_HEIGHT - TOP - BOTTOM) * (1 - float(y.place(np.array(1.0))))
    assert np.abs(picture[round(row), round(column)].astype(int) - BLUE).sum() < 60


def test_a_panel_for_each_figure_that_any_run_has(tmp_path: Path) -> None:
    plain = run_with(tmp_path / "a", {"phase": "train", "step": 1, "loss": 1.0})
    scored = run_with(
        tmp_path / "b", {"phase": "train", "step": 1, "loss": 1.0}, {"phase": "evaluate", "step": 1, "mAP": 3}
    )
    widths = [draw_curves([read_curves(each) for each in runs]).shape[1] for runs in ([plain], [plain, scored])]
    assert widths[1] - widths[0] == PANEL_WIDTH


@pytest.mark.parametrize(("student", "named"), [("runs/distill/a", "runs/distill/a"), (None, "runs/finetune/b")])
def test_joined_detector_has_no_curves_and_what_it_was_made_from_is_named(
    student: str | None, named: str, tmp_path: Path
) -> None:
    made = {"command": "zero-shot", "settings": {"student": student, "detector": "runs/finetune/b"}}
    (tmp_path / CONFIG).write_text(yaml.safe_dump(made))
    with pytest.raises(SettingsError, match="put together, not trained") as caught:
        read_curves(open_run(tmp_path))
    assert f"xmodal visualize curves {named};" in str(caught.value.hint)


@pytest.mark.parametrize("damage", ["{broken", '{"phase": "train"}', '["train", 3]', '{"phase": "train", "step": "x"}'])
def test_damaged_metrics_are_told_with_their_line(damage: str, tmp_path: Path) -> None:
    run = run_with(tmp_path / "a", {"phase": "train", "step": 1, "loss": 1.0})
    with (run.path / METRICS).open("a") as file:
        file.write(f"{damage}\n")
    with pytest.raises(DataError, match=r"Line 2 of .* is damaged"):
        read_curves(run)


def test_line_that_a_killed_process_left_unended_does_not_count(tmp_path: Path) -> None:
    run = run_with(tmp_path / "a", {"phase": "train", "step": 1, "loss": 1.0})
    with (run.path / METRICS).open("a") as file:
        file.write('{"phase": "train", "st')
    assert read_curves(run).points["loss"][0].tolist() == [1]


def test_run_without_figures_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing yet"):
        read_curves(run_with(tmp_path / "a"))
    (tmp_path / "a" / METRICS).unlink()
    with pytest.raises(DataError, match="no readable"):
        read_curves(RunFolder(tmp_path / "a", "distill"))


def test_runs_of_one_name_are_told_apart(runs: Path, tmp_path: Path) -> None:
    (runs / "finetune" / "tiny").rename(runs / "finetune" / "student")
    both = [open_run(runs / command / "student") for command in ("distill", "finetune")]
    assert names_of(both) == ["distill/student", "finetune/student"]
