"""Bottom-up proposals: what every set of boxes promises, on odd images and few modalities, and what they find."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torchvision.ops import box_iou

from xmodal_cli.data.annotations import annotations_of, read_coco
from xmodal_cli.data.images import read_raw, read_rgb
from xmodal_cli.detect import ranking
from xmodal_cli.detect.grouping import GroupingSettings, find_candidates, propose
from xmodal_cli.detect.grouping_channels import channels
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.metrics.recall import grid_windows

OBJECT = (52, 40, 100, 88)
SIZE_HW = (120, 160)


def scene(seed: int = 0) -> dict[str, NDArray[Any]]:
    """A box that stands out of a wall in colour, depth, height and heat; everything else is noise and shading."""
    rng = np.random.default_rng(seed)
    left, top, right, bottom = OBJECT
    inside = np.zeros(SIZE_HW, bool)
    inside[top:bottom, left:right] = True
    shade = np.linspace(0, 30, SIZE_HW[1])[None, :] + rng.normal(0, 3, SIZE_HW)
    rgb = np.stack([90 + shade + 90 * inside, 90 + shade, 120 + shade - 60 * inside], axis=2)
    depth = 3000 - 900 * inside + rng.normal(0, 5, SIZE_HW) + np.linspace(0, 400, SIZE_HW[0])[:, None]
    hha = np.stack([100 + 50 * inside, 130 - 20 * inside, 128 + 40 * inside], axis=2) + rng.normal(0, 2, (*SIZE_HW, 3))
    heat = 7000 + 60 * shade + 900 * inside
    return {
        "rgb": rgb.clip(0, 255).astype(np.uint8),
        "hha": hha.clip(0, 255).astype(np.uint8),
        "disparity": hha[:, :, :1].clip(0, 255).astype(np.uint8).repeat(3, axis=2),
        "depth": depth.astype(np.uint16)[:, :, None],
        "thermal": heat.astype(np.uint16)[:, :, None],
        "gray": rgb.mean(axis=2).clip(0, 255).astype(np.uint8)[:, :, None],
        "flow": np.stack([128 + 60 * inside, 128 - 30 * inside, 128 + shade], axis=2).clip(0, 255).astype(np.uint8),
    }


def check_contract(boxes: NDArray[np.float32], size_hw: tuple[int, ...], most: int) -> None:
    assert boxes.dtype == np.float32
    assert boxes.ndim == 2
    assert boxes.shape[1] == 4
    assert 1 <= len(boxes) <= most
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= np.array(size_hw[1::-1])).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert len(np.unique(boxes, axis=0)) == len(boxes)


def overlaps(truth: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """The best IoU of each true box."""
    best: NDArray[np.float32] = box_iou(torch.from_numpy(truth), torch.from_numpy(boxes)).max(dim=1).values.numpy()
    return best


def rank_of_object(boxes: NDArray[np.float32]) -> int:
    """How many boxes come before the first that covers the object with an IoU above 0.8."""
    fits = box_iou(torch.from_numpy(boxes), torch.tensor([OBJECT], dtype=torch.float32))[:, 0] > 0.8
    assert bool(fits.any()), "no box covers the object"
    return int(torch.nonzero(fits)[0])


@pytest.mark.parametrize("modality", sorted(scene()))
def test_each_modality_alone_finds_an_obvious_object_early(modality: str) -> None:
    boxes = propose({modality: scene()[modality]})
    check_contract(boxes, SIZE_HW, 2000)
    assert rank_of_object(boxes) < 50


@pytest.mark.parametrize("modalities", [("rgb", "hha"), ("rgb", "depth"), ("rgb", "thermal"), tuple(sorted(scene()))])
def test_modalities_together_find_an_obvious_object_early(modalities: tuple[str, ...]) -> None:
    images = scene()
    boxes = propose({name: images[name] for name in modalities})
    check_contract(boxes, SIZE_HW, 2000)
    assert rank_of_object(boxes) < 50


def test_the_same_images_always_give_the_same_boxes() -> None:
    first, second = propose(scene()), propose(dict(reversed(scene().items())))
    assert first.tobytes() == second.tobytes()


def test_images_are_left_as_they_were() -> None:
    images = scene()
    propose(images)
    assert all((images[name] == image).all() for name, image in scene().items())


@pytest.mark.parametrize("most", [1, 7, 300])
def test_no_more_boxes_than_asked_for(most: int) -> None:
    boxes = propose(scene(), most=most)
    check_contract(boxes, SIZE_HW, most)
    assert len(boxes) == most


def test_fewer_boxes_start_with_the_best_of_more() -> None:
    """The first stage of the choice keeps its order whatever the number of boxes, so the very best box is the same."""
    assert propose(scene(), most=100)[0].tolist() == propose(scene(), most=1000)[0].tolist()


@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 9), depth=st.booleans())
@settings(max_examples=40)
def test_tiny_images_of_any_shape_keep_the_contract(height: int, width: int, seed: int, depth: bool) -> None:
    rng = np.random.default_rng(seed)
    images: dict[str, NDArray[Any]] = {"rgb": rng.integers(0, 256, (height, width, 3), np.uint8)}
    if depth:
        images["depth"] = rng.integers(0, 5000, (height, width, 1), np.uint16)
    check_contract(propose(images), (height, width), 2000)


@pytest.mark.parametrize("value", [0, 9, 255])
@pytest.mark.parametrize("shape", [(32, 32, 3), (425, 560, 3), (1, 1, 3)])
def test_constant_images_give_the_whole_image_and_a_grid(value: int, shape: tuple[int, ...]) -> None:
    boxes = propose({"rgb": np.full(shape, value, np.uint8)})
    check_contract(boxes, shape, 2000)
    assert [0.0, 0.0, shape[1], shape[0]] in boxes.tolist()
    assert len(boxes) > 50


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_holes_of_depth_are_filled_from_their_surroundings(share: float) -> None:
    depth = scene()["depth"]
    depth[np.random.default_rng(0).random(depth.shape) < share] = 0
    boxes = propose({"depth": depth})
    check_contract(boxes, SIZE_HW, 2000)
    if share < 1:
        assert rank_of_object(boxes) < 100


def test_depth_with_holes_has_no_steps_that_the_scene_has_not() -> None:
    depth = np.full((60, 80, 1), 2000, np.uint16)
    depth[20:30, 20:40] = 0
    found = channels({"depth": depth}, side_px=40, smoothing_px=1.0)["depth"]
    assert found.shape == (30, 40, 1)
    np.testing.assert_allclose(found, 100 * np.log(2000.0), atol=1e-3)


def test_one_image_without_channel_axis_is_one_with_a_single_channel() -> None:
    gray = scene()["gray"]
    assert propose({"gray": gray}).tobytes() == propose({"gray": gray[:, :, 0]}).tobytes()


def test_candidates_differ_and_lie_inside_the_working_image() -> None:
    found, seen = find_candidates(scene(), GroupingSettings(side_px=80))
    assert seen["colour"].shape == (60, 80, 3)
    check_contract(found.boxes, (60, 80), len(found))
    assert (found.area <= (found.boxes[:, 2:] - found.boxes[:, :2]).prod(axis=1)).any()


def test_later_stages_of_the_choice_admit_boxes_closer_to_earlier_ones() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 150, (400, 2)).astype(np.float32)
    boxes = np.concatenate([corner, corner + rng.uniform(20, 30, (400, 2)).astype(np.float32)], axis=1)
    chosen = ranking.diversify(boxes, rng.random(400), overlaps=(0.4, 0.8), counts=(20, 100), considered=400)
    among = box_iou(torch.from_numpy(boxes[chosen]), torch.from_numpy(boxes[chosen])).fill_diagonal_(0)
    assert len(set(chosen.tolist())) == len(chosen)
    first = int((among[:20, :20].amax(dim=1) <= 0.4).sum())
    assert first == min(20, len(chosen))
    assert float(among.max()) > 0.4


def test_settings_survive_json() -> None:
    changed = GroupingSettings(side_px=200, overlaps=(0.5, 0.9), shares=(0.5, 1.0), weights={"size": 0.25})
    assert GroupingSettings.from_dict(json.loads(json.dumps(changed.to_dict()))) == changed
    assert GroupingSettings.from_dict({}) == GroupingSettings()


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(SettingsError, match="sidepx"):
        GroupingSettings.from_dict({"sidepx": 3})


def test_every_weight_belongs_to_something_measured() -> None:
    found, seen = find_candidates(scene(), GroupingSettings())
    assert set(GroupingSettings().weights) <= set(ranking.measure(found, seen))


def test_images_of_different_sizes_are_refused() -> None:
    with pytest.raises(DataError, match="depth 4 x 4"):
        propose({"rgb": np.zeros((8, 8, 3), np.uint8), "depth": np.zeros((4, 4, 1), np.uint16)})
    with pytest.raises(DataError, match="none"):
        propose({})


REAL_IMAGES = 10


@pytest.mark.real
def test_on_real_scenes_recall_is_far_above_a_grid_that_looks_at_nothing(real_data: Path) -> None:
    folder = real_data / "nyud2-8bit"
    coco = read_coco(folder / "val.json")
    best, best_of_grid = [], []
    for image in sorted(coco.images)[:: len(coco.images) // REAL_IMAGES][:REAL_IMAGES]:
        name = Path(coco.images[image]["file_name"]).stem
        stored = read_raw(folder / "depth" / f"{name}.png").astype(np.float64)  # 8-bit, 25.5 steps to a metre
        depth_mm = ((stored + 0.5) / 25.5 * 1000).astype(np.uint16)
        boxes = propose({"rgb": read_rgb(folder / "rgb" / f"{name}.jpg"), "depth": depth_mm})
        check_contract(boxes, depth_mm.shape, 2000)
        truth = annotations_of(coco, image, list(coco.categories.values())).boxes_xyxy
        best.append(overlaps(truth, boxes))
        best_of_grid.append(overlaps(truth, grid_windows(depth_mm.shape[:2], 2000)))
    found, found_by_grid = np.concatenate(best), np.concatenate(best_of_grid)
    assert (found >= 0.5).mean() > (found_by_grid >= 0.5).mean()
    assert (found >= 0.7).mean() > (found_by_grid >= 0.7).mean() + 0.2


def test_a_small_image_is_cut_into_regions_as_large_as_those_of_a_large_one() -> None:
    """60 x 80 pixels are 123 regions of 39."""
    noise = {"rgb": np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)}
    asked, plain = GroupingSettings(regions=123, region_px=1), GroupingSettings()
    np.testing.assert_array_equal(propose(noise, plain, most=500), propose(noise, asked, most=500))
    finer = find_candidates(noise, GroupingSettings(region_px=1))[0]
    assert len(finer.boxes) > 2 * len(find_candidates(noise, plain)[0].boxes)
