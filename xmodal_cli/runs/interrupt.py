"""Ctrl-C and SIGTERM: both end a command; in training the first lets the step finish and the state be saved."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds within which a second signal is the same one: of several processes each gets it from the terminal and once
# more from the process that started them.
ECHO_S = 1.0
# Seconds after which a signal that came in the middle of an import is looked at again.
AGAIN_S = 0.05
IMPORTS = "<frozen importlib._bootstrap>"


@contextlib.contextmanager
def ends_the_command() -> Iterator[None]:
    """A block in which SIGTERM raises KeyboardInterrupt as Ctrl-C does, and neither does so in the middle of an import.

    A module whose import is broken off stays half made, and compiled modules that import others may swallow the
    interruption: the command would go on and fail later somewhere else. So the import ends first.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _interrupt) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not _imports(frame):
        raise KeyboardInterrupt
    again = threading.Timer(AGAIN_S, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


def _imports(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename != IMPORTS:
        frame = frame.f_back
    return frame is not None


class Interruption:
    """A context in which the first Ctrl-C or SIGTERM only raises a flag; a later one does what it did before.

    Example:
        >>> with Interruption() as interruption:
        ...     interruption.requested
        False
    """

    def __init__(self) -> None:
        self.requested = False
        self._since = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested, self._since = True, time.monotonic()
        elif time.monotonic() - self._since > ECHO_S:
            for each, handler in self._before.items():
                signal.signal(each, handler)
            signal.raise_signal(number)


@contextlib.contextmanager
def deaf_children() -> Iterator[None]:
    """A block in which processes are started that never hear Ctrl-C or SIGTERM: their parent decides when they end.

    A terminal, `timeout` and batch systems signal all processes of a job at once; a worker that dies of it would take
    the training process with it before its state is saved. What arrives for this process meanwhile is heard afterwards.
    """
    from multiprocessing import resource_tracker  # 30 ms, which only commands with processes need to pay

    resource_tracker.ensure_running()  # the first worker would start it, and starting it unblocks both signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
