"""Promises of the order of samples and of the learning rate."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmodal_cli.runs.sampling import StepBatches, epoch_order
from xmodal_cli.runs.settings import FitSettings, learning_rate

COUNTS, BATCHES, SEEDS = st.integers(1, 40), st.integers(1, 17), st.integers(0, 2**40)


def keys(count: int, batch: int, start: int, stop: int, seed: int, **processes: int) -> list[list[tuple[int, int]]]:
    return list(StepBatches(count, batch, start, stop, seed, **processes))


@given(COUNTS, BATCHES, SEEDS)
def test_every_epoch_shows_every_sample_exactly_once(count: int, batch: int, seed: int) -> None:
    epochs = 3
    seen = [key for step in keys(count, batch, 0, math.ceil(epochs * count / batch), seed) for key in step]
    for epoch in range(epochs):
        assert sorted(index for number, index in seen if number == epoch) == list(range(count))


@given(COUNTS, BATCHES, SEEDS, st.integers(0, 30))
def test_a_step_sees_the_same_wherever_the_run_was_resumed(count: int, batch: int, seed: int, start: int) -> None:
    assert keys(count, batch, 0, 31, seed)[start:] == keys(count, batch, start, 31, seed)


@given(COUNTS, st.integers(1, 5), st.integers(1, 4), SEEDS)
def test_processes_share_each_batch_without_overlap(count: int, share: int, processes: int, seed: int) -> None:
    whole = keys(count, share * processes, 0, 5, seed)
    parts = [keys(count, share * processes, 0, 5, seed, rank=r, processes=processes) for r in range(processes)]
    for step, batch in enumerate(whole):
        assert {len(part[step]) for part in parts} == {share}
        assert Counter(key for part in parts for key in part[step]) == Counter(batch)


def test_epochs_and_seeds_are_shuffled_differently() -> None:
    orders = {tuple(epoch_order(seed, epoch, 30)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_length_is_the_number_of_steps_left() -> None:
    assert len(StepBatches(5, 2, 3, 10, 0)) == len(keys(5, 2, 3, 10, 0)) == 7


BASE = FitSettings(iterations=100, batch_size=1, lr=2.0)


def test_cosine_starts_high_is_half_in_the_middle_and_ends_near_zero() -> None:
    assert [learning_rate(BASE, step) for step in (0, 50)] == pytest.approx([2, 1])
    assert 0 < learning_rate(BASE, 99) < 0.001


def test_warmup_rises_linearly_to_the_highest_rate() -> None:
    rates = [learning_rate(replace(BASE, warmup=4, schedule="constant"), step) for step in range(5)]
    assert rates == [0.5, 1.0, 1.5, 2.0, 2.0]


def test_step_schedule_falls_by_its_factor() -> None:
    settings = replace(BASE, schedule="step", lr_step=30, lr_gamma=0.1)
    assert [learning_rate(settings, step) for step in (0, 29, 30, 60, 99)] == pytest.approx([2, 2, 0.2, 0.02, 0.002])


def test_constant_schedule_stays() -> None:
    assert {learning_rate(replace(BASE, schedule="constant"), step) for step in range(100)} == {2.0}


def test_all_problems_of_settings_are_named_at_once() -> None:
    wrong = replace(BASE, iterations=0, batch_size=-1, lr=float("nan"), warmup=-1, optimiser="adamv", schedule="cos")
    text = " ".join(wrong.problems())
    for word in ("--iterations", "--batch-size", "--lr", "--warmup", "'adamw'", "'cosine'"):
        assert word in text
    assert BASE.problems() == []
