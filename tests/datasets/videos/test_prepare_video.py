"""What `prepare video` promises, on small folders of small videos."""

from __future__ import annotations

import dataclasses
import unicodedata

import pytest
from made_videos import number_shown, overstate, work, write_video
from rigs import tree

from xmodal_cli.data.check import check
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.videos import frames_by_video, read_frames, read_videos, video_folder, video_path
from xmodal_cli.datasets.folder.prepare import FolderSettings, prepare_folder
from xmodal_cli.datasets.videos.clips import frame_pairs
from xmodal_cli.datasets.videos.video import VideoSettings, prepare_video
from xmodal_cli.errors import DataError, SettingsError


@pytest.fixture
def videos(tmp_path):
    for name, frames in {"hall/a": 12, "hall/b": 30, "c": 8}.items():
        write_video(tmp_path / f"videos/{name}.avi", frames)
    return tmp_path / "videos"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def prepare(videos, out, progress=None, val_fraction=None, **changes):
    return prepare_video(VideoSettings(work(videos, out, **changes), val_fraction), progress)


def test_a_data_set_of_videos_is_one_like_any_other(videos, out):
    report = prepare(videos, out)
    data = PreparedData.open(out)
    assert (report.splits, report.videos, report.written) == ({"train": 15}, 3, 15)
    assert list(data.modalities) == ["rgb"]
    assert {data.scene(identifier) for identifier in data.all_ids} == {"hall/a", "hall/b", "c"}
    assert check(data, workers=1).errors == ()
    fit, held_out = data.hold_out("train", 0.3)
    assert not {data.scene(each) for each in fit} & {data.scene(each) for each in held_out}


def test_every_image_shows_the_frame_that_its_name_says(videos, out):
    prepare(videos, out)
    data, frames = PreparedData.open(out), read_frames(out)
    assert sorted(frames) == data.all_ids
    for identifier, row in frames.items():
        assert number_shown(data.read("rgb", identifier)) == row.frame
        assert (row.next, identifier) == (row.frame + 1, f"{row.video}/{row.frame:05d}")


def test_what_flow_needs_can_be_decoded_from_the_tables(videos, out):
    prepare(videos, out, per_video=3)
    data, about = PreparedData.open(out), read_videos(out)
    shown = []
    for video, rows in frames_by_video(read_frames(out), data.all_ids).items():
        path = video_path(video_folder(data), about[video])
        shown += [number_shown(pair.following) - number_shown(pair.image) for pair in frame_pairs(path, rows)]
    assert shown == [1] * 9


def test_a_video_that_was_changed_or_moved_is_said_before_flow_is_made_of_it(videos, out, tmp_path):
    prepare(videos, out)
    data, about = PreparedData.open(out), read_videos(out)
    write_video(videos / "c.avi", 9)
    with pytest.raises(DataError, match="the images were taken from"):
        video_path(video_folder(data), about["c"])
    videos.rename(tmp_path / "moved")
    with pytest.raises(DataError, match="are not at"):
        video_folder(data)
    assert video_path(video_folder(data, tmp_path / "moved"), about["hall/a"]).is_file()


def test_two_processes_give_what_one_gives(videos, tmp_path):
    prepare(videos, tmp_path / "one")
    prepare(videos, tmp_path / "two", workers=2, name="one")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_an_interrupted_run_goes_on_and_ends_like_an_uninterrupted_one(videos, out, tmp_path):
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(videos, out, interrupt)
    with pytest.raises(DataError):
        PreparedData.open(out)  # not a data set until it is whole
    report = prepare(videos, out)
    assert (report.written, report.finished) == (5, 10)
    prepare(videos, tmp_path / "whole", name="out")
    assert tree(out) == tree(tmp_path / "whole")


def test_an_image_that_was_lost_meanwhile_is_made_again(videos, out):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(videos, out, interrupt)
    next(out.rglob("*.jpg")).unlink()
    assert prepare(videos, out).written == 15


