"""Promises of masks: learned on a frozen detector, resumed as if never stopped, scored, fused, kept and drawn."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_runs
import torch
from masked_data import mask_settings, with_masks
from safetensors.torch import load_file
from tiny_detectors import METHOD, settings, tiny_proposals
from tiny_runs import assert_same_tensors, kill_at_first_report

from xmodal_cli.data.masks import decode_mask
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import write_proposals
from xmodal_cli.detect.branches import load_trained
from xmodal_cli.detect.finetune import finetune
from xmodal_cli.detect.hypercolumns import chosen_features, load_segmenter, paper_scales
from xmodal_cli.detect.join import join_runs
from xmodal_cli.detect.mask_build import build
from xmodal_cli.detect.mask_evaluation import Projection, detect_masks, evaluate_mask_file, evaluate_masks
from xmodal_cli.detect.mask_samples import eligible, mask_places
from xmodal_cli.detect.mask_settings import PRESETS
from xmodal_cli.detect.mask_training import rehearse, resume, train_masks
from xmodal_cli.detect.run_detection import Looking
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.models.backbones import skeleton
from xmodal_cli.models.hypercolumn import Boxes
from xmodal_cli.pictures.run_report import Choice, sections_of
from xmodal_cli.pictures.scenes import scenes_of_runs
from xmodal_cli.runs.folder import RunFolder, open_run
from xmodal_cli.transfer.distill import distill


@pytest.fixture(scope="module")
def data(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return with_masks(tiny_data, tmp_path_factory.mktemp("masks") / "data")


@pytest.fixture(scope="module")
def runs(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector on disparity and one on colour, and masks on both."""
    folder = tmp_path_factory.mktemp("runs")
    for modality in ("disparity", "rgb"):
        longer = {"iterations": 20, "lr": 0.005, "regions": 32}
        finetune(settings(data, modality=modality, **longer), runs=folder, name=modality)
        made = mask_settings(data, folder / "finetune" / modality, iterations=40, lr=0.02)
        train_masks(made, runs=folder, name=modality)
    return folder


def masked(runs: Path, *names: str) -> list[RunFolder]:
    return [open_run(runs / "segmentation" / name) for name in names]


def test_masks_of_other_data_than_the_detectors_are_not_said_to_have_stale_proposals(
    runs: Path, data: PreparedData, tmp_path: Path
) -> None:
    """The detector learned with the proposals of its own data; those of the data that masks learned from are others."""
    other = PreparedData.open(shutil.copytree(data.root, tmp_path / "other"))
    fewer = [(name, tiny_proposals(name)[:9]) for name in other.all_ids]
    write_proposals(other.root, METHOD, fewer, {"settings": {}}, overwrite=True)
    made = replace(mask_settings(data, runs / "finetune" / "rgb"), data=str(other.root))
    run = open_run(train_masks(made, runs=tmp_path, name="other").run)
    notes = evaluate_masks([run], other, split="val", projection=Projection(False), device="cpu", root=tmp_path).notes
    assert not any("made anew" in note for note in notes)


def test_masks_learn_the_shape_of_objects(data: PreparedData, runs: Path) -> None:
    """Objects are the upper left half of their boxes, and that is what comes out."""
    segmenter, _ = load_segmenter(masked(runs, "rgb")[0])
    name = data.ids("val")[0]
    found = data.annotations("val")[name]
    probabilities = segmenter.probabilities(
        data.read("rgb", name), found.boxes_xyxy, found.labels, device=torch.device("cpu")
    )
    rows, columns = np.mgrid[:50, :50]
    wanted = torch.from_numpy(rows + columns < 49)
    figure = probabilities >= 0.5
    overlaps = (figure & wanted).sum((1, 2)) / (figure | wanted).sum((1, 2))  # 0.5 where the whole box is figure
    assert (overlaps > 0.75).all()


def test_the_detector_stays_as_it_was(data: PreparedData, runs: Path) -> None:
    for name in ("rgb", "disparity"):
        files = [runs / kind / name / "detector.safetensors" for kind in ("finetune", "segmentation")]
        assert_same_tensors(*(load_file(file) for file in files))


