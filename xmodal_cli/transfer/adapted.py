"""A finished transfer's student with its adapter, as it stood in training: features comparable with the teacher's.

Shapes: C_t channels of the teacher at a transfer point.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from xmodal_cli.errors import DataError
from xmodal_cli.models.align import Alignment
from xmodal_cli.models.backbones import Backbone
from xmodal_cli.models.layers import Tapped, grid
from xmodal_cli.models.weights import load_file
from xmodal_cli.runs.folder import RunFolder
from xmodal_cli.transfer.points import TransferPoint
from xmodal_cli.transfer.student import ADAPTER
from xmodal_cli.transfer.task import AdaptedStudent


def read_adapter(run: RunFolder, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """The adapter of one transfer point, and what it predicts.

    Args:
        run: a finished transfer.
        number: of the transfer point, in the order of the card.

    Returns:
        Weight `(C_t, C_s, 1, 1)`, bias `(C_t,)`, and the divisor `(C_t,)` of the teacher's features.

    Raises:
        DataError: the adapter's file is damaged or of another transfer.
    """
    path = run.path / ADAPTER
    state = load_file(path)
    try:
        return state[f"{number}.weight"], state[f"{number}.bias"], state[f"{number}.divisor"]
    except KeyError as error:
        raise DataError(
            f"{path} has no {error}: it does not belong to the run's card.", "Run the transfer again."
        ) from None


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
    described = card["transfer"][number]
    point = TransferPoint(described["teacher"], described["student"], described["weight"])
    weight, bias, divisor = read_adapter(run, number)
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
