"""Which samples each step sees: an endless stream of shuffled epochs, known from the seed alone.

A step's batch does not depend on what ran before it, so a resumed run, two workers and four devices all see the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.utils.data import Sampler

SEED_STRIDE = 1_000_003  # a prime beyond most numbers of steps, so that neighbouring seeds share no draws
Key = tuple[int, int]  # (epoch, index): what a data set is asked for


def mixed_seed(seed: int, number: int) -> int:
    """The seed of one epoch or one step of a run: known from the run's seed and the number, never from history.

    Example:
        >>> mixed_seed(0, 3), mixed_seed(1, 3)
        (3, 1000006)
    """
    return (seed * SEED_STRIDE + number) % 2**63


def epoch_order(seed: int, epoch: int, count: int) -> list[int]:
    """The order of an epoch: a permutation that depends on the seed and the epoch only.

    Example:
        >>> sorted(epoch_order(0, 3, 4))
        [0, 1, 2, 3]
    """
    random = torch.Generator().manual_seed(mixed_seed(seed, epoch))
    return torch.randperm(count, generator=random).tolist()


@dataclass(frozen=True)
class StepBatches(Sampler[list[Key]]):
    """Batches of the steps from `start` up to `stop`, without a seam between epochs.

    Args:
        count: samples in the data set.
        batch_size: samples in a batch, over all processes.
        start, stop: steps to give, counted from 0.
        seed: of the shuffling.
        rank, processes: this process takes each batch's samples number rank, rank + processes, ...

    Example:
        >>> [[index for _, index in batch] for batch in StepBatches(3, 2, 0, 3, seed=0)]
        [[...], [...], [...]]
    """

    count: int
    batch_size: int
    start: int
    stop: int
    seed: int
    rank: int = 0
    processes: int = 1

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, order = -1, []
        for step in range(self.start, self.stop):
            batch = []
            for position in range(step * self.batch_size, (step + 1) * self.batch_size):
                if position // self.count != epoch:
                    epoch = position // self.count
                    order = epoch_order(self.seed, epoch, self.count)
                batch.append((epoch, order[position % self.count]))
            yield batch[self.rank :: self.processes]
