"""What `prepare ucf101` promises, on made videos in the published layout."""

from __future__ import annotations

import pytest
from made_videos import make_ucf101, work

from xmodal_cli.data.check import check
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.videos import read_frames, read_videos
from xmodal_cli.datasets.videos.ucf101 import Ucf101Settings, prepare_ucf101
from xmodal_cli.errors import DataError, SettingsError

TRAIN = ["Archery/v_Archery_g08_c01.avi", "Archery/v_Archery_g08_c02.avi", "Archery/v_Archery_g09_c01.avi"]
TEST = ["HandstandPushups/v_HandStandPushups_g01_c01.avi"]


@pytest.fixture
def ucf101(tmp_path):
    return make_ucf101(tmp_path / "ucf", TRAIN, TEST)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def prepare(folder, out, lists=None, split=1, test=False, **changes):
    return prepare_ucf101(Ucf101Settings(work(folder / "UCF-101", out, **changes), lists, split, test))


def test_five_frames_of_each_train_video_are_taken_and_no_others(ucf101, out):
    report = prepare(ucf101, out)
    data = PreparedData.open(out)
    assert (report.splits, report.videos, report.boxes) == ({"train": 15}, 3, None)
    assert [row.frame for row in read_frames(out).values() if row.video == "Archery/v_Archery_g09_c01"] == [
        2,
        4,
        6,
        8,
        10,
    ]
    assert {row.action for row in read_videos(out).values()} == {"Archery"}
    assert check(data, workers=1).ok


def test_clips_of_one_group_are_one_scene(ucf101, out):
    prepare(ucf101, out)
    scenes = PreparedData.open(out).scenes
    assert set(scenes.values()) == {"Archery/v_Archery_g08", "Archery/v_Archery_g09"}


def test_the_test_list_is_a_split_if_wanted(ucf101, out):
    assert prepare(ucf101, out, test=True).splits == {"train": 15, "test": 5}


def test_lists_and_folders_may_differ_in_capitals(ucf101, out):
    (ucf101 / "UCF-101/HandstandPushups").rename(ucf101 / "UCF-101/HandStandPushups")
    assert prepare(ucf101, out, test=True).splits == {"train": 15, "test": 5}


def test_missing_videos_are_named_or_left_out(ucf101, out):
    (ucf101 / "UCF-101" / TRAIN[0]).unlink()
    with pytest.raises(DataError, match="v_Archery_g08_c01"):
        prepare(ucf101, out)
    assert prepare(ucf101, out, skip_bad=True).splits == {"train": 10}


def test_lists_that_are_not_there_or_are_none_are_named(ucf101, out):
    with pytest.raises(DataError, match=r"trainlist02\.txt"):
        prepare(ucf101, out, split=2)
    with pytest.raises(SettingsError, match="1, 2 or 3"):
        prepare(ucf101, out, split=0)
    (ucf101 / "ucfTrainTestlist/trainlist01.txt").write_text("1 ApplyEyeMakeup\n")  # classInd.txt
    with pytest.raises(DataError, match="expected lines"):
        prepare(ucf101, out)


def test_lists_that_share_a_group_are_refused_with_the_videos(ucf101, out):
    (ucf101 / "ucfTrainTestlist/testlist01.txt").write_text(f"{TRAIN[1]}\n")
    (ucf101 / "ucfTrainTestlist/trainlist01.txt").write_text(f"{TRAIN[0]} 1\n{TRAIN[2]} 1\n")
    with pytest.raises(DataError, match=r"(?s)1 scenes are in two splits.*v_Archery_g08' is in the splits") as caught:
        prepare(ucf101, out, test=True)
    assert caught.value.exit_code == 3
    assert not out.exists()


def test_videos_may_lie_in_one_folder(ucf101, out):
    for path in sorted((ucf101 / "UCF-101").rglob("*.avi")):
        path.rename(ucf101 / "UCF-101" / path.name)
    assert prepare(ucf101, out, test=True).splits == {"train": 15, "test": 5}


def test_a_video_of_another_action_is_not_taken_for_one_that_is_missing(tmp_path, out):
    folder = make_ucf101(tmp_path / "own", ["Archery/first.avi", "Archery/second.avi"], ["Bowling/third.avi"])
    (folder / "UCF-101/Archery/first.avi").rename(folder / "UCF-101/Bowling/first.avi")
    with pytest.raises(DataError, match="'Archery/first' of split train is not in"):
        prepare(folder, out)


def test_a_video_that_is_there_twice_is_named(ucf101, out):
    copy = ucf101 / "UCF-101/more" / TRAIN[0]
    copy.parent.mkdir(parents=True)
    copy.write_bytes((ucf101 / "UCF-101" / TRAIN[0]).read_bytes())
    with pytest.raises(DataError, match="is there twice"):
        prepare(ucf101, out)
