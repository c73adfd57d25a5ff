"""What `prepare jhmdb` promises: on made clips in the published formats, and on real ones."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
from made_videos import BOX, STEP, make_jhmdb, number_shown, work, write_matlab_boxes
from rigs import tree

from xmodal_cli.data.check import check
from xmodal_cli.data.images import write_png
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.videos import read_frames, read_videos, video_folder, video_path
from xmodal_cli.datasets.videos.clips import frame_pairs
from xmodal_cli.datasets.videos.jhmdb import ACTIONS, JhmdbSettings, prepare_jhmdb
from xmodal_cli.datasets.videos.jhmdb_files import read_boxes
from xmodal_cli.errors import DataError, SettingsError

CLIPS = {
    "wave/Bush_Wave @home_0": (6, 1),
    "wave/#20_Müll_1": (5, 2),
    "walk/TrumanShow_walk_36": (4, 1),
    "walk/late_2": (4, 2),
}


@pytest.fixture
def jhmdb(tmp_path):
    return make_jhmdb(tmp_path / "jhmdb", CLIPS)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def prepare(folder, out, boxes=None, lists=None, split=1, **changes):
    changes = {"per_video": None, **changes}
    return prepare_jhmdb(JhmdbSettings(work(folder, out, **changes), boxes, lists, split))


def edit(path, old: str, new: str):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_clips_become_two_splits_with_a_box_in_every_frame_that_another_follows(jhmdb, out):
    report = prepare(jhmdb, out)
    data = PreparedData.open(out)
    assert (report.splits, report.boxes) == ({"train": 8, "test": 7}, 15)
    assert report.counts["frames_without_next"] == 4
    assert data.classes == ACTIONS
    assert len(ACTIONS) == 21
    found = data.annotations("train")["wave/Bush_Wave @home_0/00003"]
    x, y, width, height = BOX
    assert found.boxes_xyxy.tolist() == [[x - 1, y - 1, x - 1 + width, y - 1 + height]]
    assert [data.classes[label] for label in found.labels] == ["wave"]
    assert read_videos(out)["walk/late_2"].action == "walk"
    assert check(data, workers=1).errors == ()


def test_images_are_the_annotated_frames(jhmdb, out):
    prepare(jhmdb, out)
    data = PreparedData.open(out)
    assert all(number_shown(data.read("rgb", each)) == row.frame for each, row in read_frames(out).items())


def test_boxes_in_matlabs_format_give_the_same_data_set(jhmdb, out, tmp_path):
    prepare(jhmdb, out)
    write_matlab_boxes(jhmdb / "boxes.csv", jhmdb / "jhmdb_annot.mat")
    prepare(jhmdb, tmp_path / "mat", boxes=jhmdb / "jhmdb_annot.mat")
    kept = {name: content for name, content in tree(out).items() if name != "dataset.json"}
    assert kept == {name: content for name, content in tree(tmp_path / "mat").items() if name != "dataset.json"}


def test_lists_as_csv_give_the_same_splits(jhmdb, out, tmp_path):
    lines = [f"{','.join(name.split('/'))},{'train' if part == 1 else 'test'}" for name, (_, part) in CLIPS.items()]
    (tmp_path / "split1_subset.csv").write_text("\n".join(["action,clip,split", *lines]), encoding="utf-8")
    prepare(jhmdb, out)
    prepare(jhmdb, tmp_path / "again", lists=tmp_path / "split1_subset.csv")
    assert all(tree(out)[name] == tree(tmp_path / "again")[name] for name in ("splits/train.txt", "splits/test.txt"))


def as_frames(folder):
    """The same clips as the archive `Rename_Images` has them: a folder of PNG frames each."""
    for path in list((folder / "clips").rglob("*.avi")):
        for number in range(1, CLIPS[f"{path.parent.name}/{path.stem}"][0] + 1):
            write_png(path.with_suffix("") / f"{number:05d}.png", np.full((48, 64, 3), STEP * number, np.uint8))
        path.unlink()


def test_clips_published_as_frames_are_copied_byte_for_byte(jhmdb, out):
    as_frames(jhmdb)
    assert prepare(jhmdb, out).splits == {"train": 8, "test": 7}
    data, frames, videos = PreparedData.open(out), read_frames(out), read_videos(out)
    for identifier, row in frames.items():
        source = jhmdb / videos[row.video].file / f"{row.frame:05d}.png"
        assert data.path("rgb", identifier).read_bytes() == source.read_bytes()
    assert data.annotations("test")["walk/late_2/00001"].labelled
    assert check(data, workers=1).errors == ()
    assert prepare(jhmdb, out).finished == 15
    late = video_path(video_folder(data), videos["walk/late_2"])
    pairs = list(frame_pairs(late, [frames["walk/late_2/00002"]]))
    assert [(number_shown(pair.image), number_shown(pair.following)) for pair in pairs] == [(2, 3)]


def test_frames_with_a_gap_or_damage_are_named(jhmdb, out):
    as_frames(jhmdb)
    (jhmdb / "clips/walk/late_2/00002.png").unlink()
    broken = jhmdb / "clips/wave/Bush_Wave @home_0/00003.png"
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(DataError, match=r"(?s)2 videos are bad.*without a gap"):
        prepare(jhmdb, out)
    assert prepare(jhmdb, out, skip_bad=True).splits == {"train": 3, "test": 4}


def test_each_of_the_three_splits_has_lists_of_its_own(jhmdb, out):
    for action in ("wave", "walk"):
        text = (jhmdb / f"splits/{action}_test_split1.txt").read_text(encoding="utf-8")
        swapped = text.replace(" 1 ", " x ").replace(" 2 ", " 1 ").replace(" x ", " 2 ")
        (jhmdb / f"splits/{action}_test_split3.txt").write_text(swapped, encoding="utf-8")
    assert prepare(jhmdb, out, split=3).splits == {"train": 7, "test": 8}
    with pytest.raises(DataError, match="no list of split 2"):
        prepare(jhmdb, out.with_name("two"), split=2)
    with pytest.raises(SettingsError, match="--split is 1, 2 or 3"):
        prepare(jhmdb, out.with_name("four"), split=4)


def test_some_annotated_frames_of_each_clip_are_spread_evenly(jhmdb, out):
    prepare(jhmdb, out, per_video=2)
    frames = [row.frame for row in read_frames(out).values() if row.video == "wave/Bush_Wave @home_0"]
    assert frames == [2, 4]


def test_frames_that_nobody_annotated_are_left_out(jhmdb, out):
    edit(jhmdb / "boxes.csv", "wave,Bush_Wave @home_0,3,11,6,20,30\n", "")
    assert prepare(jhmdb, out).splits["train"] == 7
    assert "wave/Bush_Wave @home_0/00003" not in read_frames(out)


def test_boxes_of_frames_that_are_not_there_are_counted(jhmdb, out):
    edit(jhmdb / "boxes.csv", "walk,late_2,4,", "walk,late_2,40,")
    report = prepare(jhmdb, out)
    assert report.counts["boxes_without_frame"] == 1
    assert report.splits["test"] == 7


def test_listed_clips_without_boxes_and_unlisted_ones_are_noted(jhmdb, out):
    text = (jhmdb / "boxes.csv").read_text(encoding="utf-8")
    kept = [line for line in text.splitlines() if "late_2" not in line]
    (jhmdb / "boxes.csv").write_text("\n".join(kept), encoding="utf-8")
    edit(jhmdb / "splits/wave_test_split1.txt", "#20_Müll_1.avi 2", "#20_Müll_1.avi 0")
    report = prepare(jhmdb, out)
    assert report.splits == {"train": 8}
    assert ["no boxes" in report.notes[0], "'walk/late_2'" in report.notes[0]] == [True, True]
    assert "in no list" in report.notes[1]


def test_listed_clips_that_are_missing_are_named_or_left_out(jhmdb, out):
    (jhmdb / "clips/walk/late_2.avi").unlink()
    with pytest.raises(DataError, match="'walk/late_2' of split test is not in"):
        prepare(jhmdb, out)
    report = prepare(jhmdb, out, skip_bad=True)
    assert list(report.left_out) == ["walk/late_2"]


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("boxes.csv", "late_2,1,11,6,20,30", "late_2,1,11,6,0,30", "size above 0"),
        ("boxes.csv", "late_2,1,11,6,20,30", "late_2,0,11,6,20,30", "a frame from 1"),
        ("boxes.csv", "late_2,1,11,6,20,30", "late_2,one,11,6,20,30", "line"),
        ("boxes.csv", "late_2,1,11,6,20,30", "late_2,1,11,6", "expected 7 cells"),
        ("boxes.csv", "late_2,1,", "late_2,2,", "two boxes in frame 2"),
        ("boxes.csv", "action,clip", "class,clip", "columns"),
        ("splits/walk_test_split1.txt", "late_2.avi 2", "late_2.avi", r"CLIP.avi 1"),
        ("splits/walk_test_split1.txt", "late_2.avi 2", "TrumanShow_walk_36.avi 2", "both train and test"),
    ],
)
def test_damaged_lists_and_boxes_are_named_with_their_place(jhmdb, out, file, old, new, said):
    edit(jhmdb / file, old, new)
    with pytest.raises(DataError, match=said):
        prepare(jhmdb, out)
    assert not out.exists()


def test_an_action_that_is_none_of_jhmdbs_is_refused_with_the_nearest(jhmdb, out):
    (jhmdb / "splits/wave_test_split1.txt").rename(jhmdb / "splits/waves_test_split1.txt")
    with pytest.raises(DataError, match="'waves'") as caught:
        prepare(jhmdb, out)
    assert "'wave'" in str(caught.value.hint)


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0 MAT-file" + bytes(200), b"rubbish"])
def test_a_matlab_file_of_something_else_is_named(jhmdb, out, content):
    (jhmdb / "wrong.mat").write_bytes(content)
    with pytest.raises(DataError, match=r"wrong\.mat"):
        prepare(jhmdb, out, boxes=jhmdb / "wrong.mat")


def test_a_matlab_file_without_the_struct_is_named(jhmdb, out):
    scipy.io.savemat(jhmdb / "wrong.mat", {"boxes": np.zeros((3, 4))})
    with pytest.raises(DataError, match="KeyError 'annot'") as caught:
        prepare(jhmdb, out, boxes=jhmdb / "wrong.mat")
    assert "struct 'annot'" in str(caught.value.hint)


@pytest.mark.slow
@pytest.mark.real
def test_real_clips_give_the_known_counts(real_data, out):
    report = prepare(real_data / "jhmdb", out, workers=None)
    assert (report.videos, report.splits, report.boxes) == (126, {"train": 2830, "test": 1367}, 4197)
    assert report.counts["boxes_without_frame"] == 0
    data = PreparedData.open(out)
    found = data.annotations("train+test")
    assert all(objects.boxes_xyxy[0, :2].min() >= 0 for objects in found.values())
    assert all(objects.boxes_xyxy[0, 2] <= 320 and objects.boxes_xyxy[0, 3] <= 240 for objects in found.values())
    assert all(objects.labels[0] == ACTIONS.index(name.split("/")[0]) for name, objects in found.items())


@pytest.mark.real
def test_the_published_matlab_boxes_equal_the_table_of_the_subset(real_data):
    every, subset = (read_boxes(real_data / "jhmdb" / name) for name in ("jhmdb_annot.mat", "boxes.csv"))
    assert (len(every), sum(map(len, every.values()))) == (928, 31838)
    assert {clip.action for clip in every} == set(ACTIONS)
    assert {name: every[name] for name in subset} == subset
