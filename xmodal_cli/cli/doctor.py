"""`xmodal doctor`: what this machine has, what is missing, and whether a network runs here."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from xmodal_cli.cli.app import app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.output import out, table

SYSTEM_LIBRARIES = "apt-get install libgl1 libglib2.0-0 (Debian, Ubuntu), or pip install opencv-python-headless"
VARIABLES = ("XMODAL_DATA", "XMODAL_CACHE", "XMODAL_DEBUG", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")

Finding = tuple[bool, str]  # (is all well, what was found)


@command(app, "doctor", examples="xmodal doctor\nxmodal doctor --json")
def doctor_command() -> None:
    """Check versions, libraries, device, memory, disk and cache; run one tiny step. Paste it into a bug report."""
    checks: dict[str, Callable[[], Finding]] = {
        "versions": _versions,
        "opencv": _opencv,
        "device": _device,
        "precision": _precision,
        "memory": _memory,
        "disk": _disk,
        "cache": _cache,
        "variables": _variables,
        "training step": _tiny_step,
    }
    findings = {name: _safely(check) for name, check in checks.items()}
    rows = [["ok" if well else "PROBLEM", name, text] for name, (well, text) in findings.items()]
    results = {name: {"ok": well, "found": text} for name, (well, text) in findings.items()}
    out.result(results, [table("xmodal doctor", ["", "", ""], rows, left=3)])
    if not all(well for well, _ in findings.values()):
        raise typer.Exit(1)


def _safely(check: Callable[[], Finding]) -> Finding:
    """A check that cannot even be made is a problem, not a crash."""
    try:
        return check()
    except Exception as error:
        return False, f"{type(error).__name__}: {error}"


def _versions() -> Finding:
    from xmodal_cli.runs.folder import environment

    found: dict[str, Any] = environment()
    packages = found["packages"]
    text = f"xmodal {found['xmodal']}, Python {found['python']}, " + ", ".join(f"{k} {v}" for k, v in packages.items())
    missing = {name for name, version in packages.items() if version == "not installed"}
    return missing <= {"opencv-python"}, text  # its headless twin does as well; whether it loads is the next check


def _opencv() -> Finding:
    try:
        import cv2
    except ImportError as error:
        return False, f"import cv2 failed: {error}. Install its system libraries: {SYSTEM_LIBRARIES}"
    return True, f"OpenCV {cv2.__version__} loads"


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = (torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count()))
        return True, "; ".join(f"{p.name}, {p.total_memory / 2**30:.0f} GiB" for p in names)
    return True, f"no CUDA device; CPU threads: {torch.get_num_threads()}"


def _precision() -> Finding:
    from xmodal_cli.runs.device import resolve_device, resolve_precision

    return True, f"auto means {resolve_precision('auto', resolve_device())} here"


def _memory() -> Finding:
    from xmodal_cli.data.memory import free_memory_bytes

    free = free_memory_bytes()
    return free > 2 << 30, f"{free / 2**30:.1f} GiB free"


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    return free > 1 << 30, f"{free / 2**30:.1f} GiB free in {Path.cwd()}"


def _cache() -> Finding:
    from xmodal_cli.transfer.cache import entries, root

    found = entries()
    size = sum(entry["bytes"] for entry in found)
    return True, f"{root().parent}: {len(found)} teacher caches, {size / 1e6:.0f} MB"


def _variables() -> Finding:
    found = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return True, ", ".join(f"{name}={value}" for name, value in found.items()) or "none set"


def _tiny_step() -> Finding:
    import torch
    from torchvision.ops import nms

    from xmodal_cli.runs.device import autocast, resolve_device, resolve_precision

    device = resolve_device()
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3)).to(device)
    images = torch.randn(4, 3, 64, 64, device=device)
    began = time.perf_counter()
    with autocast(device, resolve_precision("auto", device)):
        loss = net(images).float().square().mean()
    loss.backward()
    kept = nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), 0.5)
    well = bool(torch.isfinite(loss)) and len(kept) == 1
    return well, f"forward, backward and torchvision's operators work ({(time.perf_counter() - began) * 1000:.0f} ms)"
