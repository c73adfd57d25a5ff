"""What Caffe's weights promise as teacher and as the student's start: they are fed as Caffe fed them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from caffe_files import write_caffemodel
from tiny_runs import settings

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.models.inputs import CAFFE_INPUT
from xmodal_cli.transfer.build import Plan, build

CONV1 = (96, 3, 11, 11)


@pytest.fixture
def weights(tmp_path: Path) -> str:
    random = np.random.default_rng(0)
    blobs = random.normal(0, 0.05, CONV1).astype(np.float32), np.zeros(96, np.float32)
    return str(write_caffemodel(tmp_path / "net.caffemodel", {"conv1": blobs}, "layers"))


def planned(data: PreparedData, **changes: str) -> Plan:
    networks = {"teacher": "caffenet", "student": "caffenet", "transfer": ("pool1:pool1=1",)}
    return build(settings(data, **{**networks, **changes}))


def test_a_teacher_sees_colour_as_caffe_fed_it(tiny_data: PreparedData, weights: str) -> None:
    plan = planned(tiny_data, teacher_weights=weights)
    assert plan.teacher.backbone.input == CAFFE_INPUT
    assert plan.student.input.order == "rgb"  # the student begins from random weights: its input is measured


def test_a_student_that_starts_from_them_sees_its_modality_so(tiny_data: PreparedData, weights: str) -> None:
    plan = planned(tiny_data, init=weights)
    assert plan.student.input == CAFFE_INPUT.with_channels(len(plan.student.input.mean))
    assert plan.student.to_dict()["input"]["order"] == "bgr"


def test_a_student_that_starts_as_such_a_teacher_sees_as_it_does(tiny_data: PreparedData, weights: str) -> None:
    plan = planned(tiny_data, teacher_weights=weights, init="teacher")
    assert plan.student.input == CAFFE_INPUT.with_channels(len(plan.student.input.mean))
