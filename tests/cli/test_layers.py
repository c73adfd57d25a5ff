"""`xmodal layers`: tables for people, documents for programs, plain errors."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

import xmodal_cli.cli.layers  # noqa: F401 - registers the command
from xmodal_cli.cli.app import run

Capture = pytest.CaptureFixture[str]


def document(capsys: Capture, *arguments: str) -> dict[str, Any]:
    assert run(["layers", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


def test_table_marks_the_default_layer_and_talk_stays_off_stdout(capsys: Capture) -> None:
    assert run(["layers", "alexnet"]) == 0
    shown = capsys.readouterr()
    assert "pool5 *" in shown.out
    assert "Next: xmodal layers alexnet --teacher vgg16" in shown.err
    assert "Next" not in shown.out


def test_json_gives_geometry_at_the_asked_size(capsys: Capture) -> None:
    found = document(capsys, "caffenet", "--size", "425x560")
    results = found["results"]
    assert (found["command"], results["library"], results["default"], results["size_hw"]) == (
        "layers",
        "xmodal",
        "pool5",
        [425, 560],
    )
    conv5 = next(layer for layer in results["layers"] if layer["name"] == "conv5")
    assert conv5 == {
        "name": "conv5",
        "channels": 256,
        "stride": 16.0,
        "first_centre": 10.0,
        "grid_hw": [27, 35],
        "whole_image": False,
        "field": 163.0,
    }


def test_partners_of_a_teacher_are_suggested(capsys: Capture) -> None:
    layers = document(capsys, "caffenet", "--teacher", "vgg16")["results"]["layers"]
    partners = {layer["name"]: layer["partner"] for layer in layers}
    assert partners["conv5"] == {"name": "conv5_3", "channels": 512, "offset_yx": [-2.5, -2.5]}


def test_a_layer_without_partner_says_so(capsys: Capture) -> None:
    layers = document(capsys, "alexnet", "--teacher", "squeezenet1_1")["results"]["layers"]
    assert next(layer["partner"] for layer in layers if layer["name"] == "pool5") is None
    assert run(["layers", "alexnet", "--teacher", "squeezenet1_1"]) == 0
    assert "xmodal distill --teacher squeezenet1_1 --student alexnet" in capsys.readouterr().err


def test_all_layers_are_more_than_the_readable_ones(capsys: Capture) -> None:
    few = document(capsys, "resnet18")["results"]["layers"]
    many = document(capsys, "resnet18", "--all")["results"]["layers"]
    assert {layer["name"] for layer in few} < {layer["name"] for layer in many}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["alexnt"], "Did you mean 'alexnet'"),
        (["alexnet", "--teacher", "vgg61"], "No model is called 'vgg61'"),
        (["alexnet", "--size", "224"], "HEIGHTxWIDTH"),
        (["alexnet", "--size", "0x10"], "no image size"),
        (["squeezenet1_1", "--size", "8x8"], "does not take images of 8x8"),
    ],
)
def test_bad_names_and_sizes_exit_with_2_and_the_way_on(capsys: Capture, arguments: list[str], told: str) -> None:
    assert run(["layers", *arguments]) == 2
    shown = capsys.readouterr()
    assert told in shown.err
    assert shown.out == ""


def test_errors_are_json_too(capsys: Capture) -> None:
    assert run(["layers", "alexnt", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == 2


def test_help_and_completion_import_nothing_heavy() -> None:
    code = (
        "import sys; import xmodal_cli.cli.layers as l, xmodal_cli.cli.models; "
        "assert 'alexnet' in l.complete_name('alex'); "
        "print([m for m in ('torch', 'timm', 'torchvision', 'cv2', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
