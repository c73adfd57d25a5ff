"""Transfer points: which teacher layer is carried into which student layer, and how much it counts."""

from __future__ import annotations

import re
from dataclasses import dataclass

from xmodal_cli.errors import SettingsError

_FORM = re.compile(r"^(?P<teacher>[^:=]+)(?::(?P<student>[^:=]+))?(?:=(?P<weight>[^:=]+))?$")


@dataclass(frozen=True)
class TransferPoint:
    """One term of the loss: teacher layer, student layer, weight."""

    teacher: str
    student: str
    weight: float = 1.0

    def __str__(self) -> str:
        return f"{self.teacher}:{self.student}={self.weight:g}"


def parse(text: str) -> TransferPoint:
    """Read `TEACHER:STUDENT=WEIGHT`; the student's layer and the weight may be left out.

    Raises:
        SettingsError: the text has another form, or the weight is no positive number.

    Example:
        >>> parse("conv3:conv3=0.5")
        TransferPoint(teacher='conv3', student='conv3', weight=0.5)
        >>> parse("pool5")
        TransferPoint(teacher='pool5', student='pool5', weight=1.0)
    """
    match = _FORM.match(text.strip())
    hint = "Write TEACHER_LAYER:STUDENT_LAYER=WEIGHT, e.g. conv3:conv3=0.5; `xmodal layers NAME` lists layers."
    if match is None:
        raise SettingsError(f"{text!r} is not a transfer point.", hint)
    try:
        weight = float(match["weight"] or 1.0)
    except ValueError as error:
        raise SettingsError(f"The weight of transfer point {text!r} is not a number.", hint) from error
    if not 0 < weight < float("inf"):
        raise SettingsError(f"The weight of transfer point {text!r} must be positive.", hint)
    return TransferPoint(match["teacher"], match["student"] or match["teacher"], weight)
