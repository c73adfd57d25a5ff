"""Promises of classifiers: they learn, a resumed one is the same, a detector begins with their tensors, errors help."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_detectors
import torch
from safetensors.torch import load_file
from tiny_actions import STEPS, TEST, TRAIN, cut_short, settings
from tiny_runs import assert_same_tensors, steps_in_metrics

from xmodal_cli.classify.build import build
from xmodal_cli.classify.evaluation import evaluate_classifiers
from xmodal_cli.classify.training import classify, rehearse, resume
from xmodal_cli.data.labels import clips, image_labels
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import write_proposals
from xmodal_cli.detect.build import build as build_detector
from xmodal_cli.detect.finetune import finetune
from xmodal_cli.detect.start import start_from_run
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.models.backbones import build as build_backbone
from xmodal_cli.models.weights import load_into, without_heads
from xmodal_cli.runs.folder import open_run

WEIGHTS = "classifier.safetensors"


@pytest.fixture(scope="module")
def data(tiny_clips: PreparedData) -> PreparedData:
    return tiny_clips


@pytest.fixture(scope="module")
def run(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that has learned; nobody may change it."""
    runs = tmp_path_factory.mktemp("classify") / "runs"
    return classify(settings(data, iterations=60, hold_out=0.25), runs=runs, name="learned").run


@pytest.fixture
def own_data(data: PreparedData, tmp_path: Path) -> PreparedData:
    """A copy that a test may change."""
    shutil.copytree(data.root, tmp_path / "own")
    return PreparedData.open(tmp_path / "own")


def tensors(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / WEIGHTS)


def change_objects(data: PreparedData, change: Any) -> PreparedData:
    """The data set after its training annotations were changed in place."""
    path = data.root / "annotations" / "train.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return PreparedData.open(data.root)


def test_a_classifier_of_flow_learns_actions_it_has_not_seen(data: PreparedData, run: Path, tmp_path: Path) -> None:
    found = evaluate_classifiers([open_run(run)], data, split="test", device="cpu", root=tmp_path)
    assert found.images.accuracy > 80  # chance is a third
    assert found.clips is not None
    assert found.clips.accuracy > 80
    assert (len(found.images), len(found.clips)) == (4 * TEST * len(STEPS), TEST * len(STEPS))
    low, high = found.images.interval()
    assert low <= found.images.accuracy <= high
    assert open_run(run).card()["metrics"].keys() == {"accuracy", "clip_accuracy"}
    assert steps_in_metrics(run, "evaluate") == [15, 30, 45, 60]


