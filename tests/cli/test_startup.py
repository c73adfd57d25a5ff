"""Promises of help and start: nothing heavy is imported, and it takes no time."""

from __future__ import annotations

import resource
import subprocess
import sys
from functools import cache

import pytest
from typer import Context
from typer.core import TyperGroup
from typer.main import get_command

from xmodal_cli.cli.app import MAP, app

HEAVY = ("torch", "timm", "torchvision", "cv2", "scipy", "safetensors")
MOST_CPU_S = 0.3
MOST_OF_SMALLEST = 2.0
SMALLEST_APPLICATION = """
import typer

app = typer.Typer()


@app.command()
def one(number: int = 0): ...


@app.command()
def two(number: int = 0): ...


app()
"""
RUNS = 3  # the best counts: other programs make a machine slower, none makes it faster
WITHOUT_EXAMPLES = ("bare", "help", "version", "cache", "doctor", "visualize")
PROGRAM = """
import sys
sys.argv = ["xmodal", *sys.argv[1:]]
from xmodal_cli.__main__ import main
try:
    main()
except SystemExit as done:
    assert not done.code, done.code
print("\\nLOADED", *sorted(name for name in sys.modules if "." not in name))
"""
# What a training's worker processes unpickle: they read images, and start in half the time without these.
READ_BY_WORKERS = ("data.pairs", "transfer.region_samples", "transfer.cache", "detect.samples", "detect.mask_samples")
NETWORKS = ("torchvision", "timm")
COMMANDS = {
    "bare": [],
    "help": ["--help"],
    "version": ["--version"],
    "download": ["download", "--help"],
    "datasets": ["datasets", "--help"],
    "distill": ["distill", "--help"],
    "evaluate": ["evaluate", "--help"],
    "finetune": ["finetune", "--help"],
    "predict": ["predict", "--help"],
    "prepare": ["prepare", "folder", "--help"],
    "prepare jhmdb": ["prepare", "jhmdb", "--help"],
    "prepare coco": ["prepare", "coco", "--help"],
    "prepare proposals": ["prepare", "proposals", "--help"],
    "visualize": ["visualize", "--help"],
    "visualize report": ["visualize", "report", "--help"],
    "cache": ["cache", "--help"],
    "doctor": ["doctor", "--help"],
}


@cache
def shown_and_loaded(name: str) -> tuple[str, str]:
    """What a command shows, and the modules that it has loaded then."""
    line = [sys.executable, "-c", PROGRAM, *COMMANDS[name]]
    shown, _, loaded = subprocess.run(line, capture_output=True, text=True, check=True).stdout.partition("\nLOADED")
    return shown, loaded


@pytest.mark.parametrize("name", COMMANDS)
def test_help_imports_nothing_heavy(name: str) -> None:
    shown, loaded = shown_and_loaded(name)
    assert shown.strip()
    assert not set(HEAVY) & set(loaded.split())
    assert "xmodal_cli" in loaded


@pytest.mark.parametrize("name", ["bare", "help", "distill"])
def test_help_takes_little_cpu_time(name: str) -> None:
    """0.3 s; on a slow or crowded machine, twice what Typer takes there to show the help of two small commands."""
    smallest = min(cpu_seconds(["-c", SMALLEST_APPLICATION, "one", "--help"]) for _ in range(RUNS))
    taken = min(cpu_seconds(["-m", "xmodal_cli", *COMMANDS[name]]) for _ in range(RUNS))
    assert taken <= max(MOST_CPU_S, MOST_OF_SMALLEST * smallest)


def cpu_seconds(words: list[str]) -> float:
    """CPU time of one call of Python, its start included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_bare_command_maps_the_way_from_images_to_figures() -> None:
    shown, _ = shown_and_loaded("bare")
    assert [word for word in ("prepare folder", "prepare check", "distill", "evaluate") if word not in shown] == []


@pytest.mark.parametrize(
    "name", ["distill", "evaluate", "finetune", "predict", "prepare", "prepare proposals", "visualize report"]
)
def test_help_ends_with_examples(name: str) -> None:
    shown, _ = shown_and_loaded(name)
    assert "Examples:" in shown
    assert f"xmodal {name}" in shown.split("Examples:")[1]


def test_worker_processes_wait_for_no_libraries_of_networks() -> None:
    imports = "\n".join(f"import xmodal_cli.{name}" for name in READ_BY_WORKERS)
    code = f"{imports}\nimport sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "xmodal_cli.detect.samples" in loaded
    assert not set(NETWORKS) & set(loaded)


def test_help_lists_every_command() -> None:
    root = get_command(app)
    assert isinstance(root, TyperGroup)
    assert set(root.list_commands(Context(root))) == set(root.commands)
    assert {"zero-shot", "prepare", "visualize"} <= set(root.commands)


def test_map_names_every_step_that_trains_or_measures() -> None:
    for command in ("demo", "distill", "finetune", "evaluate", "zero-shot", "predict", "export", "reproduce"):
        assert f"xmodal {command} " in MAP
