from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rigs import depth_mm, picture

from xmodal_cli.data.images import decode_raw, encode_png, is_complete, read_raw, read_rgb, write_png
from xmodal_cli.errors import DataError

JPEG_KINDS = {
    "baseline": [],
    "progressive": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
    "restarts": [cv2.IMWRITE_JPEG_RST_INTERVAL, 2],
}


def jpeg(kind: str = "baseline") -> bytes:
    return cv2.imencode(".jpg", picture(0, (120, 160)), JPEG_KINDS[kind])[1].tobytes()


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(st.sampled_from([np.uint8, np.uint16]), st.sampled_from([(5, 7), (5, 7, 3)])))
def test_png_gives_back_every_value(image):
    stored = decode_raw(encode_png(image), Path("a.png"))
    assert stored.dtype == image.dtype
    assert np.array_equal(stored, image)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bits_stay_sixteen_bits(tmp_path, suffix):
    path = tmp_path / f"depth{suffix}"
    cv2.imwrite(str(path), depth_mm(3))
    assert np.array_equal(read_raw(path), depth_mm(3))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_npy_keeps_its_type(tmp_path, dtype):
    np.save(tmp_path / "depth.npy", depth_mm(1).astype(dtype))
    assert read_raw(tmp_path / "depth.npy").dtype == dtype


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".ppm", ".bmp"])
def test_channels_come_in_the_order_red_green_blue(tmp_path, suffix):
    red = np.zeros((16, 16, 3), np.uint8)
    red[:, :, 2] = 255  # OpenCV writes blue, green, red
    path = tmp_path / f"red{suffix}"
    cv2.imwrite(str(path), red)
    for image in (read_rgb(path), read_raw(path)):
        assert np.allclose(image[8, 8], (255, 0, 0), atol=3)


def test_grey_and_alpha_become_three_channels(tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((4, 5), 9, np.uint8))
    cv2.imwrite(str(tmp_path / "alpha.png"), np.full((4, 5, 4), 9, np.uint8))
    assert read_rgb(tmp_path / "grey.png").tolist() == np.full((4, 5, 3), 9).tolist()
    assert read_rgb(tmp_path / "alpha.png").shape == (4, 5, 3)


def test_orientation_tags_are_not_applied_because_the_paired_image_has_none(tmp_path):
    tag = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    segment = b"\xff\xe1" + (len(tag) + 8).to_bytes(2, "big") + b"Exif\x00\x00" + tag
    content = jpeg()
    (tmp_path / "turned.jpg").write_bytes(content[:2] + segment + content[2:])
    assert read_rgb(tmp_path / "turned.jpg").shape == (120, 160, 3)


@pytest.mark.parametrize("kind", JPEG_KINDS)
def test_every_shortened_jpeg_is_refused(kind):
    content = jpeg(kind)
    assert is_complete(content)
    assert not any(is_complete(content[:length]) for length in range(2, len(content)))


def test_every_shortened_png_is_refused():
    content = encode_png(depth_mm(0))
    assert is_complete(content)
    assert not any(is_complete(content[:length]) for length in range(8, len(content)))


@pytest.mark.parametrize("kind", JPEG_KINDS)
def test_bytes_after_the_end_of_a_jpeg_are_no_damage(kind):
    assert is_complete(jpeg(kind) + b"thumbnail of a phone")


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_png_with_one_changed_byte_is_never_read_as_something_else(data):
    content = bytearray(encode_png(depth_mm(0)))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DataError):
        decode_raw(bytes(content), Path("a.png"))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".npy", ".ppm", ".bmp"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_cut_off_files_are_errors_that_name_the_file(tmp_path, suffix, share):
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".npy":
        np.save(whole, picture(0))
    else:
        cv2.imwrite(str(whole), picture(0))
    path = tmp_path / f"cut{suffix}"
    content = whole.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=f"cut{suffix}"):
        read_rgb(path)
    with pytest.raises(DataError, match=f"cut{suffix}"):
        read_raw(path)


def test_missing_files_folders_and_text_are_errors(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    for path in (tmp_path / "absent.png", tmp_path, tmp_path / "text.png"):
        with pytest.raises(DataError):
            read_raw(path)


def test_pickles_in_npy_files_are_never_loaded(tmp_path):
    np.save(tmp_path / "object.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="NPY"):
        read_raw(tmp_path / "object.npy")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write_png(tmp_path / "a.png", depth_mm(0))
    with pytest.raises(ValueError, match="float64"):
        write_png(tmp_path / "a.png", np.zeros((3, 3)))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert np.array_equal(read_raw(tmp_path / "a.png"), depth_mm(0))


@pytest.mark.real
def test_every_real_image_is_complete(real_data):
    paths = [*sorted((real_data / "nyud2-8bit").rglob("*.*g"))[::20], *sorted((real_data / "mm5").rglob("*.*g"))[::5]]
    assert len(paths) > 50
    assert all(is_complete(path.read_bytes()) for path in paths)
