from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rigs import picture

from xmodal_cli.data.duplicates import NEAR_BITS, near_pairs, picture_hash

words = st.integers(0, 2**64 - 1)


def bits(first: int, second: int) -> int:
    return (first ^ second).bit_count()


@settings(max_examples=50, deadline=None)
@given(st.lists(words, min_size=1, max_size=12), st.lists(words, min_size=1, max_size=12), st.integers(0, 63))
def test_pairs_are_exactly_those_within_the_limit(first, second, flipped):
    second = [*second, first[0] ^ (1 << flipped)]
    hashes = {f"a{n}": h for n, h in enumerate(first)} | {f"b{n}": h for n, h in enumerate(second)}
    groups = [[name for name in hashes if name.startswith(letter)] for letter in "ab"]
    expected = {
        (a, b, bits(hashes[a], hashes[b]))
        for a in groups[0]
        for b in groups[1]
        if bits(hashes[a], hashes[b]) <= NEAR_BITS
    }
    assert set(near_pairs(hashes, groups)) == expected


def test_a_scaled_and_compressed_copy_is_found_and_another_picture_is_not():
    image = picture(1, (240, 320))
    small = cv2.resize(image, (160, 120), interpolation=cv2.INTER_AREA)
    copy = cv2.imdecode(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)
    assert bits(picture_hash(image), picture_hash(copy)) <= NEAR_BITS
    assert bits(picture_hash(image), picture_hash(picture(2, (240, 320)))) > NEAR_BITS


@pytest.mark.real
def test_no_two_scenes_of_nyu_depth_look_the_same(real_data):
    from xmodal_cli.data.images import read_rgb

    paths = sorted((real_data / "nyud2-8bit/rgb").glob("*.jpg"))[::8]
    hashes = {path.stem: picture_hash(np.asarray(read_rgb(path))) for path in paths}
    half = len(paths) // 2
    assert not list(near_pairs(hashes, [[p.stem for p in paths[:half]], [p.stem for p in paths[half + 2 :]]]))
