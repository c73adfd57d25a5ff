"""Promises of a detector's training task: the recipe's losses, statistics, optimiser and preset, and honest padding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal_cli.detect.boxes import encode, mirrored
from xmodal_cli.detect.sampling import Candidates, candidates
from xmodal_cli.detect.settings import PRESETS, FinetuneSettings
from xmodal_cli.detect.task import FinetuneTask, delta_statistics, normalised
from xmodal_cli.models.backbones import build
from xmodal_cli.models.detector import Detector, FusedDetector
from xmodal_cli.models.detector_shape import DetectorShape, assemble
from xmodal_cli.models.inputs import InputSpec
from xmodal_cli.models.regions import RegionPool
from xmodal_cli.runs.fit import build_optimiser
from xmodal_cli.runs.settings import learning_rate

CLASSES = 3
CPU = torch.device("cpu")


def small(seed: int = 0, *, dropout: float = 0.0, box_regression: bool = True) -> Detector:
    shape = DetectorShape(
        "features.5", RegionPool("max", 3, (8.0, 8.0)), False, (16, 12), 8, dropout, box_regression=box_regression
    )
    return assemble(build("squeezenet1_1", seed=seed), shape, CLASSES, seed)


def batch_of(images: int = 2, seed: int = 0) -> dict[str, Any]:
    """Random images with four regions each: background, three classes."""
    random = torch.Generator().manual_seed(seed)
    first = torch.rand(images, 4, 2, generator=random) * 30
    boxes = torch.cat([first, first + 8 + torch.rand(images, 4, 2, generator=random) * 24], 2)
    return {
        "ids": [str(number) for number in range(images)],
        "images": [torch.randint(0, 256, (images, 3, 64, 64), generator=random, dtype=torch.uint8)],
        "sizes_hw": [(64, 64)] * images,
        "boxes": list(boxes),
        "labels": torch.tensor([0, 1, 2, 3] * images),
        "deltas": torch.randn(images * 4, 4, generator=random),
    }


def test_loss_is_the_recipes_by_hand() -> None:
    """0.5 cross-entropy and 0.5 smooth L1 of the true class's four numbers, both divided by all regions."""
    detector, batch = small(), batch_of()
    detector.delta_mean.copy_(torch.arange(16.0).view(4, 4) / 10)
    detector.delta_std.copy_(torch.arange(1.0, 17.0).view(4, 4) / 10)
    task = FinetuneTask(FusedDetector([detector]), CPU, 0.5, 0.5)
    with torch.no_grad():
        found = task.step(task.module, batch)
        outputs = detector(detector.input.normalise(batch["images"][0]), batch["boxes"])
    named = moved = 0.0
    for row, label in enumerate(batch["labels"].tolist()):
        scores = outputs.scores[row].tolist()
        named += math.log(sum(math.exp(score) for score in scores)) - scores[label]
        for place in range(4 if label else 0):
            mean, std = detector.delta_mean[label, place].item(), detector.delta_std[label, place].item()
            gap = abs(outputs.deltas[row, label, place].item() - (batch["deltas"][row, place].item() - mean) / std)
            moved += 0.5 * gap**2 if gap < 1 else gap - 0.5
    assert found["class_loss"].item() == pytest.approx(named / 8, rel=1e-5)
    assert found["box_loss"].item() == pytest.approx(moved / 8, rel=1e-5)
    assert found["loss"].item() == pytest.approx(0.5 * named / 8 + 0.5 * moved / 8, rel=1e-5)


def test_only_the_true_class_learns_to_move_boxes_and_background_never() -> None:
    detector, batch = small(), batch_of()
    batch["labels"] = torch.tensor([0, 1, 0, 1, 0, 0, 0, 0])
    task = FinetuneTask(FusedDetector([detector]), CPU, 0.0, 1.0)
    task.step(task.module, batch)["loss"].backward()  # type: ignore[no-untyped-call]
    assert detector.bbox_pred is not None
    gradient = detector.bbox_pred.weight.grad.view(CLASSES + 1, 4, -1).abs().sum((1, 2))  # type: ignore[union-attr]
    assert (gradient > 0).tolist() == [False, True, False, False]


def test_batch_of_background_alone_has_a_finite_loss_and_a_gradient() -> None:
    detector, batch = small(), batch_of()
    batch["labels"] = torch.zeros(8, dtype=torch.int64)
    task = FinetuneTask(FusedDetector([detector]), CPU, 0.5, 0.5)
    found = task.step(task.module, batch)
    assert found["box_loss"].item() == 0
    found["loss"].backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in detector.parameters())


