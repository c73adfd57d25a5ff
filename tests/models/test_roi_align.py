"""Promises of RoIAlign: torchvision's values to the bit, torchvision's gradient to rounding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import roi_align as torchvision_roi_align

from xmodal_cli.models.roi_align import interpolation, roi_align

N, C, H, W = 3, 5, 9, 13


def random_boxes(count: int, generator: torch.Generator) -> Tensor:
    """`(count, 4)` xyxy in cells: small and large, and far beyond the map on every side."""
    centres = torch.rand(count, 2, generator=generator) * torch.tensor([W + 8.0, H + 8.0]) - 4
    sides = torch.rand(count, 2, generator=generator) ** 2 * 12
    return torch.cat([centres - sides / 2, centres + sides / 2], 1)


def both(boxes: list[Tensor], size: int, samples: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Values, and the gradient of a random sum of them: torchvision's and ours."""
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(N, C, H, W, generator=generator)
    weights = torch.randn(sum(map(len, boxes)), C, size, size, generator=generator)
    theirs, ours = start.clone().requires_grad_(), start.clone().requires_grad_()
    expected = torchvision_roi_align(theirs, boxes, (size, size), 1.0, samples, aligned=True)
    found = roi_align(ours, boxes, size, samples)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    assert theirs.grad is not None
    assert ours.grad is not None
    return (expected, theirs.grad), (found, ours.grad)


@pytest.mark.parametrize(("size", "samples"), [(1, 1), (3, 2), (6, 2), (7, 2), (7, 3)])
def test_values_are_torchvisions_and_so_is_the_gradient(size: int, samples: int) -> None:
    generator = torch.Generator().manual_seed(size * samples)
    boxes = [random_boxes(count, generator) for count in (40, 1, 25)]
    (expected, expected_gradient), (found, gradient) = both(boxes, size, samples)
    assert torch.equal(found, expected)
    assert expected_gradient.abs().max() > 0.1
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-5)


def test_images_without_regions_get_no_gradient() -> None:
    some = random_boxes(10, torch.Generator().manual_seed(0))
    (expected, expected_gradient), (found, gradient) = both([torch.zeros(0, 4), some, torch.zeros(0, 4)], 3, 2)
    assert torch.equal(found, expected)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-5)
    assert not gradient[0].any()


def test_gradient_under_autocast_is_as_exact() -> None:
    boxes = [random_boxes(10, torch.Generator().manual_seed(n)) for n in range(N)]
    plain = both(boxes, 3, 2)[1][1]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(both(boxes, 3, 2)[1][1], plain)


def test_weights_of_a_region_inside_the_map_sum_to_one() -> None:
    weights = interpolation(torch.tensor([0.5, 2.0]), torch.tensor([4.0, 6.5]), 4, 2, 7)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4))
    assert not interpolation(torch.tensor([20.0]), torch.tensor([30.0]), 4, 2, 7).any()
