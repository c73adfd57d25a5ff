"""Promises of pooled regions: Caffe's definition to the cell, RoIAlign where the cells look, heads that share."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from xmodal_cli.models.caffenet import CaffeNet
from xmodal_cli.models.grid import Grid
from xmodal_cli.models.regions import RegionHead, RegionPool, new_head, own_connected, own_head

STRIDE = 16


def half_away_from_zero(value: float) -> int:
    """C's round: 0.5 to 1, 2.5 to 3, -0.5 to -1."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def pooled_by_definition(maps: NDArray[np.float32], box: list[float], size: int) -> NDArray[np.float32]:
    """Recipe 4.2 as plain loops; corners of the box are of its first and last pixel. `(C, h, w)` to `(C, S, S)`."""
    left, top, right, bottom = (half_away_from_zero(corner / STRIDE) for corner in box)
    bin_width = np.float32(max(right - left + 1, 1)) / np.float32(size)
    bin_height = np.float32(max(bottom - top + 1, 1)) / np.float32(size)
    _, height, width = maps.shape
    pooled = np.zeros((len(maps), size, size), np.float32)
    for row in range(size):
        for column in range(size):
            first_y = min(max(math.floor(np.float32(row) * bin_height) + top, 0), height)
            last_y = min(max(math.ceil(np.float32(row + 1) * bin_height) + top, 0), height)
            first_x = min(max(math.floor(np.float32(column) * bin_width) + left, 0), width)
            last_x = min(max(math.ceil(np.float32(column + 1) * bin_width) + left, 0), width)
            if last_y > first_y and last_x > first_x:
                pooled[:, row, column] = maps[:, first_y:last_y, first_x:last_x].max((1, 2))
    return pooled


def some_boxes(count: int, seed: int) -> NDArray[np.float32]:
    """Boxes by first and last pixel, a third of them beyond the edges, half of them on borders between two cells."""
    random = np.random.default_rng(seed)
    first = random.uniform(-80, 200, (count, 2))
    last = first + random.uniform(0, 220, (count, 2))
    boxes = np.hstack([first, last])
    boxes[::2] = np.round(boxes[::2] / 8) * 8
    return boxes.astype(np.float32)


@pytest.mark.parametrize("size", [1, 6, 7])
def test_max_pooling_is_the_recipes_definition(size: int) -> None:
    maps = np.random.default_rng(0).normal(size=(3, 13, 18)).astype(np.float32)
    inclusive = some_boxes(150, size)
    exclusive = torch.from_numpy(inclusive + np.array([0, 0, 1, 1], np.float32))
    found = RegionPool("max", size, (STRIDE, STRIDE))(torch.from_numpy(maps)[None], [exclusive])
    wanted = np.stack([pooled_by_definition(maps, box, size) for box in inclusive.tolist()])
    np.testing.assert_array_equal(found.numpy(), wanted)
    assert 0.05 < (wanted == 0).mean() < 0.5, "some of the boxes lie beyond the map, and most do not"


@pytest.mark.parametrize(("last_pixel", "cells"), [(23, 2), (24, 3), (39, 3), (40, 4), (55, 4), (56, 5)])
def test_halves_are_rounded_away_from_zero(last_pixel: int, cells: int) -> None:
    """40 / 16 = 2.5 belongs to cell 3, not to the even cell 2."""
    columns = torch.arange(10.0).expand(1, 1, 10, 10)
    box = torch.tensor([[0.0, 0.0, last_pixel + 1, last_pixel + 1]])
    assert RegionPool("max", 1, (STRIDE, STRIDE))(columns, [box]).item() == cells - 1


def test_half_a_cell_before_the_map_is_beyond_it() -> None:
    columns = torch.arange(1.0, 11.0).expand(1, 1, 10, 10)
    box = torch.tensor([[-100.0, 0.0, -7.0, 17.0]])  # ends with pixel -8, at cell -0.5: rounded to -1
    assert RegionPool("max", 1, (STRIDE, STRIDE))(columns, [box]).item() == 0
    box[0, 2] = -6  # ends with pixel -7, rounded to cell 0
    assert RegionPool("max", 1, (STRIDE, STRIDE))(columns, [box]).item() == 1


@pytest.mark.parametrize("pooling", ["max", "align"])
def test_regions_are_cut_from_their_own_image_in_order(pooling: str) -> None:
    maps = torch.stack([torch.full((2, 6, 6), 1.0), torch.full((2, 6, 6), 5.0)])
    box = torch.tensor([[16.0, 16.0, 64.0, 64.0]])
    found = RegionPool(pooling, 2, (STRIDE, STRIDE))(maps, [box.repeat(2, 1), box])  # type: ignore[arg-type]
    assert found.shape == (3, 2, 2, 2)
    assert found.amax((1, 2, 3)).tolist() == [1, 1, 5]
    assert RegionPool(pooling, 2, (STRIDE, STRIDE))(maps, [box[:0], box[:0]]).shape == (0, 2, 2, 2)  # type: ignore[arg-type]


def places(grid: Grid) -> torch.Tensor:
    """A map whose two channels are the row and the column of the pixel that each cell looks at: `(1, 2, h, w)`."""
    rows, columns = (torch.tensor(axis) for axis in grid.centres())
    return torch.stack([rows[:, None].expand(grid.size_hw), columns[None].expand(grid.size_hw)])[None]


