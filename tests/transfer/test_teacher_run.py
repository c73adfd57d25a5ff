"""Promises of runs that teach: their very weights and input, what they learned and nothing above, said on the card."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tiny_runs import assert_same_student, cut_short, settings, steps_in_metrics

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.finetune import finetune
from xmodal_cli.detect.settings import FinetuneSettings
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.runs.folder import open_run
from xmodal_cli.transfer.build import adapted_student, build
from xmodal_cli.transfer.distill import distill, resume
from xmodal_cli.transfer.resolve import resolve
from xmodal_cli.transfer.student import load_student
from xmodal_cli.transfer.teacher_run import open_teacher_run

LAYER = "features.5"


@pytest.fixture(scope="module")
def detector(boxed_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished detector of two steps on RGB whose regions are cut from `features.7`; nobody may change it."""
    wanted = FinetuneSettings(
        data=str(boxed_data.root),
        modality="rgb",
        backbone="squeezenet1_1",
        layer="features.7",
        size=64,
        iterations=2,
        regions=8,
        head=(16, 16),
        reduced=8,
        device="cpu",
        precision="fp32",
        threads=1,
        workers=0,
    )
    return finetune(wanted, runs=tmp_path_factory.mktemp("detectors"), name="rgb").run


@pytest.fixture(scope="module")
def first_student(boxed_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished transfer to disparity, up to `features.5`; nobody may change it."""
    return distill(settings(boxed_data), runs=tmp_path_factory.mktemp("runs"), name="first").run


def taught(data: PreparedData, run: Path, **changes: Any) -> Any:
    """Settings of a tiny transfer whose teacher is a run."""
    return settings(data, **{"teacher": None, "teacher_weights": None, "teacher_run": str(run), **changes})


def test_teacher_has_the_detectors_weights_and_input(boxed_data: PreparedData, detector: Path) -> None:
    plan = build(taught(boxed_data, detector))
    learned = load_file(detector / "detector.safetensors")
    mine = plan.teacher.tapped.kept_state()
    assert mine
    for name, tensor in mine.items():
        assert torch.equal(tensor, learned[name]), name
    card = json.loads((detector / "card.json").read_text())
    assert plan.teacher.backbone.input.to_dict() == card["branches"][0]["backbone"]["input"]


def test_student_of_a_transfer_teaches_the_modality_that_it_learned(
    boxed_data: PreparedData, first_student: Path
) -> None:
    plan = build(taught(boxed_data, first_student, modality="rgb"))
    learned = load_student(open_run(first_student)).tapped().kept_state()
    mine = plan.teacher.tapped.kept_state()
    assert all(torch.equal(tensor, learned[name]) for name, tensor in mine.items())
    assert plan.settings.source == "disparity"


def test_student_learns_from_a_detector_and_its_card_says_so(
    boxed_data: PreparedData, detector: Path, tmp_path: Path
) -> None:
    run = distill(taught(boxed_data, detector, iterations=40, lr=3e-3), runs=tmp_path, name="taught").run
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if record["phase"] == "train"]
    assert losses[-1] < 0.9 * losses[0]
    card = json.loads((run / "card.json").read_text())
    assert card["teacher"]["run"] == {"path": str(detector), "command": "finetune"}
    assert card["teacher"]["name"] == "squeezenet1_1"
    assert card["teacher"]["weights_sha256"] == build(taught(boxed_data, detector)).teacher.weights_hash
    assert load_student(open_run(run)).modality == "disparity"


def test_student_that_starts_as_its_teacher_says_what_its_teacher_says_from_the_start(
    boxed_data: PreparedData, detector: Path
) -> None:
    plan = build(taught(boxed_data, detector, init="teacher"))
    colour = torch.rand(2, 3, 64, 80) * 255
    (taught_features,) = plan.teacher.features(plan.teacher.backbone.input.normalise(colour))
    divisor = torch.linspace(0.5, 2.0, taught_features.shape[1])
    module = adapted_student(plan, [True], [divisor]).eval()
    student, teacher = plan.student.module.state_dict(), plan.teacher.backbone.module.state_dict()
    assert all(torch.equal(student[key], teacher[key]) for key in student)
    adapter = module.adapters[0]
    assert torch.allclose(adapter(taught_features), taught_features / divisor.view(1, -1, 1, 1), atol=1e-5)


def test_student_of_another_kind_cannot_start_as_its_teacher(boxed_data: PreparedData, detector: Path) -> None:
    with pytest.raises(SettingsError, match="the student must be a torchvision/squeezenet1_1 too, not a resnet18"):
        build(taught(boxed_data, detector, init="teacher", student="resnet18", transfer=(f"{LAYER}:layer1",)))


def test_cached_run_teaches_like_any_other(boxed_data: PreparedData, detector: Path, tmp_path: Path) -> None:
    run = distill(taught(boxed_data, detector, cache="on"), runs=tmp_path, name="cached").run
    assert steps_in_metrics(run) == [4]


def test_default_point_of_a_detector_is_its_networks_default_layer(boxed_data: PreparedData, detector: Path) -> None:
    with pytest.raises(SettingsError, match=r"learned squeezenet1_1 through features.7; above it, features is random"):
        build(taught(boxed_data, detector, transfer=()))


def test_layers_that_a_run_did_not_learn_are_refused_with_one_that_it_did(
    boxed_data: PreparedData, first_student: Path
) -> None:
    with pytest.raises(SettingsError) as caught:
        build(taught(boxed_data, first_student, modality="rgb", transfer=("features.9",)))
    assert caught.value.hint == "Transfer what was learned: --transfer features.5:STUDENT_LAYER"


def test_all_that_is_wrong_about_a_teacher_is_said_at_once(boxed_data: PreparedData, detector: Path) -> None:
    wrong = {"teacher": "vgg16", "teacher_weights": "random", "source": "disparity", "modality": "rgb"}
    with pytest.raises(SettingsError) as caught:
        build(taught(boxed_data, detector, **wrong))
    message = str(caught.value)
    assert "leave --teacher out" in message
    assert "leave --teacher-weights out" in message
    assert "sees 'rgb': leave --source out" in message
    assert "would see what the teacher sees" in message


def test_runs_that_cannot_teach_are_refused(boxed_data: PreparedData, detector: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="There is no run"):
        build(taught(boxed_data, tmp_path / "nothing"))
    evaluation = tmp_path / "evaluate" / "some"
    evaluation.mkdir(parents=True)
    (evaluation / "config.yaml").write_text(yaml.safe_dump({"command": "evaluate", "settings": {}}))
    with pytest.raises(SettingsError, match="leaves no network"):
        build(taught(boxed_data, evaluation))
    unfinished = cut_short(boxed_data, tmp_path)
    with pytest.raises(DataError, match="not finished"):
        build(taught(boxed_data, unfinished))


def test_images_of_other_channels_than_the_run_learned_are_refused(
    boxed_data: PreparedData, first_student: Path
) -> None:
    found = open_teacher_run(first_student)
    thinner = replace(boxed_data.modality("disparity"), channels=1)
    changed = replace(boxed_data, modalities={**boxed_data.modalities, "disparity": thinner})
    resolved, _ = resolve(taught(changed, first_student, modality="rgb"), changed)
    from xmodal_cli.transfer import build as module

    with pytest.raises(SettingsError, match="takes 3 channels of disparity"):
        module._teacher(resolved, found, changed, [], (64, 80), lambda url, done, total: None)


def test_resolving_a_taught_transfer_twice_changes_nothing(boxed_data: PreparedData, detector: Path) -> None:
    once, _ = resolve(taught(boxed_data, detector), boxed_data)
    assert resolve(once, boxed_data)[0] == once
    assert once.source == "rgb"


def test_resumed_run_has_the_same_teacher_and_ends_the_same(
    boxed_data: PreparedData, detector: Path, tmp_path: Path
) -> None:
    changes = {"teacher": None, "teacher_weights": None, "teacher_run": str(detector)}
    stopped = cut_short(boxed_data, tmp_path, **changes)
    resume(stopped)
    whole = distill(taught(boxed_data, detector, iterations=24, checkpoint_every=5), runs=tmp_path, name="whole").run
    assert_same_student(stopped, whole)


def test_run_is_not_resumed_with_a_teacher_that_has_changed(
    boxed_data: PreparedData, first_student: Path, tmp_path: Path
) -> None:
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    for name in ("config.yaml", "card.json"):
        (teacher / name).write_text((first_student / name).read_text())
    weights = load_file(first_student / "student.safetensors")
    save_file(weights, teacher / "student.safetensors")
    stopped = cut_short(
        boxed_data, tmp_path, teacher=None, teacher_weights=None, teacher_run=str(teacher), modality="rgb"
    )
    save_file({name: 2 * tensor for name, tensor in weights.items()}, teacher / "student.safetensors")
    with pytest.raises(DataError, match="are not those"):
        resume(stopped)
