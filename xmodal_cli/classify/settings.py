"""The settings of a classifier's training, their defaults and presets.

`small` trains on two CPU cores in minutes. Of the paper's supervised training on flow (section 4.2, third row of Table
7's flow) one thing is known: it starts from colour weights. Size, steps, batch, rate, schedule and augmentation are
UNKNOWN (recipe 7), so that `paper` sets the start alone and leaves the rest as it is in `small`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from xmodal_cli.detect.start import StartSettings, resolved_start, start_problems
from xmodal_cli.errors import SettingsError
from xmodal_cli.models.backbones import Backbone
from xmodal_cli.runs.settings import FitSettings
from xmodal_cli.runs.training_settings import resolved_training

SMALL_ITERATIONS = 1000
EVALUATIONS = 4  # of held-out images in a run
SMALLEST_SIDE = 32  # px of an image that a network can see


@dataclass(frozen=True)
class ClassificationSettings(StartSettings):
    """Everything that decides what a classifier becomes; `auto` and None are resolved to values before it starts.

    Args:
        hold_out: share of the split, by scene, that it does not learn from and is scored on meanwhile; 0 for none.
        layer: whose map is averaged and classified; fc7 of AlexNet, CaffeNet and VGG, else the last map.
        size: short side in pixels that the network sees.
        crop: smallest share of the image that a random window may have; 1 sees whole images.
        flip: mirror half of the images.
        dropout: share of the averaged channels dropped.
        trunk_lr: factor on the learning rate of all but the last layer.
    """

    hold_out: float = 0.0
    size: int = 224
    crop: float = 0.5
    flip: bool = True
    dropout: float = 0.5
    trunk_lr: float = 1.0
    batch_size: int = field(default=16, kw_only=True)  # images per step
    lr: float = field(default=3e-4, kw_only=True)

    def fit_settings(self) -> FitSettings:
        """The part that the training loop reads, once everything is resolved."""
        return replace(super().fit_settings(), part_lr={"trunk": self.trunk_lr})


PRESETS: dict[str, dict[str, Any]] = {"small": {}, "paper": {"init": "imagenet"}}


def check(settings: ClassificationSettings) -> None:
    """Find what can be known to be wrong before anything is opened.

    Raises:
        SettingsError: all problems at once.
    """
    found = []
    for option in ("hold_out", "dropout"):
        if not 0 <= getattr(settings, option) < 1:
            found.append(f"--{option.replace('_', '-')} is at least 0 and below 1, not {getattr(settings, option)}.")
    if settings.size < SMALLEST_SIDE:
        found.append(f"--size must be at least {SMALLEST_SIDE} px, not {settings.size}.")
    if not 0 < settings.crop <= 1:
        found.append(f"crop must be in (0, 1], the smallest share of the image that is seen, not {settings.crop}.")
    if not settings.trunk_lr >= 0:
        found.append(f"trunk_lr must not be negative, not {settings.trunk_lr}.")
    found += start_problems(settings) + settings.problems()
    if found:
        raise SettingsError("\n       ".join(found))


def resolve(
    settings: ClassificationSettings, backbone: Backbone, layer: str, *, in_memory: bool
) -> ClassificationSettings:
    """Turn every `auto` and None into the value that will be used.

    Args:
        settings: what is asked for.
        backbone: the network it begins with.
        layer: that is classified.
        in_memory: whether images are kept.
    """
    iterations = settings.iterations or SMALL_ITERATIONS
    settings = resolved_training(settings, iterations, in_memory=in_memory, evaluations=EVALUATIONS)
    return replace(settings, **resolved_start(settings, backbone), layer=layer)
