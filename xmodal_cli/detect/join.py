"""A detector for a modality without labels: its lower part replaced by a student that gives the same features.

The franken network of the paper's zero-shot detection (paper, 'Applications to zero-shot detection'; recipe 6): the
student of a transfer, taught by the detector's own network, then the detector's regions, head and outputs as they are.
Nothing is trained. What is left is an ordinary detection run, which predicts, is scored and is fused as any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import xmodal_cli
from xmodal_cli.detect.branches import (
    DETECTORS,
    ZERO_SHOT,
    Trained,
    branch_card,
    detector_card,
    load_trained,
    save_branch,
)
from xmodal_cli.detect.class_names import RECORDED
from xmodal_cli.errors import SettingsError, closest
from xmodal_cli.models.backbones import Backbone
from xmodal_cli.models.detector import Detector
from xmodal_cli.models.detector_files import read_detector
from xmodal_cli.models.detector_shape import DetectorShape, assemble, map_channels
from xmodal_cli.models.joint import JointShape, set_adapter
from xmodal_cli.models.layer_names import module_path
from xmodal_cli.models.torchvision_detectors import BODIES
from xmodal_cli.runs.folder import RunFolder, open_run
from xmodal_cli.runs.session import begin
from xmodal_cli.transfer.adapted import read_adapter
from xmodal_cli.transfer.levels import sizes_differ
from xmodal_cli.transfer.regions import tap
from xmodal_cli.transfer.student import Student, load_student
from xmodal_cli.transfer.teacher import weights_hash

TRANSFER = "distill"


@dataclass(frozen=True)
class Joined:
    """A student under a detector's upper part.

    Args:
        detector: the whole network.
        backbone: the student's plain network, whose weights it shares.
        shape: what stands above it.
        modality: what it sees.
        point: which layer of the detector's network which layer of the student stands for.
    """

    detector: Detector
    backbone: Backbone
    shape: DetectorShape
    modality: str
    point: Mapping[str, Any]


def open_detector(path: Path) -> Trained:
    """A finished detection run whose lower part can be replaced.

    Raises:
        SettingsError: there is no such run.
        DataError: it is not finished, or its files do not belong together.
    """
    if not path.is_dir():
        raise SettingsError(
            f"{str(path)!r} is no run, and no detector of torchvision.",
            closest(str(path), BODIES) or f"Name a run of `xmodal finetune`, or one of {', '.join(BODIES)}.",
        )
    run = open_run(path)
    if run.command not in DETECTORS:
        raise SettingsError(
            f"{path} is a run of `xmodal {run.made_by}`, which is no detector.",
            "Train one: xmodal finetune --data DATA --modality rgb --init imagenet --backbone squeezenet1_1",
        )
    return load_trained(run)


def check_student(run: RunFolder, modality: str | None = None) -> None:
    """Find out whether a run left a student, of the modality that is wanted.

    Raises:
        SettingsError: it sees something else, or there is none.
        DataError: the run is not finished.
    """
    if run.command != TRANSFER:
        teacher = run.path if run.command in DETECTORS else "DETECTOR_RUN"
        raise SettingsError(
            f"{run.path} is a run of `xmodal {run.made_by}`, which leaves no student.",
            f"Teach one: xmodal distill --teacher-run {teacher} --transfer auto --modality {modality or 'MODALITY'}",
        )
    seen = run.card()["modality"]
    if modality not in (None, seen):
        raise SettingsError(
            f"The student of {run.path} sees {seen}, and --modality {modality} is asked for.",
            f"Leave --modality out, or name a student of {modality}.",
        )


def join(trained: Trained, student_run: RunFolder) -> Joined:
    """Put a student where a detector's own lower part was.

    Args:
        trained: the detector; of several branches, the one that the student's teacher sees.
        student_run: a finished transfer whose teacher is the network inside the detector.

    Raises:
        SettingsError: another network taught the student, or a layer that the detector does not read.
        DataError: the run's files are damaged.
    """
    check_student(student_run)
    if trained.run.command == ZERO_SHOT:
        raise SettingsError(
            f"{trained.run.path} is a zero-shot detector: its lower part is a student already, or is shown another "
            "modality as it is.",
            f"Name the detector that it was made from: --detector {trained.card['detector']['run']}",
        )
    student = load_student(student_run)
    described = _branch(trained, student)
    _, backbone = read_detector(trained.run.path, described, len(trained.classes))
    shape = DetectorShape.from_dict(described["shape"])
    _check_teacher(trained, student_run, student, backbone, shape.layer)
    number = _point(trained, student_run, student, backbone, shape.layer)
    point = student.card["transfer"][number]
    above = trained.branches[trained.card["branches"].index(described)].detector
    joined_shape = _joined_shape(shape, backbone, student.backbone, point)
    detector = assemble(student.backbone, joined_shape, len(trained.classes), seed=0)
    _take_over(detector, above)
    if detector.joint is not None and detector.joint.adapter is not None:
        set_adapter(detector.joint, *read_adapter(student_run, number))
    return Joined(detector.eval(), student.backbone, joined_shape, student.modality, point)


def _branch(trained: Trained, student: Student) -> Mapping[str, Any]:
    """What the card says of the detector's network that sees what the student's teacher saw."""
    source = student.card["settings"]["source"]
    branches: Sequence[Mapping[str, Any]] = trained.card["branches"]
    found = [branch for branch in branches if branch["modality"] == source]
    if not found:
        seen = " and ".join(branch["modality"] for branch in branches)
        raise SettingsError(
            f"The student's teacher sees {source}, and the detector {trained.run.path} sees {seen}.",
            f"Name a detector of {source}, or teach a student with this one: {_lesson(trained, student)}",
        )
    return found[0]


def _lesson(trained: Trained, student: Student) -> str:
    """The command that teaches a student what this detector reads."""
    return (
        f"xmodal distill --teacher-run {trained.run.path} --student {student.backbone.name} "
        f"--modality {student.modality} --data {student.card['data']['path']} --transfer auto"
    )


def _check_teacher(trained: Trained, run: RunFolder, student: Student, backbone: Backbone, layer: str) -> None:
    """The student was taught by the network inside the detector, weight for weight."""
    teacher, hint = student.card["teacher"], f"Teach one: {_lesson(trained, student)}"
    if (teacher["name"], teacher["library"]) != (backbone.name, backbone.library):
        raise SettingsError(
            f"The student of {run.path} was taught by {teacher['name']}, and the detector {trained.run.path} is a "
            f"{backbone.name}, read at {layer}.",
            hint,
        )
    layers = [point["teacher"] for point in student.card["transfer"]]
    height, width = student.card["size_hw"]
    read = tap(backbone, layers, (height, width) if student.card.get("regions") else None)
    if weights_hash(read.kept_state()) != teacher["weights_sha256"]:
        origin = f"the run {teacher['run']['path']}" if teacher["run"] else f"{backbone.name} of {teacher['weights']}"
        raise SettingsError(
            f"The student of {run.path} was taught by other weights, {origin}, than those inside the detector "
            f"{trained.run.path}: it gives features that the detector does not know.",
            hint,
        )


def _point(trained: Trained, run: RunFolder, student: Student, backbone: Backbone, layer: str) -> int:
    """The number of the transfer point whose teacher layer is the one that the detector reads."""
    points = student.card["transfer"]
    paths = [module_path(backbone, point["teacher"]) for point in points]
    wanted = module_path(backbone, layer)
    if wanted not in paths:
        taught = ", ".join(f"{point['teacher']}:{point['student']}" for point in points)
        raise SettingsError(
            f"The detector {trained.run.path} reads {layer} of {backbone.name}, and the student of {run.path} was "
            f"taught {taught}.",
            f"Teach it that layer: {_lesson(trained, student)}",
        )
    return paths.index(wanted)


def _joined_shape(shape: DetectorShape, own: Backbone, student: Backbone, point: Mapping[str, Any]) -> DetectorShape:
    """The detector's shape over the student's network."""
    replaced = {"name": own.name, "library": own.library}
    joint = JointShape(
        replaced,
        shape.layer,
        map_channels(own, shape.layer),
        bool(point.get("adapter", True)),
        bool(point["adapter_relu"]),
    )
    same = (own.name, own.library) == (student.name, student.library)
    return replace(shape, layer=point["student"], own_head=shape.own_head and same, joint=joint)


def _take_over(detector: Detector, above: Detector) -> None:
    """Give a joined detector everything that stands above the layer where it was cut."""
    detector.head.load_state_dict(above.head.state_dict())
    detector.cls_score.load_state_dict(above.cls_score.state_dict())
    if detector.bbox_pred is not None and above.bbox_pred is not None:
        detector.bbox_pred.load_state_dict(above.bbox_pred.state_dict())
    with torch.no_grad():
        detector.delta_mean.copy_(above.delta_mean)
        detector.delta_std.copy_(above.delta_std)


def join_runs(
    trained: Trained,
    student_run: RunFolder,
    *,
    runs: Path = Path("runs"),
    name: str | None = None,
    overwrite: bool = False,
    class_names: Mapping[str, str] | None = None,
) -> RunFolder:
    """Join a detector and a student, and keep what comes of it as a detection run of its own, `runs/zero-shot/NAME`.

    Args:
        trained, student_run: as in `join`.
        runs: the folder of all runs.
        name: the run's name; by default `<student>-<modality>-<date>-<4 hex>`.
        overwrite: whether a run of that name may be replaced.
        class_names: the detector's word and the data set's, where they differ; kept for whoever scores the run.

    Raises:
        XmodalError: as `join`; or the folder is taken.
    """
    joined = join(trained, student_run)
    card = student_run.card()
    settings = {
        "detector": str(trained.run.path.resolve()),
        "student": str(student_run.path.resolve()),
        RECORDED: dict(class_names or {}),
    }
    config = {"command": ZERO_SHOT, "xmodal": xmodal_cli.__version__, "settings": settings}
    default_name = f"{joined.backbone.name.replace('/', '-')}-{joined.modality}"
    with begin(runs, ZERO_SHOT, name, config, default_name=default_name, overwrite=overwrite) as run:
        save_branch(run, 0, joined.detector)
        branch = branch_card(0, joined.backbone, joined.shape, joined.detector, joined.modality, card["encoding"])
        seen = trained.branches[0].size
        document = detector_card(
            [branch],
            trained.classes,
            trained.cutoffs,
            seen,
            trained.proposals,
            data=card["data"],
            settings=settings,
            detector={"run": settings["detector"], "what": trained.card["what"], "data": trained.card["data"]},
            student={
                "run": settings["student"],
                "what": card["what"],
                "point": dict(joined.point),
                "size_hw": card["size_hw"],
            },
        )
        run.finish({**document, "what": f"zero-shot {document['what']}, above {trained.card['what']}"})
    return run


def size_notes(trained: Trained, student_run: RunFolder) -> list[str]:
    """What one should know of the sizes at which both learned."""
    return sizes_differ(student_run.card()["size_hw"], trained.branches[0].size.short)
