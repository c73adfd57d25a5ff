"""Promises of all commands: one JSON document on stdout, talk on stderr, errors that say what to do."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from pathlib import Path

import pytest
from tiny_runs import finish, settings, start

from xmodal_cli.cli.app import _known
from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.cli.output import Output, print_json
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.errors import DataError
from xmodal_cli.transfer import cache as feature_cache
from xmodal_cli.transfer.distill import distill

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def runs(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run called tiny; its evaluations go elsewhere."""
    folder = tmp_path_factory.mktemp("runs")
    distill(settings(tiny_data), runs=folder, name="tiny")
    return folder


def document(arguments: list[str], capsys: Captured, code: int = 0) -> dict[str, object]:
    """The one document that a command prints."""
    assert xmodal([*arguments, "--json", "-q"]) == code
    said = capsys.readouterr()
    assert said.err == ""
    found = json.loads(said.out)
    assert isinstance(found, dict)
    return found


def evaluate(runs: Path, *more: str) -> list[str]:
    return ["evaluate", *more, "--runs", str(runs), "--device", "cpu"]


def test_every_success_is_a_document_of_the_same_shape(tiny_data: PreparedData, runs: Path, capsys: Captured) -> None:
    commands = {
        "evaluate": evaluate(runs, "--probe"),
        "cache list": ["cache", "list"],
        "cache prune": ["cache", "prune", "--all"],
        "doctor": ["doctor"],
        "prepare check": ["prepare", "check", str(tiny_data.root)],
    }
    for name, arguments in commands.items():
        found = document(arguments, capsys)
        assert list(found) == ["command", "runs", "data", "split", "results"]
        assert found["command"] == name


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["cache", "prune"], 2),
        (["cache", "list", "--what"], 2),
        (["evaluate", "--runs", "nowhere"], 2),
        (["evaluate", "no/such/run"], 2),
        (["evaluate", "--init", "geometry", "--data", "no/such/data"], 3),
        (["prepare", "check", "no/such/data"], 3),
        (["prepare", "folder", "--rgb", "no/such", "--target", "no", "--modality", "depth", "--out", "x"], 3),
        (["nonsense"], 2),
        (["doctor", "extra"], 2),
    ],
)
def test_every_failure_is_a_document_too(
    arguments: list[str], code: int, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    error = document(arguments, capsys, code)["error"]
    assert isinstance(error, dict)
    assert set(error) == {"message", "hint", "code"}
    assert error["code"] == code
    assert xmodal(arguments) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err


def test_evaluate_takes_the_newest_run_and_the_data_it_recorded(
    tiny_data: PreparedData, runs: Path, capsys: Captured
) -> None:
    found = document(evaluate(runs), capsys)
    assert found["runs"] == [str(runs / "distill" / "tiny")]
    assert found["data"] == str(tiny_data.root)
    assert found["split"] == "val"
    probe = found["results"]["probe"]  # type: ignore[index]
    assert {"accuracy", "class_mean_accuracy", "seeds"} <= set(probe)
    assert xmodal(evaluate(runs, str(runs / "distill" / "latest"))) == 0
    said = capsys.readouterr()
    assert f"{probe['accuracy']:.1f} %" in said.out
    assert "never" in said.out


def test_evaluate_baselines_without_a_run(tiny_data: PreparedData, tmp_path: Path, capsys: Captured) -> None:
    data = ["--data", str(tiny_data.root)]
    found = document(evaluate(tmp_path, "--init", "geometry", *data), capsys)
    assert found["runs"] == []
    network = ["--init", "random", "--backbone", "squeezenet1_1", "--layer", "features.3", "--modality", "rgb"]
    assert document(evaluate(tmp_path, *network, *data), capsys)["results"]


def test_evaluate_refuses_options_that_it_would_ignore(runs: Path, capsys: Captured) -> None:
    for more in (["--backbone", "alexnet"], ["--seed", "3"], [str(runs / "distill" / "tiny"), "--init", "geometry"]):
        document(evaluate(runs, *more), capsys, 2)


def test_evaluate_refuses_an_unfinished_run_and_says_how_to_finish_it(
    tiny_data: PreparedData, tmp_path: Path, capsys: Captured
) -> None:
    run = distill(settings(tiny_data, iterations=1), runs=tmp_path).run
    (run / "card.json").unlink()
    error = document(evaluate(tmp_path, str(run), "--data", str(tiny_data.root)), capsys, 3)["error"]
    assert f"--resume {run}" in str(error)


def test_cache_is_listed_and_pruned(tiny_data: PreparedData, tmp_path: Path, capsys: Captured) -> None:
    distill(settings(tiny_data, cache="on"), runs=tmp_path)
    (entry,) = document(["cache", "list"], capsys)["results"]  # type: ignore[misc]
    assert (entry["complete"], entry["count"], entry["teacher"]) == (True, 20, "squeezenet1_1")
    assert entry["bytes"] > 0
    assert xmodal(["cache", "list"]) == 0
    assert "squeezenet1_1" in capsys.readouterr().out
    for option in (["--all", "--dry-run"], ["--older-than", "1"]):
        document(["cache", "prune", *option], capsys)
        assert len(feature_cache.entries()) == 1
    os.utime(Path(entry["path"]) / "filled.json", (time.time() - 3 * 86_400,) * 2)
    assert document(["cache", "prune", "--older-than", "2"], capsys)["results"]["removed"]  # type: ignore[index]
    assert feature_cache.entries() == []
    assert document(["cache", "list"], capsys)["results"] == []


def test_doctor_finds_a_working_machine(capsys: Captured) -> None:
    results = document(["doctor"], capsys)["results"]
    assert isinstance(results, dict)
    assert [name for name in ("versions", "opencv", "training step") if not results[name]["ok"]] == []
    assert xmodal(["doctor"]) == 0
    assert "PROBLEM" not in capsys.readouterr().out


def test_interrupted_command_ends_with_a_document_and_its_own_code(tiny_data: PreparedData, tmp_path: Path) -> None:
    line = evaluate(tmp_path, "--init", "random", "--backbone", "squeezenet1_1", "--data", str(tiny_data.root))
    process = start([*line, "--modality", "rgb", "--json"], tmp_path / "cache")
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    output, talk = finish(process, 130)
    assert json.loads(output)["error"]["code"] == 130
    assert "Traceback" not in talk


def test_json_has_no_infinities(capsys: Captured) -> None:
    print_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": (1, 2), "d": Path("x")})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": [1, 2], "d": "x"}


def test_square_brackets_in_messages_are_shown_as_they_are(capsys: Captured) -> None:
    out = Output()
    out.configure("x")
    out.error(DataError("file [red]a[/red] [0]", "look at [bold]"))
    said = capsys.readouterr().err
    assert "[red]a[/red] [0]" in said
    assert "look at [bold]" in said


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x"), "disk is full"),
        (ImportError("libGL.so.1: cannot open", name="cv2"), "libgl1"),
        (ValueError("odd"), "XMODAL_DEBUG=1"),
    ],
)
def test_errors_nobody_raised_on_purpose_are_put_in_words(error: Exception, word: str) -> None:
    found = _known(error)
    assert word in f"{found.message} {found.hint}"
    assert found.exit_code == 1


def test_traceback_is_shown_only_when_asked_for(
    capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    xmodal(["distill"])
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("XMODAL_DEBUG", "1")
    xmodal(["distill"])
    assert "Traceback" in capsys.readouterr().err
