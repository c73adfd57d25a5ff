"""More than one process on one run: who is first, who takes what, and how gradients meet.

`torchrun` (any number of machines) or `--devices N` sets the usual environment variables; without them a run is one
process and everything here does nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from xmodal_cli.errors import XmodalError

Value = TypeVar("Value")

POLL_S = 0.1  # seconds between looks at the processes that `launch` started
GRACE_S = 60.0  # seconds that the others get to end by themselves when one of them has failed


def count() -> int:
    """How many processes share the run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's number among them, from 0."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """This process's number on its machine, from 0: which GPU it takes."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def own_device(name: str) -> torch.device:
    """The device of this process: as named, but each of several on a machine with GPUs takes its own.

    Example:
        >>> own_device("cpu")
        device(type='cpu')
    """
    device = torch.device(name)
    return torch.device("cuda", local_rank()) if device.type == "cuda" and count() > 1 else device


def is_first() -> bool:
    """Whether this process talks and writes."""
    return rank() == 0


@contextlib.contextmanager
def together(device: torch.device) -> Iterator[None]:
    """A block in which the processes of one run, if there are several, can wait for and hear each other."""
    if count() == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if dist.is_initialized():
        dist.barrier()


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any process: all of them get the same answer."""
    if not dist.is_initialized():
        return flag
    device = torch.device("cuda", local_rank()) if dist.get_backend() == "nccl" else torch.device("cpu")
    shared = torch.tensor([int(flag)], device=device)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return bool(shared.item())


def first_decides(decide: Callable[[], Value]) -> Value:
    """The value that the first process finds, in every process; its error is everybody's.

    Args:
        decide: called in the first process only; its value must be picklable.
    """
    if not dist.is_initialized():
        return decide()
    shared: list[tuple[Value | None, XmodalError | None]] = [(None, None)]
    if is_first():
        try:
            shared = [(decide(), None)]
        except XmodalError as error:
            shared = [(None, error)]
    dist.broadcast_object_list(shared)
    value, failure = shared[0]
    if failure is not None:
        raise failure
    return value  # type: ignore[return-value]


def wrap(module: nn.Module, device: torch.device) -> nn.Module:
    """The module as it is called in training: gradients averaged over processes when there are several."""
    if not dist.is_initialized():
        return module
    devices = [device] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(module, device_ids=devices)


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run the command line in several processes on this machine, as `torchrun` would.

    Args:
        processes: how many.
        arguments: the words after `xmodal`.

    Returns:
        The exit code: of the first process that failed, else 0.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "xmodal_cli", *arguments],
            env={**os.environ, **shared, "RANK": str(number), "LOCAL_RANK": str(number)},
        )
        for number in range(processes)
    ]

    def pass_on(number: int, frame: FrameType | None) -> None:
        for child in started:
            if child.poll() is None:
                child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _wait(started)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(started: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait for all to end; once one has failed, the others have a while to follow and are then stopped."""
    deadline, code = float("inf"), 0
    while any(child.poll() is None for child in started):
        failed = [child.returncode for child in started if child.returncode]
        if failed and not code:
            code, deadline = abs(failed[0]), time.monotonic() + GRACE_S
        if time.monotonic() > deadline:
            for child in started:
                child.kill()
        time.sleep(POLL_S)
    return code or next((abs(child.returncode) for child in started if child.returncode), 0)
