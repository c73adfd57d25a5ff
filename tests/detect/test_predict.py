"""Promises of prediction: the paper's cut-offs against plain loops, fusion before the softmax, empty lists allowed."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_detectors import METHOD, tiny_proposals, with_proposals
from tiny_runs import HEIGHT, WIDTH

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import Proposals, open_proposals, write_proposals
from xmodal_cli.detect.boxes import decode
from xmodal_cli.detect.branches import Branch, Cutoffs
from xmodal_cli.detect.predict import (
    Ensemble,
    detect,
    detect_ensembles,
    detect_one,
    score_boxes,
    suppress,
    within_budget,
)
from xmodal_cli.detect.samples import ImageSize, network_image
from xmodal_cli.errors import DataError, XmodalError
from xmodal_cli.metrics.detections import Detections
from xmodal_cli.models.backbones import build
from xmodal_cli.models.detector_shape import DetectorShape, assemble
from xmodal_cli.models.regions import RegionPool

CPU = torch.device("cpu")
CLASSES = 3
NEVER = 2.0  # an overlap that no two boxes have
ALL = Cutoffs(nms=NEVER, per_image=10_000, per_image_mean=10_000)


@pytest.fixture(scope="module")
def data(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return with_proposals(tiny_data, tmp_path_factory.mktemp("detection") / "data")


@pytest.fixture(scope="module")
def proposals(data: PreparedData) -> Proposals:
    return open_proposals(data, METHOD)


def branch(modality: str = "disparity", seed: int = 0, size: int = 64, **changes: Any) -> Branch:
    """A random detector whose scores and boxes differ from region to region."""
    shape = DetectorShape("features.5", RegionPool("max", 3, (8.0, 8.0)), False, (16, 12), 8, 0.5, box_regression=True)
    detector = assemble(build("squeezenet1_1", in_channels=channels(modality), seed=seed), shape, CLASSES, seed).eval()
    with torch.no_grad():
        detector.cls_score.weight.mul_(100)
        detector.bbox_pred.weight.mul_(100)  # type: ignore[union-attr]
    return Branch(modality, detector, ImageSize(size, 2000), {})


def channels(modality: str) -> int:
    return {"rgb": 3, "disparity": 3}[modality]


def images_of(data: PreparedData, name: str) -> dict[str, NDArray[Any]]:
    return {modality: data.read(modality, name) for modality in ("rgb", "disparity")}


@torch.no_grad()
def scores_of(data: PreparedData, branches: list[Branch], boxes: NDArray[np.float32], cutoffs: Cutoffs = ALL) -> Any:
    name = data.ids("val")[0]
    return score_boxes(branches, images_of(data, name), (HEIGHT, WIDTH), boxes, cutoffs, CPU, "fp32")


def random_detections(count: int, seed: int, images: int = 6, *, levels: int = 0) -> Detections:
    """Random boxes; scores of few levels collide often."""
    random = np.random.default_rng(seed)
    first = random.uniform(0, 60, (count, 2))
    scores = random.integers(0, levels, count) / levels if levels else random.random(count)
    boxes = np.hstack([first, first + random.uniform(8, 60, (count, 2))])
    return Detections(
        np.sort(random.integers(0, images, count)),
        random.integers(0, CLASSES, count),
        scores.astype(np.float32),
        boxes.astype(np.float32),
    )


def rows_of(found: Detections) -> set[tuple[Any, ...]]:
    return {
        (image, label, score, *box)
        for image, label, score, box in zip(
            found.images.tolist(), found.labels.tolist(), found.scores.tolist(), found.boxes_xyxy.tolist(), strict=True
        )
    }


def heap_of_the_original(found: Detections, most: int) -> set[tuple[Any, ...]]:
    """Recipe 4.4, step 3: heaps that grow image by image, thresholds that rise whenever one overflows."""
    heaps: dict[int, list[float]] = {label: [] for label in range(CLASSES)}
    thresholds = dict.fromkeys(heaps, -np.inf)
    kept: list[tuple[Any, ...]] = []
    for image in sorted(set(found.images.tolist())):
        for label, heap in heaps.items():
            rows = [row for row in rows_of(found) if row[:2] == (image, label) and row[2] > thresholds[label]]
            for row in rows:
                heapq.heappush(heap, row[2])
            if len(heap) > most:
                while len(heap) > most:
                    heapq.heappop(heap)
                thresholds[label] = heap[0]
            kept += rows
    return {row for row in kept if row[2] > thresholds[row[1]]}


@pytest.mark.parametrize("levels", [0, 7])
@pytest.mark.parametrize("most", [1, 20, 60, 1000])
def test_budget_of_a_class_is_the_originals_heap(most: int, levels: int) -> None:
    found = random_detections(200, most, levels=levels)
    assert rows_of(within_budget(found, most)) == heap_of_the_original(found, most)


def plain_suppression(found: Detections, iou: float) -> set[tuple[Any, ...]]:
    """Greedy, strongest first; an overlap of `iou` or more suppresses."""
    kept: list[tuple[Any, ...]] = []
    for row in sorted(rows_of(found), key=lambda row: -row[2]):
        rivals = [other for other in kept if other[:2] == row[:2]]
        if all(plain_iou(row[3:], other[3:]) < iou for other in rivals):
            kept.append(row)
    return set(kept)


def plain_iou(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    width = max(min(one[2], other[2]) - max(one[0], other[0]), 0)
    height = max(min(one[3], other[3]) - max(one[1], other[1]), 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize("seed", range(4))
def test_suppression_is_a_plain_loop_within_each_class_of_each_image(seed: int) -> None:
    found = random_detections(150, seed)
    left = suppress(found, 0.3)
    assert rows_of(left) == plain_suppression(found, 0.3)
    assert len(left) < len(found)
    for image in range(6):
        for label in range(CLASSES):
            scores = left.scores[(left.images == image) & (left.labels == label)]
            assert (np.diff(scores) <= 0).all()


@pytest.mark.parametrize(("width", "left"), [(3, 1), (4, 1), (2, 2)])
def test_overlap_of_exactly_the_threshold_suppresses(width: int, left: int) -> None:
    """A box of 10 pixels' width and one inside it overlap by width / 10."""
    boxes = np.array([[0, 0, 10, 10], [0, 0, width, 10]], np.float32)
    found = Detections(np.zeros(2, np.int64), np.zeros(2, np.int64), np.array([0.9, 0.8], np.float32), boxes)
    assert len(suppress(found, 0.3)) == left


