"""From what the user asked to what will be done: every `auto` becomes a value, every problem is found at once."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xmodal_cli.data.memory import common_size, fits_in_memory
from xmodal_cli.data.prepared import RGB, PreparedData
from xmodal_cli.data.proposals import Proposals, open_proposals, require
from xmodal_cli.data.splits import draw
from xmodal_cli.data.transforms import SIZE_STEP, short_side_to
from xmodal_cli.errors import SettingsError, closest
from xmodal_cli.models.catalogue import parse as parse_name
from xmodal_cli.models.torchvision_detectors import COCO
from xmodal_cli.runs.settings import FitSettings
from xmodal_cli.runs.training_settings import FROM_TEACHER, absolute, resolved_training
from xmodal_cli.transfer.losses import LOSSES
from xmodal_cli.transfer.normalise import NORMALISATIONS
from xmodal_cli.transfer.points import TransferPoint, parse
from xmodal_cli.transfer.regions import REGION_LAYERS
from xmodal_cli.transfer.settings import CACHE_MODES, IMAGE, PROPOSALS, REGION_KINDS, DistillSettings
from xmodal_cli.transfer.teacher_detector import TeacherDetector, teacher_detector
from xmodal_cli.transfer.teacher_run import TeacherRun, open_teacher_run

AUTO = "auto"
TEACHER = "vgg16"  # the paper's
SHORT_SIDE = 224  # px: what most ImageNet networks were trained at
# px; training a ResNet-50 at 800, where torchvision's detectors look, takes 13 times the work of 224 and over 10 GB.
LARGEST_AUTO = 400
HELD_OUT_SHARE, HELD_OUT_MOST = 0.1, 512  # of the split, to watch explained variance


@dataclass(frozen=True)
class Samples:
    """Which pairs a transfer trains on, which it holds out to watch itself, and regions of all of them, if wanted."""

    fit: list[str]
    held_out: list[str]
    proposals: Proposals | None = None


def resolve(settings: DistillSettings, data: PreparedData) -> tuple[DistillSettings, Samples]:
    """Turn every `auto` and None into the value that will be used.

    Raises:
        SettingsError: something is wrong; all problems are named at once.
        DataError: pairs have no proposals where regions are wanted.
    """
    taught_by = teacher_run(settings)
    problems = _problems(settings) + _teacher_problems(settings, taught_by)
    if problems:
        raise SettingsError("\n       ".join(problems))
    settings = _with_teacher(settings, taught_by)
    for modality in (settings.source, settings.modality):
        data.modality(modality)
    samples = _samples(settings, data)
    size_hw = parse_size(_size_asked(settings, taught_by), common_size(data, samples.fit))
    in_memory = fits_in_memory(data, samples.fit, (settings.source, settings.modality))
    iterations = settings.iterations or math.ceil(settings.epochs * len(samples.fit) / settings.batch_size)
    resolved = replace(
        resolved_training(settings, iterations, in_memory=in_memory),
        data=absolute(settings.data),
        pairs=len(samples.fit),
        teacher_weights=settings.teacher_weights
        and (COCO if settings.teacher_weights == COCO else absolute(settings.teacher_weights)),
        teacher_run=settings.teacher_run and absolute(settings.teacher_run),
        init=absolute(settings.init),
        size=f"{size_hw[0]}x{size_hw[1]}",
        epochs=round(iterations * settings.batch_size / len(samples.fit), 2),
        cache=_cache_mode(settings),
        proposals=None if samples.proposals is None else samples.proposals.method,
    )
    return resolved, samples


def _problems(settings: DistillSettings) -> list[str]:
    """What can be known to be wrong without looking at the data."""
    found = []
    choices = {"loss": LOSSES, "normalise": NORMALISATIONS, "cache": CACHE_MODES, "regions": REGION_KINDS}
    for option, known in choices.items():
        value = getattr(settings, option)
        if value not in known:
            found.append(f"--{option} {value!r} is not one of {', '.join(known)}. {closest(value, known)}".strip())
    if not 0 < settings.crop <= 1:
        found.append(f"--crop must be in (0, 1], the smallest share of the image that is seen, not {settings.crop}.")
    if settings.iterations is None and not settings.epochs > 0:
        found.append(f"--epochs must be positive, not {settings.epochs}.")
    if settings.pairs is not None and settings.pairs < 1:
        found.append(f"--pairs must be at least 1, not {settings.pairs}.")
    if settings.regions_per_image < 1:
        found.append(f"--regions-per-image must be at least 1, not {settings.regions_per_image}.")
    if settings.regions == PROPOSALS and settings.cache == "on":
        found.append("--cache on keeps maps of whole images; regions are drawn anew each time: leave --cache out.")
    if settings.regions == IMAGE and settings.proposals is not None:
        found.append(f"--proposals {settings.proposals} belongs to --regions proposals: give both, or neither.")
    checked = ("optimiser", "lr", "schedule", "weight_decay", "momentum", "clip_norm", "checkpoint_every")
    placeholder = FitSettings(
        iterations=1 if settings.iterations is None else settings.iterations,
        batch_size=settings.batch_size,
        **{key: getattr(settings, key) for key in checked},
    )
    return found + placeholder.problems()


def teacher_run(settings: DistillSettings) -> TeacherRun | TeacherDetector | None:
    """The run or the detector that teaches, if one does."""
    if settings.teacher_detector is not None and settings.teacher_run is None:
        return teacher_detector(settings.teacher_detector, settings.teacher_weights)
    if settings.teacher_run is None:
        return None
    return open_teacher_run(Path(settings.teacher_run), settings.source)


def _teacher_problems(settings: DistillSettings, taught_by: TeacherRun | TeacherDetector | None) -> list[str]:
    """What does not go together about the teacher."""
    found = []
    source = RGB if settings.source == AUTO else settings.source
    if taught_by is not None:
        of_run = isinstance(taught_by, TeacherRun)
        kind = "--teacher-run" if of_run else "--teacher-detector"
        for option in ("teacher", "teacher_weights", "teacher_detector") if of_run else ("teacher",):
            if getattr(settings, option) is not None:
                found.append(f"{kind} brings network and weights: leave --{option.replace('_', '-')} out.")
        if settings.source not in (AUTO, taught_by.modality):
            found.append(
                f"--source is {settings.source!r}, but the teacher of {taught_by.origin} sees "
                f"{taught_by.modality!r}: leave --source out."
            )
        source = taught_by.modality
    network = str(settings.teacher or TEACHER) if taught_by is None else taught_by.name
    if settings.init == FROM_TEACHER and parse_name(network) != parse_name(settings.student):
        found.append(
            f"--init teacher copies the teacher's weights: the student must be a {network} too, "
            f"not a {settings.student}."
        )
    if source == settings.modality:
        found.append(f"Teacher and student are both of {source!r}: the student would see what the teacher sees.")
    return found


def _with_teacher(settings: DistillSettings, taught_by: TeacherRun | TeacherDetector | None) -> DistillSettings:
    """Settings that say who teaches and what the teacher sees."""
    if taught_by is not None:
        if isinstance(taught_by, TeacherRun):
            return replace(settings, source=taught_by.modality)
        points = settings.transfer or (AUTO,)
        return replace(settings, source=taught_by.modality, teacher_weights=taught_by.weights, transfer=points)
    return replace(
        settings,
        source=RGB if settings.source == AUTO else settings.source,
        teacher=settings.teacher or TEACHER,
        teacher_weights=settings.teacher_weights or "imagenet",
    )


def _size_asked(settings: DistillSettings, taught_by: TeacherRun | TeacherDetector | None) -> str:
    """As asked for; `auto` is the size at which a detector looks where all that it reads is taught."""
    if settings.size != AUTO or settings.transfer != (AUTO,) or taught_by is None or not taught_by.read_layers():
        return settings.size
    looks, square = taught_by.looks_at()
    side = min(looks, LARGEST_AUTO)
    return f"{side}x{side}" if square else str(side)


def _samples(settings: DistillSettings, data: PreparedData) -> Samples:
    ids = data.ids(settings.split)
    if not ids:
        raise SettingsError(f"Split {settings.split!r} of {data.root} has no pairs.")
    fit, held_out = data.hold_out(settings.split, HELD_OUT_SHARE) if len(ids) > 1 else (ids, [])
    if settings.pairs is not None:
        if settings.pairs > len(fit):
            raise SettingsError(
                f"--pairs {settings.pairs}: split {settings.split!r} of {data.root} has {len(fit)} to learn from, and "
                f"{len(held_out)} more that are held out.",
                "Leave --pairs out to learn from all of them.",
            )
        fit = draw(fit, settings.pairs, settings.seed)
    samples = Samples(fit, held_out[:HELD_OUT_MOST])
    if settings.regions == IMAGE:
        return samples
    proposals = open_proposals(data, settings.proposals)
    require(proposals, samples.fit + samples.held_out)
    return replace(samples, proposals=proposals)


def _cache_mode(settings: DistillSettings) -> str:
    """Whole images can be cached without loss; random windows want a live teacher (docs/results.md has the cost)."""
    if settings.cache != "auto":
        return settings.cache
    whole = settings.crop == 1 and settings.regions == IMAGE
    return "on" if whole and not settings.shuffle_pairs else "off"


def transfer_points(texts: tuple[str, ...], default: TransferPoint) -> list[TransferPoint]:
    """The points asked for, in order; the default one when none is.

    Raises:
        SettingsError: a point is not in the right form, or named twice.
    """
    points = [parse(text) for text in texts] or [default]
    names = Counter((point.teacher, point.student) for point in points)
    twice = [f"{teacher}:{student}" for (teacher, student), count in names.items() if count > 1]
    if twice:
        raise SettingsError(f"Transfer point {', '.join(twice)} is named twice.", "Name each once, with its weight.")
    return points


def check_regions(points: Sequence[TransferPoint]) -> None:
    """Make sure that points make sense where regions are compared: some are of regions, and those on both sides.

    Raises:
        SettingsError: they do not.
    """
    both = [(point.teacher in REGION_LAYERS, point.student in REGION_LAYERS) for point in points]
    for point, (teacher, student) in zip(points, both, strict=True):
        if teacher != student:
            raise SettingsError(
                f"{point.teacher}:{point.student} would carry {'regions' if teacher else 'a map'} into "
                f"{'regions' if student else 'a map'}.",
                "With --regions proposals, fc6 and fc7 go with fc6 or fc7: --transfer fc7:fc7",
            )
    if not any(teacher for teacher, _ in both):
        raise SettingsError(
            "--regions proposals is for fc6 and fc7, and neither is a transfer point.",
            "Add --transfer fc7:fc7, or leave --regions out: other layers are maps of the whole image.",
        )


def parse_size(text: str, image_hw: tuple[int, int]) -> tuple[int, int]:
    """The size that networks see.

    Args:
        text: `auto`, a short side in pixels, or `HEIGHTxWIDTH`.
        image_hw: height and width of the data's images.

    Returns:
        Height and width in pixels.

    Raises:
        SettingsError: another form, or too small.

    Example:
        >>> parse_size("auto", (425, 560)), parse_size("64", (100, 200)), parse_size("152x200", (1, 1))
        ((224, 296), (64, 128), (152, 200))
    """
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if text != "auto" and match is None:
        raise SettingsError(
            f"--size {text!r} is not a size.", "Use auto, a short side like 224, or HEIGHTxWIDTH like 224x296."
        )
    if match and match[2]:
        size = int(match[1]), int(match[2])
    else:
        size = short_side_to(int(match[1]) if match else SHORT_SIDE, image_hw)
    if min(size) < SIZE_STEP:
        raise SettingsError(f"--size {text} is too small for a network: at least {SIZE_STEP} px a side.")
    return size
