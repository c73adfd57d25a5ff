"""Which layers of two networks go together."""

from __future__ import annotations

from xmodal_cli.models.backbones import skeleton
from xmodal_cli.models.layers import layers
from xmodal_cli.models.partners import partners

IMAGE_HW = (224, 224)


def suggested(student: str, teacher: str) -> dict[str, str]:
    found = partners(layers(skeleton(student), IMAGE_HW), layers(skeleton(teacher), IMAGE_HW))
    return {name: partner.layer.name for name, partner in found.items()}


def test_the_papers_pairs_are_suggested() -> None:
    pairs = suggested("alexnet", "vgg16")
    assert {name: pairs[name] for name in ("pool2", "conv3", "conv5", "pool5", "fc6", "fc7")} == {
        "pool2": "pool4",
        "conv3": "conv5_1",
        "conv5": "conv5_3",
        "pool5": "pool5",
        "fc6": "fc6",
        "fc7": "fc7",
    }


def test_a_network_is_its_own_best_partner() -> None:
    for name in ("vgg16", "resnet18", "swin_tiny_patch4_window7_224", "densenet121"):
        pairs = suggested(name, name)
        assert pairs == {layer: layer for layer in pairs}


def test_offsets_are_those_of_the_dossier() -> None:
    found = partners(layers(skeleton("caffenet"), IMAGE_HW), layers(skeleton("vgg16"), IMAGE_HW))
    assert found["conv5"].offset_yx == (-2.5, -2.5)
    assert found["pool5"].offset_yx == (-10.5, -10.5)


def test_strides_that_the_teacher_has_not_find_no_partner() -> None:
    assert suggested("alexnet", "vit_small_patch14_dinov2") == {}
    assert "pool5" not in suggested("alexnet", "squeezenet1_1")
