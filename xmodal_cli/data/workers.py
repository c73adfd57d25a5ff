"""A pool of processes for work on many files: results as they come, clean on Ctrl-C, no orphans.

Processes are spawned, never forked: a fork copies locks that threads of OpenCV or BLAS may hold, and hangs.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from xmodal_cli.errors import SettingsError, XmodalError

Job = TypeVar("Job")
Result = TypeVar("Result")

# Starting a process costs about a second of imports: below this many jobs for each, that is not won back.
FEWEST_JOBS = 24
MOST_WORKERS = 16  # beyond it the disk is the limit
QUEUED_PER_WORKER = 4  # enough that no worker waits, few enough that Ctrl-C ends soon


def resolve_workers(workers: int | None, jobs: int) -> int:
    """How many processes to use: what was asked for, else one for each core that the work is worth.

    Args:
        workers: the user's number; None decides.
        jobs: how many pieces of work there are.

    Raises:
        SettingsError: fewer than one.

    Example:
        >>> resolve_workers(3, 1000), resolve_workers(None, 5)
        (3, 1)
    """
    if workers is not None:
        if workers < 1:
            raise SettingsError(f"Work needs at least 1 process; found --workers {workers}.", "Use --workers auto.")
        return workers
    return max(1, min(available_cores(), MOST_WORKERS, jobs // FEWEST_JOBS))


def available_cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_jobs(function: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    """Apply a function to every job, in this process or in several.

    Args:
        function: importable by name, so that it can be sent to another process.
        jobs: its arguments.
        workers: processes; 1 works in this one.

    Yields:
        Results in the order in which they are done.

    Raises:
        XmodalError: a process died; errors of the function come through as they are.
    """
    if workers == 1 or len(jobs) < 2:
        yield from map(function, jobs)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context, initializer=_begin)
    try:
        yield from _in_order_of_completion(pool, function, jobs, QUEUED_PER_WORKER * workers)
    except BrokenProcessPool:
        raise XmodalError(
            "A worker process died, most likely for want of memory. What is finished is kept.",
            "Run the same command again with --workers 1.",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order_of_completion(
    pool: ProcessPoolExecutor, function: Callable[[Job], Result], jobs: Sequence[Job], most_queued: int
) -> Iterator[Result]:
    waiting = iter(jobs)
    running: set[Future[Result]] = set()
    while True:
        for job in waiting:
            running.add(pool.submit(function, job))
            if len(running) >= most_queued:
                break
        if not running:
            return
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()


def _begin() -> None:
    """Set up a worker: Ctrl-C is the parent's business, one thread each, and no life after the parent's death."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: multiprocessing.process.BaseProcess) -> None:
    with contextlib.suppress(OSError):
        parent.join()
    os._exit(1)
