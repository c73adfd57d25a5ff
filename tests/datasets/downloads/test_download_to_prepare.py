"""The way from `download` to `prepare`, without a path in between: archives with the folders of the published ones.

The folders are those that public code of others reads after unpacking the same archives.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from coco_files import make_coco
from made_archives import needs_bsdtar, rar_of, tar_of, zip_of
from made_scenes import write_scene
from made_videos import STEP, make_jhmdb, make_ucf101, write_matlab_boxes
from nyud2_files import made_up, write_archive, write_labelled
from rigs import tree

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.data.check import check
from xmodal_cli.data.images import write_png
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.downloads import catalogue, fetched

FRAMES = 4
CLIPS = {"wave/a_0": (FRAMES, 1), "walk/b_0": (FRAMES, 2)}
ARCHERY = [f"Archery/v_Archery_g0{number}_c01.avi" for number in (1, 2)]

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Lets the catalogue promise what lies in `by_hand`, and downloads it from there."""

    def download() -> None:
        folder = tmp_path / "by_hand"
        for path in folder.iterdir():
            known = f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}"
            old = catalogue.FILES[path.name]
            file = dataclasses.replace(old, size=path.stat().st_size, about=0, hash=known, sidecar="", urls=())
            monkeypatch.setitem(catalogue.FILES, path.name, file)
            for name, each in catalogue.SETS.items():
                files = tuple(file if other.name == file.name else other for other in each.files)
                monkeypatch.setitem(catalogue.SETS, name, dataclasses.replace(each, files=files))
        assert xmodal(["download", *(path.name for path in folder.iterdir()), "--from", str(folder), "-q"]) == 0

    (tmp_path / "by_hand").mkdir()
    return download


def prepared(out: Path, *words: str) -> PreparedData:
    assert xmodal(["prepare", *words, "--out", str(out), "--workers", "1", "-q"]) == 0
    data = PreparedData.open(out)
    assert check(data, workers=1).ok
    return data


def renamed(files: Mapping[str, bytes], old: str, new: str) -> dict[str, bytes]:
    return {f"{new}{name.removeprefix(old)}": content for name, content in files.items() if name.startswith(old)}


def jhmdb_files(folder: Path) -> dict[str, bytes]:
    """Lists and boxes as published, clips as videos; beside them what a Macintosh leaves in archives."""
    made = make_jhmdb(folder / "made", CLIPS)
    write_matlab_boxes(made / "boxes.csv", folder / "by_hand/jhmdb_annot.mat")
    lists = {**renamed(tree(made), "splits/", "splits/"), "__MACOSX/splits/._wave_test_split1.txt": b"Mac OS X"}
    zip_of(folder / "by_hand/splits.zip", lists)
    return tree(made)


def test_jhmdb_as_frames(tmp_path: Path, downloaded) -> None:
    jhmdb_files(tmp_path)
    for clip in CLIPS:
        for number in range(1, FRAMES + 1):
            image = np.full((48, 64, 3), STEP * number, np.uint8)
            write_png(tmp_path / f"frames/Rename_Images/{clip}/{number:05d}.png", image)
        shutil.copytree(
            tmp_path / f"frames/Rename_Images/{clip}", tmp_path / f"frames/Rename_Images/{clip}/.AppleDouble"
        )
    tar_of(tmp_path / "by_hand/Rename_Images.tar.gz", {**tree(tmp_path / "frames"), "Rename_Images/.DS_Store": b"x"})
    downloaded()
    data = prepared(tmp_path / "out", "jhmdb")
    assert {split: len(data.ids(split)) for split in data.splits} == {"train": 3, "test": 3}
    # The folder of the set is understood too.
    place = fetched.place_of(catalogue.FILES["splits.zip"]).parent
    again = prepared(tmp_path / "again", "jhmdb", "--videos", str(place))
    assert again.all_ids == data.all_ids


def test_jhmdb_as_videos(tmp_path: Path, downloaded) -> None:
    made = jhmdb_files(tmp_path)
    clips = renamed(made, "clips/", "ReCompress_Videos/")
    zip_of(tmp_path / "by_hand/JHMDB_video.zip", {**clips, "ReCompress_Videos/wave/.AppleDouble/a_0.avi": b"Mac OS X"})
    downloaded()
    data = prepared(tmp_path / "out", "jhmdb", "--split", "1")
    assert {split: len(data.ids(split)) for split in data.splits} == {"train": 3, "test": 3}


