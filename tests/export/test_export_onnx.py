"""Promises of ONNX exports: another program that runs them gives what PyTorch gives, at other sizes and counts too."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_actions
import tiny_detectors
import torch
from test_export_kinds import SMALL, taught_levels
from test_export_weights import taught
from tiny_detectors import tiny_proposals, with_proposals
from torch import Tensor
from torch.nn import functional as F

from xmodal_cli.classify.training import classify
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.branches import load_trained
from xmodal_cli.detect.finetune import finetune
from xmodal_cli.detect.predict import score_boxes
from xmodal_cli.detect.samples import network_image
from xmodal_cli.detect.vision import look
from xmodal_cli.detect.vision_join import join_vision, load_vision
from xmodal_cli.errors import SettingsError, XmodalError
from xmodal_cli.export.export import export
from xmodal_cli.export.graphs import Graph, graph_of
from xmodal_cli.export.onnx_file import export_graph, input_shapes
from xmodal_cli.export.package import Package, rehearse
from xmodal_cli.export.subjects import read_subject
from xmodal_cli.models.classifier import read_classifier
from xmodal_cli.runs.folder import RunFolder, open_run
from xmodal_cli.transfer.adapted import read_adapter
from xmodal_cli.transfer.student import Student, load_student

ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def run_onnx(folder: Path, **given: Tensor) -> dict[str, np.ndarray[Any, Any]]:
    """What the exported graph gives, by name."""
    session = ort.InferenceSession(folder / "model.onnx")
    assert [each.name for each in session.get_inputs()] == list(given)
    names = [each.name for each in session.get_outputs()]
    found = session.run(None, {name: value.numpy() for name, value in given.items()})
    return dict(zip(names, found, strict=True))


def card_of(folder: Path) -> Mapping[str, Any]:
    document: Mapping[str, Any] = json.loads((folder / "card.json").read_text())
    return document


@pytest.fixture(scope="module")
def twice(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A student, one of whose layers occurs in two transfer points, and so does one of its teacher's."""
    points = ("features.5:features.3=1", "features.5:features.5=1", "features.6:features.5=1")
    return taught(tiny_data, tmp_path_factory.mktemp("twice"), "taught", transfer=points)


