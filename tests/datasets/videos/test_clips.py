"""What decoding promises: exact frame numbers, whatever a header says, and words for files that are no video."""

from __future__ import annotations

import tracemalloc

import pytest
from made_videos import number_shown, overstate, write_video

from xmodal_cli.data.videos import FrameRow
from xmodal_cli.datasets.videos.clips import count_frames, frame_pairs, read_facts, spread, take
from xmodal_cli.errors import DataError


def number_of(number, image) -> int:
    """What a frame shows, whatever it is said to be."""
    return number_shown(image)


def test_the_frames_taken_are_those_asked_for(tmp_path):
    path = write_video(tmp_path / "a.avi", 20)
    taken = take(path, lambda frames: [1, 7, frames - 1], number_of)
    assert taken.kept == {1: 1, 7: 7, 19: 19}
    assert not taken.short


def test_a_header_that_claims_too_much_is_found_out_and_the_choice_made_again(tmp_path):
    path = write_video(tmp_path / "a.avi", 20)
    overstate(path, 24, 20)
    assert read_facts(path).declared == 24
    taken = take(path, lambda frames: spread(range(1, frames), 5), number_of)
    assert taken.kept == {number: number for number in spread(range(1, 20), 5)}
    assert (taken.frames, taken.short) == (20, True)


def test_a_video_that_was_cut_off_gives_what_can_be_decoded(tmp_path):
    path = write_video(tmp_path / "a.avi", 20)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    count = count_frames(path)
    assert 5 <= count < 20
    taken = take(path, lambda frames: range(1, frames), number_of)
    assert taken.kept == {number: number for number in range(1, count)}


@pytest.mark.parametrize("fps", [1, 12.5, 23.976, 1000])
def test_odd_frame_rates_change_no_frame(tmp_path, fps):
    path = write_video(tmp_path / "a.avi", 9, fps=fps)
    assert read_facts(path).fps == pytest.approx(fps, rel=1e-3)
    assert take(path, lambda frames: [2, 8], number_of).kept == {2: 2, 8: 8}


def test_a_video_of_one_frame_has_no_pair(tmp_path):
    path = write_video(tmp_path / "a.avi", 1)
    taken = take(path, lambda frames: spread(range(1, frames), 5), number_of)
    assert (taken.kept, taken.frames) == ({}, 1)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"no video at all" * 100])
def test_a_file_that_is_no_video_is_named(tmp_path, content):
    (tmp_path / "a01.avi").write_bytes(content)
    write_video(tmp_path / "a02.avi", 3)  # digits in a name make no pattern
    with pytest.raises(DataError, match=r"a01\.avi"):
        take(tmp_path / "a01.avi", lambda frames: [1], number_of)


def test_a_video_whose_frames_cannot_be_decoded_is_named(tmp_path):
    path = write_video(tmp_path / "a.avi", 8)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"movi") + 4])
    with pytest.raises(DataError, match=r"a\.avi"):
        take(path, lambda frames: [1], number_of)


@pytest.mark.parametrize("name", ["a b@c.avi", "#20 é.avi", "a:b.avi", "100%d.avi"])
def test_names_of_any_kind_are_opened(tmp_path, name, monkeypatch):
    write_video(tmp_path / "plain.avi", 3).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert count_frames(type(tmp_path)(name)) == 3


def test_pairs_are_a_frame_and_the_next_each_decoded_once(tmp_path):
    path = write_video(tmp_path / "a.avi", 12)
    rows = [FrameRow(f"a/{n}", "a", n, n + 1) for n in (11, 3, 4)]
    shown = [
        (pair.row.frame, number_shown(pair.image), number_shown(pair.following)) for pair in frame_pairs(path, rows)
    ]
    assert shown == [(3, 3, 4), (4, 4, 5), (11, 11, 12)]


def test_a_video_that_has_become_shorter_is_an_error_not_a_missing_pair(tmp_path):
    path = write_video(tmp_path / "a.avi", 5)
    with pytest.raises(DataError, match="ends before frame 7"):
        list(frame_pairs(path, [FrameRow("a/2", "a", 2, 3), FrameRow("a/6", "a", 6, 7)]))


def test_no_more_than_one_frame_is_held_however_many_are_taken(tmp_path):
    path = write_video(tmp_path / "a.avi", 30, hw=(480, 640))
    tracemalloc.start()
    taken = take(path, lambda frames: range(1, frames), lambda number, image: number)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(taken.kept) == 29
    assert most < 4 * 480 * 640 * 3
