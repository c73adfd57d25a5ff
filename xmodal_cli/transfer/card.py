"""What a finished transfer leaves: the student under the plain model's keys, its adapter beside it, and the card."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

import xmodal_cli
from xmodal_cli.data.proposals import Proposals
from xmodal_cli.models.layers import missing_keys
from xmodal_cli.models.weights import save_file
from xmodal_cli.runs.folder import RunFolder
from xmodal_cli.transfer.build import Plan
from xmodal_cli.transfer.student import ADAPTER, STUDENT
from xmodal_cli.transfer.task import AdaptedStudent
from xmodal_cli.transfer.teacher_detector import TeacherDetector
from xmodal_cli.transfer.teacher_run import TeacherRun


def save_student(
    run: RunFolder, plan: Plan, module: AdaptedStudent, divisors: Sequence[Tensor], figures: Mapping[str, Any]
) -> None:
    """Write student, adapter and card; the card last, which makes the run a finished one.

    Args:
        run: the run's folder.
        plan: what was built.
        module: the trained student with its adapters.
        divisors: for each point `(C_t,)`, what the teacher's features were divided by: kept to undo it exactly.
        figures: how the training ended: iterations, metrics, seconds.
    """
    save_file(run.path / STUDENT, module.student.kept_state())
    adapter = dict(module.adapters.state_dict())
    adapter |= {f"{number}.divisor": divisor for number, divisor in enumerate(divisors)}
    save_file(run.path / ADAPTER, adapter)
    run.finish(_card(plan, module, figures))


def _card(plan: Plan, module: AdaptedStudent, figures: Mapping[str, Any]) -> dict[str, Any]:
    settings, data = plan.settings, plan.data
    teacher = plan.teacher.backbone
    return {
        "what": f"{settings.student} for {settings.modality}, taught by {teacher.name} on {settings.source}",
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
            "name": teacher.name,
            "library": teacher.library,
            "weights": teacher.weights,
            "weights_sha256": plan.teacher.weights_hash,
            "input": teacher.input.to_dict(),
            "run": plan.taught_by.to_dict() if isinstance(plan.taught_by, TeacherRun) else None,
            "detector": plan.taught_by.to_dict() if isinstance(plan.taught_by, TeacherDetector) else None,
        },
        "transfer": [
            {
                "teacher": point.teacher,
                "student": point.student,
                "weight": point.weight,
                "adapter": settings.adapter,
                "adapter_relu": relu,
            }
            for point, relu in zip(plan.points, module.rectify, strict=True)
        ],
        "regions": None if plan.samples.proposals is None else _regions(plan, plan.samples.proposals),
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


def _regions(plan: Plan, proposals: Proposals) -> dict[str, Any]:
    """What fc6 and fc7 were compared on."""
    return {
        "proposals": proposals.method,
        "per_image": plan.settings.regions_per_image,
        "description": dict(proposals.description),
    }