def test_without_box_regression_there_is_one_loss() -> None:
    task = FinetuneTask(FusedDetector([small(box_regression=False)]), CPU, 0.5, 0.5)
    found = task.step(task.module, batch_of())
    assert found.keys() == {"loss", "class_loss"}


def test_joint_loss_is_of_the_mean_of_both_outputs() -> None:
    one, other, batch = small(0), small(1), batch_of()
    batch["images"] = [batch["images"][0], batch_of(seed=1)["images"][0]]
    task = FinetuneTask(FusedDetector([one, other]), CPU, 1.0, 0.0)
    with torch.no_grad():
        found = task.step(task.module, batch)["class_loss"]
        both = [
            each(each.input.normalise(images), batch["boxes"]).scores
            for each, images in zip((one, other), batch["images"], strict=True)
        ]
    torch.testing.assert_close(found, F.cross_entropy((both[0] + both[1]) / 2, batch["labels"]))


def test_frozen_parameters_that_learn_again_are_noticed() -> None:
    detector = small()
    detector.freeze(list(detector.plain_parameters()))
    task = FinetuneTask(FusedDetector([detector]), CPU, 1.0, 1.0)
    task.check()
    next(detector.trunk.parameters()).requires_grad_(True)
    with pytest.raises(AssertionError, match="frozen"):
        task.check()


def some_candidates(seed: int) -> Candidates:
    random = np.random.default_rng(seed)
    objects = np.array([[10, 10, 110, 110], [150, 60, 260, 200], [300, 50, 420, 150]], np.float32)
    boxes = objects[random.integers(0, 3, 60)] + random.normal(0, 12, (60, 4))
    return candidates(boxes.astype(np.float32), objects, np.array([0, 1, 1]))


