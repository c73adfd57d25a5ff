"""`xmodal prepare coco` as a user types it."""

from __future__ import annotations

import json

import pytest
from coco_files import make_coco, thing, write_coco_file, write_images

from xmodal_cli.cli.app import run
from xmodal_cli.data.prepared import PreparedData


@pytest.fixture
def coco(tmp_path):
    return make_coco(tmp_path / "coco")


def words(coco, out, *more):
    files = [word for s in ("train", "val") for word in ("--annotations", f"{coco}/annotations/instances_{s}2017.json")]
    return ["prepare", "coco", *files, "--images", str(coco), "--out", str(out), "--workers", "1", *more]


def test_published_files_name_their_splits_and_check_follows(coco, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(words(coco, out, "--classes", "nyud2-shared", "--map", "tv=screen")) == 0
    shown = capsys.readouterr()
    assert "couch as sofa" in shown.out
    assert "train 2 dropped" in shown.out
    assert f"xmodal prepare check {out}" in shown.err
    assert PreparedData.open(out).splits == ("train", "val")
    assert "screen" in PreparedData.open(out).classes
    assert run(["prepare", "check", str(out)]) == 0
    said = capsys.readouterr().err
    assert f"xmodal finetune --data {out} --modality rgb" in said  # there are no pairs to distil with


def test_one_file_of_any_name_is_the_split_train(tmp_path, capsys):
    boxes = write_coco_file(tmp_path / "boxes.json", {"a/1.jpg": [thing("bed")]})
    write_images(tmp_path / "photos", ["a/1.jpg"])
    out = tmp_path / "out"
    asked = ["prepare", "coco", "--annotations", str(boxes), "--images", str(tmp_path / "photos"), "--out", str(out)]
    assert run([*asked, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["command"], document["results"]["splits"]) == ("prepare coco", {"train": 1})
    assert PreparedData.open(out).ids("train") == ["a/1"]


@pytest.mark.parametrize(
    ("more", "code", "hint"),
    [
        (["--classes", "bed,coach"], 2, "'couch'"),
        (["--map", "tv"], 2, "CATEGORY=NAME"),
        (["--shard", "3/2"], 2, "--shard 1/4"),
        (["--shard", "1/9"], 2, "fewer shards"),
        (["--annotations", "boxes.json"], 2, "--annotations val=boxes.json"),
        (["--annotations", "val=other.json"], 2, "two files for the split 'val'"),
        (["--images", "elsewhere"], 2, "each split once"),
        (["--annotations", "test=missing.json"], 3, "missing.json"),
    ],
)
def test_mistakes_have_an_exit_code_and_a_way_on(coco, tmp_path, capsys, more, code, hint):
    out = tmp_path / "out"
    assert run(words(coco, out, *more)) == code
    shown = capsys.readouterr()
    assert hint in shown.err
    assert shown.out == ""
    assert not out.exists()


def test_skip_bad_counts_and_names_what_is_left_out(coco, tmp_path, capsys):
    (coco / "train2017/01.jpg").unlink()
    (coco / "train2017/02.jpg").write_bytes(b"")
    assert run(words(coco, tmp_path / "out")) == 3
    assert "01.jpg" in capsys.readouterr().err
    assert run(words(coco, tmp_path / "out", "--skip-bad")) == 0
    shown = capsys.readouterr()
    assert "1 images without a file, 1 bad images or objects" in shown.out
    assert "02.jpg" in shown.err
