"""`prepare rooms`: a data set from a seed, the same bytes every time, and nothing that `check` would find wrong."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from xmodal_cli.cli.app import run
from xmodal_cli.data.check import check
from xmodal_cli.data.manifest import read_manifest
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.rooms.camera import Pose, flow_between, rays
from xmodal_cli.datasets.rooms.prepare import RoomsReport, prepare_rooms, rooms_are_there
from xmodal_cli.datasets.rooms.settings import ALL_MODALITIES, RoomsSettings
from xmodal_cli.errors import SettingsError
from xmodal_cli.modalities import Frame, encode_frame, flow
from xmodal_cli.modalities.depth import fill_holes
from xmodal_cli.modalities.geometry import Camera

SIZE = {"scenes": 4, "frames_per_scene": 2, "size_hw": (72, 96), "seed": 3, "val_fraction": 0.25, "workers": 1}


def make(out: Path, **changed: object) -> RoomsReport:
    return prepare_rooms(RoomsSettings(out, **{**SIZE, **changed}))


def hashes(root: Path) -> dict[str, str]:
    return {row.file: row.sha256 for row in read_manifest(root).values()}


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    root = tmp_path_factory.mktemp("rooms") / "data"
    make(root)
    return PreparedData.open(root)


def test_the_same_seed_gives_the_same_bytes_for_any_number_of_workers(rooms: PreparedData, tmp_path: Path) -> None:
    make(tmp_path / "again", workers=2)
    assert hashes(tmp_path / "again") == hashes(rooms.root)
    for name in ("scenes.csv", "poses.csv", "annotations/train.json", "annotations/val.json", "splits/val.txt"):
        assert (tmp_path / "again" / name).read_bytes() == (rooms.root / name).read_bytes()


def test_another_seed_gives_other_rooms_and_fewer_modalities_the_same_ones(rooms: PreparedData, tmp_path: Path) -> None:
    make(tmp_path / "other", scenes=1, seed=4, modalities=("thermal",))
    make(tmp_path / "fewer", scenes=1, modalities=("thermal",))
    before, other, fewer = (hashes(root) for root in (rooms.root, tmp_path / "other", tmp_path / "fewer"))
    assert len(other) == len(fewer) == 4
    assert all(before[file] != digest for file, digest in other.items())
    assert all(before[file] == digest for file, digest in fewer.items())


def test_check_finds_no_error(rooms: PreparedData) -> None:
    report = check(rooms, workers=1)
    assert report.errors == ()
    assert set(report.figures) == {"rgb", *ALL_MODALITIES}
    assert sum(report.objects.values()) > 10


def test_splits_share_no_scene(rooms: PreparedData) -> None:
    scenes = {split: {rooms.scene(name) for name in rooms.ids(split)} for split in rooms.splits}
    assert (len(scenes["train"]), len(scenes["val"])) == (3, 1)
    assert not scenes["train"] & scenes["val"]


def test_splits_of_given_sizes_hold_whole_rooms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prepare", "rooms", "--out", str(tmp_path / "data"), "--size", "96x72", "--frames-per-scene", "2"]
    words += ["--modality", "depth", "--split", "few=1", "--split", "val=2"]
    assert run(words) == 0
    data = PreparedData.open(tmp_path / "data")
    assert {split: len(data.ids(split)) for split in data.splits} == {"few": 2, "val": 4}
    assert len({name.split("/")[0] for name in data.ids("val")}) == 2
    assert all(objects.labelled for objects in data.annotations("few+val").values())
    settings = RoomsSettings(tmp_path / "data", 3, 2, (72, 96), splits={"few": 1, "val": 2}, modalities=("depth",))
    assert rooms_are_there(settings)
    assert not rooms_are_there(replace(settings, splits={"few": 2, "val": 1}))
    capsys.readouterr()
    for wrong in (["--split", "val"], ["--split", "val=0"], ["--split", "a=1", "--split", "a=1"]):
        assert run(["prepare", "rooms", "--out", str(tmp_path / "other"), *wrong]) == 2
    assert run([*words, "--scenes", "5"]) == 2
    assert run(["prepare", "rooms", "--out", str(tmp_path / "other")]) == 2
    assert "--scenes" in capsys.readouterr().err


def test_boxes_are_tight_around_masks_that_show_enough_of_their_things(rooms: PreparedData) -> None:
    height, width = SIZE["size_hw"]
    for name, objects in rooms.annotations("train+val").items():
        taken = np.zeros((height, width), int)
        for box, area, rle in zip(objects.boxes_xyxy, objects.areas, objects.segmentations, strict=True):
            visible = coco_mask.decode(rle)
            rows, columns = np.nonzero(visible)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert visible.sum() == area >= 0.003 * height * width
            taken += visible
        assert taken.max(initial=0) <= 1, name


def test_depth_encodings_are_those_of_the_raw_depth_with_its_holes_filled(rooms: PreparedData) -> None:
    name = rooms.all_ids[0]
    raw = rooms.read("raw_depth", name)[..., 0]
    camera = Camera.from_dict(dict(rooms.camera or {}))
    frame = Frame(fill_holes(raw / 1000.0, raw == 0), camera, raw == 0)
    assert 0 < (raw == 0).mean() < 0.5
    for modality in ("hha", "disparity"):
        assert np.array_equal(rooms.read(modality, name), encode_frame(modality, frame))
    exact = rooms.read("depth", name)[..., 0].astype(float)
    assert exact.min() > 0
    assert np.median(np.abs(exact - raw)[raw > 0] / exact[raw > 0]) < 0.02


def test_flow_on_disk_is_that_of_depth_and_poses_on_disk(rooms: PreparedData) -> None:
    camera = Camera.from_dict(dict(rooms.camera or {}))
    with (rooms.root / "poses.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["id"] for row in rows] == rooms.all_ids
    for row in rows[:3]:
        numbers = np.array([float(value) for key, value in row.items() if key != "id"])
        pose = Pose(numbers[:3], numbers[3:12].reshape(3, 3))
        following = Pose(numbers[12:15], numbers[15:24].reshape(3, 3))
        assert np.allclose(numbers[24:], pose.gravity)
        depth_m = rooms.read("depth", row["id"])[..., 0].astype(np.float32) / 1000
        expected = flow_between(depth_m, pose, following, camera, rays(camera, SIZE["size_hw"]))
        exact, valid = flow.decode_kitti(rooms.read("flow_kitti", row["id"]))
        assert valid.all()
        assert np.abs(exact - expected).max() < 0.03  # a millimetre of depth, half a step of flow
        stored = flow.decode(rooms.read("flow", row["id"]))
        assert np.abs(stored - exact.clip(-8, 7.94)).max() <= 1 / 32 + 1 / 128
    assert rooms.modalities["flow"].flip == rooms.modalities["flow_kitti"].flip == "negate_x"


def test_a_run_that_was_stopped_goes_on_and_one_that_is_finished_does_nothing(
    rooms: PreparedData, tmp_path: Path
) -> None:
    out = tmp_path / "stopped"

    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        prepare_rooms(RoomsSettings(out, **SIZE), stop)
    assert not (out / "dataset.json").exists()
    report = make(out)
    assert (report.finished, report.written) == (2 * 2 * 8, 2 * 2 * 8)
    assert hashes(out) == hashes(rooms.root)
    assert make(out).written == 0
    (out / "hha/room_0001/000.png").unlink()
    make(out)
    assert check(PreparedData.open(out), workers=1).ok


def test_other_settings_are_refused_until_they_may_overwrite(tmp_path: Path) -> None:
    make(tmp_path, scenes=2, frames_per_scene=1, modalities=("depth",))
    with pytest.raises(SettingsError, match="seed was 3, now 5"):
        make(tmp_path, scenes=2, frames_per_scene=1, seed=5)
    report = make(tmp_path, scenes=1, frames_per_scene=1, seed=5, modalities=("depth",), overwrite=True)
    assert report.written == 2
    assert check(PreparedData.open(tmp_path), workers=1).ok
    more = make(tmp_path, scenes=1, frames_per_scene=1, seed=5, modalities=("gray",))
    assert more.modalities == ("gray", "depth")


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    report = make(tmp_path / "out", dry_run=True)
    assert report.bytes > 0
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scenes", "0"], "--scenes is 1"),
        (["--scenes", "2", "--size", "32x24"], "--size is 48"),
        (["--scenes", "2", "--size", "320"], "WIDTHxHEIGHT"),
        (["--scenes", "2", "--modality", "thermol"], "'thermal'"),
        (["--scenes", "2", "--val-fraction", "1"], "--val-fraction"),
        (["--scenes", "2", "--frames-per-scene", "0"], "--frames-per-scene"),
        (["--scenes", "2", "--workers", "none"], "--workers"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert run(["prepare", "rooms", "--out", str(tmp_path / "out"), *words]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_in_it_is_refused(
    tiny_data: PreparedData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    assert run(["prepare", "rooms", "--scenes", "1", "--out", str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert run(["prepare", "rooms", "--scenes", "1", "--out", str(tiny_data.root), "--overwrite"]) == 2
    assert "not made by" in capsys.readouterr().err


def test_the_command_makes_it_and_names_the_next_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prepare", "rooms", "--scenes", "2", "--frames-per-scene", "1", "--size", "64x48", "--workers", "1"]
    assert run([*words, "--modality", "thermal", "--out", str(tmp_path / "data"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["results"]["splits"] == {"train": 1, "val": 1}
    assert run(["prepare", "rooms", "--help"]) == 0
    assert "xmodal prepare check data/rooms" in capsys.readouterr().out