@pytest.mark.parametrize("flip", [True, False])
def test_statistics_are_those_of_all_regions_on_objects_mirrored_ones_too(flip: bool) -> None:
    found = [some_candidates(seed) for seed in range(4)]
    rows: dict[int, list[Tensor]] = {}
    for each in found:
        for box, target, label, overlap in zip(
            each.boxes_xyxy, each.objects_xyxy, each.labels.tolist(), each.overlaps.tolist(), strict=True
        ):
            if overlap >= 0.5:
                pair = box[None].double(), target[None].double()
                rows.setdefault(label, []).append(encode(*pair)[0])
                if flip:
                    rows[label].append(encode(*(mirrored(side, 560) for side in pair))[0])
    mean, std = delta_statistics(found, CLASSES, 0.5, flip=flip)
    for label in (1, 2):
        values = torch.stack(rows[label])
        torch.testing.assert_close(mean[label], values.mean(0).float(), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(std[label], values.std(0, correction=0).float(), atol=1e-5, rtol=1e-4)
    for label in (0, 3):
        assert not mean[label].any()
        assert (std[label] == 1).all()


def test_class_whose_deltas_never_vary_is_not_divided_by_nothing() -> None:
    exact = candidates(np.zeros((0, 4), np.float32), np.array([[10, 10, 50, 40]], np.float32), np.array([1]))
    mean, std = delta_statistics([exact], CLASSES, 0.5, flip=True)
    assert not mean.any()
    assert (std == 1).all()


def test_padding_is_zero_after_normalisation() -> None:
    images = torch.full((2, 1, 4, 6), 200, dtype=torch.uint8)
    found = normalised(images, [(4, 4), (2, 6)], InputSpec((0.5,), (0.5,)))
    assert not found[0, :, :, 4:].any()
    assert not found[1, :, 2:].any()
    assert found[0, :, :, :4].min() > 0
    assert found[1, :, :2].min() > 0


def test_image_in_a_padded_batch_is_seen_as_alone_away_from_its_lower_and_right_edge() -> None:
    """The first layers see zeros beyond the edge either way; deeper ones differ only where they reach across it."""
    detector = small().eval()
    random = torch.Generator().manual_seed(0)
    large = torch.randint(0, 256, (1, 3, 128, 160), generator=random, dtype=torch.uint8)
    little = torch.randint(0, 256, (1, 3, 96, 96), generator=random, dtype=torch.uint8)
    batch = torch.zeros(2, 3, 128, 160, dtype=torch.uint8)
    batch[0], batch[1, :, :96, :96] = large[0], little[0]
    boxes = [torch.tensor([[8.0, 8.0, 120.0, 100.0], [0.0, 0.0, 160.0, 128.0]]), torch.tensor([[0.0, 0.0, 40.0, 48.0]])]
    with torch.no_grad():
        together = detector(normalised(batch, [(128, 160), (96, 96)], detector.input), boxes)
        first = detector(detector.input.normalise(large), boxes[:1])
        second = detector(detector.input.normalise(little), boxes[1:])
    torch.testing.assert_close(together.scores, torch.cat([first.scores, second.scores]), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(together.deltas, torch.cat([first.deltas, second.deltas]), atol=1e-6, rtol=1e-5)


def preset(name: str) -> FinetuneSettings:
    return FinetuneSettings.from_dict({"data": "x", **PRESETS[name]})


@pytest.mark.parametrize(
    ("setting", "value"),
    [  # recipe 4.1
        ("size", 688),
        ("longest", 2000),
        ("batch_size", 2),
        ("regions", 64),
        ("foreground", 0.25),
        ("background_low", 0.0),
        ("flip", True),
        ("checkpoint_every", 10_000),
        ("proposals_per_image", 2000),
        ("nms", 0.3),
        ("per_image", 100),
        ("per_image_mean", 40),
        ("merge_px", 16),
        # 4.2
        ("pooling", "max"),
        ("pool_size", 6),
        ("centred", False),
        ("head", (4096, 4096)),
        ("reduced", 0),
        ("features", "fc7"),
        ("dropout", 0.5),
        ("box_regression", True),
        # 4.3
        ("class_loss", 0.5),
        ("box_loss", 0.5),
        ("optimiser", "sgd"),
        ("momentum", 0.9),
        ("weight_decay", 0.0005),
        ("bias_lr", 2.0),
        ("lr", 0.001),
        ("schedule", "step"),
        ("lr_step", 30_000),
        ("lr_gamma", 0.1),
        ("iterations", 40_000),
        ("warmup", 0),
        ("clip_norm", 0.0),
        ("freeze_through", None),
        # 2.2: colour means of the weights, whatever the modality
        ("input", "weights"),
    ],
)
def test_preset_paper_is_the_papers(setting: str, value: object) -> None:
    assert getattr(preset("paper"), setting) == value


def test_preset_without_init_differs_in_length_and_rate_alone() -> None:
    paper, longer = preset("paper").to_dict(), preset("paper-no-init").to_dict()
    assert {name: value for name, value in longer.items() if value != paper[name]} == {
        "iterations": 100_000,
        "lr": 0.01,
    }


def test_rate_of_the_presets_falls_as_published() -> None:
    settings = FinetuneSettings.from_dict({"data": "x", **PRESETS["paper-no-init"], "evaluate_every": 1, "threads": 1})
    fit = FinetuneSettings.from_dict({**settings.to_dict(), "workers": 0}).fit_settings()
    rates = [learning_rate(fit, step) for step in (0, 29_999, 30_000, 59_999, 60_000, 99_999)]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-5])


def test_biases_learn_twice_as_fast_and_do_not_decay_under_the_papers_preset() -> None:
    module = FusedDetector([small()])
    settings = FinetuneSettings.from_dict(
        {"data": "x", **PRESETS["paper"], "evaluate_every": 1, "threads": 1, "workers": 0}
    ).fit_settings()
    groups = build_optimiser(module, settings).param_groups
    found = {id(value): (group["lr_factor"], group["weight_decay"]) for group in groups for value in group["params"]}
    assert len(found) == len(list(module.parameters()))
    for name, value in module.named_parameters():
        assert found[id(value)] == ((2.0, 0.0) if name.endswith("bias") else (1.0, 0.0005)), name


def test_frozen_parameters_are_not_in_the_optimiser() -> None:
    detector = small()
    detector.freeze(list(detector.plain_parameters()))
    groups = build_optimiser(
        FusedDetector([detector]),
        FinetuneSettings(data="x", iterations=1, warmup=0, threads=1, workers=0, evaluate_every=1).fit_settings(),
    ).param_groups
    learning = {id(value) for group in groups for value in group["params"]}
    assert learning == {id(value) for value in detector.parameters() if value.requires_grad}
    assert not learning & {id(value) for value in detector.trunk.parameters()}
    assert isinstance(detector.head, nn.Module)
