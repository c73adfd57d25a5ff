"""From what the user asked to what will be done: every `auto` becomes a value, every problem is found at once."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.transforms import SIZE_STEP, short_side_to
from xmodal_cli.errors import SettingsError, closest
from xmodal_cli.runs import processes
from xmodal_cli.runs.device import available_cpus, resolve_device, resolve_precision, resolve_threads
from xmodal_cli.runs.settings import FitSettings
from xmodal_cli.runs.training_settings import absolute
from xmodal_cli.transfer.losses import LOSSES
from xmodal_cli.transfer.normalise import NORMALISATIONS
from xmodal_cli.transfer.points import TransferPoint, parse
from xmodal_cli.transfer.settings import CACHE_MODES, DistillSettings

SHORT_SIDE = 224  # px: what most ImageNet networks were trained at
HELD_OUT_SHARE, HELD_OUT_MOST = 0.1, 512  # of the split, to watch explained variance
WARMUP_SHARE = 0.05
EVALUATIONS = 12  # per run
MOST_WORKERS = 8
MEMORY_SHARE = 0.3  # of the free memory that decoded images may take


@dataclass(frozen=True)
class Samples:
    """Which pairs a transfer trains on, and which it holds out to watch itself."""

    fit: list[str]
    held_out: list[str]


def resolve(settings: DistillSettings, data: PreparedData) -> tuple[DistillSettings, Samples]:
    """Turn every `auto` and None into the value that will be used.

    Raises:
        SettingsError: something is wrong; all problems are named at once.
    """
    problems = _problems(settings)
    if problems:
        raise SettingsError("\n       ".join(problems))
    for modality in (settings.source, settings.modality):
        data.modality(modality)
    samples = _samples(settings, data)
    device = resolve_device(settings.device)
    size_hw = parse_size(settings.size, common_size(data, samples.fit))
    in_memory = fits_in_memory(data, samples.fit, (settings.source, settings.modality))
    iterations = settings.iterations or math.ceil(settings.epochs * len(samples.fit) / settings.batch_size)
    workers = settings.workers
    if workers is None:
        workers = 0 if in_memory and device.type == "cpu" else min(MOST_WORKERS, max(1, available_cpus() - 1))
    resolved = replace(
        settings,
        data=absolute(settings.data),
        teacher_weights=absolute(settings.teacher_weights),
        init=absolute(settings.init),
        size=f"{size_hw[0]}x{size_hw[1]}",
        device=device.type if device.index is None else str(device),
        precision=resolve_precision(settings.precision, device),
        threads=resolve_threads(settings.threads),
        workers=workers,
        iterations=iterations,
        epochs=round(iterations * settings.batch_size / len(samples.fit), 2),
        warmup=round(WARMUP_SHARE * iterations) if settings.warmup is None else settings.warmup,
        evaluate_every=settings.evaluate_every or max(1, math.ceil(iterations / EVALUATIONS)),
        cache=_cache_mode(settings),
    )
    problems = resolved.fit_settings().problems()
    if settings.batch_size % processes.count():
        problems.append(f"--batch-size {settings.batch_size} cannot be shared evenly by {processes.count()} processes.")
    if problems:
        raise SettingsError("\n       ".join(problems))
    return resolved, samples


def _problems(settings: DistillSettings) -> list[str]:
    """What can be known to be wrong without looking at the data."""
    found = []
    for option, known in (("loss", LOSSES), ("normalise", NORMALISATIONS), ("cache", CACHE_MODES)):
        value = getattr(settings, option)
        if value not in known:
            found.append(f"--{option} {value!r} is not one of {', '.join(known)}. {closest(value, known)}".strip())
    if not 0 < settings.crop <= 1:
        found.append(f"--crop must be in (0, 1], the smallest share of the image that is seen, not {settings.crop}.")
    if settings.iterations is None and not settings.epochs > 0:
        found.append(f"--epochs must be positive, not {settings.epochs}.")
    if settings.source == settings.modality:
        found.append(
            f"--source and --modality are both {settings.modality!r}: the student would see what the teacher sees."
        )
    checked = ("optimiser", "lr", "schedule", "weight_decay", "momentum", "clip_norm", "checkpoint_every")
    placeholder = FitSettings(
        iterations=1 if settings.iterations is None else settings.iterations,
        batch_size=settings.batch_size,
        **{key: getattr(settings, key) for key in checked},
    )
    return found + placeholder.problems()


def _samples(settings: DistillSettings, data: PreparedData) -> Samples:
    ids = data.ids(settings.split)
    if not ids:
        raise SettingsError(f"Split {settings.split!r} of {data.root} has no pairs.")
    if len(ids) == 1:
        return Samples(ids, [])
    fit, held_out = data.hold_out(settings.split, HELD_OUT_SHARE)
    return Samples(fit, held_out[:HELD_OUT_MOST])


def _cache_mode(settings: DistillSettings) -> str:
    """Whole images can be cached without loss; random windows want a live teacher (docs/results.md has the cost)."""
    if settings.cache != "auto":
        return settings.cache
    return "on" if settings.crop == 1 and not settings.shuffle_pairs else "off"


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


def common_size(data: PreparedData, ids: list[str]) -> tuple[int, int]:
    """The size `(H, W)` that most of these pairs have."""
    return Counter(data.size_hw(name) for name in ids).most_common(1)[0][0]


def fits_in_memory(data: PreparedData, ids: list[str], modalities: tuple[str, ...]) -> bool:
    """Whether the decoded images of these pairs take a modest share of the memory that is free."""
    height, width = common_size(data, ids)
    per_pair = sum(
        height * width * data.modalities[name].channels * np.dtype(data.modalities[name].dtype).itemsize
        for name in modalities
    )
    return per_pair * len(ids) < MEMORY_SHARE * free_memory_bytes()


def free_memory_bytes() -> int:
    """Memory that programs may still take; 2 GB where the system does not say."""
    path = Path("/proc/meminfo")
    if path.is_file():
        for line in path.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 2 << 30