def test_nothing_found_is_suppressed_to_nothing() -> None:
    assert len(suppress(within_budget(Detections.of([]), 10), 0.3)) == 0


def test_scores_and_boxes_are_the_detectors_by_hand(data: PreparedData) -> None:
    one, boxes = branch(), tiny_proposals("x")
    scores, moved = scores_of(data, [one], boxes)
    seen = network_image(data.read("disparity", data.ids("val")[0]), (64, 85))
    with torch.no_grad():
        given = one.detector(one.detector.input.normalise(seen[None]), [torch.from_numpy(boxes) * (64 / HEIGHT)])
    torch.testing.assert_close(scores, given.scores.softmax(1)[:, 1:])
    torch.testing.assert_close(moved, decode(torch.from_numpy(boxes), given.deltas[:, 1:], (HEIGHT, WIDTH)))
    assert scores.std(0).min() > 0


def test_fusion_of_a_detector_with_itself_is_the_detector(data: PreparedData, proposals: Proposals) -> None:
    one, ids = branch(), data.ids("val")
    alone = detect([one], data, ids, proposals, Cutoffs(), device=CPU)
    twice = detect([one, one], data, ids, proposals, Cutoffs(), device=CPU)
    assert rows_of(alone) == rows_of(twice)
    assert len(alone) > 0


