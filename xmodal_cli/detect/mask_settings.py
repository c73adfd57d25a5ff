"""The settings of a mask training, their defaults and presets.

`small` trains on two CPU cores in minutes, on maps of the frozen detector that are computed once; `paper` is the
published configuration (recipe 5.3).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from xmodal_cli.errors import SettingsError
from xmodal_cli.runs.settings import FitSettings
from xmodal_cli.runs.training_settings import NO_FILE, TrainingSettings, absolute, resolved_training

SMALL_ITERATIONS = 1000
EVALUATIONS = 4  # of held-out images in a run


@dataclass(frozen=True)
class MaskSettings(TrainingSettings):
    """Everything that decides what masks become; `auto` and None are resolved to values before it starts.

    Args:
        data: folder of the prepared data set.
        modality: what the detector sees; a run of several jointly trained detectors has several.
        split: whose annotated images it learns from.
        hold_out: share of them, by scene, whose masks are only watched; 0 for none.
        init: the run of the detector, which stays as it is.
        features: what hypercolumns are made of: `fc7` and names of layers, between plus signs; by default the paper's
            layers, or their like.
        proposals: name of the stored proposals; those of the detector if None.
        proposals_per_image: best proposals used; as many as the detector's if None.
        overlap: smallest IoU of a box with the object whose mask it learns.
        boxes: drawn from an image in one draw; `batch_size` counts draws.
        full_weight_px: side of a square, in pixels of the image, from whose area on boxes count fully; smaller ones
            count by their area (the original: 224). 0 counts all the same.
        centred: respect where the maps' cells, a mask's places and pixels look; the original rounds otherwise.
        dropout: drop units of the region's feature in training, as in the detector's own; the original does, although
            what gives that feature stays as it is.
        region_lr: factor on learning rate and decay of the classifiers of the region's own feature.
    """

    PATHS: ClassVar[tuple[str, ...]] = ("data", "init")

    data: str
    modality: str | None = None
    split: str = "train"
    hold_out: float = 0.0
    init: str | None = None
    features: str | None = None
    proposals: str | None = None
    proposals_per_image: int | None = None
    overlap: float = 0.7
    boxes: int = 5
    full_weight_px: float = 0.0
    centred: bool = True
    dropout: bool = False
    region_lr: float = 1.0
    batch_size: int = field(default=8, kw_only=True)  # draws in a step, each of one class and one image
    lr: float = field(default=3e-3, kw_only=True)
    checkpoint_every: int = field(default=500, kw_only=True)

    def fit_settings(self) -> FitSettings:
        """The part that the training loop reads, once everything is resolved."""
        return replace(
            super().fit_settings(), part_lr={"region": self.region_lr}, part_decay={"region": self.region_lr}
        )


PAPER: dict[str, Any] = {
    "iterations": 10_000,
    "batch_size": 20,
    "optimiser": "sgd",
    "lr": 1e-3,
    "momentum": 0.9,
    "weight_decay": 1e-3,
    "bias_lr": 2.0,
    "schedule": "constant",
    "warmup": 0,
    "region_lr": 0.1,
    "boxes": 5,
    "overlap": 0.7,
    "proposals_per_image": 2000,
    "full_weight_px": 224.0,
    "centred": False,
    "dropout": True,
    "seed": 3,
    "checkpoint_every": 1000,
}
PRESETS: dict[str, dict[str, Any]] = {"small": {}, "paper": PAPER}


def check(settings: MaskSettings) -> None:
    """Find what can be known to be wrong before anything is opened.

    Raises:
        SettingsError: all problems at once.
    """
    found = []
    if settings.init is None or settings.init in NO_FILE:
        found.append(
            "Masks are learned on a trained detector: name its run with --init runs/finetune/NAME; "
            "`xmodal finetune --data DATA --modality hha --init STUDENT_RUN` trains one."
        )
    elif not Path(settings.init).is_dir():
        found.append(f"--init: there is no run at {settings.init!r}.")
    if settings.boxes < 1:
        found.append(f"boxes must be at least 1, not {settings.boxes}.")
    if settings.proposals_per_image is not None and settings.proposals_per_image < 1:
        found.append(f"--proposals-per-image must be at least 1, not {settings.proposals_per_image}.")
    if not 0 <= settings.hold_out < 1:
        found.append(f"--hold-out is at least 0 and below 1, not {settings.hold_out}.")
    if not 0 < settings.overlap <= 1:
        found.append(f"overlap is a share above 0 and at most 1, not {settings.overlap}.")
    for name in ("full_weight_px", "region_lr"):
        if not getattr(settings, name) >= 0:
            found.append(f"{name} must not be negative, not {getattr(settings, name)}.")
    found += settings.problems()
    if found:
        raise SettingsError("\n       ".join(found))


def resolve(settings: MaskSettings, *, in_memory: bool, **found: Any) -> MaskSettings:
    """Turn every `auto` and None into the value that will be used.

    Args:
        settings: what is asked for.
        in_memory: whether images are kept.
        found: what the detector decides: `modality`, `features`, `proposals`, `proposals_per_image`.
    """
    iterations = settings.iterations or SMALL_ITERATIONS
    settings = resolved_training(settings, iterations, in_memory=in_memory, evaluations=EVALUATIONS)
    return replace(settings, data=absolute(settings.data), init=absolute(str(settings.init)), **found)
