"""Promises of `xmodal visualize`: a picture where it is said to be, figures as JSON, errors that name the way on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from test_distill import refused, text_of
from tiny_detectors import settings, with_proposals
from tiny_runs import settings as transfer_settings

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.data.images import read_rgb, write_png
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.finetune import finetune
from xmodal_cli.pictures.canvas import blank
from xmodal_cli.transfer.distill import distill

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def runs(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two finished runs: a transfer called student, and a newer detector called tiny."""
    folder = tmp_path_factory.mktemp("looked")
    data = with_proposals(tiny_data, folder / "data")
    distill(transfer_settings(data, iterations=1), runs=folder / "runs", name="student")
    finetune(settings(data, iterations=2), runs=folder / "runs", name="tiny")
    os.utime(folder / "runs" / "distill" / "student" / "card.json", (1_000, 1_000))
    return folder / "runs"


def document(capsys: Captured, *words: str) -> dict[str, Any]:
    """The one document that the command prints."""
    assert xmodal(["visualize", *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize(
    ("what", "expected", "newest"),
    [
        ("filters", "relative_change", "tiny"),
        ("curves", "curves", "tiny"),
        ("features", "explained_variance", "student"),
        ("patches", "units", "tiny"),
        ("detections", "scenes", "tiny"),
    ],
)
def test_each_draws_the_newest_run_into_its_folder(
    what: str, expected: str, newest: str, runs: Path, capsys: Captured
) -> None:
    words = [what, "--runs", str(runs)]
    found = document(capsys, *words)
    assert found["command"] == f"visualize {what}"
    (run,) = found["runs"]
    path = Path(found["results"]["picture"])
    assert (Path(run).name, path) == (newest, Path(run) / "pictures" / f"{what}.png")
    assert expected in found["results"]
    before = read_rgb(path)
    assert xmodal(["visualize", *words, "-q"]) == 0  # again: its own picture is renewed, and the same
    said = capsys.readouterr()
    assert (read_rgb(path) == before).all()
    assert said.out.splitlines()[-1] == str(path)
    assert said.err == ""


def test_report_is_one_page_for_several_runs(runs: Path, tmp_path: Path, capsys: Captured) -> None:
    named = [str(runs / "distill" / "student"), str(runs / "finetune" / "tiny")]
    out = tmp_path / "deep" / "both.html"
    found = document(capsys, "report", *named, "--no-pictures", "--out", str(out))
    assert found["runs"] == named
    assert found["results"] == {
        "report": str(out),
        "sections": ["Runs", "Settings", "Training"],
        "left_out": [],
    }
    assert "<h1>student, tiny</h1>" in out.read_text()


def test_what_somebody_else_put_there_is_left_alone(runs: Path, tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "mine.png"
    write_png(path, blank(4, 4))
    before = path.read_bytes()
    error = refused(["visualize", "curves", "--runs", str(runs), "--out", str(path)], 2, capsys)
    assert "did not make it" in error["message"]
    assert path.read_bytes() == before


RUN, STUDENT, FILE = "RUN", "STUDENT", "FILE"


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["filters", "no/such/run"], 2, "no run at"),
        (["filters", RUN, "another/run"], 2, "argument"),
        (["features", RUN], 2, "xmodal distill"),
        (["features", STUDENT, "--layer", "features.55"], 2, "features.5"),
        (["features", STUDENT, "--layer", "features.3"], 2, "no transfer point"),
        (["patches", STUDENT, "--units", "3,x"], 2, "--units"),
        (["patches", STUDENT, "--units", "999"], 2, "0 to 127"),
        (["patches", STUDENT, "--split", "vall"], 2, "'val'"),
        (["detections", STUDENT], 2, "finds no objects"),
        (["detections", RUN, "--ids", "atic/01"], 2, "attic/01"),
        (["detections", "--detections", FILE], 2, "--out"),
        (["detections", RUN, "--detections", FILE, "--out", "x.png"], 2, "no run"),
        (["report", RUN, "--paper", "table1/9Z"], 2, "9Z"),
    ],
)
def test_bad_words_are_refused_with_the_way_on(
    words: list[str], code: int, named: str, runs: Path, tmp_path: Path, capsys: Captured
) -> None:
    stand_for = {RUN: runs / "finetune" / "tiny", STUDENT: runs / "distill" / "student", FILE: tmp_path / "f.json"}
    line = ["visualize", *(str(stand_for.get(word, word)) for word in words), "--runs", str(runs)]
    assert named in text_of(refused(line, code, capsys))


def test_run_that_is_not_finished_has_curves_only(runs: Path, tmp_path: Path, capsys: Captured) -> None:
    cut = tmp_path / "distill" / "cut"
    cut.mkdir(parents=True)
    for name in ("config.yaml", "metrics.jsonl"):
        (cut / name).write_bytes((runs / "distill" / "student" / name).read_bytes())
    assert len(document(capsys, "curves", str(cut))["results"]["curves"]) == 1
    for what in ("filters", "features", "patches"):
        error = refused(["visualize", what, str(cut)], 3, capsys)
        assert "not finished" in error["message"]
        assert "--resume" in str(error["hint"])
