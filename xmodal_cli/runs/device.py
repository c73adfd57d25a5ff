"""What the run computes on: device, precision, threads and memory, each resolved to a plain value once."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch

from xmodal_cli.errors import SettingsError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: str = "auto") -> torch.device:
    """The device of a run: the first CUDA device, else the CPU, unless named.

    Raises:
        SettingsError: CUDA is asked for and not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(f"{name!r} is not a device.", "Use --device auto, cpu, cuda or cuda:0.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            f"--device {name}: no CUDA device is available here.", "Use --device cpu, or `xmodal doctor`."
        )
    return device


def resolve_precision(name: str, device: torch.device) -> str:
    """`auto` is bf16 where the device computes it natively, fp32 elsewhere; a name is checked.

    Example:
        >>> resolve_precision("fp32", torch.device("cpu"))
        'fp32'
    """
    if name == "auto":
        return "bf16" if _has_native_bf16(device) else "fp32"
    if name not in PRECISIONS:
        raise SettingsError(f"Unknown precision {name!r}.", f"Use one of auto, {', '.join(PRECISIONS)}.")
    if name == "fp16" and device.type == "cpu":
        raise SettingsError("fp16 needs a GPU: on a CPU it is slow and overflows.", "Use --precision bf16 or fp32.")
    return name


def _has_native_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def resolve_threads(threads: int | None = None) -> int:
    """The number of CPU threads a run computes with: as given, else what this process may use."""
    return threads or int(os.environ.get("OMP_NUM_THREADS", 0)) or available_cpus()


def available_cpus() -> int:
    """The CPUs this process may run on, which is what a container or a batch system granted."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The autocast context of a precision; fp32 has none."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, PRECISIONS[precision])


def memory_bytes(device: torch.device) -> int:
    """Peak memory so far: of the GPU where there is one, else of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextlib.contextmanager
def computing_threads(count: int) -> Iterator[None]:
    """Compute with a fixed number of threads inside the block: sums then come out the same in every bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
