"""Promises of fc6 and fc7 over regions: which boxes are compared, what is said of them, what a run leaves of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import PROPOSALS
from safetensors.torch import load_file
from tiny_runs import HEIGHT, WIDTH, assert_same_student, cut_short, settings
from torchvision.ops import roi_pool

from xmodal_cli.data.pairs import Pairs
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import open_proposals, write_proposals
from xmodal_cli.data.transforms import Augmentation, Draw, generator
from xmodal_cli.detect.build import build as build_detector
from xmodal_cli.detect.settings import FinetuneSettings
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.models.backbones import build as build_backbone
from xmodal_cli.models.layers import grid
from xmodal_cli.runs.folder import open_run
from xmodal_cli.transfer.build import build
from xmodal_cli.transfer.distill import distill, resume
from xmodal_cli.transfer.region_samples import BOXES, PairsWithRegions, boxes_in_window, chosen
from xmodal_cli.transfer.regions import RegionTapped
from xmodal_cli.transfer.student import load_student

NARROW = 64  # units of fc6 and fc7 in these tests: with 4096 a checkpoint takes half a gigabyte
REGIONS: dict[str, Any] = {
    "teacher": "caffenet",
    "student": "caffenet",
    "transfer": ("fc6:fc6=1",),
    "regions": "proposals",
    "regions_per_image": 3,
    "optimiser": "sgd",
    "lr": 1e-3,
}
SIZE_HW = (64, 80)


@pytest.fixture(scope="module", autouse=True)
def narrow() -> Iterator[None]:
    """CaffeNet with few fully connected units, so that runs take a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xmodal_cli.models.caffenet.FC_UNITS", NARROW)
        yield


