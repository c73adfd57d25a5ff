"""Promises of transfer points for a detector: one for each layer that it reads, or who has no partner for which."""

from __future__ import annotations

import pytest

from xmodal_cli.errors import SettingsError
from xmodal_cli.models.backbones import skeleton
from xmodal_cli.transfer.levels import points_read

SIZE_HW = (320, 320)
PYRAMID = ["features.13", "features.16"]  # what detectors with MobileNetV3 read, of stride 32 both


def test_student_of_the_same_network_gives_the_same_layers() -> None:
    network = skeleton("torchvision/mobilenet_v3_large")
    points = points_read(network, network, PYRAMID, SIZE_HW)
    assert [(point.teacher, point.student) for point in points] == [(name, name) for name in PYRAMID]


def test_another_student_gives_layers_of_the_same_strides() -> None:
    points = points_read(skeleton("vgg16"), skeleton("resnet18"), ["conv4_3", "conv5_3"], SIZE_HW)
    assert [str(point) for point in points] == ["conv4_3:layer2=1", "conv5_3:layer3=1"]


def test_student_without_a_layer_of_some_stride_is_told_which_and_what_it_has() -> None:
    with pytest.raises(SettingsError) as caught:
        points_read(skeleton("torchvision/mobilenet_v3_large"), skeleton("squeezenet1_1"), PYRAMID, SIZE_HW)
    assert "squeezenet1_1 has no layer for features.13, features.16" in str(caught.value)
    assert "of stride 32.0, 32.0; its own have" in str(caught.value)
    assert "--transfer features.13:STUDENT_LAYER" in str(caught.value.hint)
