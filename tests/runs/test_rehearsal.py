"""Promises of a rehearsal's time: that of one step which is no longer the first, and Ctrl-C ends it."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from xmodal_cli.runs.fit import Batch
from xmodal_cli.runs.settings import FitSettings
from xmodal_cli.runs.training import seconds_per_step

FIRST_S, LATER_S = 0.5, 0.05
SETTINGS = FitSettings(iterations=1000, batch_size=2, evaluate_every=1, checkpoint_every=1)


class Slow:
    """A task whose steps take a known time, and that may be interrupted in its first one."""

    def __init__(self, *, interrupted: bool = False) -> None:
        self.module, self.steps, self.interrupted = nn.Linear(3, 1), 0, interrupted

    def step(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        time.sleep(LATER_S if self.steps else FIRST_S)
        self.steps += 1
        if self.interrupted:
            signal.raise_signal(signal.SIGINT)
        return {"loss": module(batch["values"]).square().mean()}

    def evaluate(self) -> dict[str, float]:
        raise AssertionError("a rehearsal does not wait for an evaluation")

    def check(self) -> None:
        raise AssertionError("nor for its checks")


class Values(TensorDataset):
    """Asked for `(epoch, index)`, as samples are."""

    def __getitem__(self, key: Any) -> tuple[Tensor, ...]:
        return super().__getitem__(key[1])


def collate(samples: list[Any]) -> Batch:
    return {"values": torch.stack([values for (values,) in samples])}


def test_estimate_is_that_of_a_step_after_the_first() -> None:
    task = Slow()
    seconds = seconds_per_step(task, Values(torch.ones(8, 3)), collate, SETTINGS)
    assert LATER_S <= seconds < FIRST_S
    assert task.steps == 2


def test_ctrl_c_in_the_first_step_ends_it() -> None:
    task = Slow(interrupted=True)
    with pytest.raises(KeyboardInterrupt):
        seconds_per_step(task, Values(torch.ones(8, 3)), collate, SETTINGS)
    assert task.steps == 1
