"""What the flow estimators promise: a shift is found, a mirrored pair gives mirrored flow, odd frames are refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from xmodal_cli.data.transforms import mirror
from xmodal_cli.errors import DataError
from xmodal_cli.modalities.flow import encode
from xmodal_cli.modalities.flow_estimators import ESTIMATORS

each = pytest.mark.parametrize("estimate", ESTIMATORS.values(), ids=ESTIMATORS)


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """A smooth texture, and the same moved by 3 px to the right and 2 px upward."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 20, 3), np.uint8)
    image = cv2.resize(noise, (160, 128), interpolation=cv2.INTER_CUBIC)
    return image, np.ascontiguousarray(np.roll(image, (-2, 3), (0, 1)))


@each
def test_a_shift_is_found(estimate, pair):
    flow_px = estimate(*pair)
    assert (flow_px.shape, flow_px.dtype) == ((128, 160, 2), np.float32)
    assert np.abs(flow_px[16:-16, 16:-16] - [3, -2]).mean() < 0.2


@each
def test_no_motion_gives_the_middle_of_all_three_channels(estimate, pair):
    assert np.abs(encode(estimate(pair[0], pair[0])).astype(int) - 128).max() <= 2


@each
def test_a_mirrored_pair_gives_the_mirrored_image(estimate, pair):
    seen = encode(estimate(*pair))
    of_mirrored = encode(estimate(*(np.ascontiguousarray(image[:, ::-1]) for image in pair)))
    inside = np.s_[16:-16, 16:-16]
    difference = mirror(seen, "negate_x")[inside].astype(int) - of_mirrored[inside].astype(int)
    assert np.abs(difference).mean() < 2  # levels of 1/16 px; without the change of sign it would be 96


@each
def test_frames_of_two_sizes_and_tiny_frames_are_refused(estimate, pair):
    with pytest.raises(DataError, match="160 x 128 pixels and the next one 160 x 120"):
        estimate(pair[0], pair[1][:120])
    with pytest.raises(DataError, match="found 8 x 128"):
        estimate(pair[0][:, :8], pair[1][:, :8])