@pytest.mark.parametrize("archive", [pytest.param("UCF101.rar", marks=needs_bsdtar), "UCF101_videos.zip"])
def test_ucf101_of_either_archive(archive: str, tmp_path: Path, downloaded) -> None:
    made = tree(make_ucf101(tmp_path / "made", ARCHERY[:1], ARCHERY[1:]))
    if archive.endswith(".rar"):
        rar_of(tmp_path / "by_hand" / archive, renamed(made, "UCF-101/", "UCF-101/"))
    else:  # this one has no folders of actions
        zip_of(tmp_path / "by_hand" / archive, renamed(made, "UCF-101/Archery/", "UCF101/"))
    lists = renamed(made, "ucfTrainTestlist/", "ucfTrainTestlist/")
    zip_of(tmp_path / "by_hand/UCF101TrainTestSplits-RecognitionTask.zip", lists)
    downloaded()
    data = prepared(tmp_path / "out", "ucf101", "--test")
    assert {split: len(data.ids(split)) for split in data.splits} == {"train": 5, "test": 5}
    assert data.all_ids[0].startswith("Archery/v_Archery_g01_c01/")


@pytest.mark.parametrize(("here", "year"), [(("train", "val"), "2017"), (("val",), "2017"), (("val",), "2014")])
def test_coco_of_the_splits_whose_images_are_here(here: tuple[str, ...], year: str, tmp_path: Path, downloaded) -> None:
    made = {name.replace("2017", year): content for name, content in tree(make_coco(tmp_path / "made")).items()}
    zip_of(tmp_path / f"by_hand/annotations_trainval{year}.zip", renamed(made, "annotations/", "annotations/"))
    for split in here:
        zip_of(tmp_path / f"by_hand/{split}{year}.zip", renamed(made, f"{split}{year}/", f"{split}{year}/"))
    downloaded()
    data = prepared(tmp_path / "out", "coco", "--classes", "nyud2-shared")
    wanted = {"train": ["train/01", "train/02"], "val": ["val/11", "val/12", "val/13"]}
    assert {split: data.ids(split) for split in data.splits} == {split: wanted[split] for split in here}


def test_nyud2_from_the_labelled_file_and_from_the_archive(tmp_path: Path, downloaded, capsys: Capture) -> None:
    write_labelled(tmp_path / "by_hand/nyu_depth_v2_labeled.mat", made_up())
    packed = renamed(tree(write_archive(tmp_path / "made", [5003, 5010])), "", "nyud2/")
    tar_of(tmp_path / "by_hand/nyud2_data.tgz", packed)
    downloaded()
    assert len(prepared(tmp_path / "out", "nyud2", "--modality", "gray").all_ids) == 6
    capsys.readouterr()
    assert xmodal(["datasets", "nyud2-authors", "--json"]) == 0
    here = json.loads(capsys.readouterr().out)["results"]["here"]["nyud2_data.tgz"]
    taken = prepared(tmp_path / "taken", "nyud2", "--archive", here["unpacked"])
    assert list(taken.modalities) == ["rgb", "hha", "depth", "raw_depth"]


def test_raw_video_of_the_parts_that_are_here(tmp_path: Path, downloaded) -> None:
    write_scene(tmp_path / "made/kitchen_0004a", 2)
    zip_of(tmp_path / "by_hand/kitchens_part1.zip", tree(tmp_path / "made"))
    downloaded()
    (tmp_path / "scenes.csv").write_text("scene,split\nkitchen_0004a,train\n")
    words = "--scenes", str(tmp_path / "scenes.csv"), "--frames-per-scene", "1", "--modality", "gray"
    assert set(prepared(tmp_path / "out", "nyud2-raw", *words).scenes.values()) == {"kitchen_0004"}


@pytest.mark.parametrize(
    ("words", "fetch"),
    [
        (["jhmdb"], "xmodal download jhmdb"),
        (["ucf101"], "xmodal download ucf101"),
        (["coco"], "xmodal download coco2017"),
        (["nyud2"], "xmodal download nyud2"),
        (["nyud2-raw", "--scenes", "x.csv", "--preset", "5k"], "xmodal download basements.zip"),
    ],
)
def test_what_is_not_here_says_what_fetches_it(words: list[str], fetch: str, tmp_path: Path, capsys: Capture) -> None:
    assert xmodal(["prepare", *words, "--out", str(tmp_path / "out")]) == 4
    assert fetch in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
