"""Promises of a detector's run: its files, its starts, what is frozen, how it can be stopped, resumed and repeated."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
import yaml
from caffe_files import write_caffemodel
from safetensors.torch import load_file
from tiny_detectors import (
    CUT_SHORT,
    METHOD,
    assert_same_detector,
    cut_short,
    detector,
    settings,
    tiny_proposals,
    with_proposals,
    words,
)
from tiny_runs import PATIENCE_S, finish, steps_in_metrics
from tiny_runs import settings as transfer_settings
from warm_processes import fork

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import open_proposals, write_proposals
from xmodal_cli.detect.branches import load_trained
from xmodal_cli.detect.build import build
from xmodal_cli.detect.finetune import TRAINING, _keep_maps, _task, finetune, rehearse, resume, saved_settings
from xmodal_cli.detect.predict import detect
from xmodal_cli.detect.samples import collate
from xmodal_cli.detect.settings import FinetuneSettings
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.models.backbones import build as build_backbone
from xmodal_cli.models.detector import fold_statistics
from xmodal_cli.models.layers import Tapped
from xmodal_cli.models.weights import ROI_HEAD
from xmodal_cli.runs.fit import fit
from xmodal_cli.runs.folder import RunFolder, open_run
from xmodal_cli.runs.session import NOBODY, Watchers
from xmodal_cli.runs.training_settings import from_file
from xmodal_cli.transfer.distill import distill

CPU = torch.device("cpu")
FILES = {
    ".lock",
    "card.json",
    "checkpoints/last.pt",
    "config.yaml",
    "detector.safetensors",
    "environment.json",
    "log.txt",
    "metrics.jsonl",
}


@pytest.fixture(scope="module")
def data(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return with_proposals(tiny_data, tmp_path_factory.mktemp("detection") / "data")


@pytest.fixture(scope="module")
def run(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of four steps; nobody may change it."""
    return finetune(settings(data), runs=tmp_path_factory.mktemp("runs"), name="tiny").run