def test_resume_equals_uninterrupted_run(data: PreparedData, runs: Path, tmp_path: Path) -> None:
    made = mask_settings(data, runs / "finetune" / "rgb", iterations=14, checkpoint_every=5)
    whole = train_masks(made, runs=tmp_path, name="whole")
    kill_at_first_report(lambda watchers: train_masks(made, runs=tmp_path, name="cut", watchers=watchers))
    assert resume(tmp_path / "segmentation" / "cut").finished
    paths = [tmp_path / "segmentation" / name / "masks.safetensors" for name in ("whole", "cut")]
    assert_same_tensors(*(load_file(path) for path in paths))
    assert resume(whole.run).iterations == 14


def test_kept_maps_change_nothing(data: PreparedData, runs: Path, tmp_path: Path) -> None:
    """Maps are kept where they fit; a run whose images are read by workers computes them in every step."""
    for name, workers in (("kept", 0), ("computed", 1)):
        made = mask_settings(data, runs / "finetune" / "rgb", iterations=2, workers=workers)
        train_masks(made, runs=tmp_path, name=name)
    kept, computed = (
        load_file(tmp_path / "segmentation" / name / "masks.safetensors") for name in ("kept", "computed")
    )
    assert all(torch.allclose(kept[key], computed[key], atol=1e-6) for key in kept)


def test_held_out_images_without_objects_leave_nothing_to_watch(data: PreparedData, runs: Path, tmp_path: Path) -> None:
    shutil.copytree(data.root, tmp_path / "data")
    held = data.hold_out("train", 0.1)[1]
    path = data.annotation_file("train")
    assert path is not None
    file = tmp_path / "data" / path.relative_to(data.root)
    document = json.loads(file.read_text())
    there = {entry["id"]: Path(entry["file_name"]).with_suffix("").as_posix() for entry in document["images"]}
    document["annotations"] = [
        entry for entry in document["annotations"] if not there[entry["image_id"]].endswith(tuple(held))
    ]
    file.write_text(json.dumps(document))
    plan = build(mask_settings(PreparedData.open(tmp_path / "data"), runs / "finetune" / "rgb", hold_out=0.1))
    assert len(plan.held_out) > 0
    assert plan.watched() == []


def test_held_out_masks_are_watched(data: PreparedData, runs: Path, tmp_path: Path) -> None:
    made = mask_settings(data, runs / "finetune" / "rgb", hold_out=0.2)
    assert 0 < train_masks(made, runs=tmp_path, name="watched").metrics["mask_iou"] < 100


@pytest.mark.parametrize(("features", "keys"), [("fc7", {"region"}), ("features.2", {"maps"})])
def test_features_are_what_is_learned_on(
    data: PreparedData, runs: Path, tmp_path: Path, features: str, keys: set[str]
) -> None:
    made = mask_settings(data, runs / "finetune" / "rgb", features=features, iterations=1)
    run = train_masks(made, runs=tmp_path, name="some").run
    assert {key.split(".")[0] for key in load_file(run / "masks.safetensors")} == keys
    assert load_segmenter(open_run(run))[0].head.shape.features == features


def test_masks_of_a_zero_shot_detector_read_regions_through_its_adapter(
    data: PreparedData, runs: Path, tmp_path: Path
) -> None:
    """What stands above the joint wants the replaced layer's map, not the student's own."""
    detector = runs / "finetune" / "rgb"
    lesson = {"teacher": None, "teacher_weights": None, "teacher_run": str(detector), "transfer": ("auto",)}
    student = distill(tiny_runs.settings(data, **lesson, size="64x85", iterations=1), runs=tmp_path, name="student").run
    joined = join_runs(load_trained(open_run(detector)), open_run(student), runs=tmp_path, name="joined")
    run = train_masks(mask_settings(data, joined.path, iterations=1), runs=tmp_path, name="masks").run
    segmenter, name = load_segmenter(open_run(run))[0], data.ids("val")[0]
    image = torch.from_numpy(data.read("disparity", name)).permute(2, 0, 1).contiguous()
    whole = load_trained(joined).branches[0].detector
    with torch.no_grad():
        wanted = whole.maps(whole.input.normalise(image[None]))[0]
    torch.testing.assert_close(segmenter.maps(image)[-1], wanted)
    with pytest.raises(SettingsError, match="masks are learned on a detector"):
        build(mask_settings(data, student))
    card = json.loads((joined.path / "card.json").read_text())
    (joined.path / "card.json").write_text(json.dumps({**card, "kind": "torchvision"}))
    with pytest.raises(SettingsError, match="which cuts no regions from proposals"):
        build(mask_settings(data, joined.path))


