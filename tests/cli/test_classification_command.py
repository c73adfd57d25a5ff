"""Promises of classification on the command line: options, reports, and errors where another run is expected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_actions import OPTIONS, settings

from xmodal_cli.classify.training import classify
from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.data.prepared import PreparedData

Captured = pytest.CaptureFixture[str]
NO_OPTION = ("crop",)  # a setting for files


@pytest.fixture(scope="module")
def data(tiny_clips: PreparedData) -> PreparedData:
    return tiny_clips


@pytest.fixture(scope="module")
def runs(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished classifier; tests may add runs."""
    runs = tmp_path_factory.mktemp("classification") / "runs"
    classify(settings(data), runs=runs, name="tiny")
    return runs


def line(data: PreparedData, runs: Path, *more: str) -> list[str]:
    """The tiny training as words after `xmodal`."""
    words = ["finetune", "--task", "classification", "--data", str(data.root), "--runs", str(runs)]
    for option, value in OPTIONS.items():
        if option not in NO_OPTION:
            words += [f"--{option.replace('_', '-')}", str(value)]
    return [*words, *more]


def tiny(runs: Path) -> str:
    return str(runs / "classification" / "tiny")


def problem(capsys: Captured, *words: str) -> str:
    """What is said when a command is refused as bad usage."""
    assert xmodal([*words, "--json"]) == 2
    error: dict[str, Any] = json.loads(capsys.readouterr().out)["error"]
    return f"{error['message']} {error['hint']}"


def test_a_classifier_is_trained_reported_resumed_and_scored(
    data: PreparedData, tmp_path: Path, capsys: Captured
) -> None:
    assert xmodal(line(data, tmp_path, "--run-name", "here", "--hold-out", "0.25")) == 0
    told = capsys.readouterr()
    run = tmp_path / "classification" / "here"
    assert "accuracy on held-out images" in told.out
    assert f"xmodal finetune --data {data.root} --modality flow --init {run}" in told.err
    assert xmodal(["finetune", "--resume", str(run)]) == 0
    assert "finished already" in capsys.readouterr().err
    evaluate = ["evaluate", str(run), "--split", "test", "--device", "cpu", "--runs", str(tmp_path)]
    assert xmodal([*evaluate, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    results = document["results"]
    assert document["runs"] == [str(run)]
    assert (results["images"]["count"], results["clips"]["count"]) == (24, 6)
    assert results["images"]["interval_95"][0] <= results["images"]["accuracy"] <= results["images"]["interval_95"][1]
    assert results["images"]["by_class"]["wave"] is None
    assert xmodal(evaluate) == 0
    assert "95 % interval" in capsys.readouterr().out


def test_the_newest_classifier_is_scored_without_a_name(runs: Path, capsys: Captured) -> None:
    words = ["evaluate", "--task", "classification", "--split", "test", "--device", "cpu", "--runs", str(runs)]
    assert xmodal([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"]["task"] == "classification"


def test_a_dry_run_writes_nothing(data: PreparedData, tmp_path: Path, capsys: Captured) -> None:
    assert xmodal(line(data, tmp_path / "runs", "--dry-run", "--json")) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert (results["images"], results["left_out"]) == (48, {"without a class": 0})
    assert not (tmp_path / "runs").exists()


def test_pictures_of_a_classifier_are_drawn(data: PreparedData, runs: Path, tmp_path: Path, capsys: Captured) -> None:
    for kind in ("filters", "curves", "patches"):
        path = tmp_path / f"{kind}.png"
        assert xmodal(["visualize", kind, tiny(runs), "--out", str(path)]) == 0
        assert path.stat().st_size > 1000
    page = tmp_path / "report.html"
    assert xmodal(["visualize", "report", tiny(runs), "--no-pictures", "--out", str(page)]) == 0
    assert "classification" in page.read_text()


def test_a_classifier_of_colour_can_teach(data: PreparedData, tmp_path: Path) -> None:
    teacher = classify(settings(data, modality="rgb"), runs=tmp_path).run
    words = ["distill", "--teacher-run", str(teacher), "--student", "squeezenet1_1", "--modality", "flow", "--dry-run"]
    at = ["--transfer", "features.5:features.5", "--size", "48x64", "--batch-size", "2"]
    assert xmodal([*words, *at, "--data", str(data.root), "--device", "cpu"]) == 0


def test_what_belongs_to_detectors_is_refused(data: PreparedData, runs: Path, capsys: Captured) -> None:
    told = problem(capsys, *line(data, runs, "--regions", "8", "--pooling", "max"))
    assert "--regions, --pooling belongs to the training of a detector; a classifier looks at whole images" in told
    told = problem(capsys, "finetune", "--task", "detection", "--resume", tiny(runs))
    assert "is a run of --task classification" in told
    assert "--metric is not for classification" in problem(capsys, "evaluate", tiny(runs), "--metric", "coco")
    assert "--probe is not for classification" in problem(capsys, "evaluate", tiny(runs), "--probe")
    assert "is a run of a classifier" in problem(capsys, "evaluate", tiny(runs), "--task", "detection")


def test_a_classifier_is_refused_where_a_detector_is_expected(data: PreparedData, runs: Path, capsys: Captured) -> None:
    made_by = "`xmodal finetune --task classification`"
    image = str(data.path("flow", data.ids("test")[0]))
    assert made_by in problem(capsys, "predict", tiny(runs), image)
    assert made_by in problem(capsys, "visualize", "detections", tiny(runs))
    masks = problem(capsys, "finetune", "--task", "segmentation", "--init", tiny(runs), "--data", str(data.root))
    assert made_by in masks
    assert f"xmodal finetune --init {tiny(runs)}" in masks


def test_a_detector_is_refused_where_a_classifier_is_expected(
    data: PreparedData, runs: Path, tmp_path: Path, capsys: Captured
) -> None:
    detector = tmp_path / "finetune" / "some"
    detector.mkdir(parents=True)
    (detector / "config.yaml").write_text("command: finetune\nsettings: {}\n")
    for words in ([str(detector), "--task", "classification"], [tiny(runs), str(detector)]):
        told = problem(capsys, "evaluate", *words)
        assert f"{detector} is a run of `xmodal finetune`, not of `xmodal finetune --task classification`" in told
