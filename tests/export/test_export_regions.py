"""Promises of exports of runs about regions: joint and zero-shot detectors, proposers, masks; what each format has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_detectors
import tiny_runs
import torch
from masked_data import mask_settings, with_masks
from safetensors.torch import load_file
from test_export_onnx import card_of, run_onnx
from test_export_weights import loaded, seen
from tiny_detectors import tiny_proposals
from torch.nn import functional as F

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.branches import load_trained
from xmodal_cli.detect.finetune import finetune
from xmodal_cli.detect.join import join_runs
from xmodal_cli.detect.mask_training import train_masks
from xmodal_cli.detect.predict import score_boxes
from xmodal_cli.detect.rpn_settings import RpnSettings
from xmodal_cli.detect.rpn_training import train
from xmodal_cli.detect.samples import network_image
from xmodal_cli.errors import SettingsError
from xmodal_cli.export.export import export
from xmodal_cli.export.subjects import read_subject
from xmodal_cli.models.rpn import Rpn
from xmodal_cli.runs.folder import RunFolder, open_run
from xmodal_cli.transfer.distill import distill


@pytest.fixture(scope="module")
def data(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return with_masks(tiny_data, tmp_path_factory.mktemp("regions") / "data")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def colour(data: PreparedData, runs: Path) -> RunFolder:
    chosen = tiny_detectors.settings(data, modality="rgb", pooling="align", iterations=1)
    return open_run(finetune(chosen, runs=runs, name="rgb").run)


@pytest.fixture(scope="module")
def proposer(data: PreparedData, runs: Path) -> RunFolder:
    chosen = {"data": str(data.root), "layer": "features.5", "size": 48, "reduced": 32, "iterations": 1}
    machine = {"batch_size": 2, "precision": "fp32", "device": "cpu", "threads": 1, "workers": 0}
    train(RpnSettings.from_dict({**chosen, **machine}), runs=runs, name="rpn")
    return open_run(next((runs / "rpn").iterdir()))


def assert_scores_as_the_run(run: RunFolder, data: PreparedData, folder: Path) -> None:
    """A graph says of boxes in an image what the run says."""
    trained, name = load_trained(run), data.ids("val")[0]
    images = {branch.modality: data.read(branch.modality, name) for branch in trained.branches}
    size_hw, boxes = (tiny_runs.HEIGHT, tiny_runs.WIDTH), tiny_proposals(name)
    cutoffs = replace(trained.cutoffs, merge_px=0)
    wanted = score_boxes(trained.branches, images, size_hw, boxes, cutoffs, torch.device("cpu"), "fp32")
    several = len(images) > 1
    given = run_onnx(
        folder,
        **{
            f"image_{branch.modality}" if several else "image": network_image(
                images[branch.modality], branch.size.of(size_hw)
            )[None].float()
            for branch in trained.branches
        },
        boxes=torch.from_numpy(boxes),
        image_size=torch.tensor(size_hw).float(),
    )
    np.testing.assert_allclose(given["scores"], wanted[0].numpy(), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(given["boxes_by_class"], wanted[1].numpy(), rtol=1e-4, atol=1e-2)


def test_a_joint_detector_takes_an_image_of_each_modality(
    data: PreparedData, colour: RunFolder, runs: Path, tmp_path: Path
) -> None:
    chosen = tiny_detectors.settings(data, pooling="align", iterations=1, joint=str(colour.path))
    run = open_run(finetune(chosen, runs=runs, name="joint").run)
    exported = export(run, "onnx", tmp_path / "out")
    assert list(card_of(exported.folder)["inputs"]) == ["image_disparity", "image_rgb", "boxes", "image_size"]
    assert_scores_as_the_run(run, data, exported.folder)


def test_a_zero_shot_detector_that_moves_maps_takes_images_of_one_size(
    data: PreparedData, colour: RunFolder, runs: Path, tmp_path: Path
) -> None:
    from_colour = {"teacher": None, "teacher_weights": None, "teacher_run": str(colour.path)}
    student = {"student": "resnet18", "transfer": ("auto",), "size": "64x85", "iterations": 1}
    taught = open_run(distill(tiny_runs.settings(data, **from_colour, **student), runs=runs, name="student").run)
    run = join_runs(load_trained(colour), taught, runs=runs, name="moved")
    joint = load_trained(run).branches[0].detector.joint
    assert joint is not None
    assert joint.moves_maps
    exported = export(run, "onnx", tmp_path / "out", size_hw=(64, 85))
    assert card_of(exported.folder)["inputs"]["image"]["shape"] == [1, 3, 64, 85]
    assert card_of(exported.folder)["inputs"]["boxes"]["shape"] == ["boxes", 4]
    assert any("64x85" in note and "--size" in note for note in exported.notes)
    assert_scores_as_the_run(run, data, exported.folder)


def test_a_proposers_best_boxes_are_the_runs_best_proposal(
    data: PreparedData, proposer: RunFolder, tmp_path: Path
) -> None:
    exported = export(proposer, "onnx", tmp_path / "out", size_hw=(48, 64))
    rpn = read_subject(proposer).whole
    assert isinstance(rpn, Rpn)
    image = torch.from_numpy(data.read("rgb", data.ids("val")[0])).permute(2, 0, 1)[None].float()
    wanted = rpn.propose(rpn.input.normalise(image), 1)[0]
    given = run_onnx(exported.folder, image=image)
    np.testing.assert_allclose(given["boxes"][given["objectness"].argmax()], wanted.numpy(), atol=1e-2)
    assert exported.card["inputs"]["image"]["shape"] == [1, 3, 48, 64]


def test_a_proposer_is_its_network_and_a_head(
    proposer: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = export(proposer, "safetensors", tmp_path / "out")
    assert set(exported.files) == {"model.safetensors", "rpn_head.safetensors", "card.json"}
    rpn, head = read_subject(proposer).whole, load_file(tmp_path / "out" / "rpn_head.safetensors")
    assert isinstance(rpn, Rpn)
    model, images = loaded(exported, monkeypatch), torch.rand(1, 3, 48, 64) * 255
    with torch.no_grad():
        wanted = rpn(rpn.input.normalise(images)).objectness
        maps = model.features[:6](seen(exported.folder, images))  # type: ignore[index]
        maps = F.conv2d(maps, head["reduction.weight"], head["reduction.bias"]).relu()
        maps = F.conv2d(maps, head["conv.0.0.weight"], head["conv.0.0.bias"], padding=1).relu()
        given = F.conv2d(maps, head["cls_logits.weight"], head["cls_logits.bias"])
    torch.testing.assert_close(given, wanted, rtol=1e-3, atol=1e-4)


def test_masks_are_exported_as_weights_alone(data: PreparedData, colour: RunFolder, runs: Path, tmp_path: Path) -> None:
    run = open_run(train_masks(mask_settings(data, colour.path, iterations=1), runs=runs, name="masks").run)
    with pytest.raises(SettingsError, match="no ONNX graph") as caught:
        export(run, "onnx", tmp_path / "onnx")
    assert str(caught.value.hint).endswith(f"xmodal export {run.path} --format safetensors")
    exported = export(run, "safetensors", tmp_path / "out")
    names = {"model.safetensors", "roi_head.safetensors", "masks.safetensors"}
    assert set(exported.files) == names | {"card.json"}
    learned = load_file(run.path / "masks.safetensors")
    there = load_file(tmp_path / "out" / "masks.safetensors")
    assert there.keys() <= learned.keys()
    assert there
    assert all(torch.equal(value, learned[key]) for key, value in there.items())
