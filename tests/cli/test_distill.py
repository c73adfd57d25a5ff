"""Promises of `xmodal distill`: errors with their exit codes, one JSON document, resuming, nothing lost."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from tiny_runs import (
    CUT_SHORT,
    OPTIONS,
    assert_same_student,
    cut_short,
    finish,
    make_tiny_data,
    settings,
    start,
    steps_in_metrics,
    words,
)
from warm_processes import fork

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.folder.prepare import FolderSettings, prepare_folder
from xmodal_cli.transfer.distill import distill

Captured = pytest.CaptureFixture[str]


def refused(arguments: list[str], code: int, capsys: Captured) -> dict[str, Any]:
    """The error that a command ends with, after comparing its exit code; the same with and without `--json`."""
    assert xmodal(arguments) == code
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert said.out == ""
    assert xmodal([*arguments, "--json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["code"] == code
    words_said = " ".join(said.err.split())
    assert " ".join(document["error"]["message"].split()) in words_said
    error: dict[str, Any] = document["error"]
    return error


def text_of(error: dict[str, Any]) -> str:
    return f"{error['message']} {error['hint']}"


def change(line: list[str], **options: str) -> list[str]:
    """The same words with other values for some options."""
    changed = list(line)
    for option, value in options.items():
        changed[changed.index(f"--{option.replace('_', '-')}") + 1] = value
    return changed


def test_run_ends_with_a_table_and_one_next_step(tiny_data: PreparedData, tmp_path: Path, capsys: Captured) -> None:
    assert xmodal(words(tiny_data, tmp_path, "tiny")) == 0
    said = capsys.readouterr()
    assert "explained variance" in said.out
    assert f"xmodal evaluate {tmp_path / 'distill' / 'tiny'} --probe" in said.err
    assert "features.5:features.5" in said.err


def test_json_is_one_document_and_quiet_is_quiet(tiny_data: PreparedData, tmp_path: Path, capsys: Captured) -> None:
    assert xmodal([*words(tiny_data, tmp_path, "tiny"), "--json", "-q"]) == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["command"] == "distill"
    assert document["runs"] == [str(tmp_path / "distill" / "tiny")]
    assert document["results"]["finished"] is True
    assert isinstance(document["results"]["explained_variance"], float)
    assert said.err == ""


def test_process_says_nothing_of_its_own_accord_when_quiet(tiny_data: PreparedData, tmp_path: Path) -> None:
    """Nor do the libraries: a real process with workers and a cache."""
    line = words(tiny_data, tmp_path, "tiny", cache="on", crop="0.5", workers=1)
    output, talk = finish(start([*line, "--json", "-q"], tmp_path / "cache"))
    assert json.loads(output)["results"]["finished"] is True
    assert talk == ""


@pytest.mark.parametrize(
    ("option", "value", "near"),
    [
        ("modality", "disprity", "disparity"),
        ("teacher", "squeezenet1_0x", "squeezenet1_0"),
        ("student", "resnet18x", "resnet18"),
        ("transfer", "features.55:features.5", "features.5"),
        ("transfer", "features.5=heavy", "xmodal layers"),
        ("teacher_weights", "imagnet", "imagenet"),
        ("cache", "of", "off"),
        ("size", "64by80", "HEIGHTxWIDTH"),
        ("precision", "fp8", "bf16"),
        ("device", "gpu", "cuda"),
    ],
)
def test_misspelt_names_are_refused_with_the_closest(
    option: str, value: str, near: str, tiny_data: PreparedData, tmp_path: Path, capsys: Captured
) -> None:
    error = refused(change(words(tiny_data, tmp_path, "x"), **{option: value}), 2, capsys)
    assert value.split(":")[0].split("=")[0] in error["message"]
    assert near in text_of(error)
    assert not (tmp_path / "distill").exists()


def test_all_wrong_settings_are_named_at_once(tiny_data: PreparedData, tmp_path: Path, capsys: Captured) -> None:
    line = words(tiny_data, tmp_path, "x", loss="l3", lr="-1", optimiser="adm", normalise="chanel")
    error = refused(change(line, batch_size="0"), 2, capsys)
    for option in ("--loss", "--lr", "--optimiser", "--normalise", "--batch-size"):
        assert option in error["message"]


def test_unknown_split_is_refused(tiny_data: PreparedData, tmp_path: Path, capsys: Captured) -> None:
    assert "train" in text_of(refused(words(tiny_data, tmp_path, "x", split="trian"), 2, capsys))


@pytest.mark.parametrize("arguments", [["distill", "--itterations", "3"], ["distil"], ["distill", "--lr", "fast"]])
def test_usage_errors_are_documents_too(arguments: list[str], capsys: Captured) -> None:
    assert xmodal(arguments) == 2
    assert capsys.readouterr().out == ""
    assert xmodal([*arguments, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == 2


def test_missing_data_names_the_three_ways_on(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    error = refused(["distill"], 3, capsys)
    assert "data/nyud2" in error["message"]
    for way in ("xmodal prepare", "--data", "XMODAL_DATA"):
        assert way in error["hint"]


def test_data_set_named_by_the_environment_is_used(
    tiny_data: PreparedData, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XMODAL_DATA", str(tiny_data.root))
    line = [word for word in words(tiny_data, tmp_path, "x") if word not in ("--data", str(tiny_data.root))]
    assert xmodal([*line, "--dry-run"]) == 0


def test_download_without_a_network_is_refused_with_what_to_do(
    tiny_data: PreparedData, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_ENDPOINT", closed)
        line = words(tiny_data, tmp_path, "x", teacher="resnet18", teacher_weights="imagenet", transfer=())
        error = refused(line, 4, capsys)
    assert closed in error["message"]
    assert "--teacher-weights" in error["hint"]
    assert not (tmp_path / "distill").exists()


def test_weights_that_hold_code_or_nothing_are_refused(
    tiny_data: PreparedData, tmp_path: Path, capsys: Captured
) -> None:
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "touched").encode() + b"'\ntR.")
    for option in ("teacher_weights", "init"):
        refused(words(tiny_data, tmp_path, "x", **{option: str(bad)}), 3, capsys)
    assert not (tmp_path / "touched").exists()


def test_used_name_is_refused_and_overwrite_replaces(tiny_data: PreparedData, tmp_path: Path, capsys: Captured) -> None:
    line = words(tiny_data, tmp_path, "tiny")
    assert xmodal(line) == 0
    capsys.readouterr()
    error = refused(line, 2, capsys)
    assert "--resume" in error["hint"]
    assert "--overwrite" in error["hint"]
    assert xmodal([*change(line, iterations="2"), "--overwrite"]) == 0
    assert steps_in_metrics(tmp_path / "distill" / "tiny") == [2]


def test_resuming_a_finished_run_says_so(tiny_data: PreparedData, tmp_path: Path, capsys: Captured) -> None:
    assert xmodal(words(tiny_data, tmp_path, "tiny")) == 0
    capsys.readouterr()
    assert xmodal(["distill", "--resume", str(tmp_path / "distill" / "latest")]) == 0
    assert "finished already" in capsys.readouterr().err
    assert xmodal(["distill", "--resume", str(tmp_path / "distill" / "tiny"), "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["results"]["iterations"] == 4


def test_what_is_no_run_of_distill_cannot_be_resumed(tiny_data: PreparedData, tmp_path: Path, capsys: Captured) -> None:
    assert "no run" in refused(["distill", "--resume", str(tmp_path / "absent")], 2, capsys)["message"]
    assert "not a run" in refused(["distill", "--resume", str(tiny_data.root)], 2, capsys)["message"]
    other = tmp_path / "runs" / "finetune" / "x"
    other.mkdir(parents=True)
    (other / "config.yaml").write_text("command: finetune\nsettings: {}\n")
    assert "xmodal finetune" in refused(["distill", "--resume", str(other)], 2, capsys)["message"]


def test_resume_with_changed_settings_shows_the_difference(
    tiny_data: PreparedData, tmp_path: Path, capsys: Captured
) -> None:
    assert xmodal(words(tiny_data, tmp_path, "tiny")) == 0
    capsys.readouterr()
    again = ["distill", "--resume", str(tmp_path / "distill" / "tiny")]
    error = refused([*again, "--lr", "0.5", "--batch-size", "9"], 2, capsys)
    assert "lr was 0.001, now 0.5" in error["message"]
    assert "batch_size was 4, now 9" in error["message"]
    for option in (["--overwrite"], ["--dry-run"], ["--preset", "small"], ["--run-name", "x"]):
        assert option[0] in refused([*again, *option], 2, capsys)["message"]


def test_resume_takes_the_runs_own_data_whatever_the_environment_says(
    tiny_data: PreparedData, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert xmodal(words(tiny_data, tmp_path, "tiny")) == 0
    monkeypatch.setenv("XMODAL_DATA", str(tmp_path / "elsewhere"))
    assert xmodal(["distill", "--resume", str(tmp_path / "distill" / "tiny")]) == 0


def test_run_can_be_resumed_from_another_folder(
    tiny_data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_data.root.parent)
    assert xmodal(words(Path(tiny_data.root.name), tmp_path, "tiny")) == 0
    run = tmp_path / "distill" / "tiny"
    (run / "card.json").unlink()  # as if killed before the last file
    monkeypatch.chdir(tmp_path)
    assert xmodal(["distill", "--resume", str(run)]) == 0
    assert (run / "card.json").exists()


def test_data_set_changed_since_the_run_began_is_refused(tmp_path: Path, capsys: Captured) -> None:
    sensors, out = tmp_path / "sensors", tmp_path / "data"
    names = [f"hall/{number:02d}" for number in range(6)] + ["attic/00"]
    data = make_tiny_data(sensors, out, names=names)
    assert xmodal(words(data, tmp_path, "tiny")) == 0
    run = tmp_path / "distill" / "tiny"
    (run / "card.json").unlink()
    image = sensors / "rgb" / f"{names[0]}.png"
    cv2.imwrite(str(image), 255 - cv2.imread(str(image)))
    shutil.rmtree(out)
    prepare_folder(
        FolderSettings(
            out=out,
            modalities=("disparity",),
            rgb=str(sensors / "rgb"),
            target=str(sensors / "depth"),
            depth_unit=0.001,
            annotations={split: sensors / f"{split}.json" for split in ("train", "val")},
            workers=1,
        )
    )
    capsys.readouterr()
    assert "has changed since" in refused(["distill", "--resume", str(run)], 3, capsys)["message"]


@pytest.mark.parametrize("content", [b"", b"garbage", b"cos\nsystem\n(S'touch touched'\ntR."])
def test_bad_checkpoint_is_refused_and_kept(
    content: bytes, tiny_data: PreparedData, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert xmodal(words(tiny_data, tmp_path, "tiny")) == 0
    capsys.readouterr()
    run = tmp_path / "distill" / "tiny"
    (run / "card.json").unlink()
    (run / "checkpoints" / "last.pt").write_bytes(content)
    error = refused(["distill", "--resume", str(run)], 3, capsys)
    assert "last.pt" in error["message"]
    assert (run / "checkpoints" / "last.pt").read_bytes() == content
    assert not (tmp_path / "touched").exists()


def test_diverged_run_ends_with_its_own_exit_code(tiny_data: PreparedData, tmp_path: Path, capsys: Captured) -> None:
    line = words(
        tiny_data, tmp_path, "wild", lr="1e30", warmup="0", optimiser="sgd", iterations="40", checkpoint_every=1
    )
    assert xmodal(line) == 5
    assert "diverged.json" in capsys.readouterr().err
    found = json.loads((tmp_path / "distill" / "wild" / "diverged.json").read_text())
    assert len(found["ids"]) == OPTIONS["batch_size"]
    assert (tmp_path / "distill" / "wild" / "checkpoints" / "last.pt").is_file()


def test_full_disk_keeps_the_last_checkpoint_and_the_run_goes_on_when_there_is_room(
    tiny_data: PreparedData, tmp_path: Path
) -> None:
    run, again = cut_short(tiny_data, tmp_path), tmp_path / "cache"
    before = (run / "checkpoints" / "last.pt").read_bytes()
    _, talk = finish(fork(["distill", "--resume", str(run)], again, largest_file=100_000), 1)
    assert f"xmodal distill --resume {run}" in talk
    assert "File too large" in talk
    assert "Traceback" not in talk
    assert (run / "checkpoints" / "last.pt").read_bytes() == before
    assert not list(run.rglob("*.part"))
    finish(fork(["distill", "--resume", str(run)], again))
    assert_same_student(run, distill(settings(tiny_data, **CUT_SHORT), runs=tmp_path / "whole").run)


def test_full_disk_before_the_first_step_leaves_a_name_that_can_be_used(
    tiny_data: PreparedData, tmp_path: Path
) -> None:
    line = words(tiny_data, tmp_path, "tiny", iterations="2")
    _, talk = finish(fork(line, tmp_path / "cache", largest_file=100), 1)
    assert "disk is full" in talk
    assert "Traceback" not in talk
    assert xmodal(line) == 0


def test_config_of_a_run_reproduces_it(tiny_data: PreparedData, tmp_path: Path) -> None:
    assert xmodal(words(tiny_data, tmp_path, "one")) == 0
    one = tmp_path / "distill" / "one"
    again = ["distill", "--config", str(one / "config.yaml"), "--runs", str(tmp_path), "--run-name", "two"]
    assert xmodal(again) == 0
    assert_same_student(one, tmp_path / "distill" / "two")


def test_options_win_over_the_file_and_the_file_over_the_preset(
    tiny_data: PreparedData, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "mine.yaml").write_text("momentum: 0.25\nweight_decay: 0.125\n")
    line = words(tiny_data, tmp_path, "x", weight_decay="0.5")
    assert xmodal([*line, "--config", str(tmp_path / "mine.yaml"), "--preset", "paper", "--dry-run", "--json"]) == 0
    used = json.loads(capsys.readouterr().out)["results"]["settings"]
    assert (used["momentum"], used["weight_decay"], used["bias_lr"]) == (0.25, 0.5, 2.0)


def test_unknown_key_in_the_file_and_unknown_preset_are_refused(
    tiny_data: PreparedData, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "mine.yaml").write_text("weight_decoy: 0.1\n")
    line = words(tiny_data, tmp_path, "x")
    assert "weight_decay" in text_of(refused([*line, "--config", str(tmp_path / "mine.yaml")], 2, capsys))
    assert "small" in text_of(refused([*line, "--preset", "smal"], 2, capsys))
    assert "cannot be read" in refused([*line, "--config", str(tmp_path / "absent.yaml")], 2, capsys)["message"]


def test_dry_run_writes_nothing(tiny_data: PreparedData, tmp_path: Path, capsys: Captured, own_cache: Path) -> None:
    assert xmodal([*words(tiny_data, tmp_path, "x", cache="on"), "--dry-run"]) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert not (tmp_path / "distill").exists()
    assert not own_cache.exists()


def test_random_state_of_the_caller_does_not_matter(tiny_data: PreparedData, tmp_path: Path) -> None:
    for name in ("one", "two"):
        torch.rand(7)
        assert xmodal(words(tiny_data, tmp_path, name)) == 0
    assert_same_student(tmp_path / "distill" / "one", tmp_path / "distill" / "two")


def test_a_recorded_data_set_wins_over_the_environment(
    tiny_data: PreparedData, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = distill(settings(tiny_data), runs=tmp_path, name="tiny").run
    monkeypatch.setenv("XMODAL_DATA", str(tmp_path / "elsewhere"))
    for line in (["distill", "--resume", str(run)], ["evaluate", str(run), "--runs", str(tmp_path)]):
        assert xmodal([*line, "--json"]) == 0
        assert Path(json.loads(capsys.readouterr().out)["data"]) == tiny_data.root.resolve()


def test_what_auto_became_is_said_once_and_all_settings_when_verbose(
    tiny_data: PreparedData, tmp_path: Path, capsys: Captured
) -> None:
    assert xmodal(words(tiny_data, tmp_path, "short")) == 0
    said = capsys.readouterr().err
    assert said.count("teacher live") == 1
    assert "optimiser: adamw" not in said
    assert xmodal([*words(tiny_data, tmp_path, "long"), "--verbose"]) == 0
    assert "optimiser: adamw" in capsys.readouterr().err
