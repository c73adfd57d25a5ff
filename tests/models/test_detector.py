"""Promises of the detector's network: plain keys, heads that are the plain network's own, fusion, frozen parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from xmodal_cli.detect.branches import branch_card, save_branch
from xmodal_cli.errors import DataError
from xmodal_cli.models.backbones import Backbone, build, skeleton
from xmodal_cli.models.detector import Detector, FusedDetector, RegionOutputs, fold_statistics, fuse
from xmodal_cli.models.detector_shape import DetectorShape, assemble, detection_layer, has_own_head, own_widths_and_size
from xmodal_cli.models.layers import Tapped, missing_keys
from xmodal_cli.models.regions import RegionPool
from xmodal_cli.models.weights import ROI_HEAD
from xmodal_cli.runs.folder import RunFolder

CLASSES = 3
BOXES = [torch.tensor([[4.0, 8.0, 20.0, 24.0], [0.0, 0.0, 64.0, 64.0], [30.0, 10.0, 60.0, 50.0]])]
POOL = RegionPool("max", 3, (8.0, 8.0))


def shape_of(layer: str = "features.5", **changes: Any) -> DetectorShape:
    values: dict[str, Any] = {
        "layer": layer,
        "pool": POOL,
        "own_head": False,
        "widths": (16, 12),
        "reduced": 8,
        "dropout": 0.5,
        "box_regression": True,
    }
    return DetectorShape(**{**values, **changes})


def small(seed: int = 0, **changes: Any) -> Detector:
    return assemble(build("squeezenet1_1", seed=seed), shape_of(**changes), CLASSES, seed).eval()


def image(seed: int = 0) -> Tensor:
    return torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def random_statistics(detector: Detector) -> Detector:
    random = torch.Generator().manual_seed(5)
    detector.delta_mean.copy_(torch.randn(CLASSES + 1, 4, generator=random))
    detector.delta_std.copy_(torch.rand(CLASSES + 1, 4, generator=random) + 0.1)
    return detector


@pytest.fixture(scope="module")
def alexnet() -> tuple[Backbone, Detector, DetectorShape]:
    """The paper's detector on torchvision's AlexNet; nobody may change it."""
    backbone = build("alexnet", seed=1)
    widths, size = own_widths_and_size(backbone, "conv5")
    shape = shape_of(
        "conv5", pool=RegionPool("max", size, (16.0, 16.0)), own_head=True, widths=tuple(widths), reduced=0
    )
    return backbone, assemble(backbone, shape, CLASSES, 0).eval(), shape


def test_scores_and_deltas_are_of_every_region_and_class() -> None:
    with torch.no_grad():
        found = small()(image(), BOXES)
    assert found.scores.shape == (3, CLASSES + 1)
    assert found.deltas is not None
    assert found.deltas.shape == (3, CLASSES + 1, 4)
    assert small(box_regression=False)(image(), BOXES).deltas is None


def test_last_layers_begin_as_the_recipes_fillers(alexnet: tuple[Backbone, Detector, DetectorShape]) -> None:
    detector = alexnet[1]
    assert detector.cls_score.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert detector.bbox_pred is not None
    assert detector.bbox_pred.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert not detector.cls_score.bias.any()
    assert not detector.bbox_pred.bias.any()


def test_detector_is_what_its_parts_say_by_hand() -> None:
    """Map, cells, two rectified layers, scores: written out with plain operators."""
    detector = small()
    with torch.no_grad():
        maps = detector.trunk(image())["features.5"]
        reduced = detector.head.reduction(maps).relu()  # type: ignore[misc]
        inclusive = (BOXES[0] - torch.tensor([0.0, 0.0, 1.0, 1.0])) / 8
        cells = torchvision.ops.roi_pool(reduced, [inclusive], 3, 1.0).flatten(1)
        features = detector.head.linear[1](detector.head.linear[0](cells).relu()).relu()
        found = detector(image(), BOXES)
    torch.testing.assert_close(found.scores, detector.cls_score(features))
    torch.testing.assert_close(found.deltas, detector.bbox_pred(features).view(3, CLASSES + 1, 4))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "layer", "widths", "size"),
    [
        ("caffenet", "conv5", [4096, 4096], 6),
        ("alexnet", "conv5", [4096, 4096], 6),
        ("vgg16", "conv5_3", [4096, 4096], 7),
        ("squeezenet1_1", "features", None, None),
        ("torchvision/resnet18", "layer4", None, None),
    ],
)
def test_regions_are_cut_from_conv5_where_the_network_has_the_papers_head_else_from_the_last_map(
    name: str, layer: str, widths: list[int] | None, size: int | None
) -> None:
    backbone = skeleton(name)
    assert detection_layer(backbone) == layer
    assert has_own_head(backbone, layer) is (widths is not None)
    if widths is not None:
        assert own_widths_and_size(backbone, layer) == (widths, size)
        assert not has_own_head(backbone, "conv3" if name != "vgg16" else "conv3_3")


def test_own_head_is_the_plain_networks_fc6_and_fc7(alexnet: tuple[Backbone, Detector, DetectorShape]) -> None:
    backbone, detector, _ = alexnet
    assert detector.head.linear[0] is backbone.module.get_submodule("classifier.1")
    assert detector.head.linear[1] is backbone.module.get_submodule("classifier.4")
    plain = {name for name, _ in torchvision.models.alexnet().named_parameters()}
    assert set(detector.plain_parameters()) == {name for name in plain if not name.startswith("classifier.6")}


def test_saved_detector_loads_into_the_plain_network(
    alexnet: tuple[Backbone, Detector, DetectorShape], tmp_path: Path
) -> None:
    """Only the card's keys are missing, only `roi_head.` keys are unexpected, and all values are the detector's."""
    backbone, detector, shape = alexnet
    save_branch(RunFolder(tmp_path, "finetune"), 0, detector)
    card = branch_card(0, backbone, shape, detector, "rgb", {})
    json.dumps(card)
    state = load_file(tmp_path / "detector.safetensors")
    plain = torchvision.models.alexnet()
    report = plain.load_state_dict(state, strict=False)
    assert set(report.missing_keys) == set(card["missing_keys"]) == {"classifier.6.weight", "classifier.6.bias"}
    assert {key for key in report.unexpected_keys if not key.startswith(ROI_HEAD)} == set()
    assert {key for key in state if key.startswith(ROI_HEAD)} == {
        f"{ROI_HEAD}{part}.{kind}" for part in ("cls_score", "bbox_pred") for kind in ("weight", "bias")
    }
    assert torch.equal(plain.classifier[1].weight, detector.head.linear[0].weight)


def test_new_head_stands_under_a_prefix_of_its_own() -> None:
    detector = small()
    plain = set(torchvision.models.squeezenet1_1().state_dict())
    state = detector.saved_state()
    assert {key for key in state if key not in plain} == {
        f"{ROI_HEAD}{part}.{kind}"
        for part in ("fc6", "fc7", "reduction", "cls_score", "bbox_pred")
        for kind in ("weight", "bias")
    }
    assert plain - set(state) == set(missing_keys(build("squeezenet1_1"), ["features.5"]))


def test_what_was_saved_loads_into_a_detector_of_another_seed() -> None:
    one, other = small(0), small(1)
    assert not torch.equal(one(image(), BOXES).scores, other(image(), BOXES).scores)
    other.load_saved({key: value.clone() for key, value in one.saved_state().items()}, "x")
    for first, second in zip(one(image(), BOXES), other(image(), BOXES), strict=True):
        assert torch.equal(first, second)


def test_file_that_does_not_fit_leaves_the_detector_untouched() -> None:
    detector = small()
    before = {key: value.clone() for key, value in detector.saved_state().items()}
    state = {key: value + 1 for key, value in before.items()}
    for wrong in (
        {**state, f"{ROI_HEAD}extra": torch.zeros(1)},
        {key: value for key, value in state.items() if "fc6" not in key},
        {**state, f"{ROI_HEAD}cls_score.bias": torch.zeros(9)},
    ):
        with pytest.raises(DataError, match=r"x\.safetensors"):
            detector.load_saved(wrong, "x.safetensors")
        assert all(torch.equal(value, before[key]) for key, value in detector.saved_state().items())


def test_folded_statistics_leave_predictions_unchanged() -> None:
    detector, plain = random_statistics(small(0)), small(1)
    with torch.no_grad():
        wanted = detector.unnormalised(detector(image(), BOXES))
        before = detector(image(), BOXES)
        plain.load_saved(fold_statistics(detector), "x")
        found = plain.unnormalised(plain(image(), BOXES))
        after = detector(image(), BOXES)
    torch.testing.assert_close(found.deltas, wanted.deltas, atol=1e-6, rtol=1e-5)
    assert torch.equal(found.scores, wanted.scores)
    assert not torch.equal(wanted.deltas, before.deltas)  # type: ignore[arg-type]
    assert torch.equal(after.deltas, before.deltas), "folding changes what is saved, not the detector"  # type: ignore[arg-type]
    assert small(box_regression=False).unnormalised(RegionOutputs(before.scores, None)).deltas is None


def test_random_start_comes_from_the_seed_and_leaves_the_callers_random_state_alone() -> None:
    backbone = build("squeezenet1_1", seed=0)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one, other, third = (assemble(backbone, shape_of(), CLASSES, seed).saved_state() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert not torch.equal(one[f"{ROI_HEAD}fc6.weight"], third[f"{ROI_HEAD}fc6.weight"])


def test_fusion_of_a_detector_with_itself_is_the_detector() -> None:
    detector = small()
    with torch.no_grad():
        alone = detector(image(), BOXES)
        twice = FusedDetector([detector, detector])([image(), image()], BOXES)
        one = FusedDetector([detector])([image()], BOXES)
    for found in (twice, one):
        torch.testing.assert_close(found.scores, alone.scores, rtol=0, atol=0)
        torch.testing.assert_close(found.deltas, alone.deltas, rtol=0, atol=0)


def test_fusion_is_the_mean_before_the_softmax() -> None:
    first = RegionOutputs(torch.tensor([[0.0, 4.0]]), torch.full((1, 2, 4), 1.0))
    second = RegionOutputs(torch.tensor([[2.0, 0.0]]), torch.full((1, 2, 4), 4.0))
    third = RegionOutputs(torch.tensor([[4.0, 2.0]]), None)
    assert fuse([first, second]).scores.tolist() == [[1, 2]]
    assert fuse([first, second]).deltas.unique().tolist() == [2.5]  # type: ignore[union-attr]
    assert fuse([first, second, third]).scores.tolist() == [[2, 2]]
    assert fuse([first, second, third]).deltas.unique().tolist() == [2.5]  # type: ignore[union-attr]
    assert fuse([third]).deltas is None


def test_maps_that_are_there_already_give_the_same() -> None:
    one, other = small(0), small(1)
    fused = FusedDetector([one, other])
    with torch.no_grad():
        whole = fused([image(0), image(1)], BOXES)
        on_maps = fused([one.maps(image(0)), other.maps(image(1))], BOXES, on_maps=True)
    assert torch.equal(whole.scores, on_maps.scores)
    assert torch.equal(whole.deltas, on_maps.deltas)  # type: ignore[arg-type]


def test_frozen_through_a_layer_is_exactly_what_leads_to_it(alexnet: tuple[Backbone, Detector, DetectorShape]) -> None:
    backbone = build("squeezenet1_1")
    detector = assemble(backbone, shape_of(), CLASSES, 0)
    detector.freeze(list(Tapped(backbone, ["features.3"]).kept_state()))
    learning = {name for name, value in detector.plain_parameters().items() if value.requires_grad}
    assert {int(name.split(".")[1]) for name in learning} == {4}, "features.5 is a pool"
    assert not detector.trunk_is_frozen
    detector.freeze(list(Tapped(backbone, ["features.5"]).kept_state()))
    assert detector.trunk_is_frozen
    assert all(value.requires_grad for value in detector.head.parameters())
    own = assemble(alexnet[0], alexnet[2], CLASSES, 0)
    own.freeze(list(Tapped(alexnet[0], ["fc6"]).kept_state()))
    assert own.trunk_is_frozen
    assert [layer.weight.requires_grad for layer in own.head.linear] == [False, True]
    for value in own.parameters():
        value.requires_grad_(True)


def norms_of(detector: Detector) -> list[nn.BatchNorm2d]:
    """Those that run: what comes after the layer has no weights left."""
    norms = (part for part in detector.trunk.modules() if isinstance(part, nn.BatchNorm2d))
    return [norm for norm in norms if norm.weight is not None]


def test_norms_keep_their_statistics_where_asked_and_where_frozen() -> None:
    backbone = build("torchvision/resnet18")
    detector = assemble(backbone, shape_of("layer1"), CLASSES, 0).train()
    assert all(norm.training for norm in norms_of(detector))
    detector.freeze(list(Tapped(backbone, ["relu"]).kept_state()))
    assert [norm.training for norm in norms_of(detector.train())] == [False, True, True, True, True]
    detector.freeze_norms = True
    before = [norm.running_mean.clone() for norm in norms_of(detector)]  # type: ignore[union-attr]
    fused = FusedDetector([detector]).train()
    assert fused.training
    assert detector.head.training
    assert not any(norm.training for norm in norms_of(detector))
    fused([torch.randn(1, 3, 64, 64)], BOXES)
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms_of(detector), before, strict=True))  # type: ignore[arg-type]


def test_shape_survives_its_card() -> None:
    shape = shape_of()
    assert DetectorShape.from_dict(json.loads(json.dumps(shape.to_dict()))) == shape
