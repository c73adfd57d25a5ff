"""Promises of `prepare nyud2-raw`: the right scenes, damaged frames passed over, a stopped run that goes on."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from made_scenes import Scene, pgm, raw_depth, truth, write_scene

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.data.check import check
from xmodal_cli.data.images import read_raw
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.merge.merge import merge
from xmodal_cli.datasets.nyud2.splits import split_of
from xmodal_cli.datasets.nyud2_raw import scene_lists
from xmodal_cli.datasets.nyud2_raw.membership import member
from xmodal_cli.datasets.nyud2_raw.prepare import RawSettings, prepare_nyud2_raw
from xmodal_cli.datasets.shards import Shard
from xmodal_cli.errors import DataError, SettingsError


def settings(tmp_path: Path, raw: Path, scenes: Path, **others: object) -> RawSettings:
    base = RawSettings(tmp_path / "out", (raw,), scenes=scenes, frames_per_scene=3, workers=1)
    return replace(base, **others)  # type: ignore[arg-type]


def content_of(folder: Path) -> dict[str, str]:
    """Hash of every image, by name."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.png"))
    }


def write_labelled(path: Path, scenes: list[str]) -> None:
    """The field `scenes` of the labelled data set in MATLAB's HDF5 layout: references to columns of characters."""
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("#refs#")
        references = np.empty((1, len(scenes)), h5py.ref_dtype)
        known = {}
        for index, name in enumerate(scenes):
            if name not in known:
                text = np.array([[ord(letter)] for letter in name], np.uint16)
                known[name] = group.create_dataset(f"s{index}", data=text)
            references[0, index] = known[name].ref
        file.create_dataset("scenes", data=references, dtype=h5py.ref_dtype)


