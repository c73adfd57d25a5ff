"""Promises of region sampling: the paper's thresholds, shares and labels, and draws that depend on nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from xmodal_cli.data.transforms import generator
from xmodal_cli.detect.boxes import encode
from xmodal_cli.detect.sampling import Candidates, Regions, Sampling, candidates, sample

PAPER = Sampling()


def plain_iou(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The original's, of inclusive corners: widths are last - first + 1."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(shared / (sum(areas) - shared))


def boxes_of(*rows: list[float]) -> NDArray[np.float32]:
    return np.array(rows, np.float32).reshape(-1, 4)


def scene(count: int = 400, seed: int = 0) -> Candidates:
    """Three objects of three classes, and many boxes on, near and far from them."""
    random = np.random.default_rng(seed)
    objects = boxes_of([10, 10, 110, 110], [60, 60, 160, 200], [300, 50, 420, 150])
    near = objects[random.integers(0, 3, count // 2)] + random.normal(0, 25, (count // 2, 4))
    first = random.uniform(0, 400, (count - count // 2, 2))
    far = np.hstack([first, first + random.uniform(10, 150, first.shape)])
    return candidates(np.vstack([near, far]).astype(np.float32), objects, np.array([2, 0, 4]))


def test_defaults_are_the_papers() -> None:
    assert PAPER.to_dict() == {
        "regions": 64,
        "foreground": 0.25,
        "foreground_iou": 0.5,
        "background_iou": (0.0, 0.5),
    }


def test_every_region_has_the_object_it_overlaps_most_whatever_its_class() -> None:
    found = scene()
    objects, kinds = found.objects_xyxy[:3].numpy(), found.labels[:3].tolist()
    assert kinds == [3, 1, 5], "labels count from 1: 0 is background"
    for box, overlap, label, target in zip(
        found.boxes_xyxy.numpy(),
        found.overlaps.tolist(),
        found.labels.tolist(),
        found.objects_xyxy.numpy(),
        strict=True,
    ):
        overlaps = [plain_iou(box, each) for each in objects]
        assert overlap == pytest.approx(max(overlaps), abs=1e-5)
        if max(overlaps) > 0:
            assert label == kinds[int(np.argmax(overlaps))]
            np.testing.assert_array_equal(target, objects[int(np.argmax(overlaps))])


def test_annotated_boxes_join_the_proposals_first() -> None:
    objects = boxes_of([10, 10, 50, 50], [20, 20, 90, 90])
    found = candidates(boxes_of([0, 0, 30, 30]), objects, np.array([0, 1]))
    assert found.boxes_xyxy[:2].tolist() == objects.tolist()
    assert found.overlaps[:2].tolist() == [1, 1]


def test_a_quarter_is_on_objects_and_the_rest_is_background() -> None:
    found = scene()
    drawn = sample(found, PAPER, generator(0, "x"))
    assert len(drawn.labels) == 64
    assert (drawn.labels > 0).sum() == 16
    assert (drawn.labels[:16] > 0).all()
    overlaps = overlaps_of(found, drawn)
    assert (overlaps[:16] >= 0.5).all()
    assert (overlaps[16:] < 0.5).all()
    assert len({tuple(box) for box in drawn.boxes_xyxy.tolist()}) == 64, "none is drawn twice"


def overlaps_of(found: Candidates, drawn: Regions) -> torch.Tensor:
    """Overlaps of drawn regions, looked up among the candidates."""
    rows = [(found.boxes_xyxy == box).all(1).nonzero()[0].item() for box in drawn.boxes_xyxy]
    return found.overlaps[rows]


def test_background_fills_up_where_objects_are_few_and_nothing_is_repeated_where_all_are_few() -> None:
    one = candidates(
        boxes_of([0, 0, 10, 10], [40, 40, 80, 80], [200, 0, 220, 9]), boxes_of([0, 0, 10, 10]), np.array([0])
    )
    drawn = sample(one, PAPER, generator(0, "x"))
    assert drawn.labels.tolist() == [1, 1, 0, 0]
    many = sample(replace(scene(), overlaps=scene().overlaps.clamp(max=0.6)), Sampling(regions=8), generator(0, "x"))
    assert (many.labels > 0).sum() == 2


def test_thresholds_include_a_half_on_objects_and_zero_in_background() -> None:
    half = candidates(
        boxes_of([0, 0, 10, 20], [0, 0, 10, 21], [90, 90, 99, 99]), boxes_of([0, 0, 10, 10]), np.array([3])
    )
    assert half.overlaps[1].item() == 0.5
    drawn = sample(half, PAPER, generator(0, "x"))
    by_box = dict(zip((tuple(box) for box in drawn.boxes_xyxy.tolist()), drawn.labels.tolist(), strict=True))
    assert by_box == {(0, 0, 10, 10): 4, (0, 0, 10, 20): 4, (0, 0, 10, 21): 0, (90, 90, 99, 99): 0}
    upstream = sample(half, Sampling(background_iou=(0.1, 0.5)), generator(0, "x"))
    assert (90, 90, 99, 99) not in {tuple(box) for box in upstream.boxes_xyxy.tolist()}


def test_deltas_lead_to_the_object_and_background_has_none() -> None:
    found = scene()
    drawn = sample(found, PAPER, generator(0, "x"))
    for box, label, delta in zip(drawn.boxes_xyxy, drawn.labels, drawn.deltas, strict=True):
        if label == 0:
            assert not delta.any()
            continue
        row = (found.boxes_xyxy == box).all(1).nonzero()[0].item()
        torch.testing.assert_close(delta[None], encode(box[None], found.objects_xyxy[row][None]))
        assert label == found.labels[row]


def test_draws_depend_on_seed_epoch_and_image_alone() -> None:
    found = scene()
    again = [sample(found, PAPER, generator(0, 3, "a", 0)).boxes_xyxy for _ in range(2)]
    assert torch.equal(*again)
    for other in ((1, 3, "a", 0), (0, 4, "a", 0), (0, 3, "b", 0), (0, 3, "a", 1)):
        assert not torch.equal(again[0], sample(found, PAPER, generator(*other)).boxes_xyxy)


def test_every_candidate_is_drawn_about_as_often() -> None:
    found = scene(200)
    background = (found.overlaps < 0.5).nonzero()[:, 0].tolist()
    counts = dict.fromkeys((tuple(found.boxes_xyxy[row].tolist()) for row in background), 0)
    for epoch in range(300):
        drawn = sample(found, PAPER, generator(0, epoch, "x", 0))
        for box in drawn.boxes_xyxy[drawn.labels == 0].tolist():
            counts[tuple(box)] += 1
    expected = 300 * 48 / len(counts)
    assert min(counts.values()) > 0.6 * expected
    assert max(counts.values()) < 1.4 * expected


@pytest.mark.parametrize(
    ("proposals", "objects", "usable"),
    [
        ([[0, 0, 40, 40]], [], False),  # no object
        ([[300, 300, 340, 340]], [[0, 0, 40, 40]], False),  # nothing near it
        ([[0, 0, 40, 80]], [[0, 0, 40, 40]], False),  # overlap of exactly a half: strict inequalities (recipe 4.3)
        ([[0, 0, 40, 81]], [[0, 0, 40, 40]], True),
        ([], [[0, 0, 40, 40]], False),
        ([], [[0, 0, 40, 40], [20, 20, 60, 60]], False),  # annotated boxes overlap themselves wholly
    ],
)
def test_images_that_the_papers_code_never_draws(
    proposals: list[list[float]], objects: list[list[float]], usable: bool
) -> None:
    found = candidates(boxes_of(*proposals), boxes_of(*objects), np.zeros(len(objects), np.int64))
    assert found.usable() is usable


def test_boxes_without_a_width_between_two_pixels_are_left_out() -> None:
    found = candidates(
        boxes_of([5, 5, 6, 30], [5, 5, 7, 30], [5, 5, 5, 5]),
        boxes_of([3, 3, 3, 9], [0, 0, 30, 30], [8, 8, 9, 20]),
        np.array([0, 1, 2]),
    )
    assert found.boxes_xyxy.tolist() == [[0, 0, 30, 30], [5, 5, 7, 30]]
    assert found.labels.tolist() == [2, 2]
    deltas, _ = found.on_objects(0.0)
    assert torch.isfinite(deltas).all()


def test_regions_that_are_no_numbers_are_left_out() -> None:
    found = candidates(boxes_of([0, 0, np.nan, 9], [0, 0, 9, 9]), boxes_of([0, 0, 10, 10]), np.array([0]))
    assert torch.isfinite(found.boxes_xyxy).all()
    assert len(found.boxes_xyxy) == 2