def test_fused_scores_are_of_the_mean_before_the_softmax_each_branch_at_its_own_size(data: PreparedData) -> None:
    boxes = tiny_proposals("x")
    rgb, depth = branch("rgb", 1, 64), branch("disparity", 2, 96)
    scores, moved = scores_of(data, [rgb, depth], boxes)
    given = []
    for each in (rgb, depth):
        seen = network_image(data.read(each.modality, data.ids("val")[0]), each.size.of((HEIGHT, WIDTH)))
        scaled = each.detector.pool.scaled(torch.from_numpy(boxes), each.size.scale((HEIGHT, WIDTH)))
        with torch.no_grad():
            given.append(each.detector(each.detector.input.normalise(seen[None]), [scaled]))
    mean = (given[0].scores + given[1].scores) / 2
    deltas = (given[0].deltas + given[1].deltas) / 2
    torch.testing.assert_close(scores, mean.softmax(1)[:, 1:])
    torch.testing.assert_close(moved, decode(torch.from_numpy(boxes), deltas[:, 1:], (HEIGHT, WIDTH)))


@pytest.mark.parametrize("merge_px", [0, 16])
def test_ensembles_find_in_one_pass_what_each_finds_alone_and_ask_a_detector_once(
    data: PreparedData, proposals: Proposals, merge_px: int
) -> None:
    rgb, depth, larger = branch("rgb", 1), branch("disparity", 2), branch("disparity", 3, size=96)
    cutoffs, few = Cutoffs(merge_px=merge_px), Cutoffs(merge_px=merge_px, proposals=3, per_image=2)
    together = [([rgb], cutoffs), ([depth], cutoffs), ([rgb, depth], cutoffs), ([larger, rgb], cutoffs), ([rgb], few)]
    asked = dict.fromkeys((rgb.modality, "larger"), 0)
    for key, each in zip(asked, (rgb, larger), strict=True):
        each.detector.register_forward_hook(lambda *_, key=key: asked.update({key: asked[key] + 1}))
    ids = data.ids("val")
    ensembles = [Ensemble(branches, proposals, each) for branches, each in together]
    found = detect_ensembles(ensembles, data, ids, device=CPU)
    assert asked["larger"] == len(ids)
    assert asked["rgb"] == len(ids) * (
        3 if merge_px else 2
    )  # of all boxes, of few, and of those that 96 pixels tell apart
    for own, (branches, each) in zip(found, together, strict=True):
        alone = detect(branches, data, ids, proposals, each, device=CPU)
        assert len(alone) > 0
        for name in ("images", "labels", "scores", "boxes_xyxy"):
            assert np.array_equal(getattr(own, name), getattr(alone, name))


def test_deltas_are_averaged_after_each_detectors_own_statistics_are_undone(data: PreparedData) -> None:
    boxes = tiny_proposals("x")
    one, other = branch("rgb", 1), branch("disparity", 2)
    plain = scores_of(data, [one, other], boxes)[1]
    one.detector.delta_std.fill_(0.5)
    with torch.no_grad():
        one.detector.bbox_pred.weight.mul_(2)  # type: ignore[union-attr]
        one.detector.bbox_pred.bias.mul_(2)  # type: ignore[union-attr]
    torch.testing.assert_close(scores_of(data, [one, other], boxes)[1], plain)


@pytest.mark.parametrize("merge_px", [1, 4, 16])
def test_merged_proposals_have_the_score_and_the_box_of_the_first_of_them(data: PreparedData, merge_px: int) -> None:
    """Recipe 4.4, step 1, as a loop; corners are compared in pixels of the network's input."""
    random = np.random.default_rng(0)
    boxes = np.repeat(tiny_proposals("x"), 3, axis=0) + random.uniform(0, 1, (66, 4)).astype(np.float32)
    first_of: dict[tuple[float, ...], int] = {}
    stands_for = []
    for row, box in enumerate(boxes):
        last_pixel = np.float32([0, 0, 1, 1])  # first and last pixels are scaled, as in the original
        corners = (box - last_pixel) * np.float32(64 / HEIGHT) + last_pixel - last_pixel
        cells = tuple(np.round(corners / merge_px).tolist())
        stands_for.append(first_of.setdefault(cells, row))
    scores, moved = scores_of(data, [branch()], boxes, Cutoffs(merge_px=merge_px))
    plain_scores, plain_moved = scores_of(data, [branch()], boxes)
    torch.testing.assert_close(scores, plain_scores[stands_for])
    torch.testing.assert_close(moved, plain_moved[stands_for])
    assert len(first_of) < len(boxes)


