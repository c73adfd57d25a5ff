"""What shards of videos promise: each decodes its own videos only, and joined they are what one machine makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_videos import make_jhmdb, make_ucf101, work, write_moving_video, write_video
from rigs import but_provenance, tree

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.data.check import check
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.videos import read_videos
from xmodal_cli.datasets.merge.merge import merge
from xmodal_cli.datasets.shards import Shard
from xmodal_cli.datasets.videos.flow import FlowSettings, add_flow
from xmodal_cli.datasets.videos.jhmdb import JhmdbSettings, prepare_jhmdb
from xmodal_cli.datasets.videos.ucf101 import Ucf101Settings, prepare_ucf101
from xmodal_cli.datasets.videos.video import VideoSettings, prepare_video
from xmodal_cli.errors import SettingsError

COUNT = 2
FLOW = FlowSettings(workers=1)


class Killed(Exception):
    """Stands for a process that dies."""


def die(done: int, total: int) -> None:
    raise Killed


def parts_of(folder: Path, prepare) -> list[Path]:
    """Make the parts; `prepare` gets the changes of the settings for each."""
    parts = [folder / f"part{index}" for index in range(1, COUNT + 1)]
    for index, part in enumerate(parts, start=1):
        prepare(out=part, shard=Shard(index, COUNT))
    return parts


@pytest.fixture
def videos(tmp_path):
    for name, frames in (("hall/a", 4), ("b", 5), ("c", 6), ("d", 4)):
        write_moving_video(tmp_path / f"videos/{name}.avi", frames)
    return tmp_path / "videos"


def of_videos(videos: Path, val_fraction: float | None = None):
    def prepare(**changes):
        return prepare_video(VideoSettings(work(videos, **{"name": "videos", **changes}), val_fraction))

    return prepare


def test_joined_parts_of_videos_equal_an_undivided_run(videos, tmp_path):
    prepare = of_videos(videos, 0.5)
    prepare(out=tmp_path / "whole")
    parts = parts_of(tmp_path, prepare)
    assert [sorted(read_videos(part)) for part in parts] == [["b", "d"], ["c", "hall/a"]]
    assert all(check(PreparedData.open(part), workers=1).ok for part in parts)
    report = merge(parts[::-1], tmp_path / "joined", name="videos")
    assert set(report.splits) == {"train", "val"}
    assert but_provenance(tmp_path / "joined") == but_provenance(tmp_path / "whole")
    assert {"videos.csv", "frames.csv"} < tree(tmp_path / "joined").keys()


def test_what_is_joined_is_known_for_finished_and_takes_flow(videos, tmp_path):
    prepare = of_videos(videos)
    parts = parts_of(tmp_path, prepare)
    merge(parts, tmp_path / "joined", name="videos")
    report = prepare(out=tmp_path / "joined")
    assert (report.written, report.finished, report.videos) == (0, 15, 4)
    assert add_flow(PreparedData.open(tmp_path / "joined"), FLOW).written == 15


def test_joined_parts_with_flow_equal_an_undivided_run_and_need_no_more_flow(videos, tmp_path):
    prepare = of_videos(videos)
    prepare(out=tmp_path / "whole")
    add_flow(PreparedData.open(tmp_path / "whole"), FLOW)
    parts = parts_of(tmp_path, prepare)
    for part in parts:
        add_flow(PreparedData.open(part), FLOW)
    merge(parts, tmp_path / "joined", name="videos")
    assert but_provenance(tmp_path / "joined") == but_provenance(tmp_path / "whole")
    assert add_flow(PreparedData.open(tmp_path / "joined"), FLOW).written == 0


def test_parts_without_flow_or_with_another_estimator_are_refused(videos, tmp_path):
    first, second = parts_of(tmp_path, of_videos(videos))
    add_flow(PreparedData.open(first), FLOW)
    with pytest.raises(SettingsError, match=r"has flow, rgb; '.*' rgb"):
        merge([first, second], tmp_path / "joined")
    add_flow(PreparedData.open(second), FlowSettings(method="farneback", workers=1))
    with pytest.raises(SettingsError, match=r"made flow of other settings.*dis.*farneback"):
        merge([first, second], tmp_path / "joined")


def test_a_part_whose_flow_was_stopped_is_refused_and_goes_on(videos, tmp_path):
    first, second = parts_of(tmp_path, of_videos(videos))
    add_flow(PreparedData.open(first), FLOW)
    with pytest.raises(Killed):
        add_flow(PreparedData.open(second), FLOW, die)
    with pytest.raises(SettingsError, match=r"part2' is not finished: work on flow was stopped"):
        merge([first, second], tmp_path / "joined")
    assert add_flow(PreparedData.open(second), FLOW).finished > 0
    merge([first, second], tmp_path / "joined")
    assert check(PreparedData.open(tmp_path / "joined"), workers=1).ok


def test_boxes_of_joined_parts_are_numbered_as_one_machine_numbers_them(tmp_path):
    jhmdb = make_jhmdb(
        tmp_path / "jhmdb", {"wave/a_0": (6, 1), "wave/b_0": (5, 2), "walk/c_0": (4, 1), "walk/d_0": (4, 2)}
    )

    def prepare(**changes):
        return prepare_jhmdb(JhmdbSettings(work(jhmdb, **{"name": "jhmdb", "per_video": None, **changes})))

    prepare(out=tmp_path / "whole")
    parts = parts_of(tmp_path, prepare)
    assert all(check(PreparedData.open(part), workers=1).ok for part in parts)
    merge(parts, tmp_path / "joined", name="jhmdb")
    assert but_provenance(tmp_path / "joined") == but_provenance(tmp_path / "whole")
    entries = json.loads((tmp_path / "joined/annotations/train.json").read_text())["annotations"]
    assert all(entry["id"] == entry["image_id"] for entry in entries)


def test_joined_parts_of_ucf101_equal_an_undivided_run(tmp_path):
    names = [f"Archery/v_Archery_g0{number}_c01.avi" for number in (1, 2, 3, 4)]
    folder = make_ucf101(tmp_path / "ucf", names[:3], names[3:])

    def prepare(**changes):
        settings = Ucf101Settings(work(folder / "UCF-101", **{"name": "ucf", **changes}), test=True)
        return prepare_ucf101(settings)

    prepare(out=tmp_path / "whole")
    merge(parts_of(tmp_path, prepare), tmp_path / "joined", name="ucf")
    assert but_provenance(tmp_path / "joined") == but_provenance(tmp_path / "whole")


def test_a_part_opens_no_video_of_another_part(videos, tmp_path):
    (videos / "c.avi").write_text("no video")
    prepare = of_videos(videos)
    assert prepare(out=tmp_path / "part1", shard=Shard(1, 2)).videos == 2
    assert prepare(out=tmp_path / "part2", shard=Shard(2, 2), skip_bad=True).left_out.keys() == {"c"}
    merge([tmp_path / "part1", tmp_path / "part2"], tmp_path / "joined", name="videos")
    prepare(out=tmp_path / "whole", skip_bad=True)
    assert but_provenance(tmp_path / "joined") == but_provenance(tmp_path / "whole")
    assert PreparedData.open(tmp_path / "joined").provenance["left_out"].keys() == {"c"}


def test_counts_of_the_parts_are_added_up(videos, tmp_path):
    write_video(videos / "one.avi", 1)  # nothing follows its frame
    prepare = of_videos(videos)
    prepare(out=tmp_path / "whole")
    merge(parts_of(tmp_path, prepare), tmp_path / "joined")
    whole, joined = (PreparedData.open(tmp_path / name).provenance["modalities"]["rgb"] for name in ("whole", "joined"))
    assert joined == whole
    assert (joined["videos"], joined["videos_without_pair"]) == (4, 1)


def test_a_stopped_part_goes_on_only_as_the_same_part(videos, tmp_path):
    settings = VideoSettings(work(videos, tmp_path / "part", shard=Shard(1, 2)))
    with pytest.raises(Killed):
        prepare_video(settings, die)
    prepare = of_videos(videos)
    for other in (Shard(2, 2), None):
        with pytest.raises(SettingsError, match="part 1/2 of a data set"):
            prepare(out=tmp_path / "part", shard=other)
    assert prepare_video(settings).finished > 0
    assert prepare_video(settings).written == 0
    with pytest.raises(SettingsError, match=r"part 1/2 of a data set; --shard 2/2"):
        prepare(out=tmp_path / "part", shard=Shard(2, 2))
    assert prepare(out=tmp_path / "part", shard=Shard(2, 2), overwrite=True).written == 8
    assert sorted(read_videos(tmp_path / "part")) == ["c", "hall/a"]


def test_parts_of_lists_that_changed_in_between_are_refused(tmp_path):
    names = [f"Archery/v_Archery_g0{number}_c01.avi" for number in (1, 2)]
    folder = make_ucf101(tmp_path / "ucf", names[:1], names[1:])

    def prepare(**changes):
        return prepare_ucf101(Ucf101Settings(work(folder / "UCF-101", **changes), test=True))

    prepare(out=tmp_path / "part1", shard=Shard(1, 2))
    (folder / "ucfTrainTestlist/trainlist01.txt").write_text(f"{names[1]} 1\n")
    (folder / "ucfTrainTestlist/testlist01.txt").write_text(f"{names[0]}\n")
    prepare(out=tmp_path / "part2", shard=Shard(2, 2))
    with pytest.raises(SettingsError, match="of the same images, but of other splits"):
        merge([tmp_path / "part1", tmp_path / "part2"], tmp_path / "joined")


def test_the_command_line_makes_parts_with_flow_and_joins_them(videos, tmp_path, capsys):
    shared = ["prepare", "video", "--videos", str(videos), "--modality", "flow", "--workers", "1", "--quiet"]
    parts = [str(tmp_path / f"p{index}") for index in (1, 2)]
    for index, part in enumerate(parts, start=1):
        assert xmodal([*shared, "--out", part, "--shard", f"{index}/2"]) == 0
    capsys.readouterr()
    assert xmodal(["prepare", "merge", *parts, "--out", str(tmp_path / "joined"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"]["modalities"] == ["rgb", "flow"]
    assert xmodal([*shared, "--out", str(tmp_path / "p9"), "--shard", "9/9"]) == 2
    assert "4 cannot be divided into 9 parts" in " ".join(capsys.readouterr().err.split())
