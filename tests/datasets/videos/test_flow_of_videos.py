"""What `--modality flow` promises of a data set made of videos."""

from __future__ import annotations

import dataclasses
import unicodedata

import numpy as np
import pytest
import torch
from made_videos import make_jhmdb, work, write_moving_video, write_video
from rigs import tree
from torchvision.models.optical_flow import raft_small
from videos_with_flow import with_flow

from xmodal_cli.data.check import check
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.videos.flow import FlowSettings, add_flow
from xmodal_cli.datasets.videos.flow_trial import try_flow
from xmodal_cli.datasets.videos.jhmdb import JhmdbSettings, prepare_jhmdb
from xmodal_cli.datasets.videos.video import VideoSettings, prepare_video
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.modalities.flow import decode, decode_kitti

SETTINGS = FlowSettings(workers=1)


@pytest.fixture
def videos(tmp_path):
    for name in ("hall/a", "b", "c"):
        write_moving_video(tmp_path / f"videos/{name}.avi", 4, patch=False)
    return tmp_path / "videos"


@pytest.fixture
def data(videos, tmp_path):
    prepare_video(VideoSettings(work(videos, tmp_path / "out")))
    return PreparedData.open(tmp_path / "out")


@pytest.fixture
def raft_file(tmp_path):
    torch.manual_seed(0)
    torch.save(raft_small().state_dict(), tmp_path / "raft.pth")
    return tmp_path / "raft.pth"


def test_flow_leads_from_each_frame_to_the_next(data):
    report = add_flow(data, dataclasses.replace(SETTINGS, modalities=("flow", "flow_kitti")))
    made = PreparedData.open(data.root)
    assert list(made.modalities) == ["rgb", "flow", "flow_kitti"]
    assert (report.images, report.written, report.finished) == (9, 18, 0)
    for identifier in made.all_ids:
        flow_px = decode(made.read("flow", identifier))
        exact, valid = decode_kitti(made.read("flow_kitti", identifier))
        assert np.abs(np.median(flow_px, (0, 1)) - [3, -2]).max() < 0.2
        assert np.abs(flow_px - exact).max() <= 1 / 32 + 1 / 64 or np.abs(exact).max() > 7.9
        assert valid.all()
    assert check(made, workers=1).ok
    assert made.modality("flow").flip == "negate_x"


def test_a_second_run_estimates_nothing_and_changes_no_image(data):
    add_flow(data, SETTINGS)
    before = tree(data.root / "flow")
    report = add_flow(PreparedData.open(data.root), SETTINGS)
    assert (report.written, report.finished, report.frames_per_second) == (0, 9, None)
    assert tree(data.root / "flow") == before


def test_an_interrupted_run_goes_on_and_ends_like_an_uninterrupted_one(data, videos, tmp_path):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_flow(data, SETTINGS, interrupt)
    assert list(PreparedData.open(data.root).modalities) == ["rgb"]  # not a part of it until it is whole
    report = add_flow(data, SETTINGS)
    assert (report.written, report.finished) == (6, 3)
    with_flow(videos, tmp_path / "whole/out")
    assert tree(data.root) == tree(tmp_path / "whole/out")


def test_two_processes_give_what_one_gives(data, videos, tmp_path):
    with_flow(videos, tmp_path / "two/out", workers=2)
    add_flow(data, SETTINGS)
    assert tree(data.root) == tree(tmp_path / "two/out")


def test_another_estimator_is_refused_with_the_difference_and_overwrite_mends_it(data):
    add_flow(data, SETTINGS)
    other = dataclasses.replace(SETTINGS, method="farneback")
    before = tree(data.root / "flow")
    with pytest.raises(SettingsError, match="flow was dis, now farneback"):
        add_flow(PreparedData.open(data.root), other)
    assert tree(data.root / "flow") == before
    report = add_flow(PreparedData.open(data.root), dataclasses.replace(other, overwrite=True))
    assert report.written == 9
    assert tree(data.root / "flow") != before


def test_what_was_begun_for_other_frames_is_made_anew(data, videos):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_flow(data, SETTINGS, interrupt)
    for path in videos.rglob("*.avi"):
        write_moving_video(path, 4, step_xy=(-4, 1), patch=False)
    prepare_video(VideoSettings(work(videos, data.root, overwrite=True)))
    made = PreparedData.open(data.root)
    assert add_flow(made, SETTINGS).written == 9
    made = PreparedData.open(data.root)
    for identifier in made.all_ids:
        assert np.abs(np.median(decode(made.read("flow", identifier)), (0, 1)) - [-4, 1]).max() < 0.2


def test_raft_makes_flow_in_batches_and_records_its_weights(data, raft_file):
    settings = dataclasses.replace(SETTINGS, method="raft", weights=raft_file, device="cpu")
    assert add_flow(data, settings).written == 9
    made = PreparedData.open(data.root)
    assert made.provenance["modalities"]["flow"]["settings"]["weights"].startswith("file:")
    assert check(made, workers=1).ok


