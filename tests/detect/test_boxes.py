"""Promises of box regression: the recipe's formulas with inclusive corners, there and back, and inside the image."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou

from xmodal_cli.detect.boxes import decode, encode, mirrored, overlaps

IMAGE_HW = (425, 560)

corner = st.floats(0, 400, width=32)
side = st.floats(2, 150, width=32)
boxes = st.lists(st.tuples(corner, corner, side, side), min_size=1, max_size=8).map(
    lambda rows: torch.tensor([[x, min(y, 270.0), x + w, min(y, 270.0) + h] for x, y, w, h in rows])
)


def by_the_recipe(box: list[float], target: list[float]) -> list[float]:
    """Recipe 4.3 on corners of first and last pixels."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = box, target
    width, height = x2 - x1 + 1e-14, y2 - y1 + 1e-14
    wanted_width, wanted_height = u2 - u1 + 1e-14, v2 - v1 + 1e-14
    return [
        (u1 + wanted_width / 2 - x1 - width / 2) / width,
        (v1 + wanted_height / 2 - y1 - height / 2) / height,
        math.log(wanted_width / width),
        math.log(wanted_height / height),
    ]


def exclusive(box: list[float]) -> torch.Tensor:
    return torch.tensor([[box[0], box[1], box[2] + 1, box[3] + 1]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("box", "target"),
    [
        ([10, 20, 50, 80], [12, 18, 60, 70]),
        ([0, 0, 1, 1], [0, 0, 559, 424]),
        ([5.5, 6.25, 7.5, 9.25], [5, 6, 8, 9]),
        ([100, 100, 140, 180], [100, 100, 140, 180]),
    ],
)
def test_targets_are_the_recipes_with_inclusive_corners(box: list[float], target: list[float]) -> None:
    found = encode(exclusive(box), exclusive(target))
    torch.testing.assert_close(found[0].tolist(), by_the_recipe(box, target))


@given(boxes, boxes)
def test_decoded_targets_are_the_targets(first: torch.Tensor, second: torch.Tensor) -> None:
    count = min(len(first), len(second))
    found = decode(first[:count], encode(first[:count], second[:count]), IMAGE_HW)
    limit = torch.tensor([IMAGE_HW[1], IMAGE_HW[0]] * 2, dtype=torch.float32)
    torch.testing.assert_close(found, second[:count].minimum(limit), atol=0.02, rtol=1e-4)


def test_decoding_by_class_is_decoding_each() -> None:
    random = torch.Generator().manual_seed(0)
    base = torch.tensor([[10.0, 10.0, 60.0, 90.0], [200.0, 100.0, 260.0, 140.0]])
    deltas = torch.randn(2, 5, 4, generator=random) / 2
    found = decode(base, deltas, IMAGE_HW)
    assert found.shape == (2, 5, 4)
    for kind in range(5):
        torch.testing.assert_close(found[:, kind], decode(base, deltas[:, kind], IMAGE_HW))


@given(st.lists(st.tuples(*[st.floats(-1e4, 1e4, width=32)] * 4), min_size=1, max_size=6))
def test_decoded_boxes_are_finite_and_inside_the_image_whatever_the_deltas(rows: list[tuple[float, ...]]) -> None:
    base = torch.tensor([[0.0, 0.0, 2.0, 2.0], [500.0, 400.0, 560.0, 425.0], [-30.0, 410.0, -10.0, 500.0]])
    for deltas in torch.tensor(rows):
        found = decode(base, deltas.expand(3, 4), IMAGE_HW)
        assert torch.isfinite(found).all()
        assert (found[:, :2] >= 0).all()
        assert (found[:, 2] <= IMAGE_HW[1]).all()
        assert (found[:, 3] <= IMAGE_HW[0]).all()
        assert (found[:, 2:] - found[:, :2] > 1 - 1e-4).all(), "a box has at least one pixel"


def test_clipping_is_to_the_first_and_last_pixel() -> None:
    base, none = torch.tensor([[-5.0, -6.0, 600.0, 500.0]]), torch.zeros(1, 4)
    assert decode(base, none, IMAGE_HW).tolist() == [[0, 0, IMAGE_HW[1], IMAGE_HW[0]]]


@given(boxes, boxes)
def test_mirrored_boxes_have_the_deltas_of_the_mirrored_image(first: torch.Tensor, second: torch.Tensor) -> None:
    count, width = min(len(first), len(second)), float(IMAGE_HW[1])
    first, second = first[:count].double(), second[:count].double()
    plain = encode(first, second)
    seen = encode(mirrored(first, width), mirrored(second, width))
    torch.testing.assert_close(seen, plain * torch.tensor([-1.0, 1.0, 1.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(mirrored(mirrored(first, width), width), first)


def test_mirrored_pixels_are_the_recipes() -> None:
    """Recipe 4.3: x1' = W - x2 - 1 and x2' = W - x1 - 1 for first and last pixels."""
    found = mirrored(exclusive([10, 20, 50, 80]), 560)[0] - torch.tensor([0, 0, 1, 1])
    assert found.tolist() == [560 - 50 - 1, 20, 560 - 10 - 1, 80]


def test_box_of_one_pixel_divides_by_nothing() -> None:
    one = torch.tensor([[3.0, 3.0, 4.0, 4.0]])
    assert torch.isfinite(encode(one, one)).all()
    assert torch.isfinite(decode(one, torch.ones(1, 4), IMAGE_HW)).all()


@given(boxes, boxes)
def test_overlaps_are_torchvisions_in_every_bit(some: torch.Tensor, others: torch.Tensor) -> None:
    assert torch.equal(overlaps(some, others), box_iou(some, others))
