"""Bars and lines for long work: a moving line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from xmodal_cli.cli.output import out
from xmodal_cli.errors import Interrupted

if TYPE_CHECKING:
    from xmodal_cli.runs.fit import Progress as Moment

PLAIN_EVERY_S = 15.0  # seconds between plain lines where no terminal shows a moving one


@contextlib.contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for work that is counted: call the result with (done, total).

    Args:
        what: a few words, e.g. `teacher features`.
    """
    if out.live:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=out.stderr, transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        yield _plain_counter(what)


@contextlib.contextmanager
def finished_files_kept() -> Iterator[None]:
    """A block that makes a data set: when it is interrupted, say how to go on, and end with that exit code."""
    try:
        yield
    except KeyboardInterrupt:
        out.say("Interrupted. What is finished is kept; run the same command again to go on.")
        raise typer.Exit(Interrupted.exit_code) from None


def _plain_counter(what: str) -> Callable[[int, int], None]:
    last = [time.monotonic()]

    def tell(done: int, total: int) -> None:
        if time.monotonic() - last[0] >= PLAIN_EVERY_S:
            last[0] = time.monotonic()
            out.say(f"{what}: {done}/{total}")

    return tell


class TrainingScreen:
    """What a training command shows while it works: downloads, features computed once, the line of the training.

    One display for all of them: on a terminal a moving line each, elsewhere a plain line now and then.
    """

    def __init__(self, features: str = "features") -> None:
        self._features = features  # what `filling` counts
        self._bar: Progress | None = None
        self._lines: dict[str, TaskID] = {}
        self._told: dict[str, float] = {}
        self._announced: set[str] = set()

    def __enter__(self) -> TrainingScreen:
        if out.live:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[figures]}"))
            self._bar = Progress(*columns, console=out.stderr, transient=True)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def downloading(self, url: str, done: int, total: int) -> None:
        """Weights on their way: the address and the size are said before the first byte."""
        if url not in self._announced:
            self._announced.add(url)
            out.say(f"downloading {url}, {f'{total / 1e6:.0f} MB' if total else 'size unknown'}")
        self._show(url, "download", done, total, f"{done / 1e6:.0f} of {total / 1e6:.0f} MB")

    def unpacking(self, name: str, done: int, total: int) -> None:
        """An archive on its way to a folder."""
        self._show(f"unpack {name}", f"unpack {name}", done, total, f"{done / 1e6:.0f} of {total / 1e6:.0f} MB")

    def filling(self, done: int, total: int) -> None:
        """Features being computed before the training."""
        self._show("features", self._features, done, total, f"{done}/{total} images")

    def training(self, moment: Moment) -> None:
        """The training itself: step, loss, explained variance, images/s, time left, memory."""
        self._show("train", "train", moment.step, moment.total, describe(moment))

    def clear(self) -> None:
        """Begin anew: other work follows."""
        if self._bar is not None:
            for line in self._lines.values():
                self._bar.remove_task(line)
        self._lines, self._told = {}, {}

    def _show(self, key: str, what: str, done: int, total: int, figures: str) -> None:
        if self._bar is None:
            told = self._told.setdefault(key, time.monotonic())
            if time.monotonic() - told >= PLAIN_EVERY_S or done == total:
                self._told[key] = time.monotonic()
                out.say(f"{what}: {figures}")
            return
        if key not in self._lines:
            self._lines[key] = self._bar.add_task(what, total=total or None, figures="")
        self._bar.update(self._lines[key], completed=done, total=total or None, figures=figures)


def describe(moment: Moment) -> str:
    """One moment of a run as a line of text."""
    parts = [f"step {moment.step}/{moment.total}", f"loss {moment.loss:.4f}"]
    if "mAP" in moment.metrics:
        parts.append(f"mAP {moment.metrics['mAP']:.1f}")
    if "explained_variance" in moment.metrics:
        parts.append(f"explained variance {moment.metrics['explained_variance']:.1%}")
    parts += [
        f"{moment.images_per_s:.0f} images/s",
        f"{duration(moment.eta_s)} left",
        f"{moment.memory_bytes / 1e9:.1f} GB",
    ]
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """A time span as a person says it.

    Example:
        >>> duration(5), duration(75), duration(3720)
        ('5 s', '1 min 15 s', '1 h 2 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
