"""Promises of hypercolumn masks: each probability is what the paper's description gives, place by place."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from xmodal_cli.models.hypercolumn import (
    Boxes,
    Level,
    MaskHead,
    MaskShape,
    expert_weights,
    mask_loss,
    mask_probabilities,
    places,
    sample,
)

CENTRED = Level("fine", 3, 3, 0.5, (8.0, 8.0), (7.0, 7.0))
PLAIN = Level("coarse", 4, 1, 2.0, (16.0, 16.0))
SHAPE = MaskShape((CENTRED, PLAIN), 6, 0.3)
IMAGE_HW, SCALE = (60, 80), 1.5


def head() -> MaskHead:
    made = MaskHead(SHAPE, classes=3, seed=4)
    with torch.no_grad():
        for number, parameter in enumerate(made.parameters()):
            parameter.normal_(generator=torch.Generator().manual_seed(number))
    return made


def asked(count: int = 4) -> Boxes:
    random = torch.Generator().manual_seed(0)
    first = torch.rand(count, 2, generator=random) * torch.tensor([50.0, 30.0]) - 3
    size = 5 + torch.rand(count, 2, generator=random) * 40
    return Boxes(torch.cat([first, first + size], 1), torch.tensor([2, 0, 2, 1])[:count], IMAGE_HW, SCALE)


def given_maps() -> tuple[list[Tensor], Tensor]:
    random = torch.Generator().manual_seed(1)
    maps = [torch.randn(3, 11, 15, generator=random), torch.randn(4, 6, 8, generator=random)]
    return maps, torch.randn(4, 6, generator=random)


def bilinear(values: np.ndarray, y: float, x: float) -> float:
    """A map at a place between its cells, cell by cell, clamped at its borders."""
    y, x = min(max(y, 0.0), values.shape[0] - 1), min(max(x, 0.0), values.shape[1] - 1)
    total = 0.0
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            total += max(0.0, 1 - abs(row - y)) * max(0.0, 1 - abs(column - x)) * float(values[row, column])
    return total


def by_hand(made: MaskHead, maps: list[Tensor], regions: Tensor, boxes: Boxes, box: int, i: int, j: int) -> float:
    """The probability at place (i, j) of a box, from the recipe's words: all 25 experts, sigmoid, then the grid."""
    label, (left, top, right, bottom) = int(boxes.labels[box]), boxes.boxes_xyxy[box].tolist()
    y, x = top + (i + 0.5) / 50 * (bottom - top), left + (j + 0.5) / 50 * (right - left)
    assert made.region is not None
    logits = made.region(regions[box] * SHAPE.scale).detach().numpy()[25 * label : 25 * label + 25].astype(float)
    for level, layer, given_map in zip(SHAPE.levels, made.maps, maps, strict=True):
        said = layer((given_map * level.scale)[None])[0].detach().numpy()[25 * label : 25 * label + 25]
        if level.first_centre_yx is None:
            at = [(p - 0.5) / (side - 1) * n - 0.5 for p, side, n in zip((y, x), IMAGE_HW, said.shape[1:], strict=True)]
        else:
            at = [(p * SCALE - 0.5 - 7.0) / 8.0 for p in (y, x)]
        logits += [bilinear(each, at[0], at[1]) for each in said]
    experts = 1 / (1 + np.exp(-logits.reshape(5, 5)))
    return bilinear(experts, (i + 0.5) * 5 / 50 - 0.5, (j + 0.5) * 5 / 50 - 0.5)


@pytest.mark.parametrize("place", [(0, 0), (4, 5), (14, 15), (24, 44), (30, 12), (49, 49), (49, 0)])
def test_every_probability_is_that_of_a_brute_force_version(place: tuple[int, int]) -> None:
    made, boxes = head(), asked()
    maps, regions = given_maps()
    with torch.no_grad():
        found = mask_probabilities(made(maps, regions, boxes))
    assert found.shape == (4, 50, 50)
    for box in range(4):
        wanted = by_hand(made, maps, regions, boxes, box, *place)
        assert found[box, place[0], place[1]].item() == pytest.approx(wanted, abs=2e-5)


def test_sampling_equals_torchs_own() -> None:
    maps = torch.randn(4, 5, 5, 6, 8, generator=torch.Generator().manual_seed(0))
    cells = places(PLAIN, (6, 8), asked())
    grid = torch.stack(
        torch.broadcast_tensors((2 * cells[1][:, None, :] + 1) / 8 - 1, (2 * cells[0][:, :, None] + 1) / 6 - 1), -1
    )
    whole = torch.nn.functional.grid_sample(maps.flatten(1, 2), grid, padding_mode="border", align_corners=False)
    found = sample(maps, *cells)
    expert = whole.unflatten(1, (5, 5))[:, 2, 1]  # its territory begins at rows 15 and columns 5
    assert torch.allclose(found[:, 2, 1], expert[:, 15:35, 5:25], atol=1e-5)


def test_boxes_of_one_image_do_not_notice_each_other() -> None:
    made, boxes = head(), asked()
    maps, regions = given_maps()
    together = made(maps, regions, boxes)
    for box in range(4):
        alone = Boxes(boxes.boxes_xyxy[box : box + 1], boxes.labels[box : box + 1], IMAGE_HW, SCALE)
        assert torch.allclose(made(maps, regions[box : box + 1], alone)[0], together[box], atol=1e-4)


def test_weights_of_experts_sum_to_one_everywhere() -> None:
    weights = expert_weights()
    assert torch.allclose(weights.sum(1), torch.ones(50))
    assert (weights >= 0).all()
    assert ((weights > 0).sum(1) <= 2).all()


@given(st.floats(-80, 80), st.booleans())
def test_loss_is_minus_log_of_the_right_answer(logit: float, figure: bool) -> None:
    logits = torch.full((2, 5, 5, 20, 20), logit, dtype=torch.float64)
    targets = torch.full((2, 50, 50), figure)
    found = mask_loss(logits, targets, torch.tensor([1.0, 3.0], dtype=torch.float64))
    wanted = 2 * 2500 * math.log1p(math.exp(-logit if figure else logit))  # (1 + 3) / 2 boxes
    assert found.item() == pytest.approx(min(wanted, 2 * 2500 * -math.log(1e-30)), rel=1e-4, abs=1e-4)


def test_gradients_stay_finite_where_the_head_is_sure_and_wrong() -> None:
    logits = torch.full((1, 5, 5, 20, 20), -200.0, requires_grad=True)
    mask_loss(logits, torch.ones(1, 50, 50, dtype=torch.bool), torch.ones(1)).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_a_shape_survives_its_card() -> None:
    assert MaskShape.from_dict(SHAPE.to_dict()) == SHAPE
    assert SHAPE.features == "fc7+fine+coarse"