@pytest.fixture(scope="module")
def transferred(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student to begin with."""
    return distill(transfer_settings(data), runs=tmp_path_factory.mktemp("runs"), name="student").run


def card_of(run: Path) -> Any:
    return json.loads((run / "card.json").read_text())


def test_finished_run_leaves_exactly_these_files(run: Path) -> None:
    assert {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()} == FILES
    assert (run.parent / "latest").resolve() == run


def test_detector_loads_into_the_plain_model_with_only_the_cards_keys_missing(run: Path) -> None:
    report = torchvision.models.squeezenet1_1().load_state_dict(detector(run), strict=False)
    assert set(report.missing_keys) == set(card_of(run)["branches"][0]["missing_keys"])
    assert report.unexpected_keys
    assert all(key.startswith(ROI_HEAD) for key in report.unexpected_keys)


def test_card_says_what_is_needed_to_use_the_detector(run: Path, data: PreparedData) -> None:
    card = card_of(run)
    assert card["classes"] == list(data.classes)
    assert card["size"] == {"short": 64, "longest": 2000}
    assert card["cutoffs"] == {"nms": 0.3, "per_image": 100, "per_image_mean": 40, "merge_px": 0, "proposals": 1000}
    assert card["proposals"]["method"] == METHOD
    assert card["proposals"]["description"]["sha256"] == open_proposals(data, METHOD).content_hash
    branch = card["branches"][0]
    assert branch["modality"] == "disparity"
    assert branch["encoding"]["name" if "name" in branch["encoding"] else "encoding"]
    assert branch["backbone"]["name"] == "squeezenet1_1"
    assert branch["backbone"]["library"] == "torchvision"
    assert branch["backbone"]["input"]["mean"]
    assert branch["shape"]["layer"] == "features.5"
    assert card["data"]["images"] == 22
    assert card["iterations"] == 4


def test_saved_config_reproduces_the_run(run: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())["settings"]
    assert {name for name, value in config.items() if value == "auto"} <= {"input"}
    never_resolved = {"weights", "freeze_through", "joint"}
    assert {name for name, value in config.items() if value is None} == never_resolved
    again = finetune(FinetuneSettings.from_dict(from_file(run / "config.yaml")), runs=tmp_path)
    assert_same_detector(run, again.run)


def test_another_seed_gives_another_detector(run: Path, data: PreparedData, tmp_path: Path) -> None:
    other = finetune(settings(data, seed=1), runs=tmp_path).run
    assert any(not torch.equal(detector(run)[name], tensor) for name, tensor in detector(other).items())


def test_loaded_detector_finds_the_same_as_before_it_was_saved(data: PreparedData, tmp_path: Path) -> None:
    chosen = settings(data, iterations=30, lr=0.01)
    plan = build(chosen)
    folder = RunFolder(tmp_path / "finetune" / "x", "finetune")
    folder.write_start({"command": "finetune", "settings": plan.settings.to_dict()})
    TRAINING.carry_out(plan, folder, NOBODY)
    ids = data.ids("val")
    for each in plan.detectors:
        each.eval()
    before = detect(plan.branches(), data, ids, plan.proposals, plan.cutoffs, device=CPU)
    trained = load_trained(open_run(folder.path))
    after = detect(trained.branches, data, ids, open_proposals(data, METHOD), trained.cutoffs, device=CPU)
    assert len(before) == len(after) > 0
    torch.testing.assert_close(torch.from_numpy(before.scores), torch.from_numpy(after.scores), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        torch.from_numpy(before.boxes_xyxy), torch.from_numpy(after.boxes_xyxy), rtol=1e-4, atol=1e-3
    )
    assert trained.classes == data.classes


def test_detector_learns_to_find_red_and_blue_boxes(data: PreparedData, tmp_path: Path) -> None:
    """Depth follows from colours here; the objects stand where they always stand."""
    chosen = settings(data, iterations=80, lr=0.005, modality="rgb", hold_out=0.2, dropout=0.0, regions=32)
    result = finetune(chosen, runs=tmp_path)
    records = [json.loads(line) for line in (result.run / "metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if record["phase"] == "train"]
    assert losses[-1] < 0.6 * losses[0]
    assert result.metrics["mAP"] > 50
    assert card_of(result.run)["metrics"] == result.metrics
    assert card_of(result.run)["data"]["images"] < 22


# Starts


def test_finetuning_begins_with_the_students_own_tensors(data: PreparedData, transferred: Path) -> None:
    student = load_file(transferred / "student.safetensors")
    plan = build(settings(data, init=str(transferred), backbone=None))
    begun = plan.detectors[0].saved_state()
    assert plan.starts[0].backbone.name == "squeezenet1_1"
    assert student
    for name, tensor in student.items():
        assert torch.equal(begun[name], tensor), name
    card = card_of(transferred)["student"]["input"]
    assert plan.detectors[0].input.to_dict() == card


def test_finetuning_begins_with_another_detectors_trunk(data: PreparedData, run: Path) -> None:
    plan = build(settings(data, init=str(run), backbone=None, seed=5))
    begun, saved = plan.detectors[0].saved_state(), detector(run)
    shared = [name for name in saved if not name.startswith(ROI_HEAD)]
    assert shared
    assert all(torch.equal(begun[name], saved[name]) for name in shared)
    assert not torch.equal(begun[f"{ROI_HEAD}cls_score.weight"], saved[f"{ROI_HEAD}cls_score.weight"])
    assert plan.detectors[0].freeze_norms


def test_network_of_a_detector_is_copied_to_another_modality_through_its_file(data: PreparedData, run: Path) -> None:
    plan = build(settings(data, init=str(run / "detector.safetensors"), modality="rgb"))
    begun, saved = plan.detectors[0].saved_state(), detector(run)
    assert all(torch.equal(begun[name], tensor) for name, tensor in saved.items() if not name.startswith(ROI_HEAD))


def test_file_of_imagenet_weights_fills_the_trunk(data: PreparedData, tmp_path: Path) -> None:
    plain = torchvision.models.squeezenet1_1()
    torch.save(plain.state_dict(), tmp_path / "net.pth")
    for start_with in (
        {"init": "imagenet", "weights": str(tmp_path / "net.pth")},
        {"init": str(tmp_path / "net.pth")},
    ):
        begun = build(settings(data, modality="rgb", **start_with)).detectors[0].saved_state()
        for name, tensor in plain.state_dict().items():
            assert name not in begun or torch.equal(begun[name], tensor)
        assert begun["features.0.weight"].shape == (64, 3, 3, 3)


def test_caffes_weights_are_fed_as_caffe_fed_them_whatever_the_modality(data: PreparedData, tmp_path: Path) -> None:
    conv1 = np.full((96, 3, 11, 11), 0.01, np.float32), np.zeros(96, np.float32)
    path = write_caffemodel(tmp_path / "net.caffemodel", {"da_conv1": conv1}, "layers")
    changes = {"backbone": "caffenet", "layer": "pool1", "init": str(path)}
    plan = build(settings(data, **changes))
    assert plan.starts[0].backbone.input.order == "bgr"
    measured = build(settings(data, **changes, input="measured"))
    assert measured.starts[0].backbone.input.order == "rgb"


def test_students_file_can_be_begun_with_like_its_run(data: PreparedData, transferred: Path) -> None:
    """Its file holds no weights above the transfer point, and the detector needs none."""
    file = transferred / "student.safetensors"
    begun = build(settings(data, init=str(file))).detectors[0].saved_state()
    from_run = build(settings(data, init=str(transferred), backbone=None)).detectors[0].saved_state()
    assert torch.equal(begun["features.4.squeeze.weight"], from_run["features.4.squeeze.weight"])


def test_papers_networks_begin_with_fc6_and_fc7_of_the_file(data: PreparedData, tmp_path: Path) -> None:
    plain = torchvision.models.alexnet()
    torch.save(plain.state_dict(), tmp_path / "alexnet.pth")
    chosen = settings(
        data, backbone="alexnet", layer=None, init="imagenet", weights=str(tmp_path / "alexnet.pth"), modality="rgb"
    )
    plan = build(chosen)
    own = plan.detectors[0].plain_parameters()
    assert plan.shapes[0].layer == "conv5"
    assert plan.shapes[0].pool.size == 6
    for name in ("classifier.1.weight", "classifier.4.bias", "features.0.weight", "features.10.weight"):
        assert torch.equal(own[name], plain.state_dict()[name]), name
    assert torch.equal(own["features.0.weight"], plain.features[0].weight)


def test_random_start_is_the_plain_networks_of_that_seed(data: PreparedData) -> None:
    begun = build(settings(data, seed=4)).detectors[0].saved_state()
    plain = build_backbone("squeezenet1_1", seed=4).module.state_dict()
    assert all(torch.equal(begun[name], tensor) for name, tensor in plain.items() if name in begun)


# What learns


def changed(run: Path, data: PreparedData, **changes: Any) -> set[str]:
    """Names of the saved tensors that training changed."""
    begun = build(settings(data, **changes)).detectors[0].saved_state()
    return {name for name, tensor in detector(run).items() if not torch.equal(begun[name], tensor)}


def test_frozen_tensors_stay_as_they_were_in_every_bit_and_all_others_learn(data: PreparedData, tmp_path: Path) -> None:
    frozen = {"freeze_through": "features.3"}
    run = finetune(settings(data, **frozen), runs=tmp_path).run
    kept = set(Tapped(build_backbone("squeezenet1_1"), ["features.3"]).kept_state())
    assert kept < set(detector(run))
    assert changed(run, data, **frozen) == set(detector(run)) - kept


def test_frozen_trunk_with_kept_maps_learns_like_one_without(data: PreparedData, tmp_path: Path) -> None:
    plan = build(settings(data, freeze_through="features.5"))
    before = collate([plan.samples[0, index] for index in (3, 25)])
    _keep_maps(plan, NOBODY)
    after = collate([plan.samples[0, index] for index in (3, 25)])
    assert len(plan.samples.maps) == len(plan.samples) == 44
    spec, module = plan.detectors[0].input, plan.detectors[0]
    with torch.no_grad():
        torch.testing.assert_close(module.maps(spec.normalise(before["images"][0])), after["maps"][0])
    assert torch.equal(before["labels"], after["labels"])
    frozen = {"freeze_through": "features.5", "iterations": 12}
    kept = finetune(settings(data, **frozen), runs=tmp_path, name="kept").run
    computed = build(settings(data, **frozen))
    folder = RunFolder(tmp_path / "computed", "finetune")
    folder.checkpoints.mkdir(parents=True)
    fit(_task(computed), computed.samples, collate, computed.settings.fit_settings(), folder)
    for name, tensor in fold_statistics(computed.detectors[0]).items():
        torch.testing.assert_close(detector(kept)[name], tensor, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("backbone", ["timm/resnet10t", "torchvision/resnet18"])
def test_norms_of_learned_networks_keep_their_statistics_and_those_of_random_ones_do_not(
    backbone: str, data: PreparedData, tmp_path: Path
) -> None:
    weights = tmp_path / "net.pth"
    torch.save(build_backbone(backbone, seed=3).module.state_dict(), weights)
    shared = {"backbone": backbone, "layer": "layer1", "iterations": 2}
    for init, learns in ((str(weights), False), ("random", True)):
        run = finetune(settings(data, **shared, init=init), runs=tmp_path, name=f"learns-{learns}").run
        moved = {name for name in changed(run, data, **shared, init=init) if "running_" in name}
        every = {name for name in detector(run) if "running_" in name}
        assert every
        assert moved == (every if learns else set())


def test_joint_training_saves_two_branches_and_both_learn(
    data: PreparedData, run: Path, transferred: Path, tmp_path: Path
) -> None:
    rgb = {"modality": "rgb", "joint": str(transferred), "hold_out": 0.2}
    joint = finetune(settings(data, **rgb), runs=tmp_path).run
    begun = build(settings(data, **rgb)).detectors
    for number, file in enumerate(("detector.safetensors", "detector-2.safetensors")):
        saved = detector(joint, file)
        before = begun[number].saved_state()
        for name in ("features.4.expand1x1.weight", f"{ROI_HEAD}cls_score.weight", f"{ROI_HEAD}bbox_pred.weight"):
            assert not torch.equal(saved[name], before[name]), f"{file} {name}"
    trained = load_trained(open_run(joint))
    assert [branch.modality for branch in trained.branches] == ["rgb", "disparity"]
    found = detect(trained.branches, data, data.ids("val"), open_proposals(data, METHOD), trained.cutoffs, device=CPU)
    assert len(found) > 0


# Stopped, resumed, shared


def test_resuming_a_finished_run_says_so_and_changes_nothing(run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    said: list[str] = []
    result = resume(run, watchers=Watchers(say=said.append))
    assert result.finished
    assert result.iterations == 4
    assert any("finished already" in line for line in said)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


@pytest.mark.parametrize("changes", [{}, {"freeze_through": "features.5"}, {"hold_out": 0.2, "optimiser": "sgd"}])
def test_resume_equals_uninterrupted_run(changes: dict[str, Any], data: PreparedData, tmp_path: Path) -> None:
    cut = cut_short(data, tmp_path, **changes)
    assert not RunFolder(cut, "finetune").finished
    resume(cut)
    whole = finetune(settings(data, **CUT_SHORT, **changes), runs=tmp_path / "whole")
    assert_same_detector(cut, whole.run)
    assert steps_in_metrics(cut) == steps_in_metrics(whole.run) == [10, 20, 24]


def test_resumed_joint_run_of_two_kinds_of_networks_equals_an_uninterrupted_one(
    data: PreparedData, transferred: Path, tmp_path: Path
) -> None:
    """Each network has its own default layer, also after the first one's is known."""
    changes = {
        "backbone": "torchvision/resnet18",
        "modality": "rgb",
        "joint": str(transferred),
        "layer": None,
        "size": 96,
        "iterations": 11,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CUT_SHORT, "iterations", changes.pop("iterations"))
        cut = cut_short(data, tmp_path, **changes)
        resume(cut)
        whole = finetune(settings(data, **CUT_SHORT, **changes), runs=tmp_path / "whole")
    assert_same_detector(cut, whole.run)
    assert_same_detector(cut, whole.run, "detector-2.safetensors")


@pytest.mark.slow
def test_killed_process_can_be_resumed_to_the_same_detector(data: PreparedData, tmp_path: Path) -> None:
    changes = {"iterations": 24, "checkpoint_every": 2}
    process = fork(words(data, tmp_path, "killed", **changes), tmp_path / "cache")
    run = tmp_path / "finetune" / "killed"
    deadline = time.monotonic() + PATIENCE_S
    while not (run / "checkpoints" / "last.pt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (run / "card.json").exists()
    finish(fork(["finetune", "--resume", str(run)], tmp_path / "cache"))
    whole = finetune(settings(data, **changes), runs=tmp_path / "whole")
    assert_same_detector(run, whole.run)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.slow
def test_two_workers_give_the_same_detector_as_none(run: Path, data: PreparedData, tmp_path: Path) -> None:
    assert_same_detector(run, finetune(settings(data, workers=2), runs=tmp_path).run)


@pytest.mark.slow
def test_two_processes_leave_one_run(data: PreparedData, tmp_path: Path) -> None:
    line = [*words(data, tmp_path, "two", hold_out=0.2, iterations=6), "--devices", "2", "--json"]
    output, talk = finish(fork(line, tmp_path / "cache"))
    assert json.loads(output)["results"]["finished"] is True
    assert talk.count("trained at step 6") == 1
    run = tmp_path / "finetune" / "two"
    assert steps_in_metrics(run) == [6]
    alone = finetune(settings(data, hold_out=0.2, iterations=6), runs=tmp_path / "alone").run
    assert detector(run).keys() == detector(alone).keys()
    assert card_of(run)["data"]["hash"] == card_of(alone)["data"]["hash"]


def test_changed_settings_are_refused_and_harmless_ones_taken(data: PreparedData, tmp_path: Path) -> None:
    cut = cut_short(data, tmp_path)
    with pytest.raises(SettingsError, match=r"regions was 16, now 32"):
        resume(cut, changes={"regions": 32})
    with pytest.raises(SettingsError, match="head was"):
        resume(cut, changes={"head": [8, 8]})
    assert resume(cut, changes={"checkpoint_every": 100}).finished


def test_resume_refuses_other_proposals_and_other_boxes(tiny_data: PreparedData, tmp_path: Path) -> None:
    data = with_proposals(tiny_data, tmp_path / "data")
    cut = cut_short(data, tmp_path)
    lists = [(name, tiny_proposals(f"{name} again")) for name in data.all_ids]
    write_proposals(data.root, METHOD, lists, {"settings": {}}, overwrite=True)
    with pytest.raises(DataError, match="changed since"):
        resume(cut)


def test_resume_refuses_annotations_that_changed_since(tiny_data: PreparedData, tmp_path: Path) -> None:
    data = with_proposals(tiny_data, tmp_path / "data")
    cut = cut_short(data, tmp_path)
    file = data.annotation_file("train")
    assert file is not None
    document = json.loads(file.read_text())
    for entry in document["annotations"]:
        entry["bbox"][0] += 1
    file.write_text(json.dumps(document))
    with pytest.raises(DataError, match="changed since"):
        resume(cut)


def test_run_of_another_command_cannot_be_resumed(transferred: Path) -> None:
    with pytest.raises(SettingsError, match="xmodal distill"):
        resume(transferred)


def test_rehearsal_writes_nothing_and_knows_the_sizes(data: PreparedData, tmp_path: Path, own_cache: Path) -> None:
    found = rehearse(settings(data, hold_out=0.2))
    assert found.images + found.held_out == 22
    assert found.seconds > 0
    assert found.left_out == {"without objects": 0, "without a proposal near an object": 0}
    assert not own_cache.exists()
    assert list(tmp_path.iterdir()) == []
    json.dumps(found.to_dict())


def test_images_without_objects_or_without_near_proposals_are_left_out_and_counted(
    tiny_data: PreparedData, tmp_path: Path
) -> None:
    data = with_proposals(tiny_data, tmp_path / "data")
    file = data.annotation_file("train")
    assert file is not None
    document = json.loads(file.read_text())
    names = sorted(data.ids("train"))
    empty = {image["id"] for image in document["images"] if Path(image["file_name"]).stem in ("00", "01")}
    document["annotations"] = [entry for entry in document["annotations"] if entry["image_id"] not in empty]
    file.write_text(json.dumps(document))
    far = [[0, 0, 3, 3]]
    lists = [(name, far if name == names[5] else tiny_proposals(name)) for name in data.all_ids]
    write_proposals(
        data.root, METHOD, [(name, np.array(boxes, np.float32)) for name, boxes in lists], {}, overwrite=True
    )
    plan = build(settings(PreparedData.open(data.root)))
    assert plan.left_out == {"without objects": 2, "without a proposal near an object": 1}
    assert plan.samples.ids == [name for name in names if name not in (names[0], names[1], names[5])]
    assert len(plan.samples) == 2 * 19
    said: list[str] = []
    finetune(settings(data, iterations=1), runs=tmp_path / "runs", watchers=Watchers(say=said.append))
    assert any("2 without objects left out" in line for line in said)


def test_settings_that_were_saved_are_those_that_were_used(run: Path, data: PreparedData) -> None:
    saved = saved_settings(open_run(run))
    assert saved.head == (16, 12)
    assert replace(saved, iterations=5).iterations == 5
    assert (saved.warmup, saved.proposals, saved.backbone) == (0, METHOD, "squeezenet1_1")
    assert Path(saved.data) == data.root.resolve()


@pytest.mark.parametrize(
    "changes",
    [
        {"features": "fc6"},
        {"box_regression": False},
        {"pooling": "align", "centred": True},
        {"flip": False, "optimiser": "sgd", "schedule": "step"},
        {"reduced": 0, "input": "weights", "proposals": None},
        {"hold_out": 0.3, "evaluate_every": 2, "merge_px": 8},
    ],
)
def test_variants_train_and_load(changes: dict[str, Any], data: PreparedData, tmp_path: Path) -> None:
    found = finetune(settings(data, iterations=2, **changes), runs=tmp_path)
    trained = load_trained(open_run(found.run))
    detections = detect(trained.branches, data, data.ids("val")[:1], open_proposals(data), trained.cutoffs, device=CPU)
    assert len(detections) > 0
    widths = 1 if changes.get("features") == "fc6" else 2
    assert len(trained.branches[0].detector.head.linear) == widths
