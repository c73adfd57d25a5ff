"""Building networks: seeds, scales, channels, weights."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from network_kinds import KINDS
from torch import nn
from torchvision.models import SqueezeNet1_1_Weights

from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.models.backbones import build, skeleton
from xmodal_cli.models.inputs import IMAGENET_MEAN
from xmodal_cli.models.layers import Tapped, default_layer
from xmodal_cli.models.stem import adapt_filters

SMALL = "mobilenetv3_small_100"


def stem_weight(module: nn.Module) -> torch.Tensor:
    return next(part.weight for part in module.modules() if isinstance(part, nn.Conv2d)).detach()


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18"])
def test_random_start_depends_on_the_seed_alone(name: str) -> None:
    torch.manual_seed(5)
    first = build(name, seed=3).module.state_dict()
    torch.manual_seed(6)
    second = build(name, seed=3).module.state_dict()
    other = build(name, seed=4).module.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_building_does_not_disturb_global_random_numbers() -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - the global state is what is watched
    expected = torch.rand(3), np.random.rand(3)  # noqa: NPY002
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    build("squeezenet1_1", seed=9)
    skeleton("torchvision/regnet_y_400mf")
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])  # noqa: NPY002


def test_norms_of_networks_that_start_anew_change_nothing_at_first() -> None:
    state = build("vgg11_bn").module.state_dict()
    first = {key.removeprefix("features.1."): state[key] for key in state if key.startswith("features.1.")}
    assert {key: float(first[key].float().mean()) for key in first} == {
        "weight": 1.0,
        "bias": 0.0,
        "running_mean": 0.0,
        "running_var": 1.0,
        "num_batches_tracked": 0.0,
    }


@pytest.mark.parametrize("name", [kind for kind in KINDS if kind != "caffenet-rgb"])
def test_random_features_are_of_ordinary_size(name: str) -> None:
    backbone = build(name)
    noise = torch.randint(0, 256, (2, 3, 104, 136), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    tapped = Tapped(backbone, [default_layer(backbone)]).train()  # batch statistics, as when training begins
    with torch.no_grad():
        maps = tapped(backbone.input.normalise(noise))[default_layer(backbone)]
    assert 0.05 < float(maps.std()) < 20
    assert float(maps.std((2, 3)).mean()) > 0.01 * float(maps.std())


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("name", ["alexnet", "caffenet", SMALL, "vit_tiny_patch16_224", "torchvision/resnet18"])
def test_networks_take_any_number_of_channels(name: str, channels: int) -> None:
    backbone = build(name, in_channels=channels)
    images = torch.randint(0, 256, (1, channels, 96, 96), dtype=torch.uint8)
    layer = default_layer(backbone)
    assert Tapped(backbone, [layer]).eval()(backbone.input.normalise(images))[layer].shape[0] == 1
    assert (backbone.in_channels, len(backbone.input.mean), backbone.stem) == (channels, channels, "own")


def saved(tmp_path: Path, name: str, **changes: torch.Tensor) -> Path:
    path = tmp_path / "weights.pth"
    torch.save({**build(name, seed=7).module.state_dict(), **changes}, path)
    return path


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_mean_stem_answers_a_grey_image_as_the_colour_stem_did(tmp_path: Path, channels: int) -> None:
    path = saved(tmp_path, SMALL)
    colour, other = build(SMALL, weights=path), build(SMALL, weights=path, in_channels=channels, stem="mean")
    grey = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = Tapped(colour, ["conv_stem"])(grey.repeat(1, 3, 1, 1))["conv_stem"]
    found = Tapped(other, ["conv_stem"])(grey.repeat(1, channels, 1, 1))["conv_stem"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (colour.stem, other.stem) == ("own", "mean")


def test_copied_stem_takes_the_colour_filters_in_turn(tmp_path: Path) -> None:
    path = saved(tmp_path, SMALL)
    colour = stem_weight(build(SMALL, weights=path).module)
    copied = stem_weight(build(SMALL, weights=path, in_channels=4, stem="copy").module)
    torch.testing.assert_close(copied, colour[:, [0, 1, 2, 0]] * 3 / 4)


def test_random_stem_keeps_the_seeds_filters_and_takes_the_rest(tmp_path: Path) -> None:
    path = saved(tmp_path, SMALL)
    fresh = build(SMALL, in_channels=4, seed=1)
    loaded = build(SMALL, weights=path, in_channels=4, stem="random", seed=1)
    assert torch.equal(stem_weight(loaded.module), stem_weight(fresh.module))
    other = {
        key
        for key, tensor in fresh.module.state_dict().items()
        if not torch.equal(tensor, loaded.module.state_dict()[key])
    }
    assert "classifier.weight" in other
    assert loaded.stem == "random"


def test_a_file_with_the_right_stem_is_taken_as_it_is(tmp_path: Path) -> None:
    four = build(SMALL, in_channels=4, seed=7)
    path = tmp_path / "four.pth"
    torch.save(four.module.state_dict(), path)
    loaded = build(SMALL, weights=path, in_channels=4)
    assert torch.equal(stem_weight(loaded.module), stem_weight(four.module))
    assert loaded.stem == "own"


@pytest.mark.parametrize("how", ["mean", "copy"])
def test_three_channels_are_left_alone_by_copy_and_keep_their_sum(how: str) -> None:
    filters = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    adapted = adapt_filters(filters, 6, how)  # type: ignore[arg-type]
    assert adapted is not None
    torch.testing.assert_close(adapted.sum(1), filters.sum(1))


def test_weights_of_a_file_are_recorded_by_content(tmp_path: Path) -> None:
    path = saved(tmp_path, SMALL)
    assert build(SMALL, weights=path).weights.startswith("file:")
    assert build(SMALL, weights=str(path)).weights == build(SMALL, weights=path).weights
    assert build(SMALL).weights == "random"


def test_weights_beyond_the_wanted_layer_may_be_missing_or_of_another_shape(tmp_path: Path) -> None:
    path = saved(tmp_path, SMALL, **{"classifier.weight": torch.zeros(20, 1024), "classifier.bias": torch.zeros(20)})
    with pytest.raises(DataError, match=r"2 of another shape: classifier\.weight is 20x1024, expected 1000x1024"):
        build(SMALL, weights=path)
    backbone = build(SMALL, weights=path, through=["blocks.2"])
    assert backbone.unloaded == ["classifier.bias", "classifier.weight"]


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="do not fit the network"):
        build("squeezenet1_1", weights=saved(tmp_path, SMALL), through=["features.3"])


def test_authors_weights_of_a_transformer_are_translated_and_their_positions_resampled(tmp_path: Path) -> None:
    name = "vit_tiny_patch16_224"
    state = dict(build(name, seed=7).module.state_dict())
    state["pos_embed"] = torch.cat([state["pos_embed"][:, :1], torch.ones(1, 10 * 10, 192)], 1)
    torch.save({"model": state}, tmp_path / "deit.pth")  # as the authors of DeiT wrap theirs
    found = build(name, weights=tmp_path / "deit.pth").module.state_dict()
    torch.testing.assert_close(found["pos_embed"][:, 1:], torch.ones(1, 14 * 14, 192))
    assert torch.equal(found["blocks.3.attn.qkv.weight"], state["blocks.3.attn.qkv.weight"])


def test_a_trace_inside_inference_mode_leaves_the_network_trainable() -> None:
    backbone = build("squeezenet1_1")
    with torch.inference_mode():
        tapped = Tapped(backbone, ["features.3"])
    tapped(torch.zeros(1, 3, 32, 32))["features.3"].sum().backward()
    assert stem_weight(backbone.module).shape == (64, 3, 3, 3)
    assert all(parameter.grad is not None for parameter in tapped.parameters())


def test_unknown_stem_and_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Unknown stem 'maen'") as caught:
        build(SMALL, stem="maen")  # type: ignore[arg-type]
    assert "'mean'" in str(caught.value.hint)
    with pytest.raises(SettingsError, match="No pretrained weights of caffenet"):
        build("caffenet", weights="imagenet")
    with pytest.raises(DataError, match="no file of weights"):
        build(SMALL, weights=tmp_path / "absent.pth")


def test_timms_input_belongs_to_the_weights() -> None:
    assert skeleton("vit_base_patch16_siglip_224").input.mean == (0.5, 0.5, 0.5)
    assert skeleton("vit_small_patch14_dinov2").input.mean == pytest.approx(IMAGENET_MEAN)


def test_vgg_pools_round_up() -> None:
    pools = [part for part in skeleton("vgg16").module.modules() if isinstance(part, nn.MaxPool2d)]
    assert [part.ceil_mode for part in pools] == [True] * 5


@pytest.mark.real
def test_real_squeezenet_recognises_real_toilets(real_data: Path) -> None:
    backbone = build("squeezenet1_1", weights=real_data / "weights" / "squeezenet1_1-imagenet.pth")
    assert backbone.unloaded == []
    crops = largest_objects(real_data / "nyud2-8bit", "toilet", 10)
    with torch.no_grad():
        seen = backbone.module.eval()(backbone.input.normalise(crops)).argmax(1)
    categories = SqueezeNet1_1_Weights.IMAGENET1K_V1.meta["categories"]
    assert [categories[index] for index in seen].count("toilet seat") >= 7  # measured: 8 of 10


def largest_objects(folder: Path, category: str, count: int) -> torch.Tensor:
    """The largest annotated objects of a category, one per image: `(count, 3, 224, 224)` uint8 RGB."""
    annotations = json.loads((folder / "train.json").read_text())
    wanted = next(entry["id"] for entry in annotations["categories"] if entry["name"] == category)
    files = {entry["id"]: Path(entry["file_name"]).stem for entry in annotations["images"]}
    objects = sorted((o for o in annotations["annotations"] if o["category_id"] == wanted), key=lambda o: o["area"])
    crops = []
    for entry in list({o["image_id"]: o for o in objects}.values())[-count:]:
        left, top, width, height = map(int, entry["bbox"])
        photo = cv2.imread(str(folder / "rgb" / f"{files[entry['image_id']]}.jpg"))
        crop = cv2.resize(photo[top : top + height, left : left + width], (224, 224), interpolation=cv2.INTER_AREA)
        crops.append(torch.from_numpy(cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)).permute(2, 0, 1))
    return torch.stack(crops)
