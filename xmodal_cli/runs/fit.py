"""The one training loop. It is handed a task and drives it from step to step; it knows neither teachers nor boxes.

A task owns everything trainable in one module, computes its own loss, and says how it is doing on held-out samples.
The loop owns time: the order of samples, the optimiser, the learning rate, checkpoints, interruption and resumption.
A run that was killed and resumed gives bitwise the weights of a run that was not, on a CPU with the same threads.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from xmodal_cli import files
from xmodal_cli.errors import DivergedError, XmodalError
from xmodal_cli.runs import checkpoint, processes
from xmodal_cli.runs.device import autocast, computing_threads, memory_bytes
from xmodal_cli.runs.folder import METRICS, RunFolder
from xmodal_cli.runs.interrupt import Interruption, deaf_children
from xmodal_cli.runs.sampling import StepBatches, mixed_seed
from xmodal_cli.runs.settings import FitSettings, learning_rate

Batch = dict[str, Any]


class Task(Protocol):
    """What the loop needs of a task."""

    @property
    def module(self) -> nn.Module:
        """Everything trainable."""

    def step(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Run `module` (ours, perhaps wrapped for several processes) on a batch: `loss`, and parts worth showing."""

    def evaluate(self) -> dict[str, float]:
        """Figures on held-out samples; empty when nothing is held out."""

    def check(self) -> None:
        """Assert what must hold in every epoch, e.g. that the teacher is frozen."""


@dataclass(frozen=True)
class Progress:
    """One moment of a run, for whoever watches it."""

    step: int
    total: int
    epoch: float
    loss: float
    lr: float
    images_per_s: float
    eta_s: float
    memory_bytes: int
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FitResult:
    """How a training run ended.

    Args:
        steps: optimiser steps done in all.
        seconds: wall time of the steps done by this process.
        metrics: the last evaluation.
        interrupted: whether it was asked to stop before its end; the state is saved.
    """

    steps: int
    seconds: float
    metrics: dict[str, float]
    interrupted: bool = False


Watcher = Callable[[Progress], None]


def fit(
    task: Task,
    samples: Dataset[Any],
    collate: Callable[[list[Any]], Batch],
    settings: FitSettings,
    run: RunFolder,
    watch: Watcher = lambda progress: None,
) -> FitResult:
    """Train a task to the end of its schedule, from its last checkpoint if the run has one.

    Args:
        task: what is trained.
        samples: a map-style data set, asked for `(epoch, index)` keys.
        collate: makes a batch of samples.
        settings: how long, how fast, on what.
        run: where checkpoints and metrics go; locked by this process.
        watch: called after every logged step.

    Raises:
        DivergedError: the loss is not finite; the IDs of the batch are saved in the run.
    """
    device = torch.device(settings.device)
    task.module.to(device)
    if settings.channels_last:
        task.module.to(memory_format=torch.channels_last)
    optimiser = build_optimiser(task.module, settings)
    scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
    state = checkpoint.load(run.checkpoints)
    start, metrics = (0, {}) if state is None else _restore(state, task.module, optimiser, scaler)
    if processes.is_first():
        _keep_metrics_until(run.path / METRICS, start)
    loop = _Loop(task, settings, run, watch, optimiser, scaler, start, metrics, len(samples))  # type: ignore[arg-type]
    with computing_threads(settings.threads), Interruption() as interruption:
        with deaf_children():
            batches = iter(_batches(samples, collate, settings, start))
        for step, batch in enumerate(batches, start):
            loop.do(step, batch)
            if processes.any_of(interruption.requested) and step + 1 < settings.iterations:
                loop.save(step + 1)
                return FitResult(step + 1, loop.seconds, loop.metrics, interrupted=True)
    return FitResult(settings.iterations, loop.seconds, loop.metrics)


