"""A study is a list of steps; what is finished is kept, what was cut short goes on.

A step is one of the commands, called as a function, and a place where its result lies. Steps are done in order: each
may use what those before it left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from xmodal_cli.errors import Interrupted
from xmodal_cli.runs.session import NOBODY, Watchers

AGAIN = "Run the same command again: it goes on."


class Step(Protocol):
    """A piece of a study."""

    @property
    def name(self) -> str:
        """A word that no other step of the study has."""

    @property
    def title(self) -> str:
        """What it does, in a few words for the screen."""

    def finished(self) -> bool:
        """Whether its result is there, whole, and made with the settings that are wanted now.

        Raises:
            SettingsError: something else lies in its place.
        """

    def carry_out(self, watchers: Watchers) -> None:
        """Do it, or go on where it was stopped.

        Raises:
            Interrupted: it was stopped; what is done is saved.
        """

    def seconds(self) -> float | None:
        """An estimate of its time from a small trial that writes nothing; None where a trial says nothing."""


@dataclass(frozen=True)
class Moment:
    """A step of a study that begins, or has ended.

    Args:
        number, total: which step of how many, counted from 1.
        step: the step.
        kept: whether it was finished before.
        seconds: how long it took; None while it goes on.
    """

    number: int
    total: int
    step: Step
    kept: bool = False
    seconds: float | None = None


def run_study(
    steps: Sequence[Step], watch: Callable[[Moment], None] = lambda moment: None, watchers: Watchers = NOBODY
) -> None:
    """Do every step that is not finished, in order.

    Args:
        steps: the steps.
        watch: told when a step begins, ends, or is found finished.
        watchers: told what happens within a step.

    Raises:
        SettingsError: in the place of a step lies something made with other settings; found before anything is done.
        Interrupted: a step was stopped; doing the study again goes on from there.
    """
    done = [step.finished() for step in steps]
    for number, (step, kept) in enumerate(zip(steps, done, strict=True), start=1):
        if kept:
            watch(Moment(number, len(steps), step, kept=True))
            continue
        watch(Moment(number, len(steps), step))
        began = time.monotonic()
        try:
            step.carry_out(watchers)
        except KeyboardInterrupt:
            raise Interrupted(f"Stopped in '{step.title}'.", AGAIN) from None
        watch(Moment(number, len(steps), step, seconds=time.monotonic() - began))
