"""Both networks of a transfer and everything decided about them, before anything is trained or written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import Dataset

from xmodal_cli.data.pairs import Pairs, channel_statistics, value_range
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.errors import SettingsError, closest
from xmodal_cli.models.align import Alignment
from xmodal_cli.models.backbones import Backbone, InputSpec, skeleton
from xmodal_cli.models.backbones import build as build_backbone
from xmodal_cli.models.detector_shape import map_channels
from xmodal_cli.models.grid import Grid
from xmodal_cli.models.layers import Tapped, default_layer, grid, resolve_layer
from xmodal_cli.runs import processes
from xmodal_cli.runs.training_settings import FROM_TEACHER
from xmodal_cli.transfer.levels import check_copy, points_read, sizes_differ
from xmodal_cli.transfer.points import TransferPoint
from xmodal_cli.transfer.region_samples import PairsWithRegions
from xmodal_cli.transfer.regions import REGION_GRID, REGION_LAYERS, RegionTapped, read, tap
from xmodal_cli.transfer.resolve import (
    AUTO,
    Samples,
    check_regions,
    parse_size,
    resolve,
    teacher_run,
    transfer_points,
)
from xmodal_cli.transfer.settings import PROPOSALS, DistillSettings
from xmodal_cli.transfer.task import AdaptedStudent, fixed_adapter, neutral_adapter, new_adapter
from xmodal_cli.transfer.teacher import Teacher
from xmodal_cli.transfer.teacher_detector import TeacherDetector
from xmodal_cli.transfer.teacher_run import TeacherRun
from xmodal_cli.web.fetch import Watcher

TEACHER_SEED = 7919  # added to the run's seed: a random teacher, as a control, must not be the student's own start


@dataclass(frozen=True)
class Plan:
    """Both networks and everything decided about them, and what one should know of it; what `build` gives."""

    settings: DistillSettings
    data: PreparedData
    samples: Samples
    taught_by: TeacherRun | TeacherDetector | None
    teacher: Teacher
    student: Backbone
    tapped: Tapped | RegionTapped
    points: list[TransferPoint]
    size_hw: tuple[int, int]
    notes: tuple[str, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where the student is trained."""
        return self.teacher.device

    def data_hash(self) -> str:
        """One hash of every image, and of every proposal, that the transfer reads."""
        modalities = (self.settings.source, self.settings.modality)
        images = self.data.data_hash(modalities, self.samples.fit + self.samples.held_out)
        return images if self.samples.proposals is None else f"{images}/{self.samples.proposals.content_hash}"

    def in_batch(self, pairs: Pairs) -> Dataset[dict[str, Any]]:
        """Pairs as both networks are fed them: with regions where regions are compared."""
        if self.samples.proposals is None:
            return pairs
        return PairsWithRegions(pairs, self.samples.proposals, self.settings.regions_per_image, self.settings.seed)

    @property
    def teacher_grids(self) -> list[Grid]:
        """The teacher's grid at each point."""
        return [self._grid(self.teacher.backbone, point.teacher) for point in self.points]

    @property
    def student_grids(self) -> list[Grid]:
        """The student's grid at each point."""
        return [self._grid(self.student, point.student) for point in self.points]

    @property
    def regions_hw(self) -> tuple[int, int] | None:
        """Size of the input where regions are compared; None where everything is of whole images."""
        return None if self.samples.proposals is None else self.size_hw

    def _grid(self, backbone: Backbone, layer: str) -> Grid:
        if self.regions_hw is not None and layer in REGION_LAYERS:
            return REGION_GRID
        return grid(backbone, layer, self.size_hw)