def build_optimiser(module: nn.Module, settings: FitSettings) -> torch.optim.Optimizer:
    """The optimiser of a module: weights decay, biases and norms do not, and biases may learn faster."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            factor = settings.bias_lr if name.endswith("bias") else 1.0
            for part in name.split("."):
                factor *= settings.part_lr.get(part, 1.0)
                decay *= settings.part_decay.get(part, 1.0)
            groups.setdefault((decay, factor), []).append(parameter)
    parameters = [
        {"params": members, "weight_decay": decay, "lr_factor": factor} for (decay, factor), members in groups.items()
    ]
    if settings.optimiser == "sgd":
        return torch.optim.SGD(parameters, lr=settings.lr, momentum=settings.momentum, fused=True)
    return torch.optim.AdamW(parameters, lr=settings.lr, fused=True)


def _batches(
    samples: Dataset[Any], collate: Callable[[list[Any]], Batch], settings: FitSettings, start: int
) -> Iterable[Batch]:
    """The batches of the steps still to do, read by as many workers as the settings say."""
    keys = StepBatches(
        len(samples),  # type: ignore[arg-type]
        settings.batch_size,
        start,
        settings.iterations,
        settings.seed,
        processes.rank(),
        processes.count(),
    )
    return DataLoader(
        samples,
        batch_sampler=keys,
        num_workers=settings.workers,
        collate_fn=collate,
        pin_memory=settings.device.startswith("cuda"),
        multiprocessing_context="spawn" if settings.workers else None,
    )


def _restore(
    state: dict[str, Any], module: nn.Module, optimiser: torch.optim.Optimizer, scaler: torch.amp.GradScaler
) -> tuple[int, dict[str, float]]:
    """Put a checkpoint back: step and metrics are returned."""
    try:
        module.load_state_dict(state["module"])
        optimiser.load_state_dict(state["optimiser"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise XmodalError(f"The checkpoint does not fit this run's model: {error}") from error
    scaler.load_state_dict(state["scaler"])
    torch.set_rng_state(state["rng"])
    return int(state["step"]), dict(state["metrics"])


def _keep_metrics_until(path: Path, step: int) -> None:
    """Drop the lines that a killed run wrote after its last checkpoint: they will be written again."""
    if not path.is_file():
        return
    kept = [line for line in path.read_text().splitlines() if line.endswith("}") and json.loads(line)["step"] <= step]
    files.write_text(path, "".join(line + "\n" for line in kept))


class _Loop:
    """The state that one step hands to the next."""

    def __init__(
        self,
        task: Task,
        settings: FitSettings,
        run: RunFolder,
        watch: Watcher,
        optimiser: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        start: int,
        metrics: dict[str, float],
        samples_per_epoch: int,
    ) -> None:
        self.task, self.settings, self.run, self.watch = task, settings, run, watch
        self.optimiser, self.scaler, self.device = optimiser, scaler, torch.device(settings.device)
        self.module = processes.wrap(task.module, self.device)
        self.metrics, self.samples_per_epoch = metrics, samples_per_epoch
        self.began, self.start = time.monotonic(), start
        self.losses: list[Tensor] = []

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def do(self, step: int, batch: Batch) -> None:
        """One optimiser step, and whatever falls due after it."""
        settings = self.settings
        self.task.module.train()
        torch.manual_seed(mixed_seed(settings.seed, step))  # for dropout
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(settings, step) * group["lr_factor"]
        with autocast(self.device, settings.precision):
            losses = self.task.step(self.module, batch)
        loss = losses["loss"]
        if processes.any_of(not math.isfinite(loss.item())):
            self._diverged(step, batch, loss.item())
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if settings.clip_norm:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.task.module.parameters(), settings.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.losses.append(loss.detach())
        self._after(step + 1)

    def _after(self, done: int) -> None:
        settings, last = self.settings, done == self.settings.iterations
        if last or done % settings.evaluate_every == 0:
            self.evaluate(done)
        if last or done % settings.log_every == 0:
            self.report(done)
        if last or done % settings.checkpoint_every == 0:
            self.save(done)

    def evaluate(self, done: int) -> None:
        """Measure on held-out samples, with the checks that hold in every epoch."""
        self.task.check()
        self.task.module.eval()
        with torch.no_grad(), autocast(self.device, self.settings.precision):
            self.metrics = self.task.evaluate()
        self._write({"phase": "evaluate", "step": done, **self.metrics})

    def report(self, done: int) -> None:
        """Tell the watcher and `metrics.jsonl` where the run stands."""
        loss = float(torch.stack(self.losses).mean())
        self.losses.clear()
        rate = (done - self.start) / self.seconds
        progress = Progress(
            step=done,
            total=self.settings.iterations,
            epoch=done * self.settings.batch_size / self.samples_per_epoch,
            loss=loss,
            lr=self.optimiser.param_groups[0]["lr"],
            images_per_s=rate * self.settings.batch_size,
            eta_s=(self.settings.iterations - done) / rate,
            memory_bytes=memory_bytes(self.device),
            metrics=self.metrics,
        )
        record = asdict(progress)
        record.pop("metrics")
        self._write({"phase": "train", **record})
        if processes.is_first():
            self.watch(progress)

    def save(self, done: int) -> None:
        """Write the checkpoint of the steps done so far."""
        if processes.is_first():
            checkpoint.save(
                self.run.checkpoints,
                {
                    "step": done,
                    "module": self.task.module.state_dict(),
                    "optimiser": self.optimiser.state_dict(),
                    "scaler": self.scaler.state_dict(),
                    "metrics": self.metrics,
                    "rng": torch.get_rng_state(),
                },
            )
        processes.wait_for_all()

    def _write(self, record: dict[str, Any]) -> None:
        if processes.is_first():
            with (self.run.path / METRICS).open("a") as handle:
                handle.write(json.dumps({**record, "time": time.time()}) + "\n")

    def _diverged(self, step: int, batch: Batch, loss: float) -> None:
        """Stop a run whose loss is no number any more; the last good checkpoint stays."""
        if not math.isfinite(loss):  # of several processes only those whose samples did it
            files.write_json(
                self.run.path / "diverged.json", {"step": step, "loss": str(loss), "ids": batch.get("ids", [])}
            )
            self.run.log(f"diverged at step {step}: loss {loss}")
        processes.wait_for_all()
        raise DivergedError(
            f"The loss is not finite at step {step}; the batch's IDs are in {self.run.path / 'diverged.json'}.",
            "Start again with a lower --lr, a longer --warmup, --clip-norm 1, or --precision fp32.",
        )
