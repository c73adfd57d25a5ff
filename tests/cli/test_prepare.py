"""`xmodal prepare folder` and `xmodal prepare check` as a user types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rigs import depth_mm, make_rig, write_annotations

from xmodal_cli.cli.app import run
from xmodal_cli.data.images import write_png
from xmodal_cli.data.prepared import PreparedData


@pytest.fixture
def rig(tmp_path):
    return make_rig(tmp_path / "rig")


def folder_words(rig: Path, out: Path, *more: str) -> list[str]:
    words = ["prepare", "folder", "--rgb", f"{rig}/rgb", "--target", f"{rig}/depth", "--modality", "disparity"]
    return [*words, "--depth-unit", "0.001", "--out", str(out), *more]


def test_folder_then_check_then_the_next_step(rig, tmp_path, capsys):
    val = write_annotations(tmp_path / "val.json", "d")
    out = tmp_path / "out"
    assert run(folder_words(rig, out, "--annotations", f"val={val}")) == 0
    assert f"xmodal prepare check {out}" in capsys.readouterr().err
    assert run(["prepare", "check", str(out)]) == 0
    shown = capsys.readouterr()
    assert (out / "contact_sheet.png").exists()
    assert f"contact sheet: {out}/contact_sheet.png" in shown.out
    assert f"xmodal distill --data {out} --modality disparity" in shown.err


def test_json_is_one_document_on_stdout(rig, tmp_path, capsys):
    out = tmp_path / "out"
    assert run([*folder_words(rig, out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "prepare folder"
    assert (document["data"], document["results"]["splits"]) == (str(out), {"train": 4})
    assert run(["prepare", "check", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["results"]["ok"] is True
    assert Path(document["results"]["contact_sheet"]).exists()


def test_check_exits_3_and_lists_every_error(rig, tmp_path, capsys):
    out = tmp_path / "out"
    run(folder_words(rig, out, "--link", "copy"))
    (out / "disparity/a.png").write_bytes(b"")
    (out / "rgb/b.jpg").unlink()
    capsys.readouterr()
    assert run(["prepare", "check", str(out)]) == 3
    assert capsys.readouterr().err.count("error:") == 2
    assert run(["prepare", "check", str(out), "--json"]) == 3
    assert len(json.loads(capsys.readouterr().out)["results"]["errors"]) == 2


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (["--modality", "hha"], 2, "--camera"),
        (["--modality", "deph"], 2, "'depth'"),
        (["--modality", "flow"], 2, "prepare rooms"),
        (["--annotations", "val.json"], 2, "NAME=FILE"),
        (["--camera", "1,2"], 2, "fx,fy,cx,cy"),
        (["--workers", "many"], 2, "--workers"),
        (["--val-fraction", "2"], 2, "--val-fraction"),
        (["--target", "nowhere"], 3, "nowhere"),
        (["--depth-unit", "1"], 3, "--depth-unit 0.001"),
    ],
)
def test_mistakes_have_an_exit_code_and_a_way_on(rig, tmp_path, capsys, words, code, hint):
    out = tmp_path / "out"
    assert run(folder_words(rig, out, *words)) == code
    shown = capsys.readouterr()
    assert hint in shown.err
    assert shown.out == ""
    assert not out.exists()
    assert run([*folder_words(rig, out, *words), "--json"]) == code
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code


def test_skip_bad_counts_what_it_leaves_out(rig, tmp_path, capsys):
    (rig / "rgb/a.jpg").write_bytes(b"")
    assert run(folder_words(rig, tmp_path / "out")) == 3
    assert "rgb/a.jpg" in capsys.readouterr().err
    assert run(folder_words(rig, tmp_path / "out", "--skip-bad")) == 0
    assert "1 bad pair" in capsys.readouterr().out


def test_a_dry_run_writes_nothing(rig, tmp_path, capsys):
    assert run(folder_words(rig, tmp_path / "out", "--dry-run")) == 0
    assert "estimate" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_check_of_no_data_set_names_the_ways_on(tmp_path, capsys):
    assert run(["prepare", "check", str(tmp_path)]) == 3
    assert "xmodal prepare folder" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_exits_130_and_the_same_command_goes_on(tmp_path, number):
    rig = make_rig(tmp_path / "rig", [f"{n:03d}" for n in range(40)])
    for n in range(40):  # large enough to be caught at work
        write_png(rig / "depth" / f"{n:03d}.png", depth_mm(0, (600, 800)))
        write_png(rig / "rgb" / f"{n:03d}.png", depth_mm(0, (600, 800)))
        (rig / "rgb" / f"{n:03d}.jpg").unlink()
    out = tmp_path / "out"
    words = folder_words(rig, out, "--workers", "2")
    process = subprocess.Popen([sys.executable, "-m", "xmodal_cli", *words], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(out.glob("disparity/*.png")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "again" in said
    finished = len(list(out.glob("disparity/*.png")))
    assert 0 < finished < 40
    assert not list(out.rglob("*.part"))
    assert run(words) == 0
    assert len(PreparedData.open(out).all_ids) == 40
