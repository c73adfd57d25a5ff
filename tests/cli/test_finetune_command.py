"""Promises of `xmodal finetune`: help with examples, one JSON document, exit codes, a dry run that writes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_distill import change, refused, text_of
from tiny_detectors import OPTIONS, assert_same_detector, with_proposals, words
from tiny_runs import steps_in_metrics

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.data.prepared import PreparedData

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def data(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return with_proposals(tiny_data, tmp_path_factory.mktemp("detection") / "data")


def test_help_has_examples_and_every_default_it_names_is_the_default(capsys: Captured) -> None:
    from xmodal_cli.detect.settings import FinetuneSettings

    assert xmodal(["finetune", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "xmodal finetune --data data/nyud2 --modality hha --init runs/distill/latest" in shown
    assert "xmodal evaluate runs/finetune/latest" in shown
    defaults = FinetuneSettings(data="x")
    for option in ("init", "size", "pooling", "regions", "foreground", "dropout", "features", "modality", "stem"):
        _, _, after = shown.partition(f"--{option} ")
        said = after.partition("[default: ")[2].partition("]")[0].split(";")[0]
        value = getattr(defaults, option)
        assert said == (f"{value:g}" if isinstance(value, float) else str(value)), option


def test_run_ends_with_a_table_and_one_next_step(data: PreparedData, tmp_path: Path, capsys: Captured) -> None:
    assert xmodal(words(data, tmp_path, "tiny", hold_out=0.2)) == 0
    said = capsys.readouterr()
    assert "mAP on held-out images" in said.out
    assert f"xmodal evaluate {tmp_path / 'finetune' / 'tiny'} --split val" in said.err
    assert "images" in said.err


def test_json_is_one_document_and_quiet_is_quiet(data: PreparedData, tmp_path: Path, capsys: Captured) -> None:
    assert xmodal([*words(data, tmp_path, "tiny", hold_out=0.2), "--json", "-q"]) == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["command"] == "finetune"
    assert document["runs"] == [str(tmp_path / "finetune" / "tiny")]
    assert document["split"] == "train"
    assert document["results"]["finished"] is True
    assert isinstance(document["results"]["metrics"]["mAP"], float)
    assert said.err == ""


def test_dry_run_writes_nothing(data: PreparedData, tmp_path: Path, capsys: Captured, own_cache: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in data.root.rglob("*")}
    line = [*words(data, tmp_path, "x"), "--dry-run"]
    assert xmodal(line) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert xmodal([*line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["results"]
    assert found["images"] == 22
    assert found["settings"]["head"] == [16, 12]
    assert not (tmp_path / "finetune").exists()
    assert not own_cache.exists()
    assert {path: path.stat().st_mtime_ns for path in data.root.rglob("*")} == before
    assert "--devices" in text_of(refused([*line, "--devices", "2"], 2, capsys))


def test_config_of_a_run_reproduces_it(data: PreparedData, tmp_path: Path) -> None:
    assert xmodal(words(data, tmp_path, "one")) == 0
    one = tmp_path / "finetune" / "one"
    again = ["finetune", "--config", str(one / "config.yaml"), "--runs", str(tmp_path), "--run-name", "two"]
    assert xmodal(again) == 0
    assert_same_detector(one, tmp_path / "finetune" / "two")


def test_options_win_over_the_file_and_the_file_over_the_preset(
    data: PreparedData, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "tiny.yaml").write_text("head: [16, 12]\nmomentum: 0.25\nweight_decay: 0.125\n")
    line = words(data, tmp_path, "x", weight_decay="0.5")
    assert xmodal([*line, "--preset", "paper", "--dry-run", "--json"]) == 0
    used = json.loads(capsys.readouterr().out)["results"]["settings"]
    assert (used["momentum"], used["weight_decay"], used["bias_lr"], used["head"]) == (0.25, 0.5, 2.0, [16, 12])


def test_resuming_says_what_there_is_to_do(data: PreparedData, tmp_path: Path, capsys: Captured) -> None:
    assert xmodal(words(data, tmp_path, "tiny")) == 0
    run = tmp_path / "finetune" / "tiny"
    capsys.readouterr()
    assert xmodal(["finetune", "--resume", str(tmp_path / "finetune" / "latest")]) == 0
    assert "finished already" in capsys.readouterr().err
    error = refused(["finetune", "--resume", str(run), "--regions", "9", "--lr", "0.5"], 2, capsys)
    assert "regions was 16, now 9" in error["message"]
    assert "lr was 0.001, now 0.5" in error["message"]
    for option in (["--overwrite"], ["--dry-run"], ["--preset", "small"], ["--run-name", "x"]):
        assert option[0] in refused(["finetune", "--resume", str(run), *option], 2, capsys)["message"]
    (run / "card.json").unlink()  # as if killed before the last file
    assert xmodal(["finetune", "--resume", str(run)]) == 0
    assert (run / "card.json").is_file()


def test_used_name_is_refused_and_overwrite_replaces(data: PreparedData, tmp_path: Path, capsys: Captured) -> None:
    line = words(data, tmp_path, "tiny")
    assert xmodal(line) == 0
    capsys.readouterr()
    assert "--overwrite" in refused(line, 2, capsys)["hint"]
    assert xmodal([*change(line, iterations="2"), "--overwrite"]) == 0
    assert steps_in_metrics(tmp_path / "finetune" / "tiny") == [2]


def test_wrong_settings_end_with_2_wrong_data_with_3(
    data: PreparedData, tiny_data: PreparedData, tmp_path: Path, capsys: Captured
) -> None:
    line = words(data, tmp_path, "x")
    assert "disparity" in text_of(refused(change(line, modality="disprity"), 2, capsys))
    assert "xmodal prepare proposals" in text_of(refused(words(tiny_data, tmp_path, "x"), 2, capsys))
    assert "xmodal prepare" in text_of(refused(words(tmp_path / "absent", tmp_path, "x"), 3, capsys))
    assert not (tmp_path / "finetune").exists()


def test_diverged_run_ends_with_its_own_exit_code(data: PreparedData, tmp_path: Path, capsys: Captured) -> None:
    assert xmodal(words(data, tmp_path, "wild", lr="1e30", warmup="0", optimiser="sgd", iterations="20")) == 5
    assert "diverged.json" in capsys.readouterr().err
    found = json.loads((tmp_path / "finetune" / "wild" / "diverged.json").read_text())
    assert len(found["ids"]) == 2


def test_every_option_of_the_tests_is_one_of_the_command(capsys: Captured) -> None:
    assert xmodal(["finetune", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"--{name.replace('_', '-')}" in shown for name in OPTIONS)
