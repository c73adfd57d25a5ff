"""Promises of torchvision detectors without labels: every level taught, plain weights or a stand-in, bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_runs
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.branches import load_trained
from xmodal_cli.detect.prediction import predict_vision
from xmodal_cli.detect.run_evaluation import evaluate_runs
from xmodal_cli.detect.vision import look
from xmodal_cli.detect.vision_join import Vision, join_vision, load_vision
from xmodal_cli.detect.zero_shot import Scoring, zero_shot_vision
from xmodal_cli.errors import SettingsError
from xmodal_cli.models.torchvision_detectors import build_detector
from xmodal_cli.pictures.run_report import Choice, sections_of
from xmodal_cli.pictures.scenes import scenes_of_runs
from xmodal_cli.runs.folder import RunFolder, open_run
from xmodal_cli.transfer.distill import distill
from xmodal_cli.transfer.student import load_student
from xmodal_cli.transfer.teacher_run import open_teacher_run

SMALL = "ssdlite320_mobilenet_v3_large"
PYRAMID = "fasterrcnn_mobilenet_v3_large_320_fpn"
CLASSES = {"near": "chair", "far": "bed"}  # of the tiny data set, as the detector calls them


def taught(data: PreparedData, runs: Path, name: str, detector: str, **changes: Any) -> RunFolder:
    given = {
        "teacher": None,
        "teacher_detector": detector,
        "transfer": (),
        "size": "96x128",
        "iterations": 1,
        "student": "torchvision/mobilenet_v3_large",
        **changes,
    }
    return open_run(distill(tiny_runs.settings(data, **given), runs=runs, name=name).run)


def copied(data: PreparedData, run: RunFolder, out: Path) -> RunFolder:
    """The run with a student that is its teacher's exact copy and, by its card, sees RGB."""
    path = out / "distill" / "copied"
    shutil.copytree(run.path, path)
    card = json.loads((path / "card.json").read_text())
    card |= {"modality": "rgb", "encoding": data.modality("rgb").to_dict()}
    card["student"]["input"] = card["teacher"]["input"]
    (path / "card.json").write_text(json.dumps(card))
    teacher = build_detector(card["teacher"]["detector"]["detector"]).network.module
    state, plain = teacher.state_dict(), load_student(run).backbone.module
    shift = next(part.eps for part in teacher.modules() if isinstance(part, nn.BatchNorm2d)) - next(
        part.eps for part in plain.modules() if isinstance(part, nn.BatchNorm2d)
    )
    student = {
        key: state[key] + shift if key.endswith("running_var") else state[key].clone()
        for key in load_file(path / "student.safetensors")
    }
    save_file(student, path / "student.safetensors")
    return RunFolder(path, "distill")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vision")


@pytest.fixture(scope="module")
def pyramid(tiny_data: PreparedData, runs: Path) -> RunFolder:
    """A student of a detector's very own network, taught without adapters."""
    return taught(tiny_data, runs, "pyramid", PYRAMID, adapter=False, init="teacher")


@pytest.fixture(scope="module")
def other(tiny_data: PreparedData, runs: Path) -> RunFolder:
    """A student of another network, with adapters."""
    return taught(tiny_data, runs, "other", SMALL, student="torchvision/resnet18")


def test_every_level_that_the_detector_reads_is_a_transfer_point(pyramid: RunFolder, other: RunFolder) -> None:
    assert [point["teacher"] for point in pyramid.card()["transfer"]] == ["features.13", "features.16"]
    assert [point["teacher"] for point in other.card()["transfer"]] == ["features.13.block.0", "features.16"]
    assert [point["student"] for point in other.card()["transfer"]] == ["layer3", "layer4"]


def test_exact_copy_of_the_body_gives_the_detectors_own_detections(
    tiny_data: PreparedData, pyramid: RunFolder, tmp_path: Path
) -> None:
    joined = load_vision(join_vision(PYRAMID, copied(tiny_data, pyramid, tmp_path), runs=tmp_path))
    whole = build_detector(PYRAMID)
    for each in (whole, joined.detector):  # a random head is sure of nothing
        each.module.roi_heads.box_predictor.cls_score.weight.mul_(100)
    image = tiny_data.read("rgb", tiny_data.ids("val")[0])
    here, there = (
        look(vision, image, torch.device("cpu")) for vision in (Vision(whole, "rgb", whole.network.input), joined)
    )
    assert len(here) > 0
    assert np.array_equal(here.labels, there.labels)
    np.testing.assert_allclose(here.scores, there.scores, rtol=1e-3)
    np.testing.assert_allclose(here.boxes_xyxy, there.boxes_xyxy, atol=0.05)
    pixels = torch.rand(1, 3, 96, 128)
    own, given = (each.module.backbone(pixels) for each in (whole, joined.detector))
    for level in own:
        torch.testing.assert_close(given[level], own[level], rtol=1e-4, atol=1e-5)


