"""Promises of reading raw video: byte order, damaged files, zip parts, time stamps, pairs by time, even samples."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_scenes import Scene, pgm, ppm, raw_colour, raw_depth, write_scene

from xmodal_cli.datasets.nyud2_raw.netpbm import decode_pgm, decode_ppm
from xmodal_cli.datasets.nyud2_raw.sampling import shares, stretches
from xmodal_cli.datasets.nyud2_raw.sources import find_scenes
from xmodal_cli.datasets.nyud2_raw.synchronise import nearest, synchronise
from xmodal_cli.errors import DataError, SettingsError

PIXELS = 640 * 480


def test_depth_has_its_low_byte_first() -> None:
    content = b"P5 640 480 65535\n" + bytes([0xE8, 0x03, 0xFF, 0x07]) * (PIXELS // 2)
    assert decode_pgm(content, "d")[0, :2].tolist() == [1000, 2047]


def test_depth_written_again_in_the_right_order_is_recognised() -> None:
    raw = raw_depth(Scene())
    content = b"P5\n# made by another program\n640 480\n65535\n" + raw.astype(">u2").tobytes()
    assert np.array_equal(decode_pgm(content, "d"), raw)
    assert np.array_equal(decode_pgm(pgm(raw), "d"), raw)


def test_colour_is_read_in_the_order_red_green_blue() -> None:
    rgb = raw_colour(Scene(box_z_m=1.5))
    assert np.array_equal(decode_ppm(ppm(rgb), "r"), rgb)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"P5 640 480 65535\n" + bytes(PIXELS * 2 - 1), "cut off"),
        (b"P6 640 480 255\n" + bytes(PIXELS * 3), "no P5 file"),
        (b"P5 320 240 65535\n" + bytes(320 * 240 * 2), "320 x 240"),
        (b"P5 640 480 255\n" + bytes(PIXELS), "values up to 255"),
        (b"P5 640 480 65535\n" + bytes([0x40, 0x40]) * PIXELS, "either order"),
        (b"\0" * 700_000, "no P5 file"),
    ],
    ids=["empty", "cut", "colour", "small", "8 bits", "large numbers", "zeros"],
)
def test_a_damaged_depth_file_is_refused_by_name(content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said) as error:
        decode_pgm(content, "d-1-2.pgm")
    assert "d-1-2.pgm" in error.value.message


def test_a_colour_file_that_is_cut_off_is_refused() -> None:
    with pytest.raises(DataError, match="cut off"):
        decode_ppm(ppm(raw_colour(Scene()))[:-1], "r")


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=30),
    st.lists(st.integers(0, 60), min_size=1, max_size=30),
)
def test_the_nearest_in_time_is_found_as_by_trying_all(times: list[int], among: list[int]) -> None:
    among = sorted(among)
    found = nearest([float(t) for t in times], [float(t) for t in among])
    for time, index in zip(times, found, strict=True):
        assert abs(among[index] - time) == min(abs(other - time) for other in among)
        assert among[index] == min(other for other in among if abs(other - time) == abs(among[index] - time))


def test_depth_without_colour_near_enough_is_left_out_and_counted(tmp_path: Path) -> None:
    write_scene(tmp_path / "raw" / "den_0001", 5)
    for path in sorted((tmp_path / "raw" / "den_0001").glob("r-*"))[3:]:
        path.unlink()
    scene = find_scenes([tmp_path / "raw"])[0]
    pairs, lost = synchronise(scene, 0.05)
    assert [pair.number for pair in pairs] == [0, 1, 2, 3]
    assert lost == 1
    assert pairs[0].gap_s == pytest.approx(0.007, abs=1e-6)
    assert pairs[3].gap_s == pytest.approx(0.007 - 1 / 30, abs=1e-5)
    assert synchronise(scene, 0.02)[1] == 2


def test_names_without_a_time_stamp_are_told(tmp_path: Path) -> None:
    write_scene(tmp_path / "den_0001", 2)
    for name in ("d-notatime-1.pgm", "r-12.5.ppm", "d-1.5-2.ppm"):
        (tmp_path / "den_0001" / name).write_bytes(b"x")
    (tmp_path / "den_0001" / "INDEX.txt").write_text("r-1-1.ppm\n")
    scene = find_scenes([tmp_path])[0]
    assert scene.bad_names == ("d-1.5-2.ppm", "d-notatime-1.pgm", "r-12.5.ppm")
    assert len(scene.depth) == len(scene.colour) == 2


def test_a_zip_part_gives_the_same_bytes_as_the_folder(tmp_path: Path) -> None:
    write_scene(tmp_path / "raw" / "den_0001", 2)
    with zipfile.ZipFile(tmp_path / "dens.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((tmp_path / "raw").rglob("*.p?m")):
            archive.write(path, path.relative_to(tmp_path / "raw"))
    unpacked, packed = find_scenes([tmp_path / "raw"])[0], find_scenes([tmp_path / "dens.zip"])[0]
    assert [file.name for file in packed.depth] == [file.name for file in unpacked.depth]
    assert packed.depth[1].read() == unpacked.depth[1].read()
    both = find_scenes([tmp_path / "raw", tmp_path / "dens.zip"])
    assert len(both) == 1
    assert len(both[0].depth) == 2


def test_a_damaged_member_of_a_zip_part_is_an_error_of_that_frame(tmp_path: Path) -> None:
    write_scene(tmp_path / "raw" / "den_0001", 1)
    path = tmp_path / "dens.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted((tmp_path / "raw").rglob("*.p?m")):
            archive.write(file, file.relative_to(tmp_path / "raw"))
    content = bytearray(path.read_bytes())
    content[300_000] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        find_scenes([path])[0].depth[0].read()


@pytest.mark.parametrize("content", [b"PK\3\4 cut off", b"no archive"])
def test_a_part_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "part.zip").write_bytes(content)
    with pytest.raises(DataError, match="zip archive"):
        find_scenes([tmp_path / "part.zip"])


def test_sources_without_frames_or_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no raw frames"):
        find_scenes([tmp_path])
    with pytest.raises(SettingsError, match="not there"):
        find_scenes([tmp_path / "nowhere"])


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(0, 50), min_size=1), st.integers(0, 400))
def test_scenes_share_the_total_as_evenly_as_they_can(available: dict[str, int], total: int) -> None:
    given_frames = shares(available, total)
    assert sum(given_frames.values()) == min(total, sum(available.values()))
    assert all(given_frames[name] <= available[name] for name in available)
    most = max(given_frames.values())
    assert all(given_frames[name] >= most - 1 for name in available if given_frames[name] < available[name])


@given(st.integers(0, 60), st.integers(1, 60))
def test_stretches_cover_every_frame_once_and_are_of_one_length(length: int, count: int) -> None:
    found = stretches(length, count)
    assert sorted(frame for stretch in found for frame in stretch) == list(range(length))
    assert len(found) == min(length, count)
    lengths = {len(stretch) for stretch in found}
    assert not lengths or max(lengths) - min(lengths) <= 1
