"""Caffe's weights in our networks: the same answers as a network made by hand, and plain words for other files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from caffe_files import CAFFENET, Blobs, random_layers, write_caffemodel
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.models.backbones import Backbone, build, skeleton
from xmodal_cli.models.caffe_weights import read_caffe_weights
from xmodal_cli.models.catalogue import parse
from xmodal_cli.models.inputs import CAFFE_INPUT, CAFFE_MEAN_BGR, InputSpec
from xmodal_cli.models.tapped import Tapped
from xmodal_cli.models.weights import load_tensors

VGG16 = {
    "conv1_1": (64, 3, 3, 3),
    "conv1_2": (64, 64, 3, 3),
    "conv2_1": (128, 64, 3, 3),
    "conv2_2": (128, 128, 3, 3),
}


def image() -> Tensor:
    """`(1, 3, 96, 128)` uint8, R, G, B."""
    return torch.randint(0, 256, (1, 3, 96, 128), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def as_caffe_feeds(rgb: Tensor) -> Tensor:
    """Blue, green, red from 0 to 255, less the means."""
    return rgb.flip(1).float() - torch.tensor(CAFFE_MEAN_BGR).view(1, 3, 1, 1)


def convolved(x: Tensor, blobs: tuple[NDArray[np.float32], ...], **options: int) -> Tensor:
    weight, bias = map(torch.from_numpy, blobs)
    return functional.relu(functional.conv2d(x, weight, bias, **options))


def pooled(x: Tensor, padding: int = 0) -> Tensor:
    return functional.max_pool2d(x, 3, 2, padding, ceil_mode=True)


def normed(x: Tensor) -> Tensor:
    """Caffe's local response normalisation, written out: five channels, alpha divided by their number."""
    squares = functional.pad(x.square(), (0, 0, 0, 0, 2, 2))
    total = sum(squares[:, start : start + x.shape[1]] for start in range(5))
    return x / (1 + 1e-4 / 5 * total) ** 0.75


def caffenet_by_hand(x: Tensor, layers: Blobs, padding: tuple[int, int, int]) -> Tensor:
    x = normed(pooled(convolved(x, layers["conv1"], stride=4, padding=padding[0]), padding[1]))
    x = normed(pooled(convolved(x, layers["conv2"], padding=2, groups=2), padding[2]))
    x = convolved(x, layers["conv3"], padding=1)
    x = convolved(x, layers["conv4"], padding=1, groups=2)
    return pooled(convolved(x, layers["conv5"], padding=1, groups=2))


