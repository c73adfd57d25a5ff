"""A run killed at any moment and resumed gives, bit for bit, the student of a run that was never killed.

Real processes are killed with SIGKILL: at random moments, while a checkpoint is being written, and while the teacher
cache is being filled; live and cached, with 0 and 2 workers.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import PATIENCE_S, assert_same_student, finish, steps_in_metrics, words
from warm_processes import POLL_S, Forked, fork

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.transfer.distill import COMMAND

STEPS = 64
GLANCE_S = 0.0005  # between two looks for a file: half-written ones lie there for some milliseconds
LIVE: dict[str, Any] = {"iterations": STEPS, "checkpoint_every": 1}
CACHED = {**LIVE, "cache": "on"}

Moment = Callable[[Forked, Path, Path], None]


@pytest.fixture(scope="module")
def never_killed(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that nobody disturbed, live and cached, both without workers."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for name, changes in (("live", LIVE), ("cached", CACHED)):
        finish(fork(words(tiny_data, folder, name, **{**changes, "checkpoint_every": STEPS}), folder / "cache"))
    return {name: folder / COMMAND / name for name in ("live", "cached")}


def after(seconds: float) -> Moment:
    """Some time after the process began to talk: it has its run folder by then."""

    def wait(process: Forked, run: Path, cache: Path) -> None:
        while process.poll() is None and "\n" not in process.said()[1]:
            time.sleep(POLL_S)
        time.sleep(seconds)

    return wait


def while_there_is(pattern: str) -> Moment:
    """As soon as a file of this pattern is in the run or in the cache."""

    def wait(process: Forked, run: Path, cache: Path) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while process.poll() is None and time.monotonic() < deadline:
            if any(run.glob(pattern)) or any(cache.glob(pattern)):
                return
            time.sleep(GLANCE_S)

    return wait


IN_CHECKPOINT = while_there_is("checkpoints/.last.pt.*.part")
IN_CACHE = while_there_is("features/*/0.npy")


def at_random(seed: int) -> Moment:
    """A random time after a random number of checkpoints, the same in every test run: at most 12 of the run's steps."""
    generator = random.Random(seed)
    checkpoints, seconds = generator.randint(1, 10), generator.uniform(0, 0.04)

    def wait(process: Forked, run: Path, cache: Path) -> None:
        seen: set[int] = set()
        deadline = time.monotonic() + PATIENCE_S
        while len(seen) <= checkpoints and process.poll() is None and time.monotonic() < deadline:
            if (run / "checkpoints" / "last.pt").exists():
                seen.add((run / "checkpoints" / "last.pt").stat().st_mtime_ns)
            time.sleep(GLANCE_S)
        time.sleep(seconds)

    return wait


CAMPAIGNS = {
    "live, no workers": (LIVE, 0, [after(0.02), at_random(1), IN_CHECKPOINT]),
    "live, two workers": (LIVE, 2, [at_random(2), IN_CHECKPOINT]),
    "cached, no workers": (CACHED, 0, [IN_CACHE, at_random(3), IN_CHECKPOINT]),
    "cached, two workers": (CACHED, 2, [IN_CACHE, at_random(4)]),
}


def test_the_campaigns_kill_ten_times() -> None:
    assert sum(len(campaign[2]) for campaign in CAMPAIGNS.values()) >= 10


@pytest.mark.slow
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_killed_and_resumed_run_equals_one_never_killed(
    name: str, tiny_data: PreparedData, never_killed: dict[str, Path], tmp_path: Path
) -> None:
    changes, workers, kills = CAMPAIGNS[name]
    run, cache = tmp_path / COMMAND / "run", tmp_path / "cache"
    first = words(tiny_data, tmp_path, "run", workers=workers, **changes)
    again = ["distill", "--resume", str(run)]
    for number, wait in enumerate(kills):
        process = fork(first if number == 0 else again, cache)
        wait(process, run, cache)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert (run / "config.yaml").is_file()
    finish(fork(again, cache))
    assert_same_student(run, never_killed["cached" if changes is CACHED else "live"])
    assert steps_in_metrics(run) == sorted(set(steps_in_metrics(run)))
    assert steps_in_metrics(run)[-1] == STEPS
    assert not list(tmp_path.rglob("*.part")), "what a killed process left half written is cleared away"


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "workers"), [(signal.SIGINT, 0), (signal.SIGTERM, 2), (signal.SIGINT, 2)])
def test_interrupted_run_saves_says_how_to_go_on_and_resumes_to_the_same(
    sent: signal.Signals, workers: int, tiny_data: PreparedData, never_killed: dict[str, Path], tmp_path: Path
) -> None:
    """The whole process group gets the signal, workers too, as from a terminal or a batch system."""
    run, cache = tmp_path / COMMAND / "run", tmp_path / "cache"
    line = words(tiny_data, tmp_path, "run", workers=workers, **{**LIVE, "checkpoint_every": 1000})
    process = fork(line, cache)
    while_there_is("metrics.jsonl")(process, run, cache)  # written at step 10 the first time
    os.killpg(process.pid, sent)
    output, talk = finish(process, 130)
    assert f"xmodal distill --resume {run}" in talk
    assert "interrupted" in output
    assert "Traceback" not in talk, talk
    assert (run / "checkpoints" / "last.pt").is_file(), "the state was saved though no checkpoint was due"
    finish(fork(["distill", "--resume", str(run), "--workers", "0"], cache))
    assert_same_student(run, never_killed["live"])


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interruption_while_the_cache_is_filled_says_how_to_go_on(
    sent: signal.Signals, tiny_data: PreparedData, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    process = fork(words(tiny_data, tmp_path, "run", cache="on", size="480x640"), cache)
    IN_CACHE(process, tmp_path, cache)
    os.killpg(process.pid, sent)
    _, talk = finish(process, 130)
    assert f"xmodal distill --resume {tmp_path / COMMAND / 'run'}" in talk
    assert "Traceback" not in talk, talk
