"""Many commands of one experiment: what is not finished is run, several at once, each when what it needs is there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """A command, the file that shows it is finished, and the jobs that must be finished before."""

    words: list[str]
    done: Path
    after: tuple[str, ...] = ()


def finished(runs: Path, command: str, name: str, seed: int) -> Path:
    """The file that a finished run has."""
    return runs / command / f"{name}-{seed}" / "card.json"


def carry_out(name: str, job: Job) -> str:
    """Run one command; an evaluation's document goes to its file, a training that was cut short is resumed."""
    words = job.words
    if job.words[0] != "evaluate":
        run = job.done.parent
        words = (
            [words[0], "--resume", str(run)] if (run / "checkpoints" / "last.pt").is_file() else [*words, "--overwrite"]
        )
    done = subprocess.run([sys.executable, "-m", "xmodal_cli", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: xmodal {' '.join(words)}\n{done.stderr}{done.stdout}")
    if job.words[0] == "evaluate":
        job.done.parent.mkdir(parents=True, exist_ok=True)
        job.done.write_text(done.stdout)
    return name


def needed(every: dict[str, Job], wanted: Sequence[str]) -> dict[str, Job]:
    """The jobs wanted and all that they need, in the order in which they stand."""
    kept, more = set(wanted), list(wanted)
    while more:
        more = [name for name in every[more.pop()].after if name not in kept] + more
        kept |= set(more)
    return {name: job for name, job in every.items() if name in kept}


def run_all(waiting: dict[str, Job], at_once: int) -> None:
    """Run jobs in the order given, each as soon as what it needs is there."""
    done = {name for name, job in waiting.items() if job.done.is_file()}
    todo = [name for name in waiting if name not in done]
    running: dict[Future[str], str] = {}
    with ThreadPoolExecutor(at_once) as pool:
        while todo or running:
            ready = [name for name in todo if set(waiting[name].after) <= done]
            for name in ready[: at_once - len(running)]:
                todo.remove(name)
                running[pool.submit(carry_out, name, waiting[name])] = name
                _tell(f"begin {name}: xmodal {' '.join(waiting[name].words)}")
            finished_now, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished_now:
                done.add(future.result())
                _tell(f"done  {running.pop(future)}")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def figures(file: Path) -> dict[str, Any] | None:
    """The results of an evaluation that is finished."""
    return json.loads(file.read_text())["results"] if file.is_file() else None


def mean_and_each(values: Sequence[float]) -> str:
    """A mean, and in brackets what it is the mean of."""
    each = ", ".join(f"{value:.1f}" for value in values)
    return f"{sum(values) / len(values):.1f} ({each})" if len(values) > 1 else each