def test_flow_can_be_made_of_videos_of_several_sizes(videos, tmp_path, raft_file):
    write_moving_video(videos / "wide.avi", 4, hw=(64, 160), patch=False)
    for settings in (SETTINGS, dataclasses.replace(SETTINGS, method="raft", weights=raft_file, device="cpu")):
        out = tmp_path / settings.method
        prepare_video(VideoSettings(work(videos, out)))
        add_flow(PreparedData.open(out), settings)
        made = PreparedData.open(out)
        assert {made.read("flow", each).shape for each in made.all_ids} == {(96, 128, 3), (64, 160, 3)}


def test_names_of_any_kind_get_flow(tmp_path):
    accent = unicodedata.normalize("NFD", "café")
    for name in ("a b", "shot@2,5", accent, "#20 rhythm"):
        write_moving_video(tmp_path / "plain.avi", 3).rename(tmp_path / f"{name}.avi")
    (tmp_path / "plain.avi").unlink(missing_ok=True)
    made = with_flow(tmp_path, tmp_path / "out")
    assert len(made.all_ids) == 8
    assert all(made.read("flow", each).shape == (96, 128, 3) for each in made.all_ids)


def test_videos_of_one_frame_and_left_out_ones_have_no_flow(videos, tmp_path):
    write_video(videos / "one.avi", 1)
    (videos / "empty.avi").touch()
    (videos / "broken.mp4").write_text("no video")
    prepare_video(VideoSettings(work(videos, tmp_path / "out", skip_bad=True)))
    data = PreparedData.open(tmp_path / "out")
    assert add_flow(data, SETTINGS).images == 9
    made = PreparedData.open(data.root)
    assert set(made.provenance["left_out"]) == {"empty", "broken"}


def test_annotations_of_frames_that_a_clip_lacks_get_no_flow(tmp_path):
    make_jhmdb(tmp_path / "jhmdb", {"wave/a_0": (5, 1), "walk/b_0": (5, 2)})
    write_video(tmp_path / "jhmdb/clips/wave/a_0.avi", 3)
    prepare_jhmdb(JhmdbSettings(work(tmp_path / "jhmdb", tmp_path / "out", per_video=None)))
    data = PreparedData.open(tmp_path / "out")
    assert add_flow(data, SETTINGS).images == 2 + 4
    made = PreparedData.open(data.root)
    assert {name: len(found.labels) for name, found in made.annotations("train+test").items()} == dict.fromkeys(
        made.all_ids, 1
    )
    assert made.classes == data.classes


def test_videos_that_are_gone_changed_or_moved_are_named(data, videos, tmp_path):
    write_moving_video(videos / "c.avi", 3, patch=False)
    with pytest.raises(DataError, match=r"c\.avi.*the images were taken from"):
        add_flow(data, SETTINGS)
    write_moving_video(videos / "c.avi", 4, patch=False)
    videos.rename(tmp_path / "moved")
    with pytest.raises(DataError, match="are not at"):
        add_flow(data, SETTINGS)
    assert add_flow(data, dataclasses.replace(SETTINGS, videos=tmp_path / "moved")).written == 9


def test_tiny_videos_are_named_and_leave_the_others_finished(videos, tmp_path):
    write_video(videos / "tiny.avi", 4, hw=(8, 32))
    prepare_video(VideoSettings(work(videos, tmp_path / "out")))
    data = PreparedData.open(tmp_path / "out")
    with pytest.raises(DataError, match=r"(?s)1 of 4 videos give no flow.*tiny\.avi.*found 32 x 8"):
        add_flow(data, SETTINGS)
    assert len(list((data.root / "flow").rglob("*.png"))) == 9


def test_a_damaged_flow_image_is_made_again(data):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_flow(data, SETTINGS, interrupt)
    broken = next((data.root / "flow").rglob("*.png"))
    whole = broken.read_bytes()
    broken.write_bytes(b"")
    add_flow(data, SETTINGS)
    assert broken.read_bytes() == whole


def test_a_data_set_of_no_videos_is_refused(tiny_data):
    with pytest.raises(DataError, match="was not made of videos"):
        add_flow(tiny_data, SETTINGS)


def test_options_that_make_no_sense_are_all_named(data, tmp_path):
    wrong = FlowSettings(("hha",), "brox", tmp_path / "none.pth")
    with pytest.raises(SettingsError, match=r"(?s)found 'hha'.*found 'brox'.*RAFT's.*no file of weights"):
        add_flow(data, wrong)
    assert not (data.root / "flow").exists()


def test_a_dry_run_estimates_time_and_size(videos):
    report = try_flow(videos, SETTINGS, 100, 2)
    assert (report.dry_run, report.images, report.workers) == (True, 100, 2)
    assert report.seconds > 0
    assert report.bytes > 0