@pytest.mark.parametrize(
    ("name", "kind", "padding"), [("caffenet", "layers", (7, 0, 0)), ("caffenet-rgb", "layer", (5, 1, 1))]
)
def test_caffenet_answers_as_one_made_by_hand(
    tmp_path: Path, kind: str, name: str, padding: tuple[int, int, int]
) -> None:
    layers = random_layers(CAFFENET)
    path = write_caffemodel(tmp_path / "net.caffemodel", layers, kind)
    backbone = build(name, weights=path, through=["pool5"])
    with torch.no_grad():
        found = backbone.module.features(backbone.input.normalise(image()))
        expected = caffenet_by_hand(as_caffe_feeds(image()), layers, padding)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def vgg16(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    path = write_caffemodel(tmp_path_factory.mktemp("vgg16") / "net.caffemodel", random_layers(VGG16), "layers")
    return build("vgg16", weights=path, through=["conv2_2"])


def test_vgg16_answers_as_one_made_by_hand(vgg16: Backbone) -> None:
    layers, x = random_layers(VGG16), as_caffe_feeds(image())
    for number, name in enumerate(layers):
        x = convolved(functional.max_pool2d(x, 2, 2) if number == 2 else x, layers[name], padding=1)
    with torch.no_grad():
        found = Tapped(vgg16, ["conv2_2"])(vgg16.input.normalise(image()))["conv2_2"]
    torch.testing.assert_close(found, x, rtol=1e-4, atol=1e-3)


def test_the_input_of_the_weights_is_caffes_and_is_written_into_cards(vgg16: Backbone) -> None:
    assert vgg16.input == CAFFE_INPUT
    assert vgg16.keeps_input
    assert vgg16.weights.startswith("file:")
    card = vgg16.to_dict()
    assert (card["input"]["order"], card["input"]["range"]) == ("bgr", [0.0, 255.0])
    assert InputSpec.from_dict(card["input"]) == CAFFE_INPUT


def read(path: Path, name: str) -> dict[str, Tensor]:
    """The weights for a network that is not built."""
    return read_caffe_weights(path, parse(name), skeleton(name).module)


def test_the_published_students_layers_are_found_behind_their_prefix(tmp_path: Path) -> None:
    layers = random_layers(CAFFENET, prefix="da_")
    path = write_caffemodel(tmp_path / "ST_vgg_to_alexnet_hha.caffemodel", layers, "layers")
    state = read(path, "caffenet")
    assert all(torch.equal(state[f"{name}.weight"], torch.from_numpy(layers[f"da_{name}"][0])) for name in CAFFENET)


def test_of_two_networks_in_a_file_each_takes_its_own(tmp_path: Path) -> None:
    rgb, hha = random_layers(CAFFENET, 0), random_layers(CAFFENET, 1, "da_")
    heads = {name: (np.ones((20, 8), np.float32), np.ones(20, np.float32)) for name in ("cls_score", "da_bbox_pred")}
    path = write_caffemodel(tmp_path / "fused.caffemodel", {**rgb, **hha, **heads})
    for name, expected in (("caffenet", hha["da_conv3"]), ("caffenet-rgb", rgb["conv3"])):
        assert torch.equal(read(path, name)["conv3.weight"], torch.from_numpy(expected[0]))


def test_legacy_shapes_of_connected_layers_become_matrices(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    fc8 = (random.normal(size=(1000, 4096)).astype(np.float32), random.normal(size=1000).astype(np.float32))
    for kind in ("layer", "layers"):
        path = write_caffemodel(tmp_path / "net.caffemodel", {**random_layers(CAFFENET), "fc8": fc8}, kind)
        state = read(path, "caffenet")
        assert torch.equal(state["fc8.weight"], torch.from_numpy(fc8[0]))
        assert torch.equal(state["fc8.bias"], torch.from_numpy(fc8[1]))


def test_one_channel_gets_the_mean_of_the_colour_filters(tmp_path: Path) -> None:
    layers = random_layers(CAFFENET)
    path = write_caffemodel(tmp_path / "net.caffemodel", layers)
    backbone = build("caffenet", weights=path, in_channels=1, through=["pool5"])
    expected = layers["conv1"][0].sum(axis=1, keepdims=True)
    torch.testing.assert_close(backbone.module.conv1.weight.detach(), torch.from_numpy(expected))
    assert (len(backbone.input.mean), backbone.stem) == (1, "mean")


def test_layers_that_are_needed_and_missing_are_named(tmp_path: Path) -> None:
    path = write_caffemodel(tmp_path / "net.caffemodel", random_layers(CAFFENET))
    with pytest.raises(DataError, match=r"missing: fc6\.weight"):
        build("caffenet", weights=path)


@pytest.mark.parametrize(
    ("name", "layers", "said"),
    [
        ("caffenet", VGG16, "none is called 'conv1'"),
        ("vgg16", CAFFENET, "none is called 'conv1_1'"),
        ("vgg16", {**VGG16, "conv3_4": (256, 256, 3, 3)}, "1 layers that vgg16 lacks: conv3_4"),
        ("caffenet-rgb", {**CAFFENET, "conv2": (256, 96, 5, 5)}, r"conv2\.weight is 256x96x5x5, expected 256x48x5x5"),
    ],
)
def test_weights_of_another_network_are_told_apart(
    tmp_path: Path, name: str, layers: dict[str, tuple[int, ...]], said: str
) -> None:
    path = write_caffemodel(tmp_path / "net.caffemodel", random_layers(layers))
    with pytest.raises(DataError, match=said):
        load_tensors(skeleton(name).module.state_dict(), read(path, name), str(path))


def test_networks_that_caffe_does_not_have_are_refused_with_those_it_has(tmp_path: Path) -> None:
    path = write_caffemodel(tmp_path / "net.caffemodel", random_layers(CAFFENET))
    with pytest.raises(SettingsError, match="fit caffenet, caffenet-rgb, vgg16 or vgg19, not squeezenet1_1"):
        build("squeezenet1_1", weights=path)


def test_a_layer_with_three_blobs_is_no_convolution(tmp_path: Path) -> None:
    layers = random_layers(CAFFENET)
    layers["conv1"] = (*layers["conv1"], np.zeros(1, np.float32))
    path = write_caffemodel(tmp_path / "net.caffemodel", layers)
    with pytest.raises(DataError, match="layer 'conv1' has 3 blobs"):
        read(path, "caffenet")
