"""A torchvision detector for a modality without labels: its body replaced by a student, at every level that it reads.

A student of the very network that the detector has inside, taught without adapters, goes in as plain weights: then the
file holds torchvision's own keys and loads into torchvision's own model. Any other stands in the body's place with its
adapters and alignments.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.nn.modules.batchnorm import _BatchNorm

import xmodal_cli
from xmodal_cli.detect.branches import VISION, ZERO_SHOT, branch_file
from xmodal_cli.detect.class_names import RECORDED
from xmodal_cli.detect.join import check_student
from xmodal_cli.errors import SettingsError
from xmodal_cli.models.backbones import Backbone, rebuild
from xmodal_cli.models.detector_shape import map_channels
from xmodal_cli.models.inputs import InputSpec
from xmodal_cli.models.joint import Joint, JointShape, set_adapter
from xmodal_cli.models.layer_names import module_path
from xmodal_cli.models.layers import Tapped, missing_keys
from xmodal_cli.models.stand_in import StandIn
from xmodal_cli.models.torchvision_detectors import (
    VisionDetector,
    build_detector,
    load_body,
    replace_body,
    set_input,
)
from xmodal_cli.models.weights import load_file, load_into, save_file
from xmodal_cli.runs.folder import RunFolder
from xmodal_cli.runs.session import begin
from xmodal_cli.transfer.adapted import read_adapter
from xmodal_cli.transfer.levels import sizes_differ
from xmodal_cli.transfer.student import Student, load_student
from xmodal_cli.transfer.teacher import weights_hash


@dataclass(frozen=True)
class Vision:
    """A torchvision detector that is ready to look at a modality.

    Args:
        detector: the detector.
        modality: what it sees.
        seen: how its images are fed.
        encoding: how images of this modality were made; None of a colour detector.
        run: its folder, if it has one.
        card: of that run.
    """

    detector: VisionDetector
    modality: str
    seen: InputSpec
    encoding: Mapping[str, Any] | None = None
    run: RunFolder | None = None
    card: Mapping[str, Any] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of its labels from 1 on."""
        return self.detector.classes


def join_vision(
    name: str,
    student_run: RunFolder,
    *,
    weights: str | None = None,
    runs: Path = Path("runs"),
    run_name: str | None = None,
    overwrite: bool = False,
    class_names: Mapping[str, str] | None = None,
) -> RunFolder:
    """Put a student where a torchvision detector's body was; keep what comes of it as a run, `runs/zero-shot/NAME`.

    Args:
        name: the detector.
        student_run: a finished transfer that this detector taught.
        weights: of the detector; by default those that taught the student.
        runs, run_name, overwrite, class_names: as in `join.join_runs`.

    Raises:
        SettingsError: another detector or other weights taught the student, or not every level of it.
    """
    check_student(student_run)
    student = load_student(student_run)
    detector = taught_with(name, student_run, student, weights)
    numbers = _points(detector, student_run, student)
    points = [student.card["transfer"][number] for number in numbers]
    shapes = [_shape(detector.network, point) for point in points]
    plain = not any(point.get("adapter", True) for point in points) and _as_weights(detector, student)
    if not plain:
        below = StandIn(student.backbone, [point["student"] for point in points], shapes)
        for number, joint in zip(numbers, below.joints, strict=True):
            if isinstance(joint, Joint) and joint.adapter is not None:
                set_adapter(joint, *read_adapter(student_run, number))
        replace_body(detector, below.eval(), student.backbone.input)
    branch = _branch_card(student, points, shapes, plain=plain)
    settings = {
        "detector": detector.name,
        "weights": detector.weights,
        "student": str(student_run.path.resolve()),
        RECORDED: dict(class_names or {}),
    }
    config = {"command": ZERO_SHOT, "xmodal": xmodal_cli.__version__, "settings": settings}
    default_name = f"{detector.name}-{student.modality}"
    with begin(runs, ZERO_SHOT, run_name, config, default_name=default_name, overwrite=overwrite) as run:
        save_file(run.path / branch_file(0), detector.module.state_dict())
        run.finish(_card(detector, student, branch, settings))
    return run


def _branch_card(
    student: Student, points: Sequence[Mapping[str, Any]], shapes: Sequence[JointShape], *, plain: bool
) -> dict[str, Any]:
    """What the card says of the student under the detector."""
    layers = [point["student"] for point in points]
    return {
        "file": branch_file(0),
        "modality": student.modality,
        "encoding": student.card["encoding"],
        "backbone": student.backbone.to_dict(),
        "missing_keys": missing_keys(student.backbone, layers),
        "points": [{"student": layer, "joint": shape.to_dict()} for layer, shape in zip(layers, shapes, strict=True)],
        "plain": plain,
    }


