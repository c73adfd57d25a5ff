"""What all training commands do around their training: who is told what, and how a run that ends early is left.

Whatever stops a run leaves a folder that can be resumed, and the words that were said are in its log.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from torch.utils.data import Dataset

from xmodal_cli.errors import XmodalError
from xmodal_cli.runs import checkpoint, processes
from xmodal_cli.runs.device import computing_threads
from xmodal_cli.runs.fit import Batch, Task, Watcher, fit
from xmodal_cli.runs.folder import RunFolder, create
from xmodal_cli.runs.settings import FitSettings
from xmodal_cli.runs.training_settings import TrainingSettings

Result = TypeVar("Result")


@dataclass(frozen=True)
class Watchers:
    """Who is told what while a run works; by default nobody.

    Args:
        say: told a line.
        downloading: told of each download's address, bytes done and size.
        filling: told how many of how many images have been looked at.
        training: told of each logged step.
        detail: told a line that only the curious want.
    """

    say: Callable[[str], None] = lambda line: None
    downloading: Callable[[str, int, int], None] = lambda url, done, total: None
    filling: Callable[[int, int], None] = lambda done, total: None
    training: Watcher = lambda progress: None
    detail: Callable[[str], None] = lambda line: None


NOBODY = Watchers()


def logged(watchers: Watchers, run: RunFolder) -> Watchers:
    """The same watchers, whose words also go to the run's log."""

    def say(line: str) -> None:
        if processes.is_first():
            run.log(line)
        watchers.say(line)

    return replace(watchers, say=say)


def announce(run: RunFolder, decided: str, settings: TrainingSettings, watchers: Watchers) -> None:
    """Say which run begins and what every `auto` became; every setting to the curious."""
    watchers.say(f"run: {run.path}")
    watchers.say(decided)
    for name, value in settings.to_dict().items():
        watchers.detail(f"{name}: {value}")


def begin(
    runs: Path, command: str, name: str | None, config: Mapping[str, Any], *, default_name: str, overwrite: bool
) -> RunFolder:
    """A new run's folder, locked, with what is known before its first step; as `folder.create`."""
    run = create(runs, command, name, default_name=default_name, overwrite=overwrite)
    run.write_start(config)
    return run


def seconds_per_step(
    task: Task, samples: Dataset[Any], collate: Callable[[list[Any]], Batch], settings: FitSettings
) -> float:
    """Train two steps in a scratch folder and time the second; the first warms up. Nothing is left behind."""
    with tempfile.TemporaryDirectory() as scratch:
        run = RunFolder(Path(scratch), "rehearsal")
        run.checkpoints.mkdir()
        for step in (1, 2):
            two = replace(settings, iterations=step, workers=0, log_every=1, evaluate_every=step + 1)
            seconds = fit(task, samples, collate, two, run).seconds
    return seconds


def carry_out(run: RunFolder, threads: int, work: Callable[[], Result], interrupted: Callable[[int], Result]) -> Result:
    """Do a run's work with its own number of threads.

    Args:
        run: the run, locked.
        threads: CPU threads.
        work: trains and saves.
        interrupted: what to return when the work was stopped at a checkpoint, given its step.

    Raises:
        XmodalError: the disk is full, or the work itself is at fault.
    """
    try:
        with computing_threads(threads):
            return work()
    except KeyboardInterrupt:  # before the first step, or a second one while a step was finished
        state = checkpoint.load(run.checkpoints)
        return interrupted(0 if state is None else state["step"])
    except OSError as error:
        hint = f"Everything up to its last checkpoint is safe. Mend the cause, then go on with: {run.resume()}"
        raise XmodalError(f"The run {run.path} stopped: {error}.", hint) from error
