"""A finished transfer's student with its adapter, as it stood in training: features comparable with the teacher's.

Shapes: C_t channels of the teacher at a transfer point.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from xmodal_cli.errors import DataError
from xmodal_cli.models.backbones import Backbone
from xmodal_cli.models.layers import Tapped, grid
from xmodal_cli.models.weights import load_file
from xmodal_cli.runs.folder import RunFolder
from xmodal_cli.transfer.align import Alignment
from xmodal_cli.transfer.points import TransferPoint
from xmodal_cli.transfer.student import ADAPTER
from xmodal_cli.transfer.task import AdaptedStudent


def load_adapted(
    run: RunFolder,
    card: Mapping[str, Any],
    student: Backbone,
    teacher: Backbone,
    number: int,
    size_hw: tuple[int, int],
) -> tuple[AdaptedStudent, Tensor]:
    """The student behind the adapter of one transfer point that is a map of the whole image.

    Args:
        run: a finished transfer.
        card: its card.
        student: its student.
        teacher: the network that taught, for its grid.
        number: of the transfer point, in the order of the card.
        size_hw: of the input.

    Returns:
        The module in eval mode, whose one output is `(N, C_t, h, w)` on the teacher's grid, and the divisor `(C_t,)`
        that the teacher's features were divided by.

    Raises:
        DataError: the adapter's file is damaged or of another transfer.
    """
    described, path = card["transfer"][number], run.path / ADAPTER
    point = TransferPoint(described["teacher"], described["student"], described["weight"])
    state = load_file(path)
    try:
        weight, bias = state[f"{number}.weight"], state[f"{number}.bias"]
        divisor = state[f"{number}.divisor"]
    except KeyError as error:
        raise DataError(
            f"{path} has no {error}: it does not belong to the run's card.", "Run the transfer again."
        ) from None
    adapter = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
    adapter.load_state_dict({"weight": weight, "bias": bias})
    alignment = Alignment(grid(student, point.student, size_hw), grid(teacher, point.teacher, size_hw))
    module = AdaptedStudent(
        Tapped(student, [point.student]),
        student.input,
        [point],
        [adapter],
        [bool(described["adapter_relu"])],
        [alignment],
    )
    return module.eval().requires_grad_(False), divisor
