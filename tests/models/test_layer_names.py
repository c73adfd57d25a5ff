"""Layers by name: the paper's names, module paths, what is refused and how."""

from __future__ import annotations

import pytest
import torch
from network_kinds import KINDS

from xmodal_cli.errors import SettingsError
from xmodal_cli.models.backbones import build, skeleton
from xmodal_cli.models.layer_names import module_path, paper_names
from xmodal_cli.models.layers import Tapped, default_layer, layers, resolve_layer
from xmodal_cli.models.networks import Backbone
from xmodal_cli.models.trace import trace

DEFAULTS = {
    "alexnet": "pool5",
    "caffenet": "pool5",
    "caffenet-rgb": "pool5",
    "vgg16": "pool5",
    "squeezenet1_1": "features",
    "resnet18": "layer4",
    "mobilenetv3_small_100": "blocks",
    "efficientnet_b0": "bn2",
    "convnext_atto": "stages",
    "vit_tiny_patch16_224": "norm",
    "swin_tiny_patch4_window7_224": "norm",
    "regnety_002": "s4",
    "densenet121": "features",
    "vit_base_patch16_siglip_224": "norm",
    "torchvision/resnet18": "layer4",
    "torchvision/mobilenet_v3_small": "features",
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_default_is_the_last_map_before_global_pooling(name: str) -> None:
    assert default_layer(skeleton(name)) == DEFAULTS[name]


@pytest.mark.parametrize("name", ["alexnet", "caffenet", "vgg16"])
def test_all_of_the_papers_transfer_layers_exist(name: str) -> None:
    backbone = skeleton(name)
    for layer in ("pool1", "pool2", "conv3", "conv4", "pool5", "fc6", "fc7"):  # table 4
        assert module_path(backbone, layer)


def test_papers_convolutions_are_after_their_relu() -> None:
    for name in ("alexnet", "caffenet", "vgg11_bn"):
        backbone = build(name)
        inputs = backbone.input.normalise(torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8))
        assert float(Tapped(backbone, ["conv2"]).eval()(inputs)["conv2"].detach().min()) == 0


def test_vggs_convolutions_are_numbered_within_blocks() -> None:
    names = paper_names("vgg16", skeleton("vgg16").module)
    assert names["conv3_2"] == "features.13"
    assert names["conv3"] == names["conv3_3"] == "features.15"
    assert names["pool5"] == "features.30"
    assert [name for name in names if name.startswith("pool")] == ["pool1", "pool2", "pool3", "pool4", "pool5"]


def test_a_layer_has_one_resolved_name() -> None:
    backbone = skeleton("vgg16")
    assert {resolve_layer(backbone, name) for name in ("conv3", "conv3_3", "features.15")} == {"conv3_3"}
    assert resolve_layer(skeleton("resnet18"), "layer2.0.conv1") == "layer2.0.conv1"


def test_misspelt_layers_name_the_closest() -> None:
    with pytest.raises(SettingsError, match="no layer 'pol5'") as caught:
        resolve_layer(skeleton("alexnet"), "pol5")
    assert "'pool5'" in str(caught.value.hint)
    assert "xmodal layers alexnet" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "layer", "why"),
    [
        ("swin_tiny_patch4_window7_224", "layers.0.blocks.0.attn", "gives no map of the image"),  # windows, not images
        ("vit_tiny_patch16_224", "blocks.0.attn.q_norm", "gives no map of the image"),  # heads
        ("torchvision/inception_v3", "AuxLogits", "is not used when images are classified"),
    ],
)
def test_modules_without_a_map_are_refused_with_the_reason(name: str, layer: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        resolve_layer(skeleton(name), layer)


def test_sizes_too_small_for_a_network_are_refused() -> None:
    with pytest.raises(SettingsError, match="squeezenet1_1 does not take images of 8x8"):
        layers(skeleton("squeezenet1_1"), (8, 8))


def test_networks_of_one_size_are_asked_at_that_size() -> None:
    backbone = skeleton("beit_base_patch16_224")
    assert layers(backbone, (224, 224))[0].grid_hw == (14, 14)
    with pytest.raises(SettingsError, match="does not take images of 224x288"):
        layers(backbone, (224, 288))


@pytest.mark.parametrize("name", KINDS)
def test_readable_list_holds_the_default_and_no_classifier(name: str) -> None:
    backbone = skeleton(name)
    found = layers(backbone, (224, 224))
    names = [layer.name for layer in found]
    assert default_layer(backbone) in names
    assert len(names) == len(set(names))
    assert not [layer for layer in found if layer.channels == 1000]
    assert set(names) >= {resolve_layer(backbone, layer) for layer in names}
    everything = [layer.name for layer in layers(backbone, (224, 224), every=True)]
    assert len(everything) > len(names) - 2  # fc6 and fc7 are no maps


def test_a_real_networks_trace_leaves_it_as_it_was() -> None:
    backbone: Backbone = build("squeezenet1_1")
    before = {key: tensor.clone() for key, tensor in backbone.module.state_dict().items()}
    trace(backbone.module, backbone.in_channels, (64, 96))
    assert backbone.module.training
    assert all(tensor.device.type == "cpu" for tensor in backbone.module.state_dict().values())
    assert all(torch.equal(before[key], tensor) for key, tensor in backbone.module.state_dict().items())


def test_networks_of_one_name_and_another_structure_are_traced_apart() -> None:
    plain, changed = skeleton("squeezenet1_1"), skeleton("squeezenet1_1")
    changed.module.features[0].stride = (4, 4)
    assert [layers(each, (224, 224))[0].stride for each in (plain, changed)] == [2, 4]


def test_networks_that_differ_in_what_they_do_not_show_are_traced_apart() -> None:
    padded, strict = skeleton("vit_tiny_patch16_224"), skeleton("vit_tiny_patch16_224")
    strict.module.patch_embed.dynamic_img_pad = False
    assert repr(padded.module) == repr(strict.module)
    assert layers(padded, (40, 40))
    with pytest.raises(SettingsError, match="40x40"):
        layers(strict, (40, 40))
