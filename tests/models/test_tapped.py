"""The part of a network up to its taps: what runs, what is kept, what comes out."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import torchvision
from network_kinds import KINDS, ODD_HW, SELF_SUPERVISED
from torch import Tensor, nn

from xmodal_cli.errors import SettingsError
from xmodal_cli.models.backbones import Backbone, build
from xmodal_cli.models.caffenet import CaffeNet
from xmodal_cli.models.catalogue import parse
from xmodal_cli.models.layers import Tapped, default_layer, grid, layers, missing_keys


@pytest.fixture(scope="module", params=KINDS)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return build(request.param)


def two_layers(backbone: Backbone) -> list[str]:
    names = [layer.name for layer in layers(backbone, ODD_HW)]
    return [names[len(names) // 2], default_layer(backbone)]


def images(count: int, size_hw: tuple[int, int], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, *size_hw), dtype=torch.uint8, generator=generator)


def plain_model(name: str) -> nn.Module:
    """The library's own model, made as its users make it."""
    model = parse(name)
    if model.library == "xmodal":
        return CaffeNet()
    if model.library == "torchvision":
        return torchvision.models.get_model(model.plain, weights=None)
    return timm.create_model(model.plain)


def test_maps_have_the_announced_size_where_it_is_no_multiple_of_32(backbone: Backbone) -> None:
    names = two_layers(backbone)
    with torch.no_grad():
        maps = Tapped(backbone, names).eval()(backbone.input.normalise(images(2, ODD_HW)))
    channels = {layer.name: layer.channels for layer in layers(backbone, ODD_HW)}
    for name in names:
        assert maps[name].shape == (2, channels[name], *grid(backbone, name, ODD_HW).size_hw)
        assert float(maps[name].std()) > 0


def test_every_kept_weight_gets_a_gradient_in_bf16_and_channels_last(backbone: Backbone) -> None:
    names = two_layers(backbone)
    tapped = copy.deepcopy(Tapped(backbone, names)).to(memory_format=torch.channels_last).train()
    inputs = backbone.input.normalise(images(1, ODD_HW)).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        maps = tapped(inputs)
    wanted = torch.randn(maps[names[1]].shape, generator=torch.Generator().manual_seed(1))
    (maps[names[1]].float() - wanted).square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in tapped.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    stem = next(parameter for parameter in tapped.parameters() if parameter.ndim == 4 and parameter.shape[1] == 3)
    assert stem.grad is not None
    assert float(stem.grad.abs().max()) > 0
    assert bool(torch.isfinite(stem.grad).all())


def test_kept_state_fits_the_plain_model_but_for_the_missing_keys(backbone: Backbone) -> None:
    name = two_layers(backbone)[0]
    kept = Tapped(backbone, [name]).kept_state()
    with torch.device("meta"):
        plain = plain_model(backbone.name).state_dict()
    assert [key for key in kept if key not in plain] == []
    assert [key for key in plain if key not in kept] == missing_keys(backbone, [name])
    assert all(kept[key].shape == plain[key].shape for key in kept)
    assert len(missing_keys(backbone, [name])) > 0


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "resnet18", "densenet121"])
def test_maps_are_those_of_the_plain_library_model(name: str) -> None:
    backbone, plain = build(name), plain_model(name).eval()
    plain.load_state_dict(backbone.module.state_dict())
    inputs = backbone.input.normalise(images(1, (224, 224)))
    with torch.no_grad():
        maps = Tapped(backbone, [default_layer(backbone)]).eval()(inputs)[default_layer(backbone)]
        expected = plain.forward_features(inputs)
    if expected.ndim == 3:
        expected = expected[:, plain.num_prefix_tokens :].transpose(1, 2).unflatten(2, (14, 14))
    elif "swin" in name:
        expected = expected.permute(0, 3, 1, 2)
    torch.testing.assert_close(maps, expected)


def test_kept_weights_alone_give_the_same_maps_in_a_new_network() -> None:
    first, second = build("squeezenet1_1", seed=1), build("squeezenet1_1", seed=2)
    inputs = first.input.normalise(images(1, ODD_HW))
    tapped = Tapped(first, ["features.7"]).eval()
    second.module.load_state_dict(tapped.kept_state(), strict=False)
    with torch.no_grad():
        torch.testing.assert_close(Tapped(second, ["features.7"]).eval()(inputs), tapped(inputs), rtol=0, atol=0)


