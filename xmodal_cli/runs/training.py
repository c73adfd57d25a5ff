"""The frame around every training: a run is begun, or continued to the same end as if it had never stopped.

A kind of training says in a `Training` what is its own: how settings become a plan, what is prepared of it, what is
saved. Whatever stops a run leaves a folder that can be resumed, and the words that were said are in its log. A
rehearsal takes two steps and writes nothing.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch.utils.data import Dataset

import xmodal_cli
from xmodal_cli.errors import DataError, XmodalError
from xmodal_cli.runs import checkpoint, processes
from xmodal_cli.runs.device import computing_threads, memory_bytes
from xmodal_cli.runs.fit import Batch, Progress, Task, fit
from xmodal_cli.runs.folder import RunFolder, open_run
from xmodal_cli.runs.session import NOBODY, Watchers, begin
from xmodal_cli.runs.settings import FitSettings
from xmodal_cli.runs.training_settings import Settings, TrainingSettings, with_changes
from xmodal_cli.web.fetch import Watcher as DownloadWatcher

Collate = Callable[[list[Any]], Batch]


class Plan(Protocol):
    """Everything decided about a training, as far as the frame needs it."""

    @property
    def settings(self) -> TrainingSettings:
        """Every setting, resolved."""

    @property
    def device(self) -> torch.device:
        """Where this process trains."""


PlanOf = TypeVar("PlanOf", bound=Plan)
TaskOf = TypeVar("TaskOf", bound=Task)


@dataclass(frozen=True)
class TrainingResult:
    """What a training gave.

    Args:
        run: its folder.
        finished: False when it was interrupted; its state is saved and can be resumed.
        iterations: steps done in all.
        metrics: figures on held-out samples; empty when nothing was held out.
        seconds: wall time of the training steps that this process did.
    """

    run: Path
    finished: bool
    iterations: int
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {**asdict(self), "run": str(self.run)}


@dataclass(frozen=True)
class Training(Generic[Settings, PlanOf, TaskOf]):
    """What is a kind of training's own.

    Args:
        command: the kind, and the folder of its runs, `runs/<command>`.
        settings: the class of its settings.
        build: opens everything and resolves the settings; nothing is written.
        name: first part of a new run's name, where none is given.
        facts: what `config.yaml` says of the data, beside the settings.
        changed: how the data of a plan are not what a run began with, a sentence; None if they are.
        decided: what every `auto` became, in one line.
        prepare: what is computed once before the first step; gives the task and what it learns from.
        collate: makes a batch of samples.
        save: writes what was learned, and the card last, given `iterations`, `metrics` and `seconds`.
        anew: the options that begin a new run from a run's weights.
    """

    command: str
    settings: type[Settings]
    build: Callable[[Settings, DownloadWatcher], PlanOf]
    name: Callable[[PlanOf], str]
    facts: Callable[[PlanOf], Mapping[str, Any]]
    changed: Callable[[PlanOf, RunFolder], str | None]
    decided: Callable[[PlanOf], str]
    prepare: Callable[[PlanOf, RunFolder, Watchers], tuple[TaskOf, Dataset[Any]]]
    collate: Collate
    save: Callable[[PlanOf, RunFolder, TaskOf, Mapping[str, Any]], None]
    anew: Callable[[RunFolder], str] = lambda run: f"--init {run.path}"

    def begin(
        self,
        settings: Settings,
        *,
        runs: Path = Path("runs"),
        name: str | None = None,
        overwrite: bool = False,
        watchers: Watchers = NOBODY,
    ) -> TrainingResult:
        """Train: one new run.

        Args:
            settings: what is trained, how, and how long.
            runs: the folder of all runs.
            name: the run's name; by default `<network>-<modality>-<date>-<4 hex>`.
            overwrite: whether a run of that name may be replaced.
            watchers: who is told what meanwhile.

        Raises:
            XmodalError: settings, data, weights or the training itself are at fault; see each subclass.
        """
        plan = self.build(settings, watchers.downloading)

        def first() -> RunFolder:
            config = {**self._config(plan), "asked": settings.asked()}
            return begin(runs, self.command, name, config, default_name=self.name(plan), overwrite=overwrite)

        with processes.together(plan.device), processes.first_decides(first) as run:
            return self.carry_out(plan, run, watchers)

    def resume(
        self, path: Path, *, changes: Mapping[str, Any] | None = None, watchers: Watchers = NOBODY
    ) -> TrainingResult:
        """Continue a run with its own settings; a finished one is left alone.

        Args:
            path: the run's folder.
            changes: settings given anew; only those that cannot change what is learned may differ.
            watchers: who is told what meanwhile.

        Raises:
            SettingsError: the folder is no run of this kind, or a setting that matters was changed.
            DataError: what it learns from is not what the run began with.
        """
        run = open_run(path, self.command)
        settings = with_changes(self.saved_settings(run), changes or {}, self.anew(run))
        if run.finished:
            card = run.card()
            watchers.say(f"The run {run.path} is finished already; there is nothing left to train.")
            return TrainingResult(run.path, True, card["iterations"], card["metrics"])
        plan = self.build(settings, watchers.downloading)
        changed = self.changed(plan, run)
        if changed is not None:
            raise DataError(changed, "Restore it, or begin a new run without --resume.")
        with processes.together(plan.device), processes.first_decides(run.lock):
            return self.carry_out(plan, run, watchers)

    def saved_settings(self, run: RunFolder) -> Settings:
        """The settings a run was started with, every `auto` resolved."""
        return self.settings.from_dict(run.config()["settings"])

    def carry_out(self, plan: PlanOf, run: RunFolder, watchers: Watchers) -> TrainingResult:
        """Do a run's work with its own number of threads, from its last checkpoint if there is one.

        Args:
            plan: what is trained.
            run: the run, locked.
            watchers: who is told what meanwhile.

        Raises:
            XmodalError: the disk is full, or the training itself is at fault.
        """
        try:
            with computing_threads(plan.settings.threads or 1):
                return self._train_and_save(plan, run, logged(watchers, run))
        except KeyboardInterrupt:  # before the first step, or a second one while a step was finished
            state = checkpoint.load(run.checkpoints)
            return TrainingResult(run.path, False, 0 if state is None else state["step"])
        except OSError as error:
            hint = f"Everything up to its last checkpoint is safe. Mend the cause, then go on with: {run.resume()}"
            raise XmodalError(f"The run {run.path} stopped: {error}.", hint) from error

    def _train_and_save(self, plan: PlanOf, run: RunFolder, watchers: Watchers) -> TrainingResult:
        began = time.monotonic()
        watchers.say(f"run: {run.path}")
        watchers.say(self.decided(plan))
        for name, value in plan.settings.to_dict().items():
            watchers.detail(f"{name}: {value}")
        task, samples = self.prepare(plan, run, watchers)
        settings = replace(plan.settings.fit_settings(), device=str(plan.device))
        result = fit(task, samples, self.collate, settings, run, watchers.training)
        watchers.say(f"{'interrupted' if result.interrupted else 'trained'} at step {result.steps}")
        if processes.is_first() and not result.interrupted:
            seconds = time.monotonic() - began
            self.save(plan, run, task, {"iterations": result.steps, "metrics": result.metrics, "seconds": seconds})
        return TrainingResult(run.path, not result.interrupted, result.steps, result.metrics, result.seconds)

    def _config(self, plan: PlanOf) -> dict[str, Any]:
        """What `config.yaml` holds: enough to continue the run, and to know that its data has not changed."""
        return {
            "command": self.command,
            "xmodal": xmodal_cli.__version__,
            **self.facts(plan),
            "settings": plan.settings.to_dict(),
        }


def logged(watchers: Watchers, run: RunFolder) -> Watchers:
    """The same watchers, whose words also go to the run's log."""

    def say(line: str) -> None:
        if processes.is_first():
            run.log(line)
        watchers.say(line)

    return replace(watchers, say=say)


