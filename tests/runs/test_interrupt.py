"""Promises of interruption: the first signal waits for the step, a later one does not, an echo is no second one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xmodal_cli.runs import interrupt
from xmodal_cli.runs.interrupt import SIGNALS, Interruption, deaf_children, ends_the_command


@pytest.fixture(autouse=True)
def _terminated_like_ctrl_c() -> object:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_first_signal_only_raises_the_flag(number: signal.Signals) -> None:
    with Interruption() as interruption:
        assert not interruption.requested
        os.kill(os.getpid(), number)
        assert interruption.requested


def test_echo_of_the_same_signal_is_not_a_second_one() -> None:
    with Interruption() as interruption:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
        assert interruption.requested


@pytest.mark.parametrize("number", SIGNALS)
def test_later_signal_stops_at_once(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "ECHO_S", -1.0)
    with Interruption():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_handlers_are_as_before_afterwards() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interruption():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_processes_started_deaf_outlive_ctrl_c_and_sigterm_and_their_parent_still_hears() -> None:
    program = "print('up', flush=True); import sys; sys.stdin.read(); print('done')"
    with deaf_children():
        child = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    assert child.stdout is not None
    child.stdout.readline()
    for number in SIGNALS:
        child.send_signal(number)
    assert child.communicate()[0] == "done\n"
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_ends_the_command_and_handlers_are_as_before_afterwards(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), ends_the_command():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_in_the_middle_of_an_import_waits_for_its_end(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"half_made_{number.name.lower()}"
    (tmp_path / f"{module}.py").write_text(
        f"import os\ntry:\n    os.kill(os.getpid(), {int(number)})\n    whole = True\n"
        "except BaseException:\n    pass  # as compiled modules do that import others\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with ends_the_command(), pytest.raises(KeyboardInterrupt):
        _import_and_wait(module)
    assert sys.modules[module].whole


def _import_and_wait(module: str) -> None:
    __import__(module)
    time.sleep(5.0)
