"""What all training commands do around their training: who is told what, and how a run that ends early is left.

Whatever stops a run leaves a folder that can be resumed, and the words that were said are in its log.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from xmodal_cli.errors import XmodalError
from xmodal_cli.runs import checkpoint, processes
from xmodal_cli.runs.device import computing_threads
from xmodal_cli.runs.fit import Watcher
from xmodal_cli.runs.folder import RunFolder

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