def test_pairs_come_from_train_scenes_alone(tmp_path: Path, raw: Path, scenes: Path) -> None:
    report = prepare_nyud2_raw(settings(tmp_path, raw, scenes, modalities=("hha", "depth", "raw_depth")))
    data = PreparedData.open(tmp_path / "out")
    assert {name.partition("/")[0] for name in data.ids("train")} == {"kitchen_0004a", "kitchen_0004b_out"}
    assert set(data.scenes.values()) == {"kitchen_0004"}
    assert list(data.splits) == ["train"]
    assert report.other_splits == ("office_0007",)
    assert list(report.unknown) == ["cafe_0001c"]
    assert check(data).ok
    true_m, on_box = truth(Scene(box_z_m=1.6))
    name = data.ids("train")[0]
    raw_mm, filled_mm = (read_raw(tmp_path / "out" / kind / f"{name}.png") for kind in ("raw_depth", "depth"))
    assert np.median(np.abs(raw_mm[raw_mm > 0] / 1000 - true_m[raw_mm > 0])) < 0.01
    assert (filled_mm > 0).all()
    assert np.array_equal(filled_mm[raw_mm > 0], raw_mm[raw_mm > 0])
    assert (raw_mm == 0).any()
    assert on_box.any()
    with (tmp_path / "out" / "frames.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == data.ids("train")
    assert {row["gap_ms"] for row in rows} == {"7.000"}


def test_trainval_keeps_train_and_val_apart(tmp_path: Path, raw: Path, scenes: Path) -> None:
    prepare_nyud2_raw(settings(tmp_path, raw, scenes, split="trainval", modalities=("depth",)))
    data = PreparedData.open(tmp_path / "out")
    assert {split: len(data.ids(split)) for split in data.splits} == {"train": 3, "val": 2}


@pytest.mark.parametrize("split", ["val", "test"])
def test_no_pairs_are_made_for_transfer_of_scenes_that_are_reported_on(
    tmp_path: Path, raw: Path, scenes: Path, split: str
) -> None:
    with pytest.raises(SettingsError, match="never come from scenes"):
        prepare_nyud2_raw(settings(tmp_path, raw, scenes, split=split))


def test_a_scene_of_another_split_is_refused_and_told_why(tmp_path: Path, raw: Path, scenes: Path) -> None:
    with pytest.raises(SettingsError, match="'office_0007' is in the split val") as error:
        prepare_nyud2_raw(settings(tmp_path, raw, scenes, only=("office_0007",)))
    assert "memory" in str(error.value.hint)
    with pytest.raises(SettingsError, match="no folder of scene 'attic_0001'"):
        prepare_nyud2_raw(settings(tmp_path, raw, scenes, only=("attic_0001",)))
    assert not (tmp_path / "out").exists()


def test_raw_video_without_usable_scenes_is_told(tmp_path: Path, scenes: Path) -> None:
    write_scene(tmp_path / "raw" / "office_0007", 1)
    with pytest.raises(DataError, match="1 val"):
        prepare_nyud2_raw(settings(tmp_path, tmp_path / "raw", scenes))


def test_parts_of_a_place_in_two_splits_are_used_as_named() -> None:
    splits = {"cafe_0001a": "train", "cafe_0001b": "val", "den_0002": "train", "den_0021": "test"}
    assert member("cafe_0001a", splits).scene == "cafe_0001a"
    assert member("cafe_0001b_out", splits).split == "val"
    assert member("cafe_0001c", splits).split is None
    assert member("den_0002b", splits).split == "train"
    assert member("den_0021a", splits).split == "test"
    assert member("den_00021", splits).split is None


def test_a_list_of_names_lets_no_other_part_of_a_place_in(tmp_path: Path, raw: Path) -> None:
    (tmp_path / "train.txt").write_text("kitchen_0004a\n")
    asked = settings(tmp_path, raw, tmp_path / "train.txt", dry_run=True)
    report = prepare_nyud2_raw(asked)
    assert report.splits == {"train": 3}
    assert sorted(report.unknown) == ["cafe_0001c", "kitchen_0004b_out", "office_0007"]
    with pytest.raises(SettingsError, match="without splits"):
        prepare_nyud2_raw(replace(asked, split="trainval"))


def test_another_modality_is_added_to_the_same_pairs(tmp_path: Path, raw: Path, scenes: Path) -> None:
    asked = settings(tmp_path, raw, scenes, modalities=("depth",))
    prepare_nyud2_raw(asked)
    before = content_of(tmp_path / "out")
    prepare_nyud2_raw(replace(asked, modalities=("disparity",)))
    data = PreparedData.open(tmp_path / "out")
    assert list(data.modalities) == ["rgb", "disparity", "depth"]
    assert before.items() <= content_of(tmp_path / "out").items()
    assert check(data).ok
    with pytest.raises(SettingsError, match="frames_per_scene was 3, now 2"):
        prepare_nyud2_raw(replace(asked, frames_per_scene=2))
    prepare_nyud2_raw(replace(asked, frames_per_scene=2, overwrite=True))
    assert check(PreparedData.open(tmp_path / "out")).ok
    assert len(PreparedData.open(tmp_path / "out").ids("train")) == 2


def test_scenes_are_read_from_the_labelled_data_set(tmp_path: Path) -> None:
    names = [f"{split_of(number)}_{number // 50:04d}" for number in range(5001, 6450)]
    write_labelled(tmp_path / "labelled.mat", names)
    found = scene_lists.splits_of_labelled(tmp_path / "labelled.mat")
    assert found == {name: name.partition("_")[0] for name in names}


@pytest.mark.parametrize("damage", ["missing", "old", "cut", "field", "short", "shared"])
def test_a_labelled_data_set_that_is_none_is_refused(tmp_path: Path, raw: Path, damage: str) -> None:
    path = tmp_path / "labelled.mat"
    if damage == "old":
        path.write_text("MATLAB 5.0 MAT-file")
    if damage == "cut":
        write_labelled(path, ["den_0001"] * 1449)
        path.write_bytes(path.read_bytes()[:3000])
    if damage == "field":
        with h5py.File(path, "w", userblock_size=512) as file:
            file["names"] = np.zeros(3)
    if damage == "short":
        write_labelled(path, ["den_0001"] * 20)
    if damage == "shared":
        write_labelled(path, ["den_0001"] * 1449)
    said = {
        "missing": "There is no file",
        "old": "version 5 to 7",
        "cut": "is cut off",
        "field": "has no scenes; it has names",
        "short": "20 images",
        "shared": "in the splits",
    }
    with pytest.raises(DataError, match=said[damage]):
        scene_lists.splits_of_labelled(path)
    words = ["--raw", str(raw), "--labelled", str(path), "--preset", "5k", "--out", str(tmp_path / "out"), "-q"]
    assert xmodal(["prepare", "nyud2-raw", *words]) == 3
    assert not (tmp_path / "out").exists()


def test_scene_lists_of_every_form_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "data" / "splits").mkdir(parents=True)
    (tmp_path / "data" / "scenes.csv").write_text("id,scene\nimg_5003,a_0001\nimg_5010,b_0001\nimg_5001,c_0001\n")
    by_number = scene_lists.splits_of_list(tmp_path / "data" / "scenes.csv")
    assert by_number == ({"a_0001": "train", "b_0001": "val", "c_0001": "test"}, False)
    for split, name in (("train", "img_5001"), ("val", "img_5003"), ("trainval", "img_5010")):
        (tmp_path / "data" / "splits" / f"{split}.txt").write_text(f"{name}\n")
    assert scene_lists.splits_of_list(tmp_path / "data") == ({"c_0001": "train", "a_0001": "val"}, False)
    (tmp_path / "names.txt").write_text("a_0001\nb_0001\n")
    assert scene_lists.splits_of_list(tmp_path / "names.txt") == ({"a_0001": "train", "b_0001": "train"}, True)
    (tmp_path / "twice.csv").write_text("scene,split\na_0001,train\na_0001,val\n")
    with pytest.raises(DataError, match="splits train and val"):
        scene_lists.splits_of_list(tmp_path / "twice.csv")
    (tmp_path / "strange.csv").write_text("id,scene\npicture,a_0001\n")
    with pytest.raises(DataError, match="no image of NYU"):
        scene_lists.splits_of_list(tmp_path / "strange.csv")


