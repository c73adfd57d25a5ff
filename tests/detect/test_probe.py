"""Promises of the region probe: it finds what is there, nothing where nothing is, and its protocol never changes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import HEIGHT, WIDTH, settings

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.transforms import short_side_to
from xmodal_cli.detect import probe, probe_evaluation
from xmodal_cli.detect.probe import SHORT_SIDE, RegionFeatures, annotated_boxes, probe_geometry, score
from xmodal_cli.detect.probe_evaluation import Baseline, evaluate_probe
from xmodal_cli.errors import SettingsError
from xmodal_cli.models.backbones import build
from xmodal_cli.runs.folder import open_run
from xmodal_cli.transfer.distill import distill

LAYER = "features.5"
CLASSES = ("a", "b", "c", "d")


def regions(count: int, seed: int, *, telling: bool) -> RegionFeatures:
    """Random features of random classes; where they tell, each class has a direction of its own."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, len(CLASSES), (count,), generator=generator)
    values = torch.randn(count, 16, generator=generator)
    if telling:
        values[torch.arange(count), labels] += 8
    return RegionFeatures(values, labels, torch.arange(count) // 3)


def test_protocol_is_the_one_that_figures_are_compared_by() -> None:
    assert (probe.SHORT_SIDE, probe.GRID, probe.HIDDEN, probe.DROPOUT) == (224, 3, 256, 0.5)
    assert (probe.LEARNING_RATE, probe.WEIGHT_DECAY, probe.EPOCHS, probe.BATCH, probe.SEEDS) == (1e-3, 1e-2, 15, 64, 3)
    assert short_side_to(SHORT_SIDE, (425, 560)) == (224, 296)


def test_features_that_tell_the_class_score_nearly_all() -> None:
    found = score(regions(900, 0, telling=True), regions(300, 1, telling=True), CLASSES)
    assert found.accuracy > 97
    assert found.class_mean_accuracy > 97


def test_features_that_tell_nothing_score_at_chance() -> None:
    found = score(regions(900, 0, telling=False), regions(900, 1, telling=False), CLASSES)
    assert 18 < found.accuracy < 32
    low, high = found.interval()
    assert low < 25 < high


def test_score_is_the_same_every_time_and_leaves_the_random_state_alone() -> None:
    learned, scored = regions(100, 0, telling=True), regions(50, 1, telling=True)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = score(learned, scored, CLASSES)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again = score(learned, scored, CLASSES)
    assert first.seeds == again.seeds
    np.testing.assert_array_equal(first.hits, again.hits)


def test_classes_without_objects_are_named_and_leave_the_mean() -> None:
    learned, scored = regions(600, 0, telling=True), regions(300, 1, telling=True)
    kept = scored.labels != 2
    fewer = RegionFeatures(scored.values[kept], scored.labels[kept], scored.images[kept])
    found = score(learned, fewer, CLASSES)
    assert found.classes_without_objects == ("c",)
    assert found.class_mean_accuracy > 95


def test_scale_of_a_channel_does_not_matter() -> None:
    learned, scored = regions(300, 0, telling=True), regions(100, 1, telling=True)
    factor = 10.0 ** torch.linspace(-3, 3, 16)
    stretched = [dataclasses.replace(each, values=each.values * factor + 1) for each in (learned, scored)]
    assert score(*stretched, CLASSES).accuracy == pytest.approx(score(learned, scored, CLASSES).accuracy, abs=3)


def test_colour_that_names_the_class_is_found_in_real_maps(tiny_data: PreparedData) -> None:
    """The near boxes are red, the far ones blue: even random filters see it."""
    backbone = build("squeezenet1_1", seed=3)
    found = probe.probe(backbone, LAYER, tiny_data, "rgb", split="val")
    assert found.accuracy > 90
    assert found.classes_without_objects == ("never",)
    assert (found.learned_regions, len(found.hits)) == (44, 12)


def test_geometry_control_sees_boxes_and_no_image(tiny_data: PreparedData) -> None:
    """All near boxes are alike, and so are all far ones: place and size are enough here."""
    assert probe_geometry(tiny_data, split="val").accuracy == 100


def test_split_that_was_learned_from_cannot_be_scored(tiny_data: PreparedData) -> None:
    for split, train_split in (("train", "train"), ("val", "train+val"), ("train+val", "train")):
        with pytest.raises(SettingsError, match="cannot be scored"):
            probe.probe(build("squeezenet1_1"), LAYER, tiny_data, "rgb", split=split, train_split=train_split)
        with pytest.raises(SettingsError, match="cannot be scored"):
            probe_geometry(tiny_data, split=split, train_split=train_split)


def test_annotated_boxes_are_those_of_the_file_in_pixels(tiny_data: PreparedData) -> None:
    boxes = annotated_boxes(tiny_data, "val")
    assert len(boxes) == 6
    first = next(iter(boxes.values()))
    assert first.boxes_xyxy.tolist() == [[4, 8, 20, 24], [36, 20, 60, 44]]
    assert first.boxes_xyxy[:, 2].max() <= WIDTH
    assert first.boxes_xyxy[:, 3].max() <= HEIGHT


def test_run_is_probed_at_its_last_transfer_point_and_kept(tiny_data: PreparedData, tmp_path: Path) -> None:
    run = open_run(distill(settings(tiny_data), runs=tmp_path, name="tiny").run)
    found = evaluate_probe(run, tiny_data, split="val", device="cpu", runs=tmp_path)
    assert (found.layer, found.modality, found.run) == (LAYER, "disparity", run.path)
    assert {path.name for path in found.folder.iterdir()} == {"config.yaml", "results.json"}
    assert found.folder.parent == tmp_path / "evaluate"
    again = evaluate_probe(run, tiny_data, split="val", device="cpu", runs=tmp_path)
    assert again.probe.seeds == found.probe.seeds
    assert again.folder != found.folder


@pytest.mark.parametrize("backbone", ["squeezenet1_1", "torchvision/squeezenet1_1"])
def test_baselines_need_no_run(backbone: str, tiny_data: PreparedData, tmp_path: Path) -> None:
    baseline = Baseline("random", backbone, "disparity", layer=LAYER, seed=1)
    found = evaluate_probe(baseline, tiny_data, split="val", device="cpu", runs=tmp_path)
    assert found.run is None
    assert found.folder.parent == tmp_path / "evaluate"


def test_wrong_baselines_are_refused(tiny_data: PreparedData, tmp_path: Path) -> None:
    for baseline, word in (
        (Baseline("randm", "alexnet", "rgb"), "random"),
        (Baseline("random", None, "rgb"), "--backbone"),
    ):
        with pytest.raises(SettingsError) as caught:
            evaluate_probe(baseline, tiny_data, split="val", runs=tmp_path)
        assert word in f"{caught.value} {caught.value.hint}"
    assert list(tmp_path.iterdir()) == []
    assert probe_evaluation.BASELINES == ("random", "imagenet", "geometry")
