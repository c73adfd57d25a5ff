"""More than one process on one run: who is first, who takes what, and how gradients meet.

`torchrun` (any number of machines) or `--devices N` sets the usual environment variables; without them a run is one
process and everything here does nothing.
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import nn


def join(device_type: str) -> None:
    """Join the group of processes that `torchrun` started, if it did."""
    if count() > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device_type == "cuda" else "gloo")


def leave() -> None:
    """Leave the group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def count() -> int:
    """How many processes share the run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's number among them, from 0."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """This process's number on its machine, from 0: which GPU it takes."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_first() -> bool:
    """Whether this process talks and writes."""
    return rank() == 0


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


def wrap(module: nn.Module, device: torch.device) -> nn.Module:
    """The module as it is called in training: gradients averaged over processes when there are several."""
    if not dist.is_initialized():
        return module
    devices = [device] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(module, device_ids=devices, broadcast_buffers=False)
