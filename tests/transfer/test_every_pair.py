"""Any kind of network teaches any other: a step for every pair, at a size that is no multiple of 32."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from network_kinds import KINDS

from xmodal_cli.models.align import Alignment
from xmodal_cli.models.backbones import Backbone, build
from xmodal_cli.models.layers import Tapped, default_layer, grid
from xmodal_cli.transfer.normalise import FeatureSums
from xmodal_cli.transfer.points import TransferPoint
from xmodal_cli.transfer.task import AdaptedStudent, TransferTask, new_adapter
from xmodal_cli.transfer.teacher import Teacher

CPU = torch.device("cpu")
ODD_HW = (72, 104)  # as small as every kind takes: a step of every pair is much
LEARNING_RATE = 1e-4  # small enough that a step of Adam goes down on every network, whatever its depth


@cache
def network(kind: str, role: str) -> Backbone:
    return build(kind, image_hw=ODD_HW, seed=len(role))


@cache
def images() -> torch.Tensor:
    return torch.randint(0, 256, (1, 3, *ODD_HW), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@cache
def teacher_of(kind: str) -> tuple[Teacher, torch.Tensor, FeatureSums]:
    backbone = network(kind, "teacher")
    teacher = Teacher(backbone, [default_layer(backbone)], CPU, "fp32")
    features = teacher.features(images())[0]
    sums = FeatureSums()
    sums.add(features)
    return teacher, features, sums


def adapted(student_kind: str, teacher_kind: str) -> tuple[AdaptedStudent, TransferTask]:
    """A fresh student of one kind, with the task to follow a teacher of another."""
    teacher, features, sums = teacher_of(teacher_kind)
    backbone = network(student_kind, "student")
    layer = default_layer(backbone)
    tapped = copy.deepcopy(Tapped(backbone, [layer]))
    channels = tapped.taps[layer].channels
    grids = grid(backbone, layer, ODD_HW), grid(teacher.backbone, teacher.layers[0], ODD_HW)
    statistics = sums.statistics()
    module = AdaptedStudent(
        tapped,
        backbone.input,
        [TransferPoint(teacher.layers[0], layer)],
        [new_adapter(channels, features.shape[1], torch.Generator().manual_seed(0))],
        [statistics.non_negative],
        [Alignment(*grids)],
    )
    return module, TransferTask(module, teacher, [statistics.divisor("scale")], "l2", "rgb", "hha")


@pytest.mark.parametrize("student_kind", KINDS)
def test_every_teacher_teaches_this_student(student_kind: str) -> None:
    failures = []
    for teacher_kind in KINDS:
        module, task = adapted(student_kind, teacher_kind)
        module.eval()  # without dropout's draws, the loss before and after is of the same function
        batch = {"hha": images(), "teacher/0": teacher_of(teacher_kind)[1]}
        optimiser = torch.optim.Adam(module.parameters(), LEARNING_RATE)
        before = task.step(module, batch)["loss"]
        before.backward()
        first = next(p for p in module.student.parameters() if p.ndim == 4)
        if first.grad is None or not float(first.grad.abs().max()) > 0:
            failures.append(f"{teacher_kind}: no gradient at the first layer")
        optimiser.step()
        with torch.no_grad():
            after = task.step(module, batch)["loss"]
        if not float(after) < float(before):
            failures.append(f"{teacher_kind}: the loss went from {float(before)} to {float(after)}")
    assert not failures