def maps_of(student: Student, images: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        maps = student.tapped()(student.backbone.input.normalise(images))
    return {name: maps[name] for name in ("features.3", "features.5")}


def test_a_student_gives_each_layers_map_for_any_batch_and_size(twice: RunFolder, tmp_path: Path) -> None:
    exported = export(twice, "onnx", tmp_path / "out")
    assert exported.card["inputs"]["image"]["shape"] == ["batch", 3, "height", "width"]
    for size in ((1, 3, 64, 80), (3, 3, 96, 72)):
        images = torch.rand(size) * 255
        _compare(run_onnx(exported.folder, image=images), maps_of(load_student(twice), images))


def test_adapted_maps_bear_the_names_of_their_points(twice: RunFolder, tmp_path: Path) -> None:
    student, images = load_student(twice), torch.rand(1, 3, 72, 88) * 255
    maps, wanted = maps_of(student, images), dict[str, Tensor]()
    names = ("features.5_of_teacher_from_features.3", "features.5_of_teacher_from_features.5", "features.6_of_teacher")
    for number, (name, point) in enumerate(zip(names, student.card["transfer"], strict=True)):
        weight, bias, divisor = read_adapter(twice, number)
        assert point["adapter_relu"]
        with torch.no_grad():
            wanted[name] = F.conv2d(maps[point["student"]], weight, bias).relu() * divisor[:, None, None]
    _compare(run_onnx(export(twice, "onnx", tmp_path / "out", adapter=True).folder, image=images), wanted)


def test_adapters_of_regions_are_refused(twice: RunFolder) -> None:
    subject = read_subject(twice)
    point = {**subject.card["transfer"][0], "student": "fc6"}
    of_regions = replace(subject, card={**subject.card, "transfer": [point], "regions": {"proposals": "mcg"}})
    with pytest.raises(SettingsError, match=r"fc6 of .* learned from regions") as caught:
        graph_of(of_regions, adapter=True, size_hw=None)
    assert str(caught.value.hint).endswith(f"xmodal export {twice.path} --format safetensors --adapter")


def _compare(given: Mapping[str, np.ndarray[Any, Any]], wanted: Mapping[str, Tensor]) -> None:
    assert list(given) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(given[name], value.numpy(), rtol=1e-3, atol=1e-4 * float(value.abs().max()))


def test_a_graph_refuses_other_names_than_it_has_outputs() -> None:
    graph = Graph(torch.nn.ReLU(), {"image": torch.ones(1)}, ("one", "other"), {}, {})
    with pytest.raises(ValueError, match="shorter"):
        graph.run(graph.inputs)


class OfEights(torch.nn.Module):
    """Sees images whose height is a multiple of 8 otherwise than all others."""

    def forward(self, image: Tensor) -> Tensor:
        return image[:, :, ::8] if image.shape[2] % 8 == 0 else image[:, :, 1:]


def test_a_size_is_free_in_the_file_only_where_that_is_true(tmp_path: Path) -> None:
    image, file = torch.rand(2, 3, 16, 24), tmp_path / "model.onnx"
    free = {"image": {0: "batch", 2: "height", 3: "width"}}
    for module, shape in ((OfEights(), ["batch", 3, 16, 24]), (torch.nn.ReLU(), ["batch", 3, "height", "width"])):
        graph = Graph(module.eval(), {"image": image}, ("map",), free, {}, traced=True)
        export_graph(graph, file)
        assert input_shapes(file) == {"image": shape}
    with pytest.raises(XmodalError, match="its map differs"):
        export_graph(Graph(Unsteady().eval(), {"image": image}, ("map",), free, {}, traced=True), file)


def test_a_dry_run_writes_the_file_where_it_is_removed_again() -> None:
    places, graph = (
        list[Path](),
        Graph(torch.nn.ReLU().eval(), {"image": torch.ones(1, 1, 2, 2)}, ("map",), {}, {}, True),
    )

    def write_file(path: Path) -> tuple[str, ...]:
        export_graph(graph, path)
        places.append(path)
        return ("written",) if path.is_file() else ()

    assert rehearse(Package({"model.onnx": write_file}, {}, "")) == ("written",)
    assert not places[0].parent.parent.exists()


class Unsteady(torch.nn.Module):
    """Gives something else each time."""

    calls = 0.0

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        return image + self.calls


def test_a_classifier_gives_logits(tiny_clips: PreparedData, tmp_path: Path) -> None:
    chosen = tiny_actions.settings(tiny_clips, iterations=1)
    run = open_run(classify(chosen, runs=tmp_path, name="tiny").run)
    exported = export(run, "onnx", tmp_path / "out")
    classifier, _ = read_classifier(run.path, run.card())
    images = torch.rand(3, 3, 48, 64) * 255
    with torch.no_grad():
        wanted = classifier(classifier.input.normalise(images))
    np.testing.assert_allclose(run_onnx(exported.folder, image=images)["logits"], wanted.numpy(), rtol=1e-3, atol=1e-4)
    assert card_of(exported.folder)["classes"] == run.card()["classes"]


@pytest.fixture(scope="module")
def with_boxes(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return with_proposals(tiny_data, tmp_path_factory.mktemp("onnx") / "data")


def test_a_detector_scores_and_moves_boxes_as_the_run_does(with_boxes: PreparedData, tmp_path: Path) -> None:
    chosen = tiny_detectors.settings(with_boxes, pooling="max", iterations=2, size=96)
    run = open_run(finetune(chosen, runs=tmp_path, name="tiny").run)
    exported = export(run, "onnx", tmp_path / "out")
    assert card_of(exported.folder)["inputs"]["boxes"]["shape"] == ["boxes", 4]
    trained = load_trained(run)
    for name, count in ((with_boxes.ids("val")[0], 22), (with_boxes.ids("val")[1], 5)):
        image, boxes = with_boxes.read("disparity", name), tiny_proposals(name)[:count]
        cutoffs = replace(trained.cutoffs, merge_px=0)
        size_hw = image.shape[0], image.shape[1]
        wanted = score_boxes(
            trained.branches, {"disparity": image}, size_hw, boxes, cutoffs, torch.device("cpu"), "fp32"
        )
        given = run_onnx(
            exported.folder,
            image=network_image(image, trained.branches[0].size.of(size_hw))[None].float(),
            boxes=torch.from_numpy(boxes),
            image_size=torch.tensor(size_hw).float(),
        )
        np.testing.assert_allclose(given["scores"], wanted[0].numpy(), rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(given["boxes_by_class"], wanted[1].numpy(), rtol=1e-4, atol=1e-2)


def test_a_torchvision_detector_above_a_student_is_one_graph(tiny_data: PreparedData, tmp_path: Path) -> None:
    student = taught_levels(tiny_data, tmp_path, SMALL, student="torchvision/resnet18")
    run = join_vision(SMALL, student, runs=tmp_path, run_name="joined")
    awakened(run)
    exported = export(run, "onnx", tmp_path / "out")
    vision = load_vision(run)
    for name in tiny_data.ids("val")[:2]:
        image = tiny_data.read("disparity", name)
        wanted = look(vision, image, torch.device("cpu"))
        given = run_onnx(exported.folder, image=torch.from_numpy(image).permute(2, 0, 1).float())
        assert np.ptp(wanted.scores) > 0.005
        np.testing.assert_allclose(given["scores"], wanted.scores, rtol=1e-3, atol=1e-5)
        assert np.mean(given["labels"] == wanted.labels + 1) > 0.95  # equal scores may change places
        assert np.mean(np.isclose(given["boxes"], wanted.boxes_xyxy, atol=0.1)) > 0.95


def awakened(run: RunFolder) -> None:
    """Give a random detector features that are not all but zero, in its file: else all of its scores are equal."""
    from safetensors.torch import load_file, save_file

    state = load_file(run.path / "detector.safetensors")
    for key, value in state.items():
        if ".adapter." in key:
            state[key] = value / value.abs().max()
    save_file(state, run.path / "detector.safetensors")


def test_what_is_not_installed_is_said_with_the_command_that_installs_it(
    tiny_data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = taught(tiny_data, tmp_path, "taught")
    find = sys.modules["importlib.util"].find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else find(name))
    with pytest.raises(SettingsError, match="onnxscript, not installed here") as caught:
        export(run, "onnx", tmp_path / "out")
    assert "xmodal-cli[onnx]" in str(caught.value.hint)
    assert not (tmp_path / "out").exists()
