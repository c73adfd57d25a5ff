"""What the tables of videos and frames promise."""

from __future__ import annotations

import pytest

from xmodal_cli.data.videos import FrameRow, VideoRow, read_frames, read_videos, write_frames, write_videos
from xmodal_cli.errors import DataError

VIDEOS = [VideoRow('b, "c"', "b c.avi", 10, None, 4, 3), VideoRow("a/é", "a/é.avi", 9, 29.97, 4, 3, "wave")]
FRAMES = [FrameRow("a/é/00002", "a/é", 2, 3), FrameRow("a/é/00001", "a/é", 1, 2)]


def test_tables_read_back_as_they_were_written(tmp_path):
    write_videos(tmp_path, VIDEOS)
    write_frames(tmp_path, FRAMES)
    assert read_videos(tmp_path) == {row.video: row for row in VIDEOS}
    assert read_frames(tmp_path) == {row.id: row for row in FRAMES}
    assert list(read_frames(tmp_path)) == ["a/é/00001", "a/é/00002"]


def test_a_data_set_of_something_else_is_told_from_a_damaged_table(tmp_path):
    with pytest.raises(DataError, match="not made of videos"):
        read_frames(tmp_path)
    write_frames(tmp_path, FRAMES)
    path = tmp_path / "frames.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(",2,3", ",2"), encoding="utf-8")
    with pytest.raises(DataError, match="damaged"):
        read_frames(tmp_path)
    path.write_text("id,video,frame\n", encoding="utf-8")
    with pytest.raises(DataError, match="the columns are id, video, frame;"):
        read_frames(tmp_path)