def test_damaged_frames_are_passed_over_and_named(tmp_path: Path, scenes: Path) -> None:
    folder = tmp_path / "raw" / "kitchen_0004a"
    write_scene(folder, 6)
    depth, colour = sorted(folder.glob("d-*")), sorted(folder.glob("r-*"))
    depth[0].write_bytes(b"")
    depth[1].write_bytes(depth[2].read_bytes()[:400_000])
    colour[2].write_bytes(colour[3].read_bytes()[:-1])
    depth[4].write_bytes(pgm(np.full((480, 640), 2047, np.uint16)))
    report = prepare_nyud2_raw(settings(tmp_path, tmp_path / "raw", scenes, modalities=("depth",)))
    data = PreparedData.open(tmp_path / "out")
    assert data.ids("train") == ["kitchen_0004a/00003", "kitchen_0004a/00005"]
    assert sorted(report.bad) == [f"kitchen_0004a/0000{number}" for number in (0, 1, 2, 4)]
    for number, said in ((0, "empty"), (1, "cut off"), (2, "cut off"), (4, "less than 5 %")):
        assert said in report.bad[f"kitchen_0004a/0000{number}"]
    assert report.wanted == 3
    assert data.provenance["left_out"] == report.bad
    for path in folder.glob("d-*"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="Every frame is damaged"):
        prepare_nyud2_raw(settings(tmp_path, tmp_path / "raw", scenes, out=tmp_path / "other"))
    assert not (tmp_path / "other" / "dataset.json").exists()


def test_a_preset_takes_its_number_of_frames_and_split(tmp_path: Path, raw: Path, scenes: Path) -> None:
    asked = settings(tmp_path, raw, scenes, frames_per_scene=None, dry_run=True)
    five, ten = (prepare_nyud2_raw(replace(asked, preset=preset)) for preset in ("5k", "10k"))
    assert five.splits == {"train": 6}
    assert ten.splits == {"train": 6, "val": 2}
    assert not (tmp_path / "out").exists()


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been_stopped(tmp_path: Path, scenes: Path) -> None:
    write_scene(tmp_path / "raw" / "kitchen_0004a", 10)
    asked = settings(tmp_path, tmp_path / "raw", scenes, frames_per_scene=10)
    words = ["--raw", str(tmp_path / "raw"), "--scenes", str(scenes), "--frames-per-scene", "10", "--workers", "1"]
    command = [sys.executable, "-m", "xmodal_cli", "prepare", "nyud2-raw", "--out", str(tmp_path / "out"), *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    parts = tmp_path / "out" / ".frames"
    while process.poll() is None and len(list(parts.rglob("*.json"))) < 3:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "out" / "dataset.json").exists()
    with pytest.raises(SettingsError, match="other settings"):
        prepare_nyud2_raw(replace(asked, fill="colourise"))
    report = prepare_nyud2_raw(asked)
    assert report.finished >= 6
    assert report.written + report.finished == 20
    prepare_nyud2_raw(replace(asked, out=tmp_path / "whole"))
    assert content_of(tmp_path / "out") == content_of(tmp_path / "whole")
    assert (tmp_path / "out" / "manifest.csv").read_bytes() == (tmp_path / "whole" / "manifest.csv").read_bytes()
    assert not list((tmp_path / "out").rglob("*.part"))
    again = prepare_nyud2_raw(asked)
    assert (again.written, again.finished) == (0, 20)


