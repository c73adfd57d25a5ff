"""From what the user asked of a detector to what will be done: every problem found at once, every `auto` a value."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from xmodal_cli.detect.samples import SMALLEST_SIDE
from xmodal_cli.detect.settings import FEATURES, SMALL_ITERATIONS, FinetuneSettings
from xmodal_cli.detect.start import resolved_start, start_problems
from xmodal_cli.errors import SettingsError, closest
from xmodal_cli.models.backbones import Backbone
from xmodal_cli.models.regions import POOLINGS
from xmodal_cli.runs.training_settings import absolute, resolved_training

LEARNED_LR = 0.1  # factor on the learning rate of a trunk that has learned already
EVALUATIONS = 4  # of held-out images in a run: each costs as much as many steps


def check(settings: FinetuneSettings) -> None:
    """Find what can be known to be wrong before anything is opened.

    Raises:
        SettingsError: all problems at once.
    """
    found = _choices(settings) + _numbers(settings) + _networks(settings) + settings.problems()
    if found:
        raise SettingsError("\n       ".join(found))


def resolve(settings: FinetuneSettings, backbone: Backbone, method: str, *, in_memory: bool) -> FinetuneSettings:
    """Turn every `auto` and None into the value that will be used.

    Args:
        settings: what is asked for.
        backbone: the network it begins with.
        method: name of the proposals that are used.
        in_memory: whether images are kept.
    """
    iterations = settings.iterations or SMALL_ITERATIONS
    settings = resolved_training(settings, iterations, in_memory=in_memory, evaluations=EVALUATIONS)
    return replace(
        settings,
        **resolved_start(settings, backbone),
        joint=settings.joint and absolute(settings.joint),
        trunk_lr=_trunk_lr(settings, backbone),
        proposals=method,
    )


def _trunk_lr(settings: FinetuneSettings, backbone: Backbone) -> float:
    if settings.trunk_lr is not None:
        return settings.trunk_lr
    return 1.0 if backbone.weights == "random" else LEARNED_LR


def _choices(settings: FinetuneSettings) -> list[str]:
    found = []
    for option, known in (("pooling", POOLINGS), ("features", FEATURES)):
        value = getattr(settings, option)
        if value not in known:
            found.append(f"--{option} {value!r} is not one of {', '.join(known)}. {closest(value, known)}".strip())
    return found


def _numbers(settings: FinetuneSettings) -> list[str]:
    found = []
    for option in ("regions", "pool_size", "proposals_per_image", "per_image", "per_image_mean"):
        if getattr(settings, option) < 1:
            found.append(f"--{option.replace('_', '-')} must be at least 1, not {getattr(settings, option)}.")
    for option in ("foreground", "nms"):
        if not 0 < getattr(settings, option) <= 1:
            found.append(f"--{option} is a share above 0 and at most 1, not {getattr(settings, option)}.")
    for option in ("hold_out", "dropout"):
        if not 0 <= getattr(settings, option) < 1:
            found.append(f"--{option.replace('_', '-')} is at least 0 and below 1, not {getattr(settings, option)}.")
    if not 0 <= settings.background_low < 0.5:
        found.append(f"--background-low is at least 0 and below 0.5, not {settings.background_low}.")
    for option in ("class_loss", "box_loss", "merge_px", "reduced", "trunk_lr"):
        if not (getattr(settings, option) or 0) >= 0:
            found.append(f"--{option.replace('_', '-')} must not be negative, not {getattr(settings, option)}.")
    if not SMALLEST_SIDE <= settings.size <= settings.longest:
        found.append(f"--size must be from {SMALLEST_SIDE} to --longest ({settings.longest}) px, not {settings.size}.")
    if len(settings.head) != 2 or min(settings.head, default=0) < 1:
        found.append(f"head has two widths, fc6 and fc7, not {list(settings.head)}.")
    return found


def _networks(settings: FinetuneSettings) -> list[str]:
    found = start_problems(settings)
    if settings.joint is not None and not Path(settings.joint).is_dir():
        found.append(f"--joint: there is no run at {settings.joint!r}.")
    return found
