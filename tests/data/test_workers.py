from __future__ import annotations

import os

import pytest

from xmodal_cli.data.workers import resolve_workers, run_jobs
from xmodal_cli.errors import DataError, SettingsError, XmodalError


def square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def refuse(number: int) -> int:
    raise DataError(f"{number} is bad", hint="leave it out")


def die(number: int) -> int:
    os._exit(9)


def test_several_processes_give_what_one_gives():
    one = [value for value, _ in run_jobs(square, range(40), 1)]
    results = list(run_jobs(square, range(40), 2))
    assert sorted(value for value, _ in results) == one
    assert os.getpid() not in {process for _, process in results}


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_come_through_with_their_hint(workers):
    with pytest.raises(DataError) as caught:
        list(run_jobs(refuse, range(4), workers))
    assert caught.value.hint == "leave it out"


def test_a_killed_process_is_an_error_and_no_hang():
    with pytest.raises(XmodalError, match="died"):
        list(run_jobs(die, range(4), 2))


def test_small_work_stays_in_this_process():
    assert resolve_workers(None, 10) == 1
    with pytest.raises(SettingsError):
        resolve_workers(0, 10)