@pytest.fixture(scope="module")
def run(boxed_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished transfer of conv3 and of fc7 over regions; nobody may change it."""
    changes = {"teacher": "alexnet", "transfer": ("conv3:conv3=1", "fc7:fc7=0.5"), "optimiser": "adamw"}
    steps = {"iterations": 20, "evaluate_every": 10, "checkpoint_every": 20}
    wanted = settings(boxed_data, **{**REGIONS, **changes, **steps})
    return distill(wanted, runs=tmp_path_factory.mktemp("runs"), name="regions").run


def pairs_of(data: PreparedData, **changes: Any) -> PairsWithRegions:
    """Two pairs seen through random windows, five regions each."""
    augmentation = Augmentation(SIZE_HW, smallest_crop=0.5)
    pairs = Pairs(data, data.ids("train")[:2], ("rgb",), augmentation=augmentation, size_hw=SIZE_HW, seed=3)
    return PairsWithRegions(pairs, open_proposals(data), **{"count": 5, "seed": 3, **changes})


def test_regions_of_a_seed_epoch_and_id_are_always_the_same(boxed_data: PreparedData) -> None:
    first = pairs_of(boxed_data)[2, 1][BOXES]
    assert torch.equal(pairs_of(boxed_data)[2, 1][BOXES], first)
    for other in (pairs_of(boxed_data)[3, 1], pairs_of(boxed_data)[2, 0], pairs_of(boxed_data, seed=4)[2, 1]):
        assert not torch.equal(other[BOXES], first)


def test_regions_lie_where_the_windows_image_shows_them() -> None:
    image = np.zeros((100, 200), np.float32)
    box = np.array([[80, 30, 120, 60]], np.float32)
    image[30:60, 80:120] = 1
    window = Draw(0.25, 0.2, 0.75, 0.8, (120, 200))  # 60 x 100 pixels, seen twice as large
    (found,) = boxes_in_window(box, window, (100, 200))
    assert found.tolist() == [60, 20, 140, 80]


def test_flipping_regions_is_flipping_the_image(boxed_data: PreparedData) -> None:
    boxes = open_proposals(boxed_data).boxes(boxed_data.ids("train")[0])
    window = Draw(0.1, 0.0, 0.8, 1.0, SIZE_HW)
    plain = boxes_in_window(boxes, window, (HEIGHT, WIDTH))
    flipped = boxes_in_window(boxes, replace(window, flipped=True), (HEIGHT, WIDTH))
    mirrored = np.stack([SIZE_HW[1] - plain[:, 2], plain[:, 1], SIZE_HW[1] - plain[:, 0], plain[:, 3]], 1)
    np.testing.assert_allclose(flipped, mirrored, atol=1e-4)


@pytest.mark.parametrize(("right", "left_over"), [(80.0, 40.0), (80.5, None)])
def test_boxes_that_lose_more_than_half_are_dropped(right: float, left_over: float | None) -> None:
    window = Draw(0.0, 0.0, 0.6, 1.0, (50, 60))  # of an image of 50 x 100
    found = boxes_in_window(np.array([[40, 10, right, 20]], np.float32), window, (50, 100))
    assert found.tolist() == [[left_over, 10, 60, 20]] if left_over else [[0, 0, 60, 50]]


def test_windows_without_a_box_are_one_region() -> None:
    window = Draw(0.5, 0.0, 1.0, 1.0, (50, 60))
    for boxes in (np.zeros((0, 4), np.float32), np.array([[0, 0, 20, 20]], np.float32)):
        assert boxes_in_window(boxes, window, (50, 100)).tolist() == [[0, 0, 60, 50]]


def test_every_image_gives_the_same_number_of_regions_and_repeats_only_where_it_must() -> None:
    boxes = np.arange(20, dtype=np.float32).reshape(5, 4)
    few, many = (chosen(boxes, count, generator(0, "x")) for count in (3, 12))
    assert len(np.unique(few, axis=0)) == len(few) == 3
    assert len(many) == 12
    assert len(np.unique(many, axis=0)) == 5


@torch.no_grad()
def test_region_features_are_those_of_a_direct_computation() -> None:
    backbone = build_backbone("caffenet", seed=1)
    plain = backbone.module.eval()
    tapped = RegionTapped(backbone, ["fc7", "pool5"], SIZE_HW).eval()
    images = torch.randn(2, 3, *SIZE_HW)
    boxes = torch.tensor([[[0.0, 0, 40, 30], [10, 12, 70, 60]], [[5, 5, 80, 64], [30, 0, 50, 64]]])
    given = tapped(images, boxes)

    x = plain.norm1(plain.pool1(plain.relu1(plain.conv1(images))))
    x = plain.norm2(plain.pool2(plain.relu2(plain.conv2(x))))
    conv5 = plain.relu5(plain.conv5(plain.relu4(plain.conv4(plain.relu3(plain.conv3(x))))))
    (first_y, first_x), last_pixel = grid(backbone, "conv5", SIZE_HW).first_centre_yx, 1
    shift = torch.tensor([first_x, first_y, first_x + last_pixel, first_y + last_pixel])
    rows = [torch.cat([torch.tensor([float(n)]), box - shift]) for n, each in enumerate(boxes) for box in each]
    cells = roi_pool(conv5, torch.stack(rows), (6, 6), 1 / 16)
    direct = plain.fc7(plain.fc6(cells.flatten(1)).relu()).relu()
    torch.testing.assert_close(given["fc7"].flatten(1), direct)
    torch.testing.assert_close(given["pool5"], plain.pool5(conv5))


def test_teacher_and_student_are_asked_about_the_same_boxes(boxed_data: PreparedData) -> None:
    plan = build(settings(boxed_data, **REGIONS))
    sample = plan.in_batch(Pairs(boxed_data, plan.samples.fit, ("rgb", "disparity"), size_hw=SIZE_HW))[0, 0]
    assert sample[BOXES].shape == (3, 4)
    features = plan.teacher.features(sample["rgb"][None], sample[BOXES][None])
    again = plan.teacher.features(sample["rgb"][None], sample[BOXES][None].flip(1))
    assert features[0].shape == (3, NARROW, 1, 1)
    torch.testing.assert_close(features[0], again[0].flip(0))


def test_student_learns_both_points(run: Path) -> None:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if record["phase"] == "train"]
    explained = [record for record in records if record["phase"] == "evaluate"]
    assert losses[-1] < losses[0]
    assert explained[-1]["explained_variance/fc7:fc7"] > explained[0]["explained_variance/fc7:fc7"]
    assert "explained_variance/conv3:conv3" in explained[-1]


def test_saved_student_holds_fc6_and_fc7_and_the_card_names_only_what_lies_above(run: Path) -> None:
    card, state = json.loads((run / "card.json").read_text()), load_file(run / "student.safetensors")
    assert card["missing_keys"] == ["fc8.weight", "fc8.bias"]
    layers = [*(f"conv{number}" for number in range(1, 6)), "fc6", "fc7"]
    assert state.keys() == {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    assert card["regions"]["proposals"] == PROPOSALS
    assert card["regions"]["per_image"] == 3
    module = load_student(open_run(run)).backbone.module
    assert torch.equal(module.get_submodule("fc7").weight, state["fc7.weight"])


def test_student_of_regions_is_read_where_they_were_cut_from(run: Path) -> None:
    assert load_student(open_run(run)).layers == ("conv3", "conv5")


def test_fc6_alone_leaves_fc7_out(boxed_data: PreparedData) -> None:
    plan = build(settings(boxed_data, **REGIONS))
    kept = plan.tapped.kept_state()
    assert "fc6.weight" in kept
    assert "fc7.weight" not in kept


def test_detector_starts_from_the_learned_fc6_and_fc7(run: Path, boxed_data: PreparedData) -> None:
    wanted = FinetuneSettings(str(boxed_data.root), modality="disparity", init=str(run), size=64, regions=8)
    (detector,) = build_detector(replace(wanted, device="cpu", workers=0)).detectors
    saved, state = detector.saved_state(), load_file(run / "student.safetensors")
    for name, tensor in state.items():
        assert torch.equal(saved[name], tensor), name


def test_resumed_region_transfer_equals_the_undisturbed_one(boxed_data: PreparedData, tmp_path: Path) -> None:
    stopped = cut_short(boxed_data, tmp_path, **REGIONS, crop=0.5)
    resume(stopped)
    whole = settings(boxed_data, **REGIONS, crop=0.5, iterations=24, checkpoint_every=24)
    assert_same_student(stopped, distill(whole, runs=tmp_path, name="whole").run)


def test_transfer_is_not_resumed_with_other_proposals(boxed_data: PreparedData, tmp_path: Path) -> None:
    data = PreparedData.open(Path(shutil.copytree(boxed_data.root, tmp_path / "data")))
    stopped = cut_short(data, tmp_path, **REGIONS)
    stored = open_proposals(data)
    write_proposals(data.root, PROPOSALS, [(name, stored[name][1:]) for name in stored.ids], {}, overwrite=True)
    with pytest.raises(DataError, match="or the proposals"):
        resume(stopped)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transfer": ("conv3:conv3",)}, "neither is a transfer point"),
        ({"transfer": ("fc7:pool5",)}, "would carry regions into a map"),
        ({"transfer": ("conv5:fc6",)}, "would carry a map into regions"),
        ({"cache": "on"}, "--cache on keeps maps of whole images"),
        ({"regions_per_image": 0}, "--regions-per-image must be at least 1"),
        ({"regions": "proposal"}, "not one of image, proposals"),
        ({"regions": "image", "proposals": PROPOSALS}, "belongs to --regions proposals"),
        ({"proposals": "yours"}, "has no proposals 'yours'"),
        ({"student": "squeezenet1_1"}, "has no layer 'fc6'"),
    ],
)
def test_settings_that_make_no_sense_of_regions_are_refused(
    changes: dict[str, Any], message: str, boxed_data: PreparedData
) -> None:
    with pytest.raises(SettingsError, match=message):
        build(settings(boxed_data, **{**REGIONS, **changes}))


def test_missing_proposals_are_named(tiny_data: PreparedData, boxed_data: PreparedData, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="has no proposals"):
        build(settings(tiny_data, **REGIONS))
    data = PreparedData.open(Path(shutil.copytree(boxed_data.root, tmp_path / "data")))
    stored = open_proposals(data)
    write_proposals(data.root, PROPOSALS, [(name, stored[name]) for name in stored.ids[:9]], {}, overwrite=True)
    with pytest.raises(DataError, match="images have no proposals"):
        build(settings(data, **REGIONS))


def test_cache_stays_off_where_regions_are_drawn_anew(boxed_data: PreparedData) -> None:
    assert build(settings(boxed_data, **{**REGIONS, "cache": "auto", "crop": 1.0})).settings.cache == "off"


def test_without_regions_fc7_is_one_vector_of_the_image(boxed_data: PreparedData) -> None:
    plan = build(settings(boxed_data, teacher="alexnet", student="squeezenet1_1", transfer=("fc6:features.5",)))
    assert plan.teacher.features(torch.zeros(2, 3, *SIZE_HW))[0].shape == (2, 4096, 1, 1)


@pytest.mark.parametrize("layer", ["pool1", "conv3"])
def test_student_transferred_low_down_starts_a_detector(layer: str, boxed_data: PreparedData, tmp_path: Path) -> None:
    low = settings(boxed_data, student="caffenet", teacher="caffenet", transfer=(f"{layer}:{layer}",), iterations=1)
    run = distill(low, runs=tmp_path, name="low").run
    wanted = FinetuneSettings(str(boxed_data.root), modality="disparity", init=str(run), size=64, regions=8)
    (detector,) = build_detector(replace(wanted, device="cpu", workers=0)).detectors
    saved, state = detector.saved_state(), load_file(run / "student.safetensors")
    assert ("conv2.weight" in state) == (layer == "conv3")
    assert all(torch.equal(saved[name], tensor) for name, tensor in state.items())
