"""Promises of a detector's samples: images and boxes that belong together, mirrored or not, padded or not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_detectors import FAR, METHOD, NEAR, with_proposals
from tiny_runs import HEIGHT, WIDTH

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import open_proposals
from xmodal_cli.detect.samples import DetectionSamples, ImageSize, collate, network_image, padded
from xmodal_cli.detect.sampling import Sampling
from xmodal_cli.models.regions import RegionPool

SIZE = ImageSize(96, 2000)  # twice the images' own size
POOL = RegionPool("max", 3, (8.0, 8.0), (0.0, 0.0))


@pytest.fixture(scope="module")
def data(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return with_proposals(tiny_data, tmp_path_factory.mktemp("detection") / "data")


def samples_of(data: PreparedData, **changes: Any) -> DetectionSamples:
    options = {"flip": True, "seed": 0, **changes}
    sampling = options.pop("sampling", Sampling(regions=16))
    size = options.pop("size", SIZE)
    annotations = options.pop("annotations", data.annotations("train"))
    modalities = options.pop("modalities", ("rgb", "disparity"))
    proposals = open_proposals(data, METHOD)
    return DetectionSamples(data, annotations, modalities, proposals, 2000, size, POOL, sampling, **options)


@pytest.mark.parametrize(
    ("size", "image_hw", "seen_hw"),
    [
        (ImageSize(688, 2000), (425, 560), (688, 907)),
        (ImageSize(600, 2000), (425, 560), (600, 791)),
        (ImageSize(688, 2000), (560, 425), (907, 688)),
        (ImageSize(600, 1000), (100, 400), (250, 1000)),
    ],
)
def test_sizes_are_the_recipes(size: ImageSize, image_hw: tuple[int, int], seen_hw: tuple[int, int]) -> None:
    assert size.of(image_hw) == seen_hw
    assert size.scale((425, 560)) == pytest.approx(size.short / 425)


def test_second_half_of_the_list_is_the_first_mirrored(data: PreparedData) -> None:
    samples = samples_of(data)
    count = len(data.ids("train"))
    assert len(samples) == 2 * count
    plain, seen = samples[0, 3], samples[0, 3 + count]
    assert plain["id"] == seen["id"] == samples.ids[3]
    for one, other in zip(plain["images"], seen["images"], strict=True):
        assert torch.equal(one.flip(2), other)
    assert len(samples_of(data, flip=False)) == count


def test_boxes_lie_on_what_they_are_of_also_when_mirrored(data: PreparedData) -> None:
    """The near box is red, the far one blue, in the image as the network sees it."""
    samples = samples_of(data)
    for index in (0, len(samples.ids)):
        drawn = samples[0, index]
        red_less_blue = drawn["images"][0][0].float() - drawn["images"][0][2].float()
        for kind, sign in ((1, 1), (2, -1)):
            exact = (drawn["labels"] == kind) & (drawn["deltas"] == 0).all(1)
            for left, top, right, bottom in drawn["boxes"][exact].round().int().tolist():
                patch = sign * red_less_blue[top + 2 : bottom - 2, left + 2 : right - 2]
                assert patch.min() > 100
        assert (drawn["labels"] == 1).any()
        assert (drawn["labels"] == 2).any()


def test_deltas_of_mirrored_regions_lead_to_the_mirrored_objects(data: PreparedData) -> None:
    from xmodal_cli.detect.boxes import decode

    samples = samples_of(data, sampling=Sampling(regions=40))
    wide = torch.tensor([WIDTH - NEAR[2], NEAR[1], WIDTH - NEAR[0], NEAR[3]])
    far = torch.tensor([WIDTH - FAR[2], FAR[1], WIDTH - FAR[0], FAR[3]])
    drawn = samples[0, len(samples.ids)]
    chosen = drawn["labels"] > 0
    reached = decode(drawn["boxes"][chosen] / 2, drawn["deltas"][chosen], (HEIGHT, WIDTH))
    for label, box in zip(drawn["labels"][chosen].tolist(), reached, strict=True):
        torch.testing.assert_close(box, wide if label == 1 else far, atol=1e-3, rtol=0)


def test_sample_depends_on_seed_epoch_and_image_not_on_what_was_asked_before(data: PreparedData) -> None:
    one, other = samples_of(data), samples_of(data, in_memory=True)
    for index in (5, 2, 30):
        _ = other[0, index]
    for key in ((0, 2), (1, 30)):
        first, second = one[key], other[key]
        assert torch.equal(first["boxes"], second["boxes"])
        assert all(torch.equal(a, b) for a, b in zip(first["images"], second["images"], strict=True))
    assert not torch.equal(one[0, 2]["boxes"], one[1, 2]["boxes"])
    assert not torch.equal(one[0, 2]["boxes"], samples_of(data, seed=1)[0, 2]["boxes"])


def test_crowds_are_neither_objects_nor_regions(data: PreparedData) -> None:
    annotations = data.annotations("train")
    name = data.ids("train")[0]
    crowded = replace(annotations[name], crowd=np.array([False, True]))
    found = samples_of(data, annotations={name: crowded}).candidates(name)
    assert found.boxes_xyxy[0].tolist() == list(NEAR)
    assert set(found.labels.tolist()) == {1}
    assert list(FAR) not in found.boxes_xyxy[:1].tolist()


def test_only_the_best_proposals_are_used(data: PreparedData) -> None:
    name = data.ids("train")[0]
    samples = samples_of(data)
    samples.most = 3
    found = samples.candidates(name).boxes_xyxy
    assert found[2:].tolist() == open_proposals(data, METHOD).boxes(name)[:3].tolist()


def test_kept_maps_stand_in_for_images_and_draw_the_same_regions(data: PreparedData) -> None:
    samples = samples_of(data)
    before = samples[0, 1]
    samples.maps[1] = [torch.ones(4, 3, 5)]
    after = samples[0, 1]
    assert "images" not in after
    assert torch.equal(before["boxes"], after["boxes"])
    assert collate([after])["maps"][0].shape == (1, 4, 3, 5)


def test_batch_keeps_regions_in_order_and_pads_below_and_to_the_right(data: PreparedData) -> None:
    samples = samples_of(data)
    batch = collate([samples[0, 0], samples[0, 1]])
    assert batch["ids"] == samples.ids[:2]
    assert [len(boxes) for boxes in batch["boxes"]] == [16, 16]
    assert torch.equal(batch["labels"], torch.cat([samples[0, 0]["labels"], samples[0, 1]["labels"]]))
    found = padded([torch.ones(2, 2, 4, dtype=torch.uint8), torch.ones(2, 3, 2, dtype=torch.uint8)])
    assert found.shape == (2, 2, 3, 4)
    assert found.dtype == torch.uint8
    assert found[0, 0].tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]]
    assert found[1, 0].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]


def test_network_sees_the_whole_image_and_flow_changes_its_sign() -> None:
    image = np.full((4, 6, 2), 130, np.uint8)
    seen = network_image(image, (8, 12), "negate_x", flipped=True)
    assert seen.shape == (2, 8, 12)
    assert seen[0].unique().tolist() == [126]
    assert seen[1].unique().tolist() == [130]


def test_samples_can_be_sent_to_workers(data: PreparedData) -> None:
    import pickle

    samples = samples_of(data)
    again = pickle.loads(pickle.dumps(samples))
    assert torch.equal(again[0, 4]["boxes"], samples[0, 4]["boxes"])
    assert json.dumps(again.ids) == json.dumps(samples.ids)
    assert isinstance(again.data.root, Path)
