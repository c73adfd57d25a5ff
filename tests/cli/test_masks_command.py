"""Promises of the commands for masks: trained, scored and drawn by the lines of the help; no option is ignored."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from test_distill import refused
from tiny_detectors import settings

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.finetune import finetune

sys.path.append(str(Path(__file__).parents[1] / "detect"))
from masked_data import with_masks

Captured = pytest.CaptureFixture[str]
CALM = ("--device", "cpu", "--threads", "1", "--workers", "0", "--precision", "fp32")


@pytest.fixture(scope="module")
def data(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return with_masks(tiny_data, tmp_path_factory.mktemp("masks") / "data")


@pytest.fixture(scope="module")
def runs(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector, and masks on it made by the command."""
    folder = tmp_path_factory.mktemp("runs")
    finetune(settings(data, iterations=20, lr=0.005, regions=32), runs=folder, name="tiny")
    assert xmodal(masks_line(data, folder, "--iterations", "4", "--batch-size", "2", "--run-name", "tiny", "-q")) == 0
    return folder


def masks_line(data: PreparedData, runs: Path, *more: str) -> list[str]:
    begun = ["finetune", "--task", "segmentation", "--init", str(runs / "finetune" / "tiny"), "--data", str(data.root)]
    return [*begun, "--modality", "disparity", "--runs", str(runs), *CALM, *more]


def said(capsys: Captured) -> str:
    """All that a person sees, without the breaks of lines."""
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


def problem(capsys: Captured, *line: str) -> str:
    """What a refused line is told, with the hint."""
    error = refused(list(line), 2, capsys)
    return f"{error['message']} {error['hint']}"


def mask_run(runs: Path) -> str:
    return str(runs / "segmentation" / "tiny")


def test_the_task_is_known_from_the_run(runs: Path, capsys: Captured) -> None:
    for more in ((), ("--task", "segmentation")):
        line = ["evaluate", mask_run(runs), *more, "--split", "val", "--device", "cpu", "--runs", str(runs), "--json"]
        assert xmodal(line) == 0
        results: dict[str, Any] = json.loads(capsys.readouterr().out)["results"]
        assert results["metric"] == "region"
        assert set(results["mAP_r"]) == {"0.5", "0.7"}
        assert results["superpixels"] == "computed"


def test_the_newest_masks_are_scored_without_a_name(runs: Path, capsys: Captured) -> None:
    line = ["evaluate", "--task", "segmentation", "--no-superpixels", "--device", "cpu", "--runs", str(runs)]
    assert xmodal(line) == 0
    told = said(capsys)
    assert "AP^r 0.5" in told
    assert "visualize detections" in told


def test_a_finished_run_is_resumed_without_naming_its_task(runs: Path, capsys: Captured) -> None:
    assert xmodal(["finetune", "--resume", mask_run(runs)]) == 0
    assert "finished already" in said(capsys)


def test_pictures_of_masks_are_drawn(runs: Path, tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "masks.png"
    line = ["visualize", "detections", mask_run(runs), "--count", "1", "--device", "cpu", "--out", str(path)]
    assert xmodal([*line, "--least-score", "0"]) == 0
    assert path.stat().st_size > 1000


def test_a_dry_run_tells_what_would_be(data: PreparedData, runs: Path, capsys: Captured) -> None:
    assert xmodal(masks_line(data, runs, "--dry-run", "--features", "fc7")) == 0
    assert "nothing was written" in said(capsys)


def test_what_belongs_to_a_detector_is_refused(data: PreparedData, runs: Path, capsys: Captured) -> None:
    assert "--regions, --pooling" in problem(capsys, *masks_line(data, runs, "--regions", "8", "--pooling", "max"))
    assert "'segment' is not one of" in problem(capsys, "finetune", "--task", "segment")
    assert "is a run of --task segmentation" in problem(
        capsys, "finetune", "--task", "detection", "--resume", mask_run(runs)
    )


def test_evaluations_that_make_no_sense_are_refused(runs: Path, capsys: Captured) -> None:
    detector = str(runs / "finetune" / "tiny")
    told = problem(capsys, "evaluate", detector, "--task", "segmentation")
    assert "gives no masks" in told
    assert f"xmodal finetune --task segmentation --init {detector}" in told
    assert "is for masks" in problem(capsys, "evaluate", detector, "--no-superpixels")
    assert "is a run of masks" in problem(capsys, "evaluate", mask_run(runs), "--task", "detection")
    assert "between 0 and 1" in problem(capsys, "evaluate", mask_run(runs), "--mask-threshold", "2")
    assert "--metric is not for masks" in problem(capsys, "evaluate", mask_run(runs), "--metric", "coco")
