"""CaffeNet and VGG16 against the dossier of the paper's networks: sizes, fillers, normalisation, parameters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xmodal_cli.models.backbones import build
from xmodal_cli.models.caffenet import RGB, STUDENT, CaffeNet
from xmodal_cli.models.layers import grid

# Sizes along one axis (recipe 3.2): student 7/0/0 and CaffeNet 5/1/1 at conv1, pool1, conv5, pool5; VGG16 at its pools.
SIZES = {
    224: ((57, 28, 14, 7), (56, 29, 15, 7), (112, 56, 28, 14, 7)),
    227: ((58, 29, 14, 7), (57, 29, 15, 7), (114, 57, 29, 15, 8)),
    425: ((108, 54, 27, 13), (107, 54, 28, 14), (213, 107, 54, 27, 14)),
    560: ((141, 70, 35, 17), (140, 71, 36, 18), (280, 140, 70, 35, 18)),
    480: ((121, 60, 30, 15), (120, 61, 31, 15), (240, 120, 60, 30, 15)),
    640: ((161, 80, 40, 20), (160, 81, 41, 20), (320, 160, 80, 40, 20)),
    600: ((151, 75, 37, 18), (150, 76, 39, 19), (300, 150, 75, 38, 19)),
    688: ((173, 86, 43, 21), (172, 87, 44, 22), (344, 172, 86, 43, 22)),
    907: ((228, 114, 57, 28), (227, 114, 58, 29), (454, 227, 114, 57, 29)),
}
CAFFENET_LAYERS = ("conv1", "pool1", "conv5", "pool5")


def rows(name: str, layer: str, size: int) -> int:
    return grid(name, layer, (size, 224)).size_hw[0]


@pytest.mark.parametrize("size", SIZES)
def test_maps_have_the_sizes_of_the_papers_networks(size: int) -> None:
    student, rgb, vgg = SIZES[size]
    assert tuple(rows("caffenet", layer, size) for layer in CAFFENET_LAYERS) == student
    assert tuple(rows("caffenet-rgb", layer, size) for layer in CAFFENET_LAYERS) == rgb
    assert tuple(rows("vgg16", f"pool{block}", size) for block in range(1, 6)) == vgg


@settings(max_examples=15, deadline=None)
@given(st.integers(100, 1200))
def test_student_and_vgg16_agree_where_the_dossier_says(size: int) -> None:
    agree_at_conv5 = rows("caffenet", "conv5", size) == rows("vgg16", "conv5_3", size)
    agree_at_pool5 = rows("caffenet", "pool5", size) == rows("vgg16", "pool5", size)
    assert agree_at_conv5 == (size % 16 in {0, *range(9, 16)})
    assert agree_at_pool5 == (size % 32 in {0, *range(25, 32)})


def test_real_maps_have_the_traced_size() -> None:
    for padding, expected in ((STUDENT, (13, 17)), (RGB, (14, 18))):
        assert tuple(CaffeNet(padding).features(torch.zeros(1, 3, 425, 560)).shape[2:]) == expected


def test_start_follows_the_published_fillers() -> None:
    net = build("caffenet").module
    stds = {
        name: float(net.get_submodule(name).weight.detach().std()) for name in ("conv1", "conv3", "conv5", "fc6", "fc7")
    }
    assert stds == pytest.approx({"conv1": 0.01, "conv3": 0.01, "conv5": 0.01, "fc6": 0.005, "fc7": 0.005}, rel=0.03)
    biases = {
        name: float(net.get_submodule(name).bias.detach().unique().item())
        for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")
    }
    assert biases == {"conv1": 0, "conv2": 1, "conv3": 0, "conv4": 1, "conv5": 1, "fc6": 1, "fc7": 1}


def test_blobs_have_caffes_shapes() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in CaffeNet().state_dict().items()}
    assert shapes["conv1.weight"] == (96, 3, 11, 11)
    assert shapes["conv2.weight"] == (256, 48, 5, 5)
    assert shapes["conv4.weight"] == (384, 192, 3, 3)
    assert shapes["fc6.weight"] == (4096, 256 * 6 * 6)
    assert sum(parameter.numel() for parameter in CaffeNet().parameters()) == 60_965_224  # as the reference model


def test_normalisation_is_caffes_across_channels() -> None:
    maps = np.random.default_rng(0).normal(scale=100, size=(96, 4, 5))
    squares = np.pad(maps**2, ((2, 2), (0, 0), (0, 0)))
    sums = sum(squares[offset : offset + 96] for offset in range(5))
    expected = maps / (1 + 1e-4 / 5 * sums) ** 0.75
    found = CaffeNet().norm1(torch.from_numpy(maps)[None])[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_input_is_blue_first_with_the_papers_means() -> None:
    spec = build("caffenet").input
    pixel = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 3, 1, 1)  # stored R, G, B
    assert spec.normalise(pixel).flatten().tolist() == pytest.approx(
        [30 - 102.9801, 20 - 115.9465, 10 - 122.7717], abs=1e-3
    )