def test_an_evaluation_keeps_what_every_image_was_called(data: PreparedData, run: Path, tmp_path: Path) -> None:
    found = evaluate_classifiers([open_run(run)], data, split="test", device="cpu", root=tmp_path)
    lines = (found.folder / "predictions.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    assert lines[0] == "id,clip,class,named,probability"
    assert [row[0] for row in rows] == data.ids("test")
    assert np.mean([row[2] == row[3] for row in rows]) * 100 == pytest.approx(found.images.accuracy)
    assert all(row[0].rpartition("/")[0] == row[1] for row in rows)
    kept = json.loads((found.folder / "results.json").read_text())
    assert kept["results"]["images"]["accuracy"] == round(found.images.accuracy, 2)
    assert kept["runs"] == [str(run)]


def test_two_runs_are_fused_by_the_mean_of_their_probabilities(data: PreparedData, run: Path, tmp_path: Path) -> None:
    once = evaluate_classifiers([open_run(run)], data, split="test", device="cpu", root=tmp_path)
    twice = evaluate_classifiers([open_run(run), open_run(run)], data, split="test", device="cpu", root=tmp_path)
    assert np.array_equal(once.images.named, twice.images.named)
    assert twice.subject == " + ".join([once.subject] * 2)


def test_figures_on_what_was_learned_from_are_marked(data: PreparedData, run: Path, tmp_path: Path) -> None:
    found = evaluate_classifiers([open_run(run)], data, split="train", device="cpu", root=tmp_path)
    assert found.notes == (f"learned learned from {4 * TRAIN * 3} of the {4 * TRAIN * 3} images scored.",)


def test_resume_equals_uninterrupted_run(data: PreparedData, tmp_path: Path) -> None:
    cut = cut_short(data, tmp_path)
    assert resume(cut).finished
    whole = classify(settings(data, iterations=24, checkpoint_every=5), runs=tmp_path, name="whole").run
    assert_same_tensors(tensors(cut), tensors(whole))
    assert steps_in_metrics(cut) == [10, 20, 24]


def test_another_seed_gives_another_classifier(data: PreparedData, tmp_path: Path) -> None:
    first = classify(settings(data), runs=tmp_path, name="first").run
    again = classify(settings(data), runs=tmp_path, name="again").run
    other = classify(settings(data, seed=1), runs=tmp_path, name="other").run
    assert_same_tensors(tensors(first), tensors(again))
    assert any(not torch.equal(tensors(first)[name], tensor) for name, tensor in tensors(other).items())


def test_a_detector_begins_with_the_trunk_as_it_was_trained(data: PreparedData, run: Path, tmp_path: Path) -> None:
    shutil.copytree(data.root, tmp_path / "data")
    boxes = np.array([[10, 5, 30, 35], [0, 0, 20, 20], [30, 10, 60, 40]], np.float32)
    write_proposals(tmp_path / "data", "tiny", [(name, boxes) for name in data.all_ids], {"settings": {}})
    chosen = tiny_detectors.settings(tmp_path / "data", modality="flow", backbone=None, init=str(run))
    plan = build_detector(chosen)
    arrived, trained = plan.detectors[0].trunk.kept_state(), without_heads(tensors(run))
    assert_same_tensors(arrived, trained)
    assert plan.starts[0].backbone.input == start_from_run(open_run(run), 0).backbone.input
    assert plan.detectors[0].freeze_norms
    assert finetune(chosen, runs=tmp_path).finished


def test_a_classifier_begins_with_a_classifier(data: PreparedData, run: Path) -> None:
    plan = build(settings(data, init=str(run), backbone=None))
    assert_same_tensors(plan.module.trunk.kept_state(), without_heads(tensors(run)))
    assert plan.backbone.input == start_from_run(open_run(run), 0).backbone.input


def test_the_file_loads_into_the_plain_model_with_only_the_cards_keys_missing(run: Path) -> None:
    plain, card = build_backbone("squeezenet1_1"), open_run(run).card()
    missing = load_into(plain.module, without_heads(tensors(run)), "run", card["missing_keys"])
    assert missing == sorted(card["missing_keys"])


def test_networks_with_fc6_and_fc7_learn_them_and_others_their_last_map(data: PreparedData) -> None:
    assert build(settings(data, layer=None)).settings.layer == "features"
    plan = build(settings(data, layer=None, backbone="caffenet"))
    assert plan.settings.layer == "fc7"
    assert "fc7.weight" in plan.module.saved_state()
    assert plan.module.class_head.in_features == 4096


def test_finished_run_leaves_exactly_these_files(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {
        ".lock",
        "card.json",
        "checkpoints",
        WEIGHTS,
        "config.yaml",
        "environment.json",
        "log.txt",
        "metrics.jsonl",
    }


def test_rehearsal_writes_nothing(data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = rehearse(settings(data, hold_out=0.25))
    assert (found.images, found.held_out) == (36, 12)
    assert found.seconds > 0
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_without_boxes_the_class_is_the_videos_action(own_data: PreparedData) -> None:
    of_objects = image_labels(own_data, "train")
    shutil.rmtree(own_data.root / "annotations")
    of_videos = image_labels(PreparedData.open(own_data.root), "train")
    assert (of_objects.source, of_videos.source) == ("objects", "videos")
    assert of_videos.classes == tuple(sorted(STEPS))
    named = [{name: found.classes[label] for name, label in found.labels.items()} for found in (of_objects, of_videos)]
    assert named[0] == named[1]


def test_clips_are_videos_else_scenes_else_images(own_data: PreparedData, tiny_data: PreparedData) -> None:
    ids = own_data.ids("test")
    assert clips(own_data, ids) == {name: name.rpartition("/")[0] for name in ids}
    assert clips(tiny_data, ["hall/00"]) == {"hall/00": "hall/00"}


def test_images_without_a_class_are_left_out_and_counted(own_data: PreparedData) -> None:
    def drop(document: dict[str, Any]) -> None:
        document["annotations"] = document["annotations"][3:]

    plan = build(settings(change_objects(own_data, drop)))
    assert plan.left_out == {"without a class": 3}
    assert len(plan.samples) == 45


def test_images_of_several_classes_are_refused_by_name(own_data: PreparedData) -> None:
    def add(document: dict[str, Any]) -> None:
        first = document["annotations"][0]
        document["annotations"].append({**first, "id": 9999, "category_id": first["category_id"] % 21 + 1})

    with pytest.raises(DataError, match=r"1 of the 48 images of split 'train' .* several classes: 'run/run-0/00001'"):
        build(settings(change_objects(own_data, add)))


def test_one_class_cannot_be_told_from_others(own_data: PreparedData) -> None:
    def rename(document: dict[str, Any]) -> None:
        for entry in document["annotations"]:
            entry["category_id"] = 5

    with pytest.raises(DataError, match="48 have a class, all of the class 'golf'"):
        build(settings(change_objects(own_data, rename)))


def test_data_without_any_class_is_refused_with_where_classes_come_from(
    tiny_data: PreparedData, tmp_path: Path
) -> None:
    shutil.copytree(tiny_data.root, tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / "annotations")
    with pytest.raises(DataError, match="No image of split 'train'") as caught:
        build(settings(tmp_path / "bare", modality="disparity"))
    assert "prepare ucf101" in str(caught.value.hint)


def test_resume_refuses_classes_that_changed_since(own_data: PreparedData, tmp_path: Path) -> None:
    cut = cut_short(own_data, tmp_path)

    def rename(document: dict[str, Any]) -> None:
        document["annotations"][0]["category_id"] = 5

    change_objects(own_data, rename)
    with pytest.raises(DataError, match="classes of its images, have changed since"):
        resume(cut)
    with pytest.raises(SettingsError, match="lr was"):
        resume(cut, changes={"lr": 0.5})


def test_classes_that_a_run_does_not_know_are_not_scored(
    data: PreparedData, own_data: PreparedData, tmp_path: Path
) -> None:
    shutil.rmtree(own_data.root / "annotations")
    run = classify(settings(own_data), runs=tmp_path).run  # knows the three actions alone
    path = own_data.root / "videos.csv"
    path.write_text(path.read_text().replace(",sit\n", ",dance\n"))
    with pytest.raises(SettingsError, match=r"images of dance, which .* does not know: it knows run, sit, stand"):
        evaluate_classifiers([open_run(run)], PreparedData.open(own_data.root), split="test", device="cpu")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"dropout": 1.0}, "--dropout"),
        ({"crop": 0.0}, "crop must be"),
        ({"size": 8}, "--size must be at least 32"),
        ({"hold_out": 1.0}, "--hold-out"),
        ({"trunk_lr": -1.0}, "trunk_lr"),
        ({"input": "weight"}, "Did you mean 'weights'"),
        ({"backbone": None}, "needs a network"),
        ({"split": "trane"}, "no split 'trane'"),
        ({"modality": "flo"}, "no modality 'flo'"),
    ],
)
def test_what_cannot_be_is_said(changes: dict[str, Any], told: str, data: PreparedData) -> None:
    with pytest.raises(SettingsError) as caught:
        build(settings(data, **changes))
    assert told in f"{caught.value} {caught.value.hint}"
