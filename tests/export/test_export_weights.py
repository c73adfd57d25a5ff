"""Promises of exported weights: the stock model loads them strictly and gives what the run gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_runs
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.export.export import Exported, export
from xmodal_cli.export.stock import Network, stock
from xmodal_cli.models.backbones import build
from xmodal_cli.models.layer_names import module_path
from xmodal_cli.models.layers import default_layer
from xmodal_cli.runs.folder import RunFolder, open_run
from xmodal_cli.transfer.distill import distill
from xmodal_cli.transfer.student import load_student

IMAGES = torch.rand(2, 3, 64, 80) * 255


def taught(data: PreparedData, runs: Path, name: str, **changes: Any) -> RunFolder:
    return open_run(distill(tiny_runs.settings(data, iterations=1, **changes), runs=runs, name=name).run)


def loaded(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """The model that the Python of the export makes."""
    monkeypatch.chdir(exported.folder)
    names: dict[str, Any] = {}
    exec(exported.load, names)
    model: torch.nn.Module = names["model"]
    assert not model.training
    return model


def seen(folder: Path, images: torch.Tensor, network: int = 0) -> torch.Tensor:
    """Images as the card's recipe feeds them, by its numbers alone."""
    given = json.loads((folder / "card.json").read_text())["networks"][network]["input"]
    low, high = given["range"]
    mean, std = (torch.tensor(given[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
    assert given["channels"] == images.shape[1]
    scaled = (images - low) / (high - low)
    return ((scaled.flip(1) if given["order"] == "bgr" else scaled) - mean) / std


@pytest.mark.parametrize(
    ("student", "layer", "unlearned"), [("squeezenet1_1", "features.5", True), ("resnet18", "layer4", False)]
)
def test_the_stock_model_loads_a_student_strictly_and_gives_its_maps(
    student: str, layer: str, unlearned: bool, tiny_data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = taught(tiny_data, tmp_path, "taught", student=student, transfer=(f"features.5:{layer}=1",))
    exported = export(run, "safetensors", tmp_path / "out")
    assert bool(exported.notes) == unlearned
    there = {path.name for path in exported.folder.iterdir()}
    assert there == {"model.safetensors", "card.json"} == set(exported.files)
    own, model = load_student(run), loaded(exported, monkeypatch)
    found: dict[str, torch.Tensor] = {}
    model.get_submodule(layer).register_forward_hook(lambda part, args, output: found.update(map=output.clone()))
    with torch.no_grad():
        wanted = own.tapped()(own.backbone.input.normalise(IMAGES))[layer]
        model(seen(exported.folder, IMAGES))
    torch.testing.assert_close(found["map"], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("torchvision/resnet18", 1),
        ("vgg11", 2),
        ("caffenet-rgb", 3),
        ("mobilenetv3_small_100", 1),
        ("swin_tiny_patch4_window7_224", 3),
    ],
)
def test_every_library_makes_the_same_network_again(name: str, channels: int) -> None:
    backbone = build(name, in_channels=channels, seed=3)
    backbone.module.eval()
    layer = default_layer(backbone)
    made = stock(Network(backbone, "hha", {}, (layer,), frozenset()))
    names: dict[str, Any] = {}
    exec("\n".join(made.lines), names)
    model: torch.nn.Module = names["model"].eval()
    model.load_state_dict(made.state, strict=True)
    found: list[torch.Tensor] = []
    for module in (backbone.module, model):
        part = module.get_submodule(module_path(backbone, layer))
        part.register_forward_hook(lambda part, args, output: found.append(output.clone()))
        with torch.no_grad():
            module(torch.full((1, channels, 72, 104), 0.7))
    torch.testing.assert_close(found[1], found[0])


def test_the_file_itself_says_what_it_is(tiny_data: PreparedData, tmp_path: Path) -> None:
    run = taught(tiny_data, tmp_path, "taught")
    exported = export(run, "safetensors", tmp_path / "out", adapter=True)
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as handle:
        about = handle.metadata()
    assert about["load"] == exported.load
    assert json.loads(about["input"]) == load_student(run).backbone.input.to_dict()
    assert about["network"] == "torchvision/squeezenet1_1"
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert json.loads(about["unlearned"]) == card["networks"][0]["unlearned"]
    assert card["networks"][0]["modality"] == "disparity"
    assert card["run"]["path"] == str(run.path.resolve())
    learned = load_file(run.path / "student.safetensors")
    whole = load_file(tmp_path / "out" / "model.safetensors")
    assert {key for key in whole if key not in learned} == set(card["networks"][0]["unlearned"])
    assert all(torch.equal(whole[key], value) for key, value in learned.items())


def test_an_adapter_gives_features_at_the_teachers_own_scale(tiny_data: PreparedData, tmp_path: Path) -> None:
    run = taught(tiny_data, tmp_path, "taught")
    export(run, "safetensors", tmp_path / "out", adapter=True)
    trained = load_file(run.path / "adapter.safetensors")
    state = load_file(tmp_path / "out" / "adapter.safetensors")
    layer = torch.nn.Conv2d(128, 128, 1)
    layer.load_state_dict({key.removeprefix("0."): value for key, value in state.items()}, strict=True)
    maps = torch.rand(1, 128, 3, 4)
    predicted = torch.nn.functional.conv2d(maps, trained["0.weight"], trained["0.bias"])
    wanted = predicted * trained["0.divisor"].view(1, -1, 1, 1)
    torch.testing.assert_close(layer(maps), wanted, rtol=1e-4, atol=1e-5)