@dataclass(frozen=True)
class Rehearsal:
    """What a run would be, from two real steps.

    Args:
        settings: every setting, resolved.
        images, held_out: how many images, or pairs of them, are learned from and watched.
        left_out: how many are not, by reason.
        seconds_per_step: of the second step, the first warms up.
        memory_bytes: peak memory so far.
        cache_bytes: what a teacher's features would take on disk; 0 where none are kept.
    """

    settings: TrainingSettings
    images: int
    held_out: int
    left_out: Mapping[str, int]
    seconds_per_step: float
    memory_bytes: int
    cache_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {**asdict(self), "settings": self.settings.to_dict(), "seconds": self.seconds}

    @property
    def seconds(self) -> float:
        """Estimated time of the whole training."""
        return self.seconds_per_step * (self.settings.iterations or 0)


class PlanOfImages(Plan, Protocol):
    """Everything decided about a training on single images."""

    @property
    def samples(self) -> Any:
        """What is learned from; `ids` names the images."""

    @property
    def held_out(self) -> Sequence[str]:
        """IDs that are watched."""

    @property
    def left_out(self) -> Mapping[str, int]:
        """Why how many images of the split are not learned from."""


def rehearsal_on_images(plan: PlanOfImages, task: Task, collate: Collate) -> Rehearsal:
    """What a run on single images would be, from two steps of its task."""
    seconds = seconds_per_step(task, plan.samples, collate, plan.settings.fit_settings())
    memory = memory_bytes(plan.device)
    return Rehearsal(plan.settings, len(plan.samples.ids), len(plan.held_out), plan.left_out, seconds, memory)


class _Enough(Exception):
    """Two steps were taken."""


def seconds_per_step(task: Task, samples: Dataset[Any], collate: Collate, settings: FitSettings) -> float:
    """Train two steps and time the second; the first warms up. Nothing is saved or evaluated, nothing left behind.

    Raises:
        KeyboardInterrupt: it was interrupted in the first step.
    """
    done_at: list[float] = []

    def watch(_: Progress) -> None:
        done_at.append(time.monotonic())
        if len(done_at) == 2:
            raise _Enough

    longer = replace(settings, iterations=3, workers=0, log_every=1, evaluate_every=3, checkpoint_every=3)
    with tempfile.TemporaryDirectory() as scratch, contextlib.suppress(_Enough):
        run = RunFolder(Path(scratch), "rehearsal")
        run.checkpoints.mkdir()  # an interruption saves
        fit(task, samples, collate, longer, run, watch)
        raise KeyboardInterrupt
    return done_at[1] - done_at[0]
