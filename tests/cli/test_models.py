"""`xmodal models`: the names that can be teacher or student."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import xmodal_cli.cli.models  # noqa: F401 - registers the command
from xmodal_cli.cli.app import run

Capture = pytest.CaptureFixture[str]


def test_few_matches_are_shown_with_their_default_layers(capsys: Capture) -> None:
    assert run(["models", "squeezenet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"] == [
        {"name": "squeezenet1_0", "library": "torchvision", "input_channels": 3, "default_layer": "features"},
        {"name": "squeezenet1_1", "library": "torchvision", "input_channels": 3, "default_layer": "features"},
    ]


def test_patterns_may_have_wildcards(capsys: Capture) -> None:
    assert run(["models", "vit_s*_dinov3"]) == 0
    shown = capsys.readouterr().out
    assert "vit_small_patch16_dinov3" in shown
    assert "timm" in shown


def test_all_names_are_listed_without_importing_any_library() -> None:
    code = (
        "import sys, xmodal_cli.cli.models; from xmodal_cli.cli.app import run; assert run(['models', '-q']) == 0; "
        "print([m for m in ('torch', 'timm', 'torchvision') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[-1] == "[]"
    assert len(lines) > 1000
    assert done.stderr == ""


def test_no_match_names_the_closest_and_exits_with_2(capsys: Capture) -> None:
    assert run(["models", "alexnt"]) == 2
    assert "Did you mean 'alexnet'" in capsys.readouterr().err