def test_student_of_the_same_network_loads_into_torchvisions_own_model(pyramid: RunFolder, tmp_path: Path) -> None:
    run = join_vision(PYRAMID, pyramid, runs=tmp_path)
    plain = torchvision.models.get_model(PYRAMID, weights=None, weights_backbone=None)
    state = load_file(run.path / "detector.safetensors")
    plain.load_state_dict(state)
    student = load_file(pyramid.path / "student.safetensors")
    assert torch.equal(state["backbone.body.0.0.weight"], student["features.0.0.weight"])


def test_stand_in_of_another_network_is_scored_fused_and_predicts(
    tiny_data: PreparedData, other: RunFolder, tmp_path: Path
) -> None:
    pairs = {own: theirs for theirs, own in CLASSES.items()}
    scoring = Scoring(tiny_data, "val", fuse=True, device="cpu")
    result = zero_shot_vision(SMALL, other, scoring, classes=pairs, runs=tmp_path, name="joined")
    assert set(result.scores) == {"zero_shot", "detector", "fused"}
    assert set(result.scores["fused"].scores.ap) == {"near", "far"}
    assert any("does not know never" in note for note in result.scores["fused"].notes)
    assert "--size 320x320" in result.notes[0]  # it learned from 96 x 128
    run = open_run(result.run)
    card = run.card()
    (run.path / "card.json").write_text(json.dumps({**card, "data": {**card["data"], "split": "val"}}))
    again = evaluate_runs([run], tiny_data, split="val", device="cpu", root=tmp_path)
    assert again.scores.ap == result.scores["zero_shot"].scores.ap
    assert "joined learned from 6 of the 6 images scored." in again.notes
    with pytest.raises(SettingsError, match="--size and --precision: torchvision's detectors"):
        evaluate_runs([run], tiny_data, split="val", size=64, precision="bf16", root=tmp_path)
    with pytest.raises(SettingsError, match="cannot be fused with Fast R-CNN"):
        evaluate_runs([run, other], tiny_data, split="val", root=tmp_path)
    image = tiny_data.path("disparity", tiny_data.ids("val")[0])
    found = next(predict_vision(load_vision(run), [image], device="cpu"))
    assert found.classes[0] == "person"
    assert {"near", "far"} <= set(found.classes)
    assert not set(pairs) & set(found.classes)
    assert run.card()["branches"][0]["plain"] is False


def test_pictures_show_what_a_joined_detector_finds(tiny_data: PreparedData, other: RunFolder, tmp_path: Path) -> None:
    run = join_vision(SMALL, other, runs=tmp_path, class_names={own: theirs for theirs, own in CLASSES.items()})
    scene = scenes_of_runs([run], tiny_data, "val", None, 1, 0.0, 5, "cpu")[0]
    assert len(scene.found) == 5
    assert set(scene.found.labels.tolist()) <= {0, 1}
    titles = [section.title for section in sections_of([run], Choice(device="cpu"))[0]]
    assert titles == ["Runs", "Settings", f"Detections: {run.path.name}"]  # nothing was trained


def test_joined_maps_have_the_detectors_own_scale(tiny_data: PreparedData, other: RunFolder, tmp_path: Path) -> None:
    run = join_vision(SMALL, other, runs=tmp_path)
    state, adapters = load_file(run.path / "detector.safetensors"), load_file(other.path / "adapter.safetensors")
    for level in (0, 1):
        wanted = adapters[f"{level}.weight"] * adapters[f"{level}.divisor"][:, None, None, None]
        torch.testing.assert_close(state[f"backbone.below.joints.{level}.adapter.weight"], wanted)


def test_what_does_not_fit_is_refused(
    tiny_data: PreparedData, pyramid: RunFolder, other: RunFolder, tmp_path: Path
) -> None:
    def refused(name: str, student: RunFolder, **more: Any) -> str:
        with pytest.raises(SettingsError) as caught:
            join_vision(name, student, runs=tmp_path / "refused", **more)
        assert not (tmp_path / "refused").exists()
        return f"{caught.value} {caught.value.hint}"

    said = refused(PYRAMID, other)
    assert f"taught by {SMALL}, not by {PYRAMID}" in said
    assert f"--teacher-detector {PYRAMID}" in said
    file = tmp_path / "other.safetensors"
    state = {
        key: value + 0.01 if value.is_floating_point() else value
        for key, value in build_detector(SMALL).module.state_dict().items()
    }
    save_file(state, file)
    assert "taught by other weights" in refused(SMALL, other, weights=str(file))
    assert "no weights file 'coc'" in refused(SMALL, other, weights="coc")
    shallow = taught(tiny_data, tmp_path, "shallow", SMALL, transfer=("features.13.block.0:features.13.block.0",))
    assert "was not taught features.16" in refused(SMALL, shallow)
    joined = join_vision(SMALL, other, runs=tmp_path)
    with pytest.raises(SettingsError, match="wanted is a Fast R-CNN with proposals"):
        load_trained(joined)
    with pytest.raises(SettingsError, match="of torchvision above a student") as caught:
        open_teacher_run(joined.path)
    assert f"--teacher-run {other.path}" in str(caught.value.hint)