def build(settings: DistillSettings, downloading: Watcher = lambda url, done, total: None) -> Plan:
    """Open the data, resolve the settings, choose the layers, build both networks as far as they are needed.

    Nothing is written; weights may be downloaded, since naming a pretrained network asks for it.

    Args:
        settings: what is wanted.
        downloading: told of each download's address, bytes done and size.
    """
    data = PreparedData.open(settings.data)
    resolved, samples = resolve(settings, data)
    size_hw = parse_size(resolved.size, (0, 0))
    device = processes.own_device(resolved.device)
    taught_by = teacher_run(resolved)
    points = _points(resolved, taught_by, size_hw)
    teacher = _teacher(resolved, taught_by, data, points, size_hw, downloading)
    if resolved.init == FROM_TEACHER:
        others = taught_by.with_plain_body() if isinstance(taught_by, TeacherDetector) else ()
        check_copy(teacher, skeleton(resolved.student, image_hw=size_hw), [point.student for point in points], others)
    channels = data.modality(resolved.modality).channels
    student = start_student(resolved, teacher, channels, [point.student for point in points], size_hw, downloading)
    if not student.keeps_input:
        student.input = _student_input(data, resolved.modality, samples.fit)
    if not resolved.adapter:
        _check_channels(teacher, student, points)
    regions_hw = None if samples.proposals is None else size_hw
    return Plan(
        settings=replace(resolved, transfer=tuple(map(str, points))),
        data=data,
        samples=samples,
        taught_by=taught_by,
        teacher=Teacher(teacher, [point.teacher for point in points], device, resolved.precision, regions_hw),
        student=student,
        tapped=tap(student, [point.student for point in points], regions_hw),
        points=points,
        size_hw=size_hw,
        notes=tuple(sizes_differ(size_hw, *taught_by.looks_at())) if taught_by and resolved.transfer == (AUTO,) else (),
    )


def _points(
    settings: DistillSettings, taught_by: TeacherRun | TeacherDetector | None, size_hw: tuple[int, int]
) -> list[TransferPoint]:
    """The transfer points under the layers' own names, before any weights are loaded."""
    teacher = skeleton(taught_by.name if taught_by else str(settings.teacher), image_hw=size_hw)
    student = skeleton(settings.student, image_hw=size_hw)
    if settings.transfer == (AUTO,):
        points = points_read(teacher, student, taught_by.read_layers() if taught_by else (), size_hw)
    else:
        points = transfer_points(settings.transfer, TransferPoint(default_layer(teacher), default_layer(student)))
    named = [
        replace(point, teacher=resolve_layer(teacher, point.teacher), student=resolve_layer(student, point.student))
        for point in points
    ]
    if settings.regions == PROPOSALS:
        check_regions(named)
    if taught_by:
        taught_by.check_layers(teacher, [point.teacher for point in named])
    return named


def _check_channels(teacher: Backbone, student: Backbone, points: Sequence[TransferPoint]) -> None:
    """Without adapters, the student gives the teacher's channels itself.

    Raises:
        SettingsError: it has another number of them.
    """
    for point in points:
        wanted, given = map_channels(teacher, point.teacher), map_channels(student, point.student)
        if wanted != given:
            raise SettingsError(
                f"--no-adapter: {point.student} of {student.name} has {given} channels, and {point.teacher} of "
                f"{teacher.name} {wanted}.",
                "Leave --no-adapter out, or choose a student whose layer has as many: `xmodal layers NAME` tells.",
            )


def _teacher(
    settings: DistillSettings,
    taught_by: TeacherRun | TeacherDetector | None,
    data: PreparedData,
    points: Sequence[TransferPoint],
    size_hw: tuple[int, int],
    downloading: Watcher,
) -> Backbone:
    """The network that teaches: by name, or out of a run.

    Raises:
        SettingsError: the run's network takes another number of channels than the data set's images have.
    """
    channels = data.modality(settings.source).channels
    if taught_by and taught_by.network["in_channels"] != channels:
        raise SettingsError(
            f"The teacher of {taught_by.origin} takes {taught_by.network['in_channels']} channels of "
            f"{settings.source}; in {data.root} it has {channels}.",
            "Use the data set that the run learned from, or one that was prepared in the same way.",
        )
    layers = [point.teacher for point in points]
    return teacher_network(settings, taught_by, channels, layers, size_hw, downloading)


def teacher_network(
    settings: DistillSettings,
    taught_by: TeacherRun | TeacherDetector | None,
    channels: int,
    layers: Sequence[str],
    size_hw: tuple[int, int],
    downloading: Watcher = lambda url, done, total: None,
) -> Backbone:
    """The network that teaches, with its weights.

    Args:
        settings: resolved ones.
        taught_by: the run that teaches, if one does.
        channels: of what the teacher sees.
        layers: those that are read; weights beyond them may be missing.
        size_hw: of the input.
        downloading: told of a download.
    """
    if taught_by is not None:
        return taught_by.load()
    return build_backbone(
        str(settings.teacher),
        weights=weights_argument(str(settings.teacher_weights)),
        in_channels=channels,
        image_hw=size_hw,
        seed=settings.seed + TEACHER_SEED,
        through=layers,
        watch=downloading,
    )


