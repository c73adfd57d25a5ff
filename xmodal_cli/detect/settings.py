"""The settings of a detector's training, their defaults and presets.

`small` trains on two CPU cores in minutes; its values are the best found on images held out of NYUD2's train split
(docs/results.md). `paper` is the published configuration (recipe 4.1 to 4.3), `paper-no-init` its longer schedule for
networks that start from random weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from xmodal_cli.detect.start import StartSettings
from xmodal_cli.runs.settings import FitSettings

FEATURES = ("fc6", "fc7")


@dataclass(frozen=True)
class FinetuneSettings(StartSettings):
    """Everything that decides what a detector becomes; `auto` and None are resolved to values before it starts.

    Args:
        hold_out: share of the split, by scene, that it does not learn from and is scored on meanwhile; 0 for none.
        layer: whose map regions are cut from; conv5 of AlexNet, CaffeNet and VGG, else the last map.
        freeze_through: layer up to which nothing learns.
        joint: a run whose network is trained jointly with this one; its outputs are averaged with this one's.
        proposals: name of the stored proposals; the only ones there are if None.
        proposals_per_image: best proposals used.
        size, longest: short side in pixels that the network sees, and what the long side may not exceed.
        flip: learn from mirrored images too.
        regions: regions of an image in one step; foreground: largest share of them on objects.
        background_low: smallest overlap of a background region with an object.
        pooling: `max` (RoI max pooling) or `align` (RoIAlign); pool_size: cells per side, where the head is new.
        centred: respect where the map's cells look; the original does not.
        head: widths of a new head's two layers; networks with their own fc6 and fc7 keep them.
        reduced: channels that a 1x1 convolution leaves of the map before a new head; 0 for none.
        features: `fc7`, or `fc6` to classify the first layer's output.
        dropout: share of the head's units dropped.
        box_regression: refine boxes.
        class_loss, box_loss: weights of the two losses.
        trunk_lr: factor on the learning rate of the backbone below the regions; by default 1 for random weights,
            else a tenth: what is learned already is to be kept.
        nms: overlap that suppresses a weaker box of the same class.
        per_image, per_image_mean: detections of a class kept in one image, and on average over all images.
        merge_px: proposals whose corners agree to so many network pixels are computed once; 0 computes all.
    """

    PATHS: ClassVar[tuple[str, ...]] = ("data", "weights", "init", "joint")

    hold_out: float = 0.0
    freeze_through: str | None = None
    joint: str | None = None
    proposals: str | None = None
    proposals_per_image: int = 1000
    size: int = 224
    longest: int = 2000
    flip: bool = True
    regions: int = 128
    foreground: float = 0.25
    background_low: float = 0.0
    pooling: str = "max"
    pool_size: int = 4
    centred: bool = True
    head: tuple[int, ...] = (512, 512)
    reduced: int = 128
    features: str = "fc7"
    dropout: float = 0.0
    box_regression: bool = True
    class_loss: float = 1.0
    box_loss: float = 1.0
    trunk_lr: float | None = None
    nms: float = 0.3
    per_image: int = 100
    per_image_mean: int = 40
    merge_px: int = 0
    batch_size: int = field(default=1, kw_only=True)  # images per step
    lr: float = field(default=1e-3, kw_only=True)

    def fit_settings(self) -> FitSettings:
        """The part that the training loop reads, once everything is resolved."""
        return replace(super().fit_settings(), part_lr={"trunk": 1.0 if self.trunk_lr is None else self.trunk_lr})


PAPER: dict[str, Any] = {
    "iterations": 40_000,
    "batch_size": 2,
    "optimiser": "sgd",
    "lr": 1e-3,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "bias_lr": 2.0,
    "schedule": "step",
    "lr_step": 30_000,
    "lr_gamma": 0.1,
    "warmup": 0,
    "clip_norm": 0.0,
    "trunk_lr": 1.0,
    "size": 688,
    "proposals_per_image": 2000,
    "regions": 64,
    "foreground": 0.25,
    "background_low": 0.0,
    "input": "weights",
    "pooling": "max",
    "pool_size": 6,
    "centred": False,
    "head": (4096, 4096),
    "reduced": 0,
    "dropout": 0.5,
    "class_loss": 0.5,
    "box_loss": 0.5,
    "merge_px": 16,
    "checkpoint_every": 10_000,
}
PRESETS: dict[str, dict[str, Any]] = {
    "small": {},
    "paper": PAPER,
    "paper-no-init": {**PAPER, "iterations": 100_000, "lr": 1e-2},
}
SMALL_ITERATIONS = 2000  # four minutes of two slow cores; 2.5 times fewer steps give half the mAP (docs/results.md)