@pytest.mark.parametrize("name", SELF_SUPERVISED)
def test_tokens_of_self_supervised_teachers_come_back_as_a_grid_without_prefix(name: str) -> None:
    backbone = build(name)
    inputs = backbone.input.normalise(images(1, ODD_HW))
    with torch.no_grad():
        maps = Tapped(backbone, ["norm"]).eval()(inputs)["norm"]
        tokens = backbone.module.eval().forward_features(inputs)[:, backbone.module.num_prefix_tokens :]
    rows, columns = grid(backbone, "norm", ODD_HW).size_hw
    assert maps.shape[2:] == (rows, columns)
    torch.testing.assert_close(maps[0, :, 1, 2], tokens[0, columns + 2])
    assert backbone.input.mean == tuple(backbone.module.pretrained_cfg["mean"])


def test_nothing_after_the_last_tap_is_called_or_kept() -> None:
    tapped = Tapped(build("vgg16"), ["pool1", "conv3_2"])

    def refuse(*_: object) -> None:
        raise AssertionError("a later module was called")

    for index in (14, 15, 30):
        tapped.network.get_submodule(f"features.{index}").register_forward_pre_hook(refuse)
    tapped.network.get_submodule("classifier").register_forward_pre_hook(refuse)
    tapped(torch.zeros(1, 3, 32, 32))
    kept = sorted({int(key.split(".")[1]) for key in tapped.kept_state()})
    assert kept == [0, 2, 5, 7, 10, 12]
    assert len(list(tapped.parameters())) == 12


def test_a_tap_before_a_relu_in_place_keeps_its_own_values() -> None:
    backbone = build("alexnet")
    inputs = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = Tapped(backbone, ["features.0", "conv1", "pool1"])(inputs)
    torch.testing.assert_close(maps["features.0"], backbone.module.get_submodule("features.0")(inputs))
    assert float(maps["features.0"].detach().min()) < 0
    torch.testing.assert_close(maps["conv1"], maps["features.0"].relu())


def test_an_addition_in_place_does_not_reach_a_tap() -> None:
    backbone = build("resnet18")
    backbone.module.eval()
    nn.init.ones_(backbone.module.get_submodule("layer1.0.bn2").weight)  # timm starts it at zero
    inputs = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = Tapped(backbone, ["maxpool", "layer1.0.bn2", "layer1.0"])(inputs)
    torch.testing.assert_close(maps["layer1.0"], (maps["layer1.0.bn2"] + maps["maxpool"]).relu())


def test_a_copy_has_weights_of_its_own_and_the_original_shares_them() -> None:
    backbone = build("squeezenet1_1")
    tapped = Tapped(backbone, ["features.2"])
    own = copy.deepcopy(tapped)
    inputs = torch.ones(1, 3, 32, 32)
    before = own(inputs)["features.2"]
    with torch.no_grad():
        backbone.module.get_submodule("features.0").weight.zero_()
    assert float(tapped.kept_state()["features.0.weight"].abs().max()) == 0
    torch.testing.assert_close(own(inputs)["features.2"], before, rtol=0, atol=0)


def test_hooks_are_gone_after_a_pass_even_if_it_failed() -> None:
    tapped = Tapped(build("squeezenet1_1"), ["features.2", "features.5"])
    with pytest.raises(RuntimeError):
        tapped(torch.zeros(1, 5, 32, 32))
    tapped(torch.zeros(1, 3, 32, 32))
    assert all(not part._forward_hooks for part in tapped.modules())


def test_a_module_that_runs_twice_gives_its_last_output() -> None:
    backbone = build("torchvision/resnet18")
    backbone.module.eval()
    inputs = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = Tapped(backbone, ["layer1.0.relu"])(inputs)
    torch.testing.assert_close(maps["layer1.0.relu"], Tapped(backbone, ["layer1.0"])(inputs)["layer1.0"])


def test_fully_connected_layers_are_maps_of_one_cell() -> None:
    maps = Tapped(build("caffenet-rgb"), ["pool5", "fc6"]).eval()(torch.zeros(1, 3, 227, 227))
    assert {name: tuple(value.shape) for name, value in maps.items()} == {
        "pool5": (1, 256, 7, 7),
        "fc6": (1, 4096, 1, 1),
    }


def test_no_layer_at_all_is_refused() -> None:
    with pytest.raises(SettingsError, match="No layer"):
        Tapped(build("squeezenet1_1"), [])
