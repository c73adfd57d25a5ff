"""Promises of `xmodal export`: one document, nothing overwritten unasked, a next step, words for what fails."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import tiny_detectors
import tiny_runs
from test_distill import refused
from tiny_detectors import with_proposals

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.finetune import finetune
from xmodal_cli.transfer.distill import distill

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    return distill(tiny_runs.settings(tiny_data, iterations=1), runs=runs, name="tiny").run


def test_one_document_says_what_lies_where(run: Path, tmp_path: Path, capsys: Captured) -> None:
    assert xmodal(["export", str(run), "--runs", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    folder = tmp_path / "export" / "tiny-safetensors"
    assert document["runs"] == [str(run)]
    assert document["results"]["folder"] == str(folder)
    assert {path.name for path in folder.iterdir()} == set(document["results"]["files"])
    assert document["results"]["load"] == json.loads((folder / "card.json").read_text())["load"]


def test_a_dry_run_builds_everything_and_writes_nothing(run: Path, tmp_path: Path, capsys: Captured) -> None:
    assert xmodal(["export", str(run), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "model.safetensors" in said.out
    assert "nothing was written" in said.err
    assert not (tmp_path / "out").exists()


def test_only_an_earlier_export_is_replaced_and_only_when_asked(run: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "out"
    line = ["export", str(run), "--out", str(out)]
    assert xmodal([*line, "--adapter"]) == 0
    capsys.readouterr()
    assert "--overwrite" in str(refused(line, 2, capsys)["hint"])
    assert xmodal([*line, "--overwrite"]) == 0
    assert {path.name for path in out.iterdir()} == {"model.safetensors", "card.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    capsys.readouterr()
    (out / "thesis.tex").write_text("years of work")
    assert "something else than an export" in refused([*line, "--overwrite"], 2, capsys)["message"]
    assert (out / "thesis.tex").read_text() == "years of work"


def test_a_detector_begins_with_an_exported_file_as_with_the_run(
    run: Path, tiny_data: PreparedData, tmp_path: Path, capsys: Captured
) -> None:
    assert xmodal(["export", str(run), "--out", str(tmp_path / "out")]) == 0
    step = re.search(r"Next: (.*)", capsys.readouterr().err)
    assert step is not None
    words = shlex.split(step[1])
    file = words[words.index("--init") + 1]
    assert words[words.index("--backbone") + 1] == "squeezenet1_1"
    data = with_proposals(tiny_data, tmp_path / "data")
    made = [
        finetune(tiny_detectors.settings(data, init=init, iterations=1), runs=tmp_path, name=name).run
        for name, init in (("from-run", str(run)), ("from-file", file))
    ]
    tiny_detectors.assert_same_detector(*made)
    inputs = [json.loads((each / "card.json").read_text())["branches"][0]["backbone"]["input"] for each in made]
    assert inputs[0] == inputs[1]


def test_no_option_is_ignored_and_the_hint_works(run: Path, tmp_path: Path, capsys: Captured) -> None:
    for number, options in enumerate(
        [
            ["--format", "timm"],  # which has no squeezenet
            ["--format", "timm", "--adapter"],
            ["--size", "64x80"],
            ["--size", "64x80", "--adapter"],
        ]
    ):
        hint = refused(["export", str(run), *options, "--out", str(tmp_path / "out")], 2, capsys)["hint"]
        words = shlex.split(hint[hint.index("xmodal export") :])[1:]
        assert xmodal([*words, "--out", str(tmp_path / str(number))]) == 0
        assert (tmp_path / str(number) / "adapter.safetensors").exists() == ("--adapter" in options)
        capsys.readouterr()
    assert (
        "would change nothing"
        in refused(["export", str(run), "--format", "timm", "--size", "9x9"], 2, capsys)["message"]
    )


def test_what_cannot_be_exported_is_said(run: Path, tmp_path: Path, capsys: Captured) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert "Did you mean 'onnx'?" in refused(["export", str(run), "--format", "onix", *out], 2, capsys)["hint"]
    assert "no run at" in refused(["export", str(tmp_path / "nowhere"), *out], 2, capsys)["message"]
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.yaml").write_text("command: distill\nsettings: {}\n")
    assert "not finished" in refused(["export", str(tmp_path / "half"), *out], 3, capsys)["message"]
    (tmp_path / "half" / "config.yaml").write_text("command: evaluate\nsettings: {}\n")
    assert "leaves no network" in refused(["export", str(tmp_path / "half"), *out], 2, capsys)["message"]
    assert not (tmp_path / "out").exists()
