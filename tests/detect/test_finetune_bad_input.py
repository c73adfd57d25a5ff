"""Promises about what a detector cannot learn from: refused plainly and at once, or left out and said so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from tiny_detectors import METHOD, settings, tiny_proposals, with_proposals
from tiny_runs import settings as transfer_settings

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import BOXES, open_proposals, write_proposals
from xmodal_cli.detect.build import build
from xmodal_cli.detect.finetune import finetune
from xmodal_cli.errors import DataError, DivergedError, SettingsError, XmodalError
from xmodal_cli.runs.session import Watchers
from xmodal_cli.transfer.distill import distill


@pytest.fixture(scope="module")
def data(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return with_proposals(tiny_data, tmp_path_factory.mktemp("detection") / "data")


def edited(data: PreparedData, folder: Path, edit: Callable[[dict[str, Any]], None]) -> PreparedData:
    """A copy of the data set whose training annotations were edited."""
    shutil.copytree(data.root, folder / "edited")
    file = folder / "edited" / "annotations" / "train.json"
    document = json.loads(file.read_text())
    edit(document)
    file.write_text(json.dumps(document))
    return PreparedData.open(folder / "edited")


def with_lists(data: PreparedData, folder: Path, lists: dict[str, np.ndarray[Any, Any]]) -> PreparedData:
    """A copy of the data set with other proposals for some images."""
    shutil.copytree(data.root, folder / "listed")
    every = [(name, lists.get(name, tiny_proposals(name))) for name in data.all_ids]
    write_proposals(folder / "listed", METHOD, every, {"settings": {}}, overwrite=True)
    return PreparedData.open(folder / "listed")


def refused(data: PreparedData, kind: type[XmodalError] = SettingsError, **changes: Any) -> str:
    """What is said, hint and all."""
    with pytest.raises(kind) as caught:
        build(settings(data, **changes))
    return f"{caught.value} {caught.value.hint}"


def test_split_whose_images_have_no_boxes_is_refused(data: PreparedData, tmp_path: Path) -> None:
    bare = edited(data, tmp_path, lambda document: document.update(annotations=[]))
    said = refused(bare, DataError)
    assert "22 are without objects" in said
    assert "--annotations" in said


def test_data_set_without_annotations_is_refused(data: PreparedData, tmp_path: Path) -> None:
    shutil.copytree(data.root, tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / "annotations")
    assert "without objects" in refused(PreparedData.open(tmp_path / "bare"), DataError)


def test_boxes_of_zero_area_are_no_objects(data: PreparedData, tmp_path: Path) -> None:
    def flatten(document: dict[str, Any]) -> None:
        for entry in document["annotations"]:
            if entry["category_id"] == 1 or entry["image_id"] == 0:
                entry["bbox"][2] = 0

    plan = build(settings(edited(data, tmp_path, flatten)))
    assert plan.left_out == {"without objects": 1, "without a proposal near an object": 0}
    for name in plan.samples.ids:
        found = plan.samples.candidates(name)
        assert set(found.labels.tolist()) == {2}
        assert torch.isfinite(found.on_objects(0.5)[0]).all()
    assert torch.isfinite(plan.detectors[0].delta_std).all()


def test_objects_outside_the_image_are_not_learned_from(data: PreparedData, tmp_path: Path) -> None:
    """Nothing of them can be seen; their part inside, if there is one, is the object."""

    def move(document: dict[str, Any]) -> None:
        for entry in document["annotations"]:
            if entry["category_id"] == 1:
                entry["bbox"] = [500, 500, 16, 16]
            else:
                entry["bbox"] = [36, 20, 240, 24]

    plan = build(settings(edited(data, tmp_path, move)))
    for name in plan.samples.ids:
        found = plan.samples.candidates(name)
        assert set(found.labels[found.overlaps > 0].tolist()) == {2}
        assert found.boxes_xyxy[0].tolist() == [36, 20, 64, 44]


def test_images_with_empty_lists_are_left_out_and_counted(data: PreparedData, tmp_path: Path) -> None:
    names = data.ids("train")[:3]
    listed = with_lists(data, tmp_path, {name: np.zeros((0, 4), np.float32) for name in names})
    plan = build(settings(listed))
    assert plan.left_out["without a proposal near an object"] == 3
    assert not set(names) & set(plan.samples.ids)
    said: list[str] = []
    run = finetune(settings(listed, iterations=1), runs=tmp_path, watchers=Watchers(say=said.append))
    assert run.finished
    assert any("3 without a proposal near an object left out" in line for line in said)


def test_held_out_images_with_empty_lists_are_scored(data: PreparedData, tmp_path: Path) -> None:
    listed = with_lists(data, tmp_path, {name: np.zeros((0, 4), np.float32) for name in data.ids("train")[-6:]})
    assert "mAP" in finetune(settings(listed, iterations=1, hold_out=0.2), runs=tmp_path).metrics


def test_nothing_but_empty_lists_is_refused(data: PreparedData, tmp_path: Path) -> None:
    lists = {name: np.zeros((0, 4), np.float32) for name in data.all_ids}
    said = refused(with_lists(data, tmp_path, lists), DataError)
    assert "22 are without a proposal near an object" in said
    assert "xmodal prepare proposals" in said


def test_images_that_are_held_out_but_have_no_objects_are_found_before_training(
    data: PreparedData, tmp_path: Path
) -> None:
    held = set(build(settings(data, hold_out=0.2)).held_out)

    def strip(document: dict[str, Any]) -> None:
        names = {image["id"]: Path(image["file_name"]).with_suffix("").as_posix() for image in document["images"]}
        empty = {number for number, name in names.items() if name in held or name.removeprefix("rgb/") in held}
        document["annotations"] = [entry for entry in document["annotations"] if entry["image_id"] not in empty]

    bare = edited(data, tmp_path, strip)
    assert all(not len(bare.annotations("train")[name]) for name in held)
    assert "hold" in refused(bare, DataError, hold_out=0.2)


def test_missing_proposals_are_named(data: PreparedData, tmp_path: Path) -> None:
    shutil.copytree(data.root, tmp_path / "fewer")
    names = data.all_ids
    write_proposals(
        tmp_path / "fewer", METHOD, [(name, tiny_proposals(name)) for name in names[:-2]], {}, overwrite=True
    )
    said = refused(PreparedData.open(tmp_path / "fewer"), DataError)
    assert names[-1] in said
    assert "xmodal prepare proposals" in said


def test_data_set_without_proposals_says_how_to_make_them(tiny_data: PreparedData) -> None:
    assert "xmodal prepare proposals" in refused(tiny_data, proposals=None)


def test_proposals_that_are_no_numbers_are_refused_when_written_and_never_drawn(
    data: PreparedData, tmp_path: Path
) -> None:
    name = data.ids("train")[0]
    boxes = tiny_proposals(name)
    boxes[3, 2] = np.nan
    with pytest.raises(DataError, match="NaN"):
        write_proposals(data.root, "broken", [(name, boxes)], {})
    shutil.copytree(data.root, tmp_path / "damaged")
    stored = np.load(tmp_path / "damaged" / "proposals" / METHOD / BOXES)
    stored[::3] = np.nan
    np.save(tmp_path / "damaged" / "proposals" / METHOD / BOXES, stored)
    damaged = PreparedData.open(tmp_path / "damaged")
    assert np.isnan(open_proposals(damaged, METHOD).boxes(name)).any()
    samples = build(settings(damaged)).samples
    assert all(torch.isfinite(samples[0, index]["boxes"]).all() for index in range(len(samples)))


def test_proposals_outside_the_image_do_no_harm(data: PreparedData, tmp_path: Path) -> None:
    outside = np.array([[-40, -40, -10, -10], [500, 400, 600, 450], [-50, -50, 200, 200]], np.float32)
    lists = {name: np.vstack([outside, tiny_proposals(name)]) for name in data.all_ids}
    found = finetune(settings(with_lists(data, tmp_path, lists), iterations=2, hold_out=0.2), runs=tmp_path)
    assert found.finished


@pytest.mark.parametrize(
    ("changes", "near"),
    [
        ({"modality": "disprity"}, "disparity"),
        ({"proposals": "tyni"}, METHOD),
        ({"layer": "features.55"}, "features.5"),
        ({"freeze_through": "feature.3"}, "features.3"),
        ({"backbone": "squeezenet1_1x"}, "squeezenet1_1"),
        ({"init": "randm"}, "random"),
        ({"split": "trian"}, "train"),
        ({"pooling": "maxx"}, "max"),
        ({"input": "wieghts"}, "weights"),
        ({"features": "fc8"}, "fc7"),
    ],
)
def test_unknown_names_are_refused_with_the_closest(changes: dict[str, str], near: str, data: PreparedData) -> None:
    said = refused(data, **changes)
    assert next(iter(changes.values())) in said
    assert near in said


def test_freezing_beyond_the_pooled_layer_is_refused(data: PreparedData) -> None:
    said = refused(data, layer="features.3", freeze_through="features.5")
    assert "features.5" in said
    assert "'features.3'" in said
    assert build(settings(data, layer="features.3", freeze_through="features.3"))


def test_start_of_another_modality_is_refused(data: PreparedData, tmp_path: Path) -> None:
    student = distill(transfer_settings(data, iterations=1), runs=tmp_path, name="student").run
    said = refused(data, init=str(student), backbone=None, modality="rgb")
    assert "disparity" in said
    assert "--modality" in said
    detector = finetune(settings(data, iterations=1), runs=tmp_path, name="detector").run
    assert "--modality" in refused(data, init=str(detector), backbone=None, modality="rgb")
    assert "squeezenet1_1" in refused(data, init=str(student), backbone="alexnet")


def test_unfinished_run_cannot_be_begun_with(data: PreparedData, tmp_path: Path) -> None:
    run = finetune(settings(data, iterations=1), runs=tmp_path, name="detector").run
    (run / "card.json").unlink()
    assert "--resume" in refused(data, DataError, init=str(run), backbone=None)


def test_joint_run_whose_modality_the_data_set_lacks_is_refused(data: PreparedData, tmp_path: Path) -> None:
    student = distill(transfer_settings(data, iterations=1), runs=tmp_path, name="student").run
    card = json.loads((student / "card.json").read_text())
    (student / "card.json").write_text(json.dumps({**card, "modality": "thermal"}))
    said = refused(data, joint=str(student), modality="rgb")
    assert "thermal" in said


@pytest.mark.parametrize("init", ["random", "imagenet"])
def test_start_without_a_network_is_refused(init: str, data: PreparedData) -> None:
    assert "--backbone" in refused(data, init=init, backbone=None)


def test_folder_that_is_called_like_a_start_is_not_taken_for_one(
    data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "random").mkdir()
    monkeypatch.chdir(tmp_path)
    assert build(settings(data)).starts[0].backbone.weights == "random"


def test_weights_belong_to_imagenet(data: PreparedData, tmp_path: Path) -> None:
    torch.save(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "net.pth")
    assert "--init imagenet" in refused(data, weights=str(tmp_path / "net.pth"))
    assert "absent.pth" in refused(data, init="imagenet", weights=str(tmp_path / "absent.pth"))


def test_weights_of_another_network_are_refused(data: PreparedData, tmp_path: Path) -> None:
    torch.save(torchvision.models.squeezenet1_0().state_dict(), tmp_path / "net.pth")
    assert "do not fit" in refused(data, DataError, init=str(tmp_path / "net.pth"))


def test_all_problems_of_the_detector_and_of_its_training_are_named_at_once(data: PreparedData) -> None:
    said = refused(
        data, pooling="maxx", dropout=2.0, size=4, regions=0, nms=0.0, lr=-1.0, optimiser="adm", batch_size=0
    )
    for option in ("--pooling", "--dropout", "--size", "--regions", "--nms", "--lr", "--optimiser", "--batch-size"):
        assert option in said


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("foreground", 0.0),
        ("foreground", float("nan")),
        ("background_low", 0.5),  # nothing lies in [0.5, 0.5): there would be no background
        ("hold_out", 1.0),
        ("class_loss", float("nan")),
        ("box_loss", -1.0),
        ("merge_px", -1),
        ("per_image_mean", 0),
        ("head", [16]),
        ("head", [16, 0]),
        ("reduced", -1),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(option: str, value: Any, data: PreparedData) -> None:
    assert option.replace("_", "-") in refused(data, **{option: value})


def test_diverged_run_names_its_images_and_keeps_its_last_checkpoint(data: PreparedData, tmp_path: Path) -> None:
    wild = settings(data, lr=1e30, warmup=0, iterations=20, optimiser="sgd", checkpoint_every=1)
    with pytest.raises(DivergedError, match=r"diverged\.json"):
        finetune(wild, runs=tmp_path, name="wild")
    run = tmp_path / "finetune" / "wild"
    found = json.loads((run / "diverged.json").read_text())
    assert len(found["ids"]) == 2
    assert set(found["ids"]) <= set(data.ids("train"))
    assert torch.load(run / "checkpoints" / "last.pt", weights_only=True)["step"] == found["step"]
    assert not (run / "card.json").exists()
