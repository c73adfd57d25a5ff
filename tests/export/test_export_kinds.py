"""Promises of exports of classifiers and detectors: stock models that say the same, what timm loads, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import tiny_actions
import tiny_detectors
import torch
from safetensors.torch import load_file
from test_export_weights import loaded, seen, taught
from tiny_detectors import with_proposals
from torch.nn import functional as F

from xmodal_cli.classify.training import classify
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.branches import load_trained
from xmodal_cli.detect.finetune import finetune
from xmodal_cli.detect.vision import look
from xmodal_cli.detect.vision_join import join_vision, load_vision
from xmodal_cli.errors import SettingsError
from xmodal_cli.export.export import export
from xmodal_cli.models.classifier import read_classifier
from xmodal_cli.runs.folder import RunFolder, open_run

PYRAMID, SMALL = "fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large"


def classifier_of(data: PreparedData, runs: Path, **changes: Any) -> RunFolder:
    chosen = tiny_actions.settings(data, iterations=1, **changes)
    return open_run(classify(chosen, runs=runs, name=str(changes["backbone"]).replace("/", "-")).run)


@pytest.mark.parametrize("backbone", ["resnet18", "torchvision/resnet18"])
def test_a_classifier_is_the_stock_model_of_its_classes(
    backbone: str, tiny_clips: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = classifier_of(tiny_clips, tmp_path, backbone=backbone, layer="layer4")
    classifier, _ = read_classifier(run.path, run.card())
    images = torch.rand(2, 3, 48, 64) * 255
    with torch.no_grad():
        wanted = classifier(classifier.input.normalise(images))
        exported = export(run, "safetensors", tmp_path / "weights")
        assert exported.files == ("model.safetensors", "card.json")
        assert exported.notes == ()
        given = loaded(exported, monkeypatch)(seen(exported.folder, images))
        torch.testing.assert_close(given, wanted, rtol=1e-3, atol=1e-4)
        in_timm = export(run, "timm", tmp_path / "timm")  # timm's resnet18 is torchvision's
        model = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
        torch.testing.assert_close(model(seen(in_timm.folder, images)), wanted, rtol=1e-3, atol=1e-4)
    config = json.loads((tmp_path / "timm" / "config.json").read_text())
    assert config["label_names"] == run.card()["classes"]
    assert tuple(model.pretrained_cfg["mean"]) == tuple(classifier.input.mean)


def test_a_classifier_that_no_stock_model_equals_keeps_its_last_layer_apart(
    tiny_clips: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = classifier_of(tiny_clips, tmp_path, backbone="mobilenetv3_small_100", layer="blocks.5")
    exported = export(run, "safetensors", tmp_path / "weights")
    assert set(exported.files) == {"model.safetensors", "class_head.safetensors", "card.json"}
    classifier, _ = read_classifier(run.path, run.card())
    images = torch.rand(1, 3, 48, 64) * 255
    model, head = loaded(exported, monkeypatch), load_file(exported.folder / "class_head.safetensors")
    with torch.no_grad():
        wanted = classifier(classifier.input.normalise(images))
        found: list[torch.Tensor] = []
        model.blocks[5].register_forward_hook(lambda part, args, output: found.append(output))  # type: ignore[index, union-attr]
        model(seen(exported.folder, images))
        given = F.linear(found[0].mean((2, 3)), head["weight"], head["bias"])
    torch.testing.assert_close(given, wanted, rtol=1e-3, atol=1e-4)
    with pytest.raises(SettingsError, match=r"one linear layer above blocks\.5") as caught:
        export(run, "timm", tmp_path / "timm")
    assert str(caught.value.hint).endswith(f"xmodal export {run.path} --format safetensors")
    assert not (tmp_path / "timm").exists()


@pytest.mark.parametrize("student", ["resnet18", "torchvision/resnet18"])
def test_timm_loads_a_student_from_its_folder(student: str, tiny_data: PreparedData, tmp_path: Path) -> None:
    run = taught(tiny_data, tmp_path, "taught", student=student, transfer=("features.5:layer3=1",))
    exported = export(run, "timm", tmp_path / "out")
    names: dict[str, Any] = {}
    exec(exported.load, names)
    learned, state = load_file(run.path / "student.safetensors"), names["model"].state_dict()
    assert all(torch.equal(state[key], value) for key, value in learned.items())
    assert names["model"].num_classes == 0
    assert any("above layer3 and were not learned" in note for note in exported.notes)


def test_timm_refuses_networks_that_it_does_not_have(tiny_data: PreparedData, tmp_path: Path) -> None:
    run = taught(tiny_data, tmp_path, "taught")
    with pytest.raises(SettingsError, match="torchvision's, and timm does not have the same one") as caught:
        export(run, "timm", tmp_path / "out")
    assert "--format safetensors" in str(caught.value.hint)


@pytest.fixture(scope="module")
def detector(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("detector")
    data = with_proposals(tiny_data, folder / "data")
    return open_run(finetune(tiny_detectors.settings(data, iterations=1), runs=folder, name="tiny").run)


def test_a_detector_is_its_network_and_a_head(
    detector: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = export(detector, "safetensors", tmp_path / "out")
    assert set(exported.files) == {"model.safetensors", "roi_head.safetensors", "card.json"}
    own = load_trained(detector).branches[0].detector
    head = load_file(tmp_path / "out" / "roi_head.safetensors")
    model = loaded(exported, monkeypatch)
    images = torch.rand(1, 3, 64, 80) * 255
    boxes = torch.tensor([[4.0, 8.0, 40.0, 50.0], [20.0, 3.0, 70.0, 60.0]])
    with torch.no_grad():
        wanted = own(own.input.normalise(images), [boxes])
        maps = model.features[:6](seen(exported.folder, images))  # type: ignore[index]
        maps = F.conv2d(maps, head["reduction.weight"], head["reduction.bias"]).relu()
        features = own.pool(maps, [boxes]).flatten(1)
        for name in ("fc6", "fc7"):
            features = F.linear(features, head[f"{name}.weight"], head[f"{name}.bias"]).relu()
        given = F.linear(features, head["cls_score.weight"], head["cls_score.bias"])
    torch.testing.assert_close(given, wanted.scores, rtol=1e-4, atol=1e-5)
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["classes"] == ["near", "far", "never"]
    assert card["networks"][0]["head"]["pool"] == own.pool.to_dict()


def test_a_torchvision_detector_with_plain_weights_is_torchvisions_own(
    tiny_data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = taught_levels(tiny_data, tmp_path, PYRAMID, adapter=False, init="teacher")
    run = join_vision(PYRAMID, student, runs=tmp_path, run_name="joined")
    exported = export(run, "safetensors", tmp_path / "out")
    vision, model = load_vision(run), loaded(exported, monkeypatch)
    image = tiny_data.read("disparity", tiny_data.ids("val")[0])
    for each in (vision.detector.module, model):
        each.roi_heads.box_predictor.cls_score.weight.data.mul_(100)  # a random head is sure of nothing
    here = look(vision, image, torch.device("cpu"))
    low, high = vision.seen.range
    with torch.no_grad():
        there = model([(torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1) - low) / (high - low)])[0]
    assert len(here) > 0
    np.testing.assert_allclose(there["scores"].numpy(), here.scores, rtol=1e-4)
    np.testing.assert_allclose(there["boxes"].numpy(), here.boxes_xyxy, atol=1e-2)


def test_a_torchvision_detector_above_another_student_comes_in_three_files(
    tiny_data: PreparedData, tmp_path: Path
) -> None:
    student = taught_levels(tiny_data, tmp_path, SMALL, student="torchvision/resnet18")
    run = join_vision(SMALL, student, runs=tmp_path, run_name="joined")
    exported = export(run, "safetensors", tmp_path / "out")
    assert set(exported.files) == {
        "model.safetensors",
        "detector.safetensors",
        "adapter.safetensors",
        "card.json",
    }
    assert "No stock model holds this joint whole" in " ".join(exported.notes)
    joined = load_vision(run).detector.module.state_dict()
    state, card = load_file(tmp_path / "out" / "detector.safetensors"), exported.card
    unlearned = set(card["detector"]["unlearned"])
    assert unlearned
    assert all(key.startswith("backbone.features") for key in unlearned)
    for key in ("head.classification_head.module_list.0.1.weight", "backbone.extra.2.0.0.weight"):
        assert torch.equal(state[key], joined[key])
    adapters = load_file(tmp_path / "out" / "adapter.safetensors")
    assert torch.equal(adapters["1.weight"], joined["backbone.below.joints.1.adapter.weight"])
    assert set(state) - unlearned == {key for key in joined if not key.startswith("backbone.below")}


def taught_levels(data: PreparedData, runs: Path, detector: str, **changes: Any) -> RunFolder:
    """A student of every level of a torchvision detector."""
    given = {
        "teacher": None,
        "teacher_detector": detector,
        "transfer": (),
        "size": "96x128",
        "student": "torchvision/mobilenet_v3_large",
        **changes,
    }
    return taught(data, runs, "levels", **given)
