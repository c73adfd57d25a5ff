"""Promises of transfer points for a detector: one for each layer that it reads, or who has no partner for which."""

from __future__ import annotations

import pytest

from xmodal_cli.errors import SettingsError
from xmodal_cli.models.backbones import skeleton
from xmodal_cli.models.torchvision_detectors import build_detector
from xmodal_cli.transfer.levels import check_copy, points_read

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
    assert "of stride 32.0, 32.0; its own have 2.0, 4.0, 8.0, 16.0." in str(caught.value)
    assert "such as torchvision/mobilenet_v3_large itself" in str(caught.value.hint)
    assert "--transfer features.13:STUDENT_LAYER" in str(caught.value.hint)


def test_copy_of_a_body_with_other_widths_is_refused_with_what_differs() -> None:
    body, student = build_detector("ssdlite320_mobilenet_v3_large").network, skeleton("torchvision/mobilenet_v3_large")
    check_copy(body, student, ["features.12"])
    with pytest.raises(SettingsError) as caught:
        check_copy(body, student, PYRAMID, ["another_detector"])
    assert "from features.13.block.3.0 on (80x672x1x1, the student's 160x672x1x1)" in str(caught.value)
    assert "Or teach with another_detector" in str(caught.value.hint)
