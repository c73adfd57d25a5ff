"""Fixtures of the transfer's tests: a tiny data set that has proposals."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_runs import HEIGHT, TRAIN, VAL, WIDTH, make_tiny_data

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import write_proposals

PROPOSALS = "mine"


def proposals_of(number: int) -> NDArray[np.float32]:
    """Twelve boxes of an image: near its two objects, and anywhere."""
    random = np.random.default_rng(number)
    near = np.array([[4, 8, 20, 24], [36, 20, 60, 44], [2, 6, 21, 25], [34, 20, 60, 46]])
    left, top = random.uniform(0, WIDTH - 24, 8), random.uniform(0, HEIGHT - 20, 8)
    sides = random.uniform(12, 20, (8, 2))
    anywhere = np.stack([left, top, left + sides[:, 0], top + sides[:, 1]], 1)
    return np.concatenate([near, anywhere]).astype(np.float32)


@pytest.fixture(scope="session")
def boxed_data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """The tiny data set with twelve proposals in every image; nobody may change it."""
    folder = tmp_path_factory.mktemp("boxed")
    data = make_tiny_data(folder / "sensors", folder / "data")
    boxes = [(name, proposals_of(number)) for number, name in enumerate(sorted(TRAIN + VAL))]
    write_proposals(data.root, PROPOSALS, boxes, {"settings": {}})
    return data