def _card(
    detector: VisionDetector, student: Student, branch: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "kind": VISION,
        "what": f"zero-shot {detector.name} on {student.modality}",
        "made": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "xmodal": xmodal_cli.__version__,
        "classes": list(detector.classes),
        "detector": {"name": detector.name, "weights": detector.weights},
        "branches": [dict(branch)],
        "data": student.card["data"],
        "settings": dict(settings),
        "student": {key: student.card[key] for key in ("what", "size_hw")} | {"run": settings["student"]},
    }


def vision_size_notes(vision: Vision, student_run: RunFolder) -> list[str]:
    """As `join.size_notes`, for a torchvision detector."""
    return sizes_differ(student_run.card()["size_hw"], vision.detector.short_px, square=vision.detector.square)


def taught_with(name: str, run: RunFolder, student: Student, weights: str | None = None) -> VisionDetector:
    """The detector that taught a student, with its weights.

    Raises:
        SettingsError: another one did.
    """
    described = student.card["teacher"].get("detector")
    hint = (
        f"Teach one: xmodal distill --teacher-detector {name} --student {student.backbone.name} "
        f"--modality {student.modality} --data {student.card['data']['path']}"
    )
    if described is None or described["detector"] != name.removeprefix("torchvision/"):
        teacher = described["detector"] if described else student.card["teacher"]["name"]
        raise SettingsError(f"The student of {run.path} was taught by {teacher}, not by {name}.", hint)
    detector = build_detector(name, weights=weights or described["weights"])
    read = Tapped(detector.network, [point["teacher"] for point in student.card["transfer"]])
    if weights_hash(read.kept_state()) != student.card["teacher"]["weights_sha256"]:
        raise SettingsError(
            f"The student of {run.path} was taught by other weights of {name}: it gives features that this one does "
            "not know.",
            hint,
        )
    return detector


def _points(detector: VisionDetector, run: RunFolder, student: Student) -> list[int]:
    """For each level of the detector the number of its transfer point."""
    paths = [module_path(detector.network, point["teacher"]) for point in student.card["transfer"]]
    missing = [level for level in detector.levels if module_path(detector.network, level) not in paths]
    if missing:
        raise SettingsError(
            f"{detector.name} reads {', '.join(detector.levels)}, and the student of {run.path} was not taught "
            f"{', '.join(missing)}.",
            f"Teach it every level: xmodal distill --teacher-detector {detector.name} --transfer auto "
            f"--student {student.backbone.name} --modality {student.modality} --data {student.card['data']['path']}",
        )
    return [paths.index(module_path(detector.network, level)) for level in detector.levels]


def _shape(network: Backbone, point: Mapping[str, Any]) -> JointShape:
    own = {"name": network.name, "library": network.library}
    channels = map_channels(network, point["teacher"])
    return JointShape(own, point["teacher"], channels, bool(point.get("adapter", True)), bool(point["adapter_relu"]))


def _as_weights(detector: VisionDetector, student: Student) -> bool:
    """Give the detector's body the student's weights, if it is the same network; whether that was so."""
    same = (student.backbone.name, student.backbone.library) == (detector.network.name, detector.network.library)
    pairs = student.card["transfer"]
    if not same or any(point["teacher"] != point["student"] for point in pairs):
        return False
    norms = [part.eps for part in student.backbone.module.modules() if isinstance(part, _BatchNorm)]
    state = student.tapped().kept_state()
    if not load_body(detector, state, norms[0] if norms else 0.0):
        return False
    set_input(detector, student.backbone.input)
    return True


def load_vision(run: RunFolder) -> Vision:
    """Read a finished zero-shot run of a torchvision detector.

    Raises:
        DataError: the run is not finished, or its files do not belong together.
    """
    card = run.card()
    branch = card["branches"][0]
    detector, student = build_detector(card["detector"]["name"]), rebuild(branch["backbone"])
    set_input(detector, student.input)
    if not branch["plain"]:
        layers = [point["student"] for point in branch["points"]]
        shapes = [JointShape.from_dict(point["joint"]) for point in branch["points"]]
        replace_body(detector, StandIn(student, layers, shapes), student.input)
    path = run.path / branch["file"]
    load_into(detector.module, load_file(path), str(path))
    detector.module.eval().requires_grad_(False)
    return Vision(detector, branch["modality"], student.input, branch["encoding"], run, card)