@pytest.mark.parametrize("first", [(0.0, 0.0), (3.0, 5.0)])
def test_aligned_regions_are_read_where_the_cells_look(first: tuple[float, float]) -> None:
    """A map whose values are the places its cells look at, read on a box, gives the box's centre."""
    grid = Grid((8.0, 8.0), first, (20, 30))
    box = torch.tensor([[40.0, 32.0, 104.0, 80.0]])
    found = RegionPool.of_grid("align", 3, grid, centred=True)(places(grid), [box])[0]
    # Pixel p's own centre counts as p, box borders lie between pixels: the box's centre is half a pixel less.
    assert found[0, 1, 1].item() == pytest.approx((32 + 80) / 2 - 0.5, abs=1e-3)
    assert found[1, 1, 1].item() == pytest.approx((40 + 104) / 2 - 0.5, abs=1e-3)
    assert (found[1, 1, 2] - found[1, 1, 1]).item() == pytest.approx(64 / 3, abs=1e-3)


def test_aligned_region_of_one_cell_is_that_cells_value() -> None:
    maps = torch.randn(1, 2, 6, 7, generator=torch.Generator().manual_seed(0))
    pool = RegionPool("align", 1, (8, 8), (3, 5))
    for row, column in ((0, 0), (2, 3), (4, 5)):
        y, x = 3 + 8 * row + 0.5, 5 + 8 * column + 0.5  # the cell's centre between the borders of boxes
        point = torch.tensor([[x - 1e-3, y - 1e-3, x + 1e-3, y + 1e-3]])
        torch.testing.assert_close(pool(maps, [point])[0, :, 0, 0], maps[0, :, row, column], atol=1e-3, rtol=0)


@pytest.mark.parametrize("pooling", ["max", "align"])
def test_centred_regions_are_those_of_boxes_shifted_by_the_first_cells_centre(pooling: str) -> None:
    maps = torch.randn(1, 2, 12, 14, generator=torch.Generator().manual_seed(1))
    grid = Grid((16.0, 8.0), (24.0, 8.0), (12, 14))
    boxes = torch.from_numpy(some_boxes(60, 3)).abs() + torch.tensor([0.0, 0.0, 200.0, 200.0])
    shifted = boxes - torch.tensor([8.0, 24.0, 8.0, 24.0])
    centred = RegionPool.of_grid(pooling, 4, grid, centred=True)  # type: ignore[arg-type]
    plain = RegionPool.of_grid(pooling, 4, grid, centred=False)  # type: ignore[arg-type]
    assert plain.first_centre_yx is None
    torch.testing.assert_close(centred(maps, [boxes]), plain(maps, [shifted]))
    assert not torch.equal(centred(maps, [boxes]), plain(maps, [boxes]))


def test_half_precision_maps_are_pooled_in_float32() -> None:
    maps = torch.randn(1, 2, 6, 6).bfloat16()
    for pooling in ("max", "align"):
        found = RegionPool(pooling, 2, (16, 16))(maps, [torch.tensor([[0.0, 0.0, 50.0, 50.0]])])  # type: ignore[arg-type]
        assert found.dtype == torch.float32


def test_pool_survives_its_card() -> None:
    pool = RegionPool("align", 4, (16.0, 8.0), (7.5, 3.5))
    assert RegionPool.from_dict(pool.to_dict()) == pool


def test_own_head_shares_the_networks_layers_and_reads_its_cells() -> None:
    net = CaffeNet()
    assert own_connected(net) == ["fc6", "fc7"]
    head, size = own_head(net, ["fc6", "fc7"], 256, 0.5)
    assert size == 6
    assert head.layers[0] is net.fc6
    assert head.layers[1] is net.fc7
    assert own_connected(nn.Sequential(nn.Linear(2, 2))) == []


def test_head_gives_every_layers_output_and_drops_units_in_training_only() -> None:
    head = new_head(2, 2, (32, 8), 0.5, 0, torch.Generator().manual_seed(0)).eval()
    cells = torch.randn(3, 2, 2, 2)
    fc6, fc7 = head.outputs(cells)
    torch.testing.assert_close(fc6, (cells.flatten(1) @ head.linear[0].weight.T + head.linear[0].bias).relu())
    torch.testing.assert_close(fc7, (fc6 @ head.linear[1].weight.T + head.linear[1].bias).relu())
    assert torch.equal(head(cells), fc7)
    assert head.width == 8
    dropped = head.train().outputs(cells)[0]
    assert ((dropped == 0) & (fc6 > 0)).any()
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], 2 * fc6[kept])


def test_new_head_comes_from_its_seed_alone() -> None:
    one, other = (new_head(4, 3, (5, 6), 0.5, 2, torch.Generator().manual_seed(7)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    assert [layer.in_features for layer in one.linear] == [2 * 9, 5]


def test_reduction_is_a_rectified_convolution_of_the_whole_map_and_none_leaves_it() -> None:
    maps = torch.randn(1, 4, 5, 5)
    assert RegionHead([nn.Linear(4, 2)], 0.0).reduced(maps) is maps
    reduced = new_head(4, 3, (5,), 0.0, 2, torch.Generator().manual_seed(0)).reduced(maps)
    assert reduced.shape == (1, 2, 5, 5)
    assert reduced.min() >= 0
