"""Real processes of the command line that begin warm: forked from one that has imported everything and done nothing.

A process that trains imports for seconds before it does what a test is about. These have a process group, a cache
folder and an exit code of their own and can be killed like any other. What a cold start does is for `tiny_runs.start`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from xmodal_cli.__main__ import main

PATIENCE_S = 120.0  # that a process of a test may take; they take two on an idle machine
POLL_S = 0.002
IMPORTED = ["xmodal_cli.cli.distill", "xmodal_cli.cli.finetune", "xmodal_cli.detect.finetune", "torch._dynamo", "timm"]

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(IMPORTED)


class Forked:
    """A process that was started, with the part of `subprocess.Popen` that tests use."""

    def __init__(self, arguments: list[str], cache: Path, largest_file: int | None) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._said = Path(self._folder.name, "stdout"), Path(self._folder.name, "stderr")
        environment = {**os.environ, "XMODAL_CACHE": str(cache)}
        self._process = _CONTEXT.Process(target=_work, args=(arguments, environment, self._said, largest_file))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, or minus the signal that killed it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same, after looking."""
        return self._process.exitcode

    def communicate(self, timeout: float = PATIENCE_S) -> tuple[str, str]:
        """Wait for its end: its stdout and stderr."""
        self._process.join(timeout)
        assert self.returncode is not None, f"still running after {timeout} s"
        return self.said()

    def said(self) -> tuple[str, str]:
        """Its stdout and stderr so far."""
        output, talk = (path.read_text() if path.exists() else "" for path in self._said)
        return output, talk


def fork(arguments: list[str], cache: Path, *, largest_file: int | None = None) -> Forked:
    """Start a command; it leads a process group by then.

    Args:
        arguments: the words after `xmodal`.
        cache: its cache folder.
        largest_file: bytes beyond which its files cannot grow, as on a full disk.
    """
    process = Forked(arguments, cache, largest_file)
    deadline = time.monotonic() + PATIENCE_S
    with contextlib.suppress(ProcessLookupError):  # it has ended already
        while os.getpgid(process.pid) != process.pid and time.monotonic() < deadline:
            time.sleep(POLL_S)
    return process


def _work(arguments: list[str], environment: dict[str, str], said: tuple[Path, Path], largest_file: int | None) -> None:
    os.setsid()
    for number, path in enumerate(said, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(environment)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    sys.argv = ["xmodal", *arguments]
    main()
