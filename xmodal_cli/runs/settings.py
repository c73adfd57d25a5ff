"""The settings of the one training loop, their defaults, and the schedules of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from xmodal_cli.errors import closest

OPTIMISERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "step", "constant")


@dataclass(frozen=True)
class FitSettings:
    """How long, how fast and on what a task is trained.

    Args:
        iterations: optimiser steps in all.
        batch_size: samples per step, over all processes.
        optimiser: `adamw` or `sgd`.
        lr: highest learning rate.
        weight_decay: decay of weights; biases and norms have none.
        momentum: of SGD; AdamW's first beta stays 0.9.
        schedule: `cosine` to zero, `step` (times `lr_gamma` every `lr_step` iterations) or `constant`.
        lr_step, lr_gamma: the step schedule.
        warmup: iterations over which the rate rises linearly from zero.
        clip_norm: largest gradient norm; 0 leaves gradients alone.
        bias_lr: factor on the learning rate of biases (Caffe's nets use 2).
        part_lr: factors on the learning rate of parts of the module, by a word in their parameters' names.
        part_decay: likewise on the decay.
        precision: `fp32`, `bf16` or `fp16`, of the forward pass; losses are float32 always.
        channels_last: memory layout of maps; much faster for convolutions on CPUs and new GPUs.
        device: `cpu`, `cuda`, `cuda:1` ...
        threads: CPU threads; part of the result in the last bit, so saved and restored.
        workers: processes that read images; 0 reads in the training process.
        seed: of every random draw.
        checkpoint_every, evaluate_every, log_every: iterations between checkpoints, evaluations, lines of metrics.
    """

    iterations: int
    batch_size: int
    optimiser: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-4
    momentum: float = 0.9
    schedule: str = "cosine"
    lr_step: int = 30_000
    lr_gamma: float = 0.1
    warmup: int = 0
    clip_norm: float = 0.0
    bias_lr: float = 1.0
    part_lr: Mapping[str, float] = field(default_factory=dict)
    part_decay: Mapping[str, float] = field(default_factory=dict)
    precision: str = "fp32"
    channels_last: bool = True
    device: str = "cpu"
    threads: int = 1
    workers: int = 0
    seed: int = 0
    checkpoint_every: int = 500
    evaluate_every: int = 500
    log_every: int = 10

    def problems(self) -> list[str]:
        """Everything that is wrong with these settings, a sentence each.

        Example:
            >>> FitSettings(iterations=0, batch_size=8).problems()
            ['--iterations must be at least 1, not 0.']
        """
        found = []
        every = ("checkpoint_every", "evaluate_every", "log_every", "lr_step")
        for option in ("iterations", "batch_size", *every, "threads"):
            if getattr(self, option) < 1:
                found.append(f"--{option.replace('_', '-')} must be at least 1, not {getattr(self, option)}.")
        for option in ("weight_decay", "warmup", "clip_norm", "workers", "momentum"):
            if not getattr(self, option) >= 0:  # nor no number at all
                found.append(f"--{option.replace('_', '-')} must not be negative, not {getattr(self, option)}.")
        if not 0 < self.lr < math.inf:
            found.append(f"--lr must be positive, not {self.lr}.")
        for option, known in (("optimiser", OPTIMISERS), ("schedule", SCHEDULES)):
            value = getattr(self, option)
            if value not in known:
                found.append(f"--{option} {value!r} is not one of {', '.join(known)}. {closest(value, known)}".strip())
        return found


def learning_rate(settings: FitSettings, step: int) -> float:
    """The learning rate of a step, counted from 0.

    Example:
        >>> rate = FitSettings(iterations=100, batch_size=1, lr=1.0, warmup=10)
        >>> learning_rate(rate, 0), learning_rate(rate, 9), round(learning_rate(rate, 55), 3)
        (0.1, 1.0, 0.5)
    """
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    if settings.schedule == "cosine":
        done = (step - settings.warmup) / max(1, settings.iterations - settings.warmup)
        return settings.lr * 0.5 * (1 + math.cos(math.pi * done))
    if settings.schedule == "step":
        return settings.lr * float(settings.lr_gamma ** (step // settings.lr_step))
    return settings.lr
