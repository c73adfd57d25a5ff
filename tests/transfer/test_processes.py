"""Promises of a run that several processes share: one run, the same student in all of them, nothing said twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny_runs import PATIENCE_S, assert_same_student, finish, settings, steps_in_metrics, student, words
from warm_processes import fork

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.transfer.distill import distill

CHANGES = {"iterations": 12, "checkpoint_every": 4}


@pytest.mark.slow
def test_two_processes_leave_one_run_much_like_that_of_one(tiny_data: PreparedData, tmp_path: Path) -> None:
    line = [*words(tiny_data, tmp_path, "two", **CHANGES), "--devices", "2", "--json"]
    output, talk = finish(fork(line, tmp_path / "cache"))
    assert json.loads(output)["results"]["finished"] is True
    assert talk.count("trained at step 12") == 1
    run = tmp_path / "distill" / "two"
    assert [path.name for path in run.parent.iterdir() if not path.is_symlink()] == ["two"]
    assert steps_in_metrics(run) == [10, 12]
    alone = distill(settings(tiny_data, **CHANGES), runs=tmp_path / "alone").run
    for name, tensor in student(alone).items():  # the same samples; only sums of gradients are rounded differently
        torch.testing.assert_close(student(run)[name], tensor, rtol=0.05, atol=5e-3)


@pytest.mark.slow
def test_torchrun_trains_with_a_cache_and_can_be_resumed(tiny_data: PreparedData, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    line = words(tiny_data, tmp_path, "two", cache="on", **CHANGES)
    environment = {**os.environ, "XMODAL_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, "-m", "xmodal_cli", *line], env=environment, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("explained variance") == 1
    run = tmp_path / "distill" / "two"
    first = tmp_path / "distill" / "first"
    first.mkdir()
    (first / "student.safetensors").write_bytes((run / "student.safetensors").read_bytes())
    (run / "card.json").unlink()
    finish(fork(["distill", "--resume", str(run), "--devices", "2"], tmp_path / "cache"))
    assert_same_student(run, first)


@pytest.mark.slow
def test_interrupted_processes_save_once_and_agree(tiny_data: PreparedData, tmp_path: Path) -> None:
    """As from a terminal: every process of the group gets the signal, and the children once more from their parent."""
    line = words(tiny_data, tmp_path, "two", iterations=2000, checkpoint_every=1000)
    process = fork([*line, "--devices", "2"], tmp_path / "cache")
    run = tmp_path / "distill" / "two"
    deadline = time.monotonic() + PATIENCE_S
    while not (run / "metrics.jsonl").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, talk = finish(process, 130)
    assert talk.count(f"xmodal distill --resume {run}") == 1
    assert "Traceback" not in talk, talk
    state = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    assert 0 < state["step"] < 2000


@pytest.mark.slow
def test_error_of_the_first_process_is_everybodys_and_said_once(tiny_data: PreparedData, tmp_path: Path) -> None:
    (tmp_path / "distill" / "two").mkdir(parents=True)
    (tmp_path / "distill" / "two" / "something").touch()
    _, talk = finish(fork([*words(tiny_data, tmp_path, "two"), "--devices", "2"], tmp_path / "cache"), 2)
    assert talk.count("is not empty") == 1
    assert "Traceback" not in talk, talk


def test_batch_that_cannot_be_shared_is_refused(
    tiny_data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")  # as in each of two processes
    assert xmodal(words(tiny_data, tmp_path, "two", batch_size=3)) == 2
    assert "shared evenly" in capsys.readouterr().err
