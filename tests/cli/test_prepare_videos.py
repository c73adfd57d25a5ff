"""What `prepare video`, `jhmdb` and `ucf101` promise on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from made_videos import make_jhmdb, make_ucf101, work, write_video
from rigs import tree

from xmodal_cli.cli.app import run
from xmodal_cli.datasets.videos.video import VideoSettings, prepare_video

PATIENCE_S = 60.0


@pytest.fixture
def videos(tmp_path):
    for name in "abc":
        write_video(tmp_path / f"videos/{name}.avi", 10)
    return tmp_path / "videos"


def test_a_report_is_one_json_document_and_the_next_step_is_talk(videos, tmp_path, capsys):
    assert run(["prepare", "video", "--videos", str(videos), "--out", str(tmp_path / "out"), "--json"]) == 0
    shown = capsys.readouterr()
    results = json.loads(shown.out)["results"]
    assert (results["splits"], results["videos"], results["written"]) == ({"train": 15}, 3, 15)
    assert run(["prepare", "video", "--videos", str(videos), "--out", str(tmp_path / "out")]) == 0
    assert "xmodal prepare check" in capsys.readouterr().err


def test_check_of_colour_alone_names_a_next_step_that_makes_sense(tmp_path, capsys):
    make_jhmdb(tmp_path / "jhmdb", {"wave/a_0": (5, 1), "walk/b_0": (5, 2)})
    out = str(tmp_path / "out")
    assert run(["prepare", "jhmdb", "--videos", str(tmp_path / "jhmdb"), "--out", out]) == 0
    capsys.readouterr()
    assert run(["prepare", "check", out]) == 0
    assert f"xmodal finetune --data {out} --modality rgb" in capsys.readouterr().err


def test_bad_videos_end_with_exit_code_3_and_bad_options_with_2(videos, tmp_path, capsys):
    (videos / "bad.avi").write_text("no video")
    words = ["prepare", "video", "--videos", str(videos), "--out", str(tmp_path / "out")]
    assert run(words) == 3
    assert "bad.avi" in capsys.readouterr().err
    assert run([*words, "--frames-per-video", "few"]) == 2
    assert run([*words, "--skip-bad"]) == 0
    assert "left out" in capsys.readouterr().err


def test_ucf101_takes_its_lists(tmp_path, capsys):
    folder = make_ucf101(tmp_path / "ucf", ["Archery/v_Archery_g08_c01.avi"], ["Archery/v_Archery_g01_c01.avi"])
    words = ["prepare", "ucf101", "--videos", str(folder / "UCF-101"), "--out", str(tmp_path / "out"), "--json"]
    assert run([*words, "--lists", str(folder / "ucfTrainTestlist"), "--test"]) == 0
    assert json.loads(capsys.readouterr().out)["results"]["splits"] == {"train": 5, "test": 5}


def test_a_killed_run_leaves_no_half_file_and_goes_on_to_the_same_end(tmp_path):
    for number in range(40):
        write_video(tmp_path / f"videos/{number:02d}.avi", 40, hw=(240, 320))
    out, whole = tmp_path / "out", tmp_path / "whole"
    words = ["prepare", "video", "--videos", str(tmp_path / "videos"), "--out", str(out), "--workers", "1"]
    process = subprocess.Popen([sys.executable, "-m", "xmodal_cli", *words], stderr=subprocess.DEVNULL)
    end = time.monotonic() + PATIENCE_S
    while not list(out.glob(".videos/*.json")) and time.monotonic() < end:
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (out / "dataset.json").exists()
    report = prepare_video(VideoSettings(work(tmp_path / "videos", out)))
    assert report.finished > 0
    assert report.written > 0
    prepare_video(VideoSettings(work(tmp_path / "videos", whole, name="out")))
    assert tree(out) == tree(whole)


def test_flow_is_made_with_the_frames_or_added_later(videos, tmp_path, capsys):
    words = ["prepare", "video", "--videos", str(videos), "--out", str(tmp_path / "out"), "--json"]
    tried = results_of([*words, "--modality", "flow", "--dry-run"], capsys)
    assert (tried["flow"]["images"], tried["flow"]["dry_run"]) == (15, True)
    assert not (tmp_path / "out").exists()
    assert "flow" not in results_of(words, capsys)
    made = results_of([*words, "--modality", "flow", "--flow", "farneback"], capsys)
    assert (made["written"], made["flow"]["method"], made["flow"]["written"]) == (0, "farneback", 15)
    assert len(list((tmp_path / "out/flow").rglob("*.png"))) == 15


def results_of(words, capsys):
    assert run(words) == 0
    return json.loads(capsys.readouterr().out)["results"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--flow", "dis"], "Add --modality flow"),
        (["--modality", "flwo"], "'flwo'"),
        (["--modality", "flow", "--flow", "brox"], "dis, farneback, raft"),
        (["--modality", "flow", "--flow-weights", "raft.pth"], "are RAFT's"),
    ],
)
def test_options_of_flow_that_make_no_sense_end_with_exit_code_2_before_any_work(
    videos, tmp_path, capsys, options, said
):
    assert run(["prepare", "video", "--videos", str(videos), "--out", str(tmp_path / "out"), *options]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
