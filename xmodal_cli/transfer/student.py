"""The student on disk: weights under the plain model's keys, its adapter beside it, the card that explains both."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor

import xmodal_cli
from xmodal_cli import files
from xmodal_cli.errors import DataError
from xmodal_cli.models.backbones import Backbone, InputSpec, build
from xmodal_cli.models.layers import Tapped, missing_keys
from xmodal_cli.models.weights import load_into
from xmodal_cli.runs.folder import RunFolder
from xmodal_cli.transfer.build import Plan
from xmodal_cli.transfer.task import AdaptedStudent

STUDENT, ADAPTER = "student.safetensors", "adapter.safetensors"


@dataclass(frozen=True)
class Student:
    """A transferred student, ready to give features.

    Args:
        backbone: the plain network, with its own input specification; layers above the last transfer point are random.
        layers: the student's transfer layers, in the order of the card.
        modality: what it sees.
        card: the run's card.
    """

    backbone: Backbone
    layers: tuple[str, ...]
    modality: str
    card: dict[str, Any]

    def tapped(self) -> Tapped:
        """The part up to the last transfer point, in eval mode."""
        return Tapped(self.backbone, list(dict.fromkeys(self.layers))).eval()


def save_student(
    run: RunFolder, plan: Plan, module: AdaptedStudent, divisors: Sequence[Tensor], figures: dict[str, Any]
) -> None:
    """Write student, adapter and card; the card last, which makes the run a finished one.

    Args:
        run: the run's folder.
        plan: what was built.
        module: the trained student with its adapters.
        divisors: for each point `(C_t,)`, what the teacher's features were divided by: kept to undo it exactly.
        figures: how the training ended: iterations, metrics, seconds.
    """
    _save(run, STUDENT, module.student.kept_state())
    adapter = dict(module.adapters.state_dict())
    adapter |= {f"{number}.divisor": divisor for number, divisor in enumerate(divisors)}
    _save(run, ADAPTER, adapter)
    run.finish(_card(plan, module, figures))


def load_student(run: RunFolder) -> Student:
    """Read the student of a finished run.

    Raises:
        DataError: the run is not finished, or its files do not belong together.
    """
    card = run.card()
    path = run.path / STUDENT
    try:
        state = load_file(path)
    except Exception as error:  # safetensors raises its own type, an OSError, or a header error: all mean the same here
        raise DataError(f"The student's weights cannot be read: {path}: {error}") from error
    described = card["student"]
    backbone = build(
        f"{described['library']}/{described['name']}" if described["library"] != "xmodal" else described["name"],
        in_channels=described["in_channels"],
        image_hw=tuple(card["size_hw"]),
    )
    load_into(backbone.module, state, str(path), allowed_missing=card["missing_keys"])
    backbone.input = InputSpec.from_dict(described["input"])
    backbone.weights = f"run:{run.path}"
    return Student(backbone, tuple(point["student"] for point in card["transfer"]), card["modality"], card)


def _save(run: RunFolder, name: str, tensors: dict[str, Tensor]) -> None:
    plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    files.write_bytes(run.path / name, save(plain, metadata={"format": "pt"}))


def _card(plan: Plan, module: AdaptedStudent, figures: dict[str, Any]) -> dict[str, Any]:
    settings, data = plan.settings, plan.data
    return {
        "what": f"{settings.student} for {settings.modality}, taught by {settings.teacher} on {settings.source}",
        "made": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "xmodal": xmodal_cli.__version__,
        "modality": settings.modality,
        "encoding": data.modality(settings.modality).to_dict(),
        "student": {
            "name": plan.student.name,
            "library": plan.student.library,
            "in_channels": data.modality(settings.modality).channels,
            "input": plan.student.input.to_dict(),
            "init": settings.init,
            "stem": settings.stem,
        },
        "teacher": {
            "name": plan.teacher.backbone.name,
            "library": plan.teacher.backbone.library,
            "weights": plan.teacher.backbone.weights,
            "weights_sha256": plan.teacher.weights_hash,
            "input": plan.teacher.backbone.input.to_dict(),
        },
        "transfer": [
            {"teacher": point.teacher, "student": point.student, "weight": point.weight, "adapter_relu": relu}
            for point, relu in zip(plan.points, module.rectify, strict=True)
        ],
        "size_hw": list(plan.size_hw),
        "missing_keys": missing_keys(plan.student, list(dict.fromkeys(point.student for point in plan.points))),
        "data": {
            "name": data.name,
            "path": str(data.root.resolve()),
            "split": settings.split,
            "pairs": len(plan.samples.fit),
            "hash": plan.data_hash(),
        },
        "settings": settings.to_dict(),
        **figures,
    }