def test_at_most_so_many_of_a_class_are_kept_in_an_image_before_suppression(data: PreparedData) -> None:
    boxes, name = tiny_proposals("x"), data.ids("val")[0]
    found = detect_one([branch()], images_of(data, name), boxes, Cutoffs(nms=NEVER, per_image=5), device=CPU)
    scores, moved = scores_of(data, [branch()], boxes)
    for label in range(CLASSES):
        best = scores[:, label].topk(5)
        own = found.labels == label
        np.testing.assert_allclose(np.sort(found.scores[own]), np.sort(best.values.numpy()), rtol=1e-6)
        wanted = {tuple(box) for box in moved[best.indices, label].tolist()}
        assert {tuple(box) for box in found.boxes_xyxy[own].tolist()} == wanted


def test_budget_is_over_all_images(data: PreparedData, proposals: Proposals) -> None:
    ids = data.ids("val")
    everything = detect([branch()], data, ids, proposals, ALL, device=CPU)
    found = detect([branch()], data, ids, proposals, Cutoffs(NEVER, 100, 4), device=CPU)
    for label in range(CLASSES):
        scores = np.sort(everything.scores[everything.labels == label])[::-1]
        kept = found.scores[found.labels == label]
        assert len(kept) <= 4 * len(ids)
        np.testing.assert_array_equal(np.sort(kept)[::-1], scores[scores > scores[4 * len(ids) - 1]])


def test_only_the_best_proposals_are_scored(data: PreparedData, proposals: Proposals) -> None:
    ids = data.ids("val")[:1]
    found = detect([branch()], data, ids, proposals, Cutoffs(NEVER, 100, 100, proposals=3), device=CPU)
    assert len(found) == 3 * CLASSES


def test_image_with_an_empty_list_has_no_detections(data: PreparedData) -> None:
    ids = data.ids("val")[:2]
    lists = [(ids[0], np.zeros((0, 4), np.float32)), (ids[1], tiny_proposals("x"))]
    some = write_proposals(data.root, "some-empty", lists, {"settings": {}}, overwrite=True)
    for cutoffs in (Cutoffs(), Cutoffs(merge_px=16)):
        found = detect([branch()], data, ids, some, cutoffs, device=CPU)
        assert set(found.images.tolist()) == {1}
        assert len(detect([branch()], data, ids[:1], some, cutoffs, device=CPU)) == 0


def test_image_without_a_list_is_refused_by_name(data: PreparedData) -> None:
    ids = data.ids("val")
    some = write_proposals(data.root, "one", [(ids[0], tiny_proposals("x"))], {"settings": {}}, overwrite=True)
    with pytest.raises(DataError, match=ids[1]):
        detect([branch()], data, ids, some, Cutoffs(), device=CPU)


def test_detector_that_diverged_is_named_as_such(data: PreparedData) -> None:
    broken = branch()
    with torch.no_grad():
        broken.detector.cls_score.bias.fill_(float("nan"))
    with pytest.raises(XmodalError, match="not finite"):
        scores_of(data, [broken], tiny_proposals("x"))


def test_whoever_watches_is_told_of_every_image(data: PreparedData, proposals: Proposals) -> None:
    told: list[tuple[int, int]] = []
    ids = data.ids("val")
    detect([branch()], data, ids, proposals, Cutoffs(), device=CPU, watch=lambda *state: told.append(state))
    assert told == [(number + 1, len(ids)) for number in range(len(ids))]