def start_student(
    settings: DistillSettings,
    teacher: Backbone | None,
    channels: int,
    layers: Sequence[str],
    size_hw: tuple[int, int],
    downloading: Watcher = lambda url, done, total: None,
) -> Backbone:
    """The student as it is before its first step; its input is still that of its weights.

    Args:
        settings, layers, size_hw, downloading: as in `teacher_network`, of the student.
        teacher: the network that teaches; needed where the student starts as its copy.
        channels: of what the student sees.
    """
    copied = teacher if settings.init == FROM_TEACHER else None
    weights: str | Path | dict[str, Tensor] = (
        weights_argument(settings.init) if copied is None else copied.module.state_dict()
    )
    student = build_backbone(
        settings.student,
        weights=weights,
        in_channels=channels,
        stem=settings.stem,  # type: ignore[arg-type]
        image_hw=size_hw,
        seed=settings.seed,
        through=layers,
        watch=downloading,
    )
    if copied is not None and copied.input.order == "bgr":  # Caffe's weights, which want 0 to 255
        student.input, student.keeps_input = copied.input.with_channels(channels), True
    if copied is not None:
        _same_norms(student.module, copied.module)
    return student


@torch.no_grad()
def _same_norms(student: nn.Module, teacher: nn.Module) -> None:
    """Have copied batch norms divide as the teacher's do: those in detectors have another epsilon than plain ones."""
    own = dict(student.named_modules())
    for name, part in teacher.named_modules():
        copy = own.get(name)
        if isinstance(part, _BatchNorm) and isinstance(copy, _BatchNorm) and copy.running_var is not None:
            copy.running_var += part.eps - copy.eps


def weights_argument(text: str) -> str | Path:
    """`random` and `imagenet` as they are, anything else as a file.

    Raises:
        SettingsError: there is no such file.
    """
    if text in ("random", "imagenet"):
        return text
    path = Path(text)
    if not path.is_file():
        near = closest(text, ("random", "imagenet", FROM_TEACHER))
        raise SettingsError(
            f"There is no weights file {text!r}.",
            near or "Use random, imagenet, or a .pth, .safetensors or .caffemodel file.",
        )
    return path


def _student_input(data: PreparedData, modality: str, ids: Sequence[str]) -> InputSpec:
    """The student's input: the modality's range to 0..1, then the mean and spread measured on the training pairs."""
    mean, std = channel_statistics(data, modality, ids)
    return InputSpec(mean=mean, std=std, range=value_range(data.modality(modality)))


def adapted_student(plan: Plan, rectify: Sequence[bool], divisors: Sequence[Tensor]) -> AdaptedStudent:
    """The student with new adapters at its transfer points.

    A student that starts as a copy of its teacher starts with adapters that change nothing: what both would see alike,
    they would say alike from the first step on.

    Args:
        plan: both networks.
        rectify: for each point, whether its adapter ends in a ReLU.
        divisors: for each point `(C_t,)`, what the teacher's features are divided by.
    """
    random = torch.Generator().manual_seed(plan.settings.seed)
    height, width = plan.size_hw
    boxes = None if plan.regions_hw is None else torch.tensor([[[0.0, 0.0, width, height]]])
    with torch.no_grad():
        given = read(plan.tapped.eval(), torch.zeros(1, len(plan.student.input.mean), height, width), boxes)
    wanted = plan.teacher.features(torch.zeros(1, len(plan.teacher.backbone.input.mean), height, width), boxes)
    return AdaptedStudent(
        plan.tapped,
        plan.student.input,
        plan.points,
        [
            fixed_adapter(divisor)
            if not plan.settings.adapter
            else neutral_adapter(divisor)
            if plan.settings.init == FROM_TEACHER and point.student == point.teacher
            else new_adapter(given[point.student].shape[1], maps.shape[1], random)
            for point, maps, divisor in zip(plan.points, wanted, divisors, strict=True)
        ],
        rectify,
        [Alignment(s, t) for s, t in zip(plan.student_grids, plan.teacher_grids, strict=True)],
    )