def test_units_of_the_regions_feature_are_dropped_in_training_where_that_is_wanted(
    data: PreparedData, runs: Path
) -> None:
    for dropout in (False, True):
        segmenter = build(mask_settings(data, runs / "finetune" / "rgb", dropout=dropout)).segmenter
        segmenter.branch.detector.head.dropout = 0.5
        maps = segmenter.maps(torch.zeros(3, 64, 85, dtype=torch.uint8) + 90)
        asked = Boxes(torch.tensor([[4.0, 4.0, 40.0, 40.0]]), torch.tensor([0]), (48, 64), 4 / 3)
        segmenter.train(True)
        assert torch.equal(segmenter.regions(maps, asked), segmenter.regions(maps, asked)) is not dropout
        segmenter.train(False)
        assert torch.equal(segmenter.regions(maps, asked), segmenter.regions(maps, asked))


def test_masks_can_be_learned_on_masks(data: PreparedData, runs: Path, tmp_path: Path) -> None:
    made = mask_settings(data, runs / "segmentation" / "rgb", iterations=1, features=None)
    again = train_masks(made, runs=tmp_path, name="again").run
    assert RunFolder(again, "segmentation").card()["branches"][0]["modality"] == "rgb"


def test_the_papers_preset_trains(data: PreparedData, runs: Path, tmp_path: Path) -> None:
    small = {"iterations": 2, "batch_size": 2, "proposals_per_image": 22}
    made = mask_settings(data, runs / "finetune" / "rgb", **{**PRESETS["paper"], **small})
    run = train_masks(made, runs=tmp_path, name="paper").run
    levels = open_run(run).card()["masks"]["levels"]
    assert [level["first_centre_yx"] for level in levels] == [None, None]
    assert [level["kernel"] for level in levels] == [3, 1]
    assert load_segmenter(open_run(run))[0].centred is False
    found = detect_masks([open_run(run)], data, data.ids("val")[:1], Projection(False), Looking(device="cpu"))
    assert found.projection.centred is False