def test_colourised_depth_differs_in_holes_alone(tmp_path: Path, scenes: Path) -> None:
    write_scene(tmp_path / "raw" / "kitchen_0004a", 1)
    asked = settings(tmp_path, tmp_path / "raw", scenes, modalities=("depth", "raw_depth"))
    prepare_nyud2_raw(asked)
    prepare_nyud2_raw(replace(asked, out=tmp_path / "second", fill="colourise"))
    name = "kitchen_0004a/00000.png"
    near, levin = (read_raw(tmp_path / out / "depth" / name).astype(int) for out in ("out", "second"))
    holes = read_raw(tmp_path / "out" / "raw_depth" / name) == 0
    assert np.array_equal(near[~holes], levin[~holes])
    assert (near != levin)[holes].any()
    assert 1000 < levin.min() <= levin.max() < 10_000


def test_the_command_prints_its_report_as_json(
    tmp_path: Path, raw: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--raw", str(raw), "--scenes", str(scenes), "--frames-per-scene", "1", "--out", str(tmp_path / "out")]
    assert xmodal(["prepare", "nyud2-raw", *words, "--workers", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["results"]["splits"] == {"train": 1}
    assert xmodal(["prepare", "nyud2-raw", *words, "--split", "val", "--overwrite"]) == 2
    assert "never come from scenes" in capsys.readouterr().err.replace("\n", " ")


def test_all_problems_of_the_options_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        prepare_nyud2_raw(RawSettings(tmp_path, (), modalities=("thermal",), preset="7k", most_gap_s=0))
    for said in ("thermal", "Which scenes", "--preset", "--max-gap"):
        assert said in error.value.message


def test_raw_numbers_become_metres_by_the_formula_of_the_toolbox() -> None:
    from xmodal_cli.datasets.nyud2_raw.camera import metres_of_raw

    assert metres_of_raw()[raw_depth(Scene((0.0, 0.0, 1.0), 2.0))].mean() == pytest.approx(2.0, abs=0.02)


def test_joined_parts_of_raw_video_equal_an_undivided_run(tmp_path: Path, raw: Path, scenes: Path) -> None:
    prepare_nyud2_raw(settings(tmp_path, raw, scenes))
    parts = [tmp_path / "part1", tmp_path / "part2"]
    for index, part in enumerate(parts, start=1):
        prepare_nyud2_raw(settings(tmp_path, raw, scenes, out=part, shard=Shard(index, 2)))
    merge(parts, tmp_path / "joined", name="out")
    assert content_of(tmp_path / "joined") == content_of(tmp_path / "out")
    for table in ("manifest.csv", "frames.csv", "scenes.csv", "splits/train.txt"):
        assert (tmp_path / "joined" / table).read_text() == (tmp_path / "out" / table).read_text(), table


def test_parts_of_raw_video_with_other_files_are_refused(tmp_path: Path, raw: Path, scenes: Path) -> None:
    gray = settings(tmp_path, raw, scenes, modalities=("gray",))
    prepare_nyud2_raw(replace(gray, out=tmp_path / "part1", shard=Shard(1, 2)))
    shutil.copytree(raw, tmp_path / "other")
    first = min((tmp_path / "other").rglob("kitchen_0004a/d-*"))
    first.rename(first.with_name(first.name.replace(".pgm", "9.pgm")))  # a frame of another recording
    prepare_nyud2_raw(replace(gray, raw=(tmp_path / "other",), out=tmp_path / "part2", shard=Shard(2, 2)))
    with pytest.raises(SettingsError, match="of the same images, but of other splits"):
        merge([tmp_path / "part1", tmp_path / "part2"], tmp_path / "joined")