def test_a_second_run_opens_no_video_and_changes_no_file(videos, out):
    prepare(videos, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    report = prepare(videos, out, lambda done, total: pytest.fail("a video was opened"))
    assert (report.written, report.finished, report.splits) == (0, 15, {"train": 15})
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def test_a_new_video_is_taken_in_and_one_that_is_gone_leaves_nothing(videos, out):
    prepare(videos, out)
    (videos / "c.avi").unlink()
    write_video(videos / "d.avi", 6)
    assert prepare(videos, out).splits == {"train": 15}
    data = PreparedData.open(out)
    assert {data.scene(each) for each in data.all_ids} == {"hall/a", "hall/b", "d"}
    report = check(data, workers=1)
    assert not [warning for warning in report.warnings if "not in the manifest" in warning]
    assert report.ok


def test_other_settings_are_refused_with_the_difference_and_overwrite_mends_it(videos, out):
    prepare(videos, out)
    with pytest.raises(SettingsError, match="frames_per_video was 5, now 2") as caught:
        prepare(videos, out, per_video=2)
    assert "--overwrite" in str(caught.value.hint)
    assert prepare(videos, out, per_video=2, overwrite=True).splits == {"train": 6}
    assert len(list(out.rglob("*.jpg"))) == 6


def test_a_folder_with_something_else_is_refused(videos, out):
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(SettingsError, match="no prepared data set"):
        prepare(videos, out)
    assert tree(out) == {"notes.txt": b"mine"}


def test_another_modality_can_be_added_and_stays(videos, out):
    prepare(videos, out)
    prepare_folder(FolderSettings(out=out, modalities=("gray",), workers=1))
    assert prepare(videos, out).finished == 15
    assert list(PreparedData.open(out).modalities) == ["rgb", "gray"]
    write_video(videos / "d.avi", 6)
    with pytest.raises(SettingsError, match="gray of the old frames"):
        prepare(videos, out)


def test_a_share_of_the_videos_becomes_val(videos, out):
    report = prepare(videos, out, val_fraction=0.3)
    assert report.splits == {"train": 10, "val": 5}
    assert check(PreparedData.open(out), workers=1).ok


def test_all_frames_are_all_that_another_follows(videos, out):
    assert prepare(videos, out, per_video=None).splits == {"train": 11 + 29 + 7}


def test_bad_videos_are_all_named_and_can_be_left_out(videos, out):
    (videos / "empty.avi").touch()
    (videos / "letter.mp4").write_text("no video")
    with pytest.raises(DataError, match="2 videos are bad") as caught:
        prepare(videos, out)
    assert "empty.avi" in caught.value.message
    assert "letter.mp4" in caught.value.message
    report = prepare(videos, out, skip_bad=True)
    assert set(report.left_out) == {"empty", "letter"}
    assert report.splits == {"train": 15}
    assert prepare(videos, out, skip_bad=True).left_out == report.left_out


def test_a_video_of_one_frame_is_left_out_and_counted(videos, out):
    write_video(videos / "one.avi", 1)
    report = prepare(videos, out)
    assert report.counts["videos_without_pair"] == 1
    assert "one" not in read_videos(out)


def test_nothing_but_videos_of_one_frame_is_an_error(tmp_path, out):
    write_video(tmp_path / "videos/one.avi", 1)
    with pytest.raises(DataError, match="give no frame"):
        prepare(tmp_path / "videos", out)


def test_videos_may_differ_in_size_and_frame_rate(videos, out):
    write_video(videos / "wide.avi", 6, fps=7.5, hw=(32, 96))
    prepare(videos, out)
    about = read_videos(out)
    assert (about["wide"].height, about["wide"].width, about["wide"].fps) == (32, 96, 7.5)
    assert check(PreparedData.open(out), workers=1).ok


def test_names_of_any_kind_become_ids_that_every_file_can_hold(tmp_path, out):
    accent = unicodedata.normalize("NFD", "café")
    for name in ("a b", "shot@2,5", accent, "#20 rhythm", " edge "):
        write_video(tmp_path / "plain.avi", 4).rename(tmp_path / f"{name}.avi")
    prepare(tmp_path, out, per_video=1)
    data = PreparedData.open(out)
    assert data.all_ids == sorted(f"{name}/00002" for name in ("a b", "shot@2,5", "café", "%2320 rhythm", "%20edge%20"))
    assert check(data, workers=1).ok
    assert all((tmp_path / row.file).is_file() for row in read_videos(out).values())


def test_two_videos_with_the_same_id_are_refused(videos, out):
    write_video(videos / "c.mkv", 4)
    with pytest.raises(DataError, match="have the ID 'c'"):
        prepare(videos, out)


def test_a_folder_without_videos_is_named(tmp_path, out):
    with pytest.raises(DataError, match="no folder"):
        prepare(tmp_path / "nowhere", out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no video in"):
        prepare(tmp_path / "empty", out)
    assert not out.exists()


def test_a_dry_run_estimates_and_writes_nothing(videos, out):
    report = prepare(videos, out, dry_run=True)
    assert (report.splits, report.videos, report.bytes > 0) == ({"train": 15}, 3, True)
    assert not out.exists()


def test_settings_that_make_no_sense_are_all_named(videos, out):
    settings = VideoSettings(dataclasses.replace(work(videos, out), per_video=0), 1.5)
    with pytest.raises(SettingsError, match=r"(?s)val-fraction.*frames-per-video"):
        prepare_video(settings)


def test_frames_that_a_second_choice_leaves_out_do_not_stay(tmp_path, out):
    overstate(write_video(tmp_path / "videos/long.avi", 20), 24, 20)
    report = prepare(tmp_path / "videos", out)
    assert report.counts["videos_shorter_than_said"] == 1
    kept = {path.relative_to(out).as_posix() for path in (out / "rgb").rglob("*") if path.is_file()}
    assert kept == {row.file for row in PreparedData.open(out).rows.values()}
    assert len(kept) == 5


def test_folders_are_actions_on_request(videos, out):
    prepare(videos, out)
    assert {row.action for row in read_videos(out).values()} == {""}
    with pytest.raises(DataError, match=r"1 of 3 videos lie in no folder .* such as '.*c.avi'"):
        prepare_video(VideoSettings(work(videos, out), actions=True))
    write_video(videos / "yard" / "deep" / "d.avi", 8)
    (videos / "c.avi").unlink()
    prepare_video(VideoSettings(work(videos, out, overwrite=True), actions=True))
    assert {row.video: row.action for row in read_videos(out).values()} == {
        "hall/a": "hall",
        "hall/b": "hall",
        "yard/deep/d": "yard",
    }
