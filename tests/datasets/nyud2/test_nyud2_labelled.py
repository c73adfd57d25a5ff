"""Promises of `prepare nyud2 --labelled`, on a small file as MATLAB writes it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from nyud2_files import FIELDS, LABEL, Labelled, made_up, write_labelled
from pycocotools import mask as coco_masks
from rigs import tree

from xmodal_cli.data.check import check
from xmodal_cli.data.images import read_raw, read_rgb
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.nyud2.camera import CROP_CAMERA
from xmodal_cli.datasets.nyud2.classes import CLASSES
from xmodal_cli.datasets.nyud2.prepare import Nyud2Report, Nyud2Settings, prepare_nyud2
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.modalities import hha

ROWS, COLUMNS = slice(45, 470), slice(40, 600)


def prepare(mat: Path, out: Path, *modalities: str, **changes: object) -> Nyud2Report:
    return prepare_nyud2(Nyud2Settings(out, labelled=mat, modalities=modalities, workers=1, name="ny", **changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def data(mat: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    out = tmp_path_factory.mktemp("prepared") / "out"
    prepare(mat, out)
    return PreparedData.open(out)


def test_the_made_file_has_every_field_of_the_published_one(mat: Path) -> None:
    with h5py.File(mat) as file:
        assert set(FIELDS) <= set(file)
        assert file["images"].shape == (6, 3, 640, 480)
        assert file["scenes"].attrs["MATLAB_class"] == b"cell"


def test_colour_is_the_crop_bit_for_bit(data: PreparedData, content: Labelled) -> None:
    for identifier, image in zip(data.all_ids, content.images, strict=True):
        assert (read_rgb(data.path("rgb", identifier)) == image[ROWS, COLUMNS]).all()


def test_depth_is_millimetres_rounded_as_matlab_does(data: PreparedData, content: Labelled) -> None:
    for name, depths in (("depth", content.depths), ("raw_depth", content.raw)):
        for identifier, depth in zip(data.all_ids, depths, strict=True):
            stored = read_raw(data.path(name, identifier))
            exact = depth[ROWS, COLUMNS] * np.float32(1000)
            assert stored.dtype == np.uint16
            assert (stored == np.floor(exact.astype(np.float64) + 0.5)).all()
    assert (read_raw(data.path("raw_depth", "img_5001")) == 0).sum() == 20 * 60


def test_hha_has_the_camera_of_the_crop_and_no_normals_where_raw_depth_is_missing(
    data: PreparedData, content: Labelled
) -> None:
    depth_mm = read_raw(data.path("depth", "img_5004"))
    missing = content.raw[3][ROWS, COLUMNS] == 0
    found = read_rgb(data.path("hha", "img_5004"))
    assert (found == hha.encode(depth_mm / 1000.0, CROP_CAMERA, missing)).all()
    assert not (found == hha.encode(depth_mm / 1000.0, CROP_CAMERA, None)).all()
    assert data.camera == pytest.approx({"fx": 518.8579, "fy": 519.4696, "cx": 285.5824, "cy": 208.7362}, abs=1e-4)


def test_an_object_is_a_pair_of_label_and_instance_within_the_crop(data: PreparedData) -> None:
    found = data.annotations("test")["img_5001"]
    named = [(CLASSES[label], *box) for label, box in zip(found.labels, found.boxes_xyxy.tolist(), strict=True)]
    assert named == [
        ("chair", 60, 55, 140, 105),
        ("chair", 140, 55, 160, 105),
        ("night-stand", 559, 255, 560, 256),
        ("bed", 0, 0, 260, 15),
    ]
    assert found.image_id == 5001
    assert found.annotation_ids.tolist() == [5001001, 5001002, 5001003, 5001004]
    areas = [int(coco_masks.area(rle)) for rle in found.segmentations]
    assert areas == found.areas.tolist() == [80 * 50, 20 * 50, 1, 260 * 15]


def test_objects_keep_the_ids_of_the_source(data: PreparedData) -> None:
    document = json.loads((data.root / "annotations/test.json").read_text())
    first = document["annotations"][0]
    assert (first["label_id"], first["instance_id"], first["category_id"]) == (LABEL["chair"], 1, 5)
    assert [each["name"] for each in document["categories"]] == list(CLASSES)


def test_splits_and_scenes_are_the_published_ones(data: PreparedData, content: Labelled) -> None:
    assert {split: data.ids(split) for split in data.splits} == {
        "train": [f"img_500{n}" for n in (3, 4, 5, 6)],
        "test": ["img_5001", "img_5002"],
    }
    assert list(data.scenes.values()) == content.scenes


def test_check_finds_no_error(data: PreparedData) -> None:
    assert check(data, workers=1).errors == ()


def test_the_report_compares_with_what_is_published(mat: Path, tmp_path: Path) -> None:
    report = prepare(mat, tmp_path / "out", "gray")
    assert ("train", "4 of 381") in report.table()
    assert any("6 images" in note and "1449" in note for note in report.notes)
    assert report.objects["test"]["chair"] == 4
    assert not report.is_whole
    assert report.object_table()[1][-1] == ["all", "16", "8"]


def test_images_stored_together_give_the_same_files(mat: Path, content: Labelled, tmp_path: Path) -> None:
    together = write_labelled(tmp_path / mat.name, content, block=4)
    for number, each in enumerate((mat, together)):
        prepare(each, tmp_path / f"out{number}", "depth")
    first, second = (tree(tmp_path / f"out{number}") for number in (0, 1))
    assert {n: b for n, b in first.items() if n != "dataset.json"} == {
        n: b for n, b in second.items() if n != "dataset.json"
    }


def test_a_second_run_changes_no_file(mat: Path, tmp_path: Path) -> None:
    prepare(mat, tmp_path / "out", "depth")
    before, times = tree(tmp_path / "out"), {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.png")}
    report = prepare(mat, tmp_path / "out", "depth")
    assert (report.written, report.finished) == (0, 12)
    assert tree(tmp_path / "out") == before
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_modalities_added_later_make_the_data_set_of_one_run(mat: Path, tmp_path: Path) -> None:
    prepare(mat, tmp_path / "one", "depth", "disparity")
    prepare(mat, tmp_path / "two", "depth")
    added = prepare(mat, tmp_path / "two", "disparity")
    assert (added.written, added.finished) == (6, 6)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_the_file_may_move(mat: Path, tmp_path: Path) -> None:
    prepare(mat, tmp_path / "out", "gray")
    moved = tmp_path / mat.name
    os.link(mat, moved)
    assert prepare(moved, tmp_path / "out", "gray").written == 0


def test_another_file_is_refused_and_overwrite_replaces_everything(mat: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(mat, out, "depth", "gray")
    other = write_labelled(tmp_path / "other.mat", made_up(4))
    with pytest.raises(SettingsError, match=r"file was nyu_depth_v2_labeled\.mat, now other\.mat"):
        prepare(other, out, "depth")
    prepare(other, out, "depth", overwrite=True)
    prepare(other, tmp_path / "fresh", "depth")
    assert tree(out) == tree(tmp_path / "fresh")


def test_a_killed_run_goes_on_and_ends_like_an_undisturbed_one(mat: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["prepare", "nyud2", "--labelled", str(mat), "--out", str(out), "--workers", "1", "--name", "ny", "-q"]
    process = subprocess.Popen([sys.executable, "-m", "xmodal_cli", *words])
    deadline = time.monotonic() + 60
    while not list(out.glob("hha/img_*.png")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    (out / "rgb/.img_5006.png.1.part").write_bytes(b"half")  # what a kill within a write leaves
    with pytest.raises(DataError):
        PreparedData.open(out)
    assert prepare(mat, out).finished > 0
    prepare(mat, tmp_path / "whole")
    left = {name: content for name, content in tree(out).items() if name != ".preparing.lock"}
    assert left == tree(tmp_path / "whole")


def test_two_processes_give_what_one_gives(content: Labelled, tmp_path: Path) -> None:
    longer = Labelled(*([*part, *part] for part in list(vars(content).values())[:5]), scenes=list("abcdefghijkl"))
    mat = write_labelled(tmp_path / "a.mat", longer)
    for workers in (1, 2):
        prepare_nyud2(
            Nyud2Settings(tmp_path / str(workers), mat, modalities=("raw_depth",), workers=workers, name="ny")
        )
    assert tree(tmp_path / "1") == tree(tmp_path / "2")


def test_a_dry_run_writes_nothing(mat: Path, tmp_path: Path) -> None:
    report = prepare(mat, tmp_path / "out", "depth", dry_run=True)
    assert report.dry_run
    assert report.written == 12
    assert report.bytes > 0
    assert not (tmp_path / "out").exists()
