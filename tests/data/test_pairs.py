"""Promises of pairs as a PyTorch data set."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_runs import HEIGHT, TRAIN, WIDTH

from xmodal_cli.data.pairs import Pairs, channel_statistics, collate, value_range
from xmodal_cli.data.prepared import ModalityInfo, PreparedData
from xmodal_cli.data.transforms import Augmentation

SIZE = (32, 40)
BOTH = ("rgb", "disparity")


def windows(data: PreparedData, seed: int = 0, **options: object) -> Pairs:
    return Pairs(data, TRAIN, BOTH, augmentation=Augmentation(SIZE, 0.4), size_hw=SIZE, seed=seed, **options)  # type: ignore[arg-type]


def test_sample_holds_both_images_at_the_size_asked_for(tiny_data: PreparedData) -> None:
    sample = windows(tiny_data)[0, 3]
    assert sample["id"] == TRAIN[3]
    assert sample["rgb"].shape == sample["disparity"].shape == (3, *SIZE)
    assert sample["rgb"].dtype == torch.uint8


def test_sample_depends_on_epoch_and_id_but_not_on_its_place(tiny_data: PreparedData) -> None:
    turned = Pairs(tiny_data, TRAIN[::-1], BOTH, augmentation=Augmentation(SIZE, 0.4), size_hw=SIZE)
    pairs = windows(tiny_data)
    assert torch.equal(pairs[2, 0]["rgb"], turned[2, len(TRAIN) - 1]["rgb"])
    assert not torch.equal(pairs[2, 0]["rgb"], pairs[3, 0]["rgb"])
    assert not torch.equal(pairs[2, 0]["rgb"], windows(tiny_data, seed=1)[2, 0]["rgb"])


def test_keeping_images_in_memory_changes_nothing(tiny_data: PreparedData) -> None:
    kept, read = windows(tiny_data, in_memory=True), windows(tiny_data)
    for _ in range(2):
        assert torch.equal(kept[1, 5]["disparity"], read[1, 5]["disparity"])


def test_without_augmentation_the_whole_image_is_seen_as_stored(tiny_data: PreparedData) -> None:
    pairs = Pairs(tiny_data, TRAIN, BOTH, size_hw=(HEIGHT, WIDTH))
    stored = torch.from_numpy(tiny_data.read("rgb", TRAIN[0])).permute(2, 0, 1)
    assert torch.equal(pairs[0, 0]["rgb"], stored)
    assert torch.equal(pairs[9, 0]["rgb"], stored)


def test_strangers_replace_the_target_and_leave_the_source(tiny_data: PreparedData) -> None:
    others = [*range(1, len(TRAIN)), 0]
    own = Pairs(tiny_data, TRAIN, BOTH, size_hw=SIZE)
    shuffled = Pairs(tiny_data, TRAIN, BOTH, size_hw=SIZE, strangers={"disparity": others})
    assert torch.equal(shuffled[0, 0]["rgb"], own[0, 0]["rgb"])
    assert torch.equal(shuffled[0, 0]["disparity"], own[0, 1]["disparity"])


def test_strangers_are_met_even_where_only_the_target_is_read(tiny_data: PreparedData) -> None:
    """With a teacher cache the source is not read, and the control must still be one."""
    others = [*range(1, len(TRAIN)), 0]
    shuffled = Pairs(tiny_data, TRAIN, ("disparity",), size_hw=SIZE, strangers={"disparity": others})
    assert torch.equal(
        shuffled[0, 0]["disparity"], Pairs(tiny_data, TRAIN, ("disparity",), size_hw=SIZE)[0, 1]["disparity"]
    )


def test_batch_stacks_tensors_and_lists_ids(tiny_data: PreparedData) -> None:
    pairs = windows(tiny_data)
    batch = collate([pairs[0, 0], pairs[0, 4]])
    assert batch["ids"] == [TRAIN[0], TRAIN[4]]
    assert batch["rgb"].shape == (2, 3, *SIZE)
    assert "draw" not in batch


def test_channel_statistics_are_those_of_all_pixels(tiny_data: PreparedData) -> None:
    values = np.stack([tiny_data.read("rgb", name) for name in TRAIN]).astype(np.float64) / 255
    mean, std = channel_statistics(tiny_data, "rgb", TRAIN)
    assert mean == pytest.approx(tuple(values.mean((0, 1, 2))))
    assert std == pytest.approx(tuple(values.std((0, 1, 2))))


def test_sixteen_bit_values_are_scaled_by_their_range() -> None:
    depth = ModalityInfo("depth", ".png", "depth", 1, "uint16", "mm", (0.0, 10_000.0))
    assert value_range(depth) == (0.0, 10_000.0)
    assert value_range(ModalityInfo("rgb", "", "rgb", 3, "uint8", None, (3.0, 7.0))) == (0.0, 255.0)