def test_a_rehearsal_writes_nothing(data: PreparedData, runs: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert rehearse(mask_settings(data, runs / "finetune" / "rgb")).images == 22
    assert not list(tmp_path.glob("runs*"))


@pytest.mark.parametrize("superpixels", [True, False])
def test_an_evaluation_keeps_masks_that_score_the_same_again(
    data: PreparedData, runs: Path, tmp_path: Path, superpixels: bool
) -> None:
    made = evaluate_masks(
        masked(runs, "rgb"), data, split="val", projection=Projection(superpixels), device="cpu", root=tmp_path
    )
    file = made.folder / "detections.json"
    entries = json.loads(file.read_text())
    assert {mask["segmentation"]["size"][0] for mask in entries} == {48}
    again = evaluate_mask_file(file, data, split="val", root=tmp_path)
    assert again.result.to_dict() == made.result.to_dict()
    kept = json.loads((made.folder / "results.json").read_text())
    assert kept["results"]["mAP_r"] == made.to_dict()["mAP_r"]
    assert made.result.mAP > 0


def test_classes_that_only_one_side_has_are_left_out_and_said(data: PreparedData, runs: Path, tmp_path: Path) -> None:
    run = tmp_path / "segmentation" / "stranger"
    shutil.copytree(runs / "segmentation" / "rgb", run)
    card = json.loads((run / "card.json").read_text())
    changed = {"classes": ["near", "sofa", "never"], "data": {**card["data"], "split": "val"}}
    (run / "card.json").write_text(json.dumps({**card, **changed}))
    how: dict[str, Any] = {"split": "val", "projection": Projection(False), "device": "cpu", "root": tmp_path}
    plain, other = (evaluate_masks([each], data, **how) for each in (*masked(runs, "rgb"), open_run(run)))
    assert set(other.result.ap) == {"near", "never"}
    assert other.result.mAP == other.result.ap["near"] == plain.result.ap["near"]
    assert any("does not know far" in note for note in other.notes)
    kept = json.loads((other.folder / "results.json").read_text())
    assert kept["notes"] == kept["results"]["notes"] == list(other.notes)
    assert "stranger learned from 6 of the 6 images scored." in other.notes
    assert plain.notes == ()


def test_masks_of_two_runs_are_averaged(data: PreparedData, runs: Path) -> None:
    ids = data.ids("val")[:2]
    both = detect_masks(masked(runs, "rgb", "disparity"), data, ids, Projection(False), Looking(device="cpu"))
    one = detect_masks(masked(runs, "rgb", "rgb"), data, ids, Projection(False), Looking(device="cpu"))
    alone = detect_masks(masked(runs, "rgb"), data, ids, Projection(False), Looking(device="cpu"))
    assert len(both.masks) == len(both.detections)
    assert np.array_equal(one.detections.scores, alone.detections.scores)
    assert one.masks == alone.masks  # the mean of a thing with itself
    assert both.masks != alone.masks


def test_pictures_show_the_masks_of_runs(data: PreparedData, runs: Path) -> None:
    scenes = scenes_of_runs(masked(runs, "rgb"), data, "val", None, 2, 0.0, 3, "cpu")
    assert all(mask is not None and mask.shape == (48, 64) for scene in scenes for mask in scene.masks)
    assert all(len(scene.found) == 3 for scene in scenes)


def test_a_report_of_masks_shows_them(runs: Path) -> None:
    sections, problems = sections_of(masked(runs, "rgb"), Choice(device="cpu"))
    assert [section.title for section in sections][-1] == "Detections: rgb"
    assert problems == []


def test_eligible_boxes_overlap_their_object_enough(data: PreparedData) -> None:
    found = next(iter(data.annotations("train").values()))
    near, far = found.boxes_xyxy
    proposals = np.stack([near + 1, far - np.array([0, 0, 1, 0]), near + 9]).astype(np.float32)
    chosen = eligible(found, proposals, (48, 64), 0.7)
    assert chosen.annotated == 2
    assert chosen.objects.tolist() == [0, 1, 0, 1]
    assert chosen.labels.tolist() == [found.labels[n] for n in (0, 1, 0, 1)]


def test_a_box_around_two_objects_shows_either(data: PreparedData) -> None:
    found = next(iter(data.annotations("train").values()))
    first = found.boxes_xyxy[0]
    both = replace(found, boxes_xyxy=np.stack([first, first + np.float32(0.5)]))
    chosen = eligible(both, np.stack([first + 1, first + 20]).astype(np.float32), (48, 64), 0.7)
    assert chosen.annotated == 2
    assert np.array_equal(chosen.boxes_xyxy, np.stack([*both.boxes_xyxy, *both.boxes_xyxy, first + 1, first + 1]))
    assert chosen.objects.tolist() == [0, 1, 1, 0, 0, 1]
    assert chosen.labels.tolist() == [both.labels[n] for n in (0, 1, 1, 0, 0, 1)]


def test_targets_are_the_mask_inside_the_box() -> None:
    mask = decode_mask([[10, 10, 30, 10, 10, 30]], (48, 64))
    assert mask is not None
    box = np.array([[10, 10, 30, 30]], np.float32)
    for centred in (True, False):
        target = mask_places(mask, box, centred=centred)[0]
        rows, columns = np.mgrid[:50, :50]
        clear = abs(rows + columns - 49) > 4
        assert np.array_equal(target[clear], (rows + columns < 49)[clear])
    assert not mask_places(mask, box + 100)[0].any()


def test_the_papers_layers_are_the_usual_ones_of_its_networks() -> None:
    for name, layers in (
        ("alexnet", ["pool2", "conv4"]),
        ("caffenet", ["pool2", "conv4"]),
        ("vgg16", ["pool3", "pool4"]),
    ):
        backbone = skeleton(name)
        assert chosen_features(backbone, "conv5" if "vgg" not in name else "conv5_3", None) == (True, layers)
        assert list(paper_scales(backbone)) == layers
    assert chosen_features(skeleton("squeezenet1_1"), "features", None)[1] == ["features.7", "features.10"]
    with pytest.raises(SettingsError, match="names a layer twice"):
        chosen_features(skeleton("alexnet"), "conv5", "fc7+conv4+features.9")  # one layer, by both of its names
    assert chosen_features(skeleton("resnet18"), "layer4", None)[1][0].startswith("layer3")


def test_data_without_masks_is_refused(tiny_data: PreparedData, data: PreparedData, runs: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(data.root, bare)
    shutil.copytree(tiny_data.root / "annotations", bare / "annotations", dirs_exist_ok=True)
    without = PreparedData.open(bare)
    with pytest.raises(DataError, match="have no mask; the first is"):
        build(mask_settings(without, runs / "finetune" / "rgb"))
    with pytest.raises(DataError, match="have no mask"):
        evaluate_masks(masked(runs, "rgb"), without, split="val", root=tmp_path)


def test_data_of_other_classes_is_refused(data: PreparedData, runs: Path, tmp_path: Path) -> None:
    shutil.copytree(data.root, tmp_path / "other")
    path = tmp_path / "other" / "dataset.json"
    path.write_text(path.read_text().replace('"far"', '"lamp"'))
    for file in (tmp_path / "other" / "annotations").glob("*.json"):
        file.write_text(file.read_text().replace('"far"', '"lamp"'))
    with pytest.raises(SettingsError, match="classes must be the same"):
        build(mask_settings(PreparedData.open(tmp_path / "other"), runs / "finetune" / "rgb"))


def test_entries_without_masks_are_refused(data: PreparedData, tmp_path: Path) -> None:
    file = tmp_path / "boxes.json"
    name = data.ids("val")[0]
    file.write_text(json.dumps([{"image_id": name, "category_id": 1, "bbox": [0, 0, 4, 4], "score": 0.5}]))
    with pytest.raises(DataError, match="has no segmentation"):
        evaluate_mask_file(file, data, split="val", root=tmp_path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"features": "fc7+features.9"}, "has no map 'features.9'"),
        ({"features": "fc7+nothing"}, "has no layer 'nothing'"),
        ({"features": "fc7+fc7"}, "names a layer twice"),
        ({"modality": "disparity"}, "sees rgb, not disparity"),
        ({"init": "random"}, "name its run with --init"),
        ({"init": "runs/none"}, "there is no run at"),
        ({"overlap": 0.0}, "overlap is a share"),
        ({"hold_out": 1.0, "boxes": 0}, "boxes must be at least 1"),
    ],
)
def test_what_cannot_be_is_said(data: PreparedData, runs: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        build(mask_settings(data, runs / "finetune" / "rgb", **changes))


def test_runs_that_are_no_masks_are_refused(data: PreparedData, runs: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="gives no masks"):
        evaluate_masks([open_run(runs / "finetune" / "rgb")], data, split="val", root=tmp_path)


def test_a_changed_detector_is_noticed(data: PreparedData, runs: Path, tmp_path: Path) -> None:
    detector = tmp_path / "detector"
    shutil.copytree(runs / "finetune" / "rgb", detector)
    made = mask_settings(data, detector, iterations=14, checkpoint_every=5)
    kill_at_first_report(lambda watchers: train_masks(made, runs=tmp_path, name="cut", watchers=watchers))
    shutil.copy(_other_weights(runs, tmp_path, data), detector / "detector.safetensors")
    with pytest.raises(DataError, match="have changed"):
        resume(tmp_path / "segmentation" / "cut")


def _other_weights(runs: Path, tmp_path: Path, data: PreparedData) -> Path:
    changes = {"modality": "rgb", "iterations": 1, "regions": 32}
    return finetune(settings(data, **changes), runs=tmp_path, name="other").run / "detector.safetensors"
