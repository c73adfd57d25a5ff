"""Promises of `xmodal evaluate` for detectors: figures, files, comparisons, and no option that is quietly ignored."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from test_distill import refused, text_of
from tiny_detectors import METHOD, settings, with_proposals
from tiny_runs import settings as transfer_settings

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.finetune import finetune
from xmodal_cli.transfer.distill import distill

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def data(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return with_proposals(tiny_data, tmp_path_factory.mktemp("detection") / "data")


@pytest.fixture(scope="module")
def trained(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two finished runs: a transfer called student, and a detector called tiny, which finds something."""
    folder = tmp_path_factory.mktemp("runs")
    distill(transfer_settings(data, iterations=1), runs=folder, name="student")
    finetune(settings(data, iterations=20, lr=0.005, dropout=0.0, regions=32), runs=folder, name="tiny")
    return folder


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """The same folder for one test, with nothing evaluated yet."""
    for command in ("distill", "finetune"):
        (tmp_path / command).symlink_to(trained / command)
    return tmp_path


def line(runs: Path, *more: str) -> list[str]:
    return ["evaluate", *more, "--runs", str(runs), *([] if "--detections" in more else ["--device", "cpu"])]


def detector(runs: Path) -> str:
    return str(runs / "finetune" / "tiny")


def document(runs: Path, capsys: Captured, *more: str) -> dict[str, Any]:
    """The one document that the command prints."""
    assert xmodal([*line(runs, *more), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def evaluations(runs: Path) -> list[Path]:
    return sorted((runs / "evaluate").glob("*"))


def test_detector_is_scored_on_the_data_it_recorded_and_the_result_is_kept(
    data: PreparedData, runs: Path, capsys: Captured
) -> None:
    assert xmodal(line(runs, detector(runs))) == 0
    said = capsys.readouterr()
    (folder,) = evaluations(runs)
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "detections.json", "results.json"}
    results = json.loads((folder / "results.json").read_text())["results"]
    assert [text.split()[0] for text in said.out.splitlines()[-4:]] == [*data.classes, "mean"]
    assert said.out.splitlines()[-1].split()[1] == f"{results['mAP']:.1f}"
    assert f"kept in {folder}" in said.err
    assert "leaves out never" in said.err
    assert "warning" not in said.err


def test_json_is_one_document(data: PreparedData, runs: Path, capsys: Captured) -> None:
    assert xmodal([*line(runs, detector(runs)), "--json", "-q"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    found = json.loads(said.out)
    assert list(found) == ["command", "runs", "data", "split", "results"]
    assert (found["command"], found["runs"], found["split"]) == ("evaluate", [detector(runs)], "val")
    assert found["data"] == str(data.root)
    results = found["results"]
    assert results["metric"] == "voc"
    assert 20 < results["mAP"] <= 100
    assert list(results["AP"]) == list(data.classes)
    assert results["AP"]["never"] is None
    kept = json.loads((evaluations(runs)[0] / "results.json").read_text())["results"]
    assert {name: results[name] for name in kept} == kept


def test_detections_file_gives_the_very_same_figures(data: PreparedData, runs: Path, capsys: Captured) -> None:
    first = document(runs, capsys, detector(runs))["results"]
    file = f"{first['folder']}/detections.json"
    again = document(runs, capsys, "--detections", file, "--data", str(data.root))
    own = ("subject", "folder", "seconds_per_image")
    assert {name: value for name, value in again["results"].items() if name not in own} == {
        name: value for name, value in first.items() if name not in own
    }
    assert again["runs"] == []


def test_bare_evaluate_scores_or_probes_the_newest_finished_run(runs: Path, capsys: Captured) -> None:
    cards = {name: runs / name / "latest" / "card.json" for name in ("distill", "finetune")}
    for newest, older, wanted in (("finetune", "distill", "AP"), ("distill", "finetune", "probe")):
        os.utime(cards[older], (1_000, 1_000))
        os.utime(cards[newest], (2_000, 2_000))
        found = document(runs, capsys)
        assert wanted in found["results"]
        assert Path(found["runs"][0]).parent.name == newest


def test_several_runs_are_fused_and_all_of_them_named(runs: Path, capsys: Captured) -> None:
    alone = document(runs, capsys, detector(runs))
    fused = document(runs, capsys, detector(runs), detector(runs))
    assert fused["runs"] == [detector(runs)] * 2
    assert fused["results"]["AP"] == alone["results"]["AP"]


def test_classes_won_against_an_earlier_evaluation_are_counted(runs: Path, capsys: Captured) -> None:
    first = document(runs, capsys, detector(runs))["results"]
    folder = Path(first["folder"])
    kept = json.loads((folder / "results.json").read_text())
    kept["results"]["AP"] = {"near": first["AP"]["near"] - 4.0, "far": first["AP"]["far"] + 4.0, "never": None}
    kept["results"]["mAP"] = 12.3
    (folder / "results.json").write_text(json.dumps(kept))
    won = document(runs, capsys, detector(runs), "--against", str(folder))["results"]["against"]
    assert (won["won"], won["lost"], won["tied"], won["mAP"]) == (1, 1, 0, 12.3)
    assert won["by_class"] == {"near": 4.0, "far": -4.0}
    assert xmodal(line(runs, detector(runs), "--against", str(folder))) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[-1].split() == ["1", "1", "0", f"{first['mAP']:.1f}", "12.3"]


def test_papers_figures_stand_beside(runs: Path, capsys: Captured) -> None:
    assert xmodal(line(runs, detector(runs), "--paper", "table1/1C")) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "paper" in shown[-5].split()
    assert shown[-1].split()[-1] == "29.7"
    found = document(runs, capsys, detector(runs), "--paper", "table5/D")["results"]["paper"]
    assert (found["row"], found["bed"]) == ("table5/D", 59.4)


def test_coco_metric_is_said_with_its_own_figures(runs: Path, capsys: Captured) -> None:
    results = document(runs, capsys, detector(runs), "--metric", "coco")["results"]
    assert results["metric"] == "coco"
    assert 0 < results["mAP"] <= results["AP50"] <= 100
    kept = json.loads((Path(results["folder"]) / "results.json").read_text())
    assert kept["metric"] == "coco"


def test_what_was_learned_from_is_warned_of_even_when_quiet(runs: Path, capsys: Captured) -> None:
    assert xmodal([*line(runs, detector(runs), "--split", "train+val"), "-q"]) == 0
    assert "learned from 22 of the 28 images scored" in capsys.readouterr().err
    found = document(runs, capsys, detector(runs), "--split", "train", "--size", "48")
    assert found["split"] == "train"
    assert found["results"]["notes"] == ["tiny learned from 22 of the 22 images scored."]


RUN, FILE, DATA, STUDENT = "RUN", "FILE", "DATA", "STUDENT"  # stand for paths that a test has


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([RUN, "--probe"], "finetune"),
        ([RUN, "--layer", "features.3"], "--layer"),
        ([RUN, "--train-split", "train"], "--train-split"),
        ([RUN, "--init", "random"], "a run"),
        ([RUN, "--backbone", "alexnet"], "--backbone"),
        ([RUN, "--modality", "disparity"], "--modality"),
        ([RUN, "--seed", "0"], "--seed"),
        ([RUN, "--detections", FILE], "a run"),
        ([RUN, "--size", "0"], "--size"),
        ([RUN, "--metric", "vok"], "voc"),
        ([RUN, "--proposals", "tinny"], METHOD),
        ([RUN, "--class", "near"], "DETECTOR_NAME=DATA_NAME"),
        ([RUN, "--class", "nea=far"], "has no class 'nea'"),
        ([RUN, "--split", "vall"], "val"),
        ([RUN, "--paper", "table1/1Z"], "1Z"),
        ([RUN, "--paper", "table1"], "table1"),
        ([RUN, "--paper", "table99/1A"], "table99"),
        ([RUN, STUDENT], "distill"),
        ([STUDENT, STUDENT], "one distill run"),
        ([STUDENT, "--metric", "voc"], "--metric"),
        ([STUDENT, "--size", "64"], "--size"),
        ([STUDENT, "--paper", "table1/1C"], "--paper"),
        (["--detections", FILE, "--data", DATA, "--probe"], "--probe"),
        (["--detections", FILE, "--data", DATA, "--init", "random"], "--init"),
        (["--detections", FILE, "--data", DATA, "--proposals", METHOD], "--proposals"),
        (["--detections", FILE, "--data", DATA, "--size", "64"], "--size"),
        (["--detections", FILE, "--data", DATA, "--class", "near=far"], "--class"),
        (["--init", "geometry", "--data", DATA, "--metric", "voc"], "--metric"),
    ],
)
def test_options_that_do_not_belong_are_refused_before_anything_is_done(
    words: list[str], named: str, data: PreparedData, runs: Path, capsys: Captured
) -> None:
    (runs / "found.json").write_text("[]")
    stand_for = {
        RUN: detector(runs),
        FILE: str(runs / "found.json"),
        DATA: str(data.root),
        STUDENT: str(runs / "distill" / "student"),
    }
    error = refused(line(runs, *(stand_for.get(word, word) for word in words)), 2, capsys)
    assert named in text_of(error)
    assert evaluations(runs) == []


def test_earlier_evaluation_that_cannot_be_compared_is_found_before_detecting(runs: Path, capsys: Captured) -> None:
    error = refused(line(runs, detector(runs), "--against", str(runs / "nowhere")), 3, capsys)
    assert "no evaluation of a detector" in error["message"]
    assert evaluations(runs) == []


def test_data_set_without_the_runs_modality_is_bad_usage_and_another_encoding_bad_data(
    data: PreparedData, runs: Path, tmp_path: Path, capsys: Captured
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for entry in data.root.iterdir():
        if entry.name != "dataset.json":
            (other / entry.name).symlink_to(entry)
    document = json.loads((data.root / "dataset.json").read_text())
    described = document["modalities"].pop("disparity")
    for changed, code in ((None, 2), ({**described, "encoding": "otherwise"}, 3)):
        if changed:
            document["modalities"]["disparity"] = changed
        (other / "dataset.json").write_text(json.dumps(document))
        error = refused(line(runs, detector(runs), "--data", str(other)), code, capsys)
        assert "disparity" in error["message"]
