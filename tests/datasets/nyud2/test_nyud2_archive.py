"""Promises of `prepare nyud2 --archive`, on a small archive in the authors' layout, and of what belongs to it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from nyud2_files import write_archive
from rigs import tree

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.data.images import read_raw, read_rgb, write_png
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import open_proposals
from xmodal_cli.datasets.nyud2.camera import CROP_CAMERA, CROP_SIZE_HW
from xmodal_cli.datasets.nyud2.classes import CLASSES
from xmodal_cli.datasets.nyud2.prepare import Nyud2Report, Nyud2Settings, prepare_nyud2
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.modalities import hha

IDS = ["img_5001", "img_5003", "img_5010"]


def prepare(archive: Path, out: Path, *modalities: str, **changes: object) -> Nyud2Report:
    return prepare_nyud2(Nyud2Settings(out, archive=archive, modalities=modalities, workers=1, **changes))  # type: ignore[arg-type]


def superpixels(folder: Path, ids: list[str]) -> Path:
    for each in ids:
        write_png(folder / f"{each}.png", np.full(CROP_SIZE_HW, 300, np.uint16))
    return folder


@pytest.mark.parametrize("link", ["hard", "sym", "copy"])
def test_every_image_of_the_archive_is_taken_byte_for_byte(archive: Path, tmp_path: Path, link: str) -> None:
    report = prepare(archive, tmp_path / "out", link=link)
    assert report.modalities == ("rgb", "hha", "depth", "raw_depth")
    for name, folder in (("rgb", "images"), ("hha", "hha"), ("depth", "depth"), ("raw_depth", "rawdepth")):
        for each in IDS:
            made, source = tmp_path / f"out/{name}/{each}.png", archive / f"data/{folder}/{each}.png"
            assert made.read_bytes() == source.read_bytes()
            assert made.samefile(source) == (link != "copy")
    assert prepare(archive, tmp_path / "out", link=link).written == 0


def test_hha_is_made_of_depth_where_the_archive_has_none(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "archive", [5003], hha=False)
    prepare(archive, tmp_path / "out", "hha")
    depth_mm, raw = (read_raw(archive / f"data/{name}/img_5003.png") for name in ("depth", "rawdepth"))
    assert (read_rgb(tmp_path / "out/hha/img_5003.png") == hha.encode(depth_mm / 1000.0, CROP_CAMERA, raw == 0)).all()


def test_boxes_come_from_the_cache_and_masks_from_the_segmentation(archive: Path, tmp_path: Path) -> None:
    report = prepare(archive, tmp_path / "out", "gray")
    found = PreparedData.open(tmp_path / "out").annotations("val")["img_5010"]
    assert [CLASSES[label] for label in found.labels] == ["chair", "night-stand"]
    assert found.boxes_xyxy.tolist() == [[20, 10, 60, 30], [100, 100, 150, 140]]
    assert found.areas.tolist() == [20 * 40, 40 * 50]
    assert all(found.segmentations)
    assert (report.instances_without_a_class, report.boxes_unlike_the_masks) == (3, 0)


def test_segmentations_alone_give_the_same_objects(tmp_path: Path) -> None:
    boxes = []
    for cache in (True, False):
        archive = write_archive(tmp_path / f"archive{cache}", [5003], cache=cache)
        prepare(archive, tmp_path / f"out{cache}", "gray")
        document = json.loads((tmp_path / f"out{cache}/annotations/train.json").read_text())
        boxes.append([(each["id"], each["category_id"], each["bbox"]) for each in document["annotations"]])
    assert boxes[0] == boxes[1]
    assert len(boxes[0]) == 2


def test_splits_of_the_archive_must_be_the_published_ones(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "archive", [5003])
    scipy.io.savemat(archive / "benchmarkData/metadata/nyusplits.mat", {"train": [5003, 5010], "tst": [5001]})
    with pytest.raises(DataError, match="train is not train of the published split"):
        prepare(archive, tmp_path / "out")


def test_what_the_archive_lacks_is_named_before_anything_is_written(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "archive", [5003, 5010])
    (archive / "data/depth/img_5010.png").unlink()
    with pytest.raises(DataError, match=r"depth' lacks 1 of 2: img_5010"):
        prepare(archive, tmp_path / "out")
    with pytest.raises(SettingsError, match="cannot give flow"):
        prepare(write_archive(tmp_path / "archive", [5003, 5010]), tmp_path / "out", "flow")
    assert not (tmp_path / "out").exists()


def test_an_image_of_another_size_is_named_and_mending_it_goes_on(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "archive", [5003, 5010])
    whole = (archive / "data/hha/img_5010.png").read_bytes()
    write_png(archive / "data/hha/img_5010.png", np.zeros((480, 640, 3), np.uint8))
    with pytest.raises(DataError, match=r"img_5010\.png' holds 480 x 640 x 3 uint8; expected 425 x 560 x 3 uint8"):
        prepare(archive, tmp_path / "out")
    (archive / "data/hha/img_5010.png").write_bytes(whole)
    assert prepare(archive, tmp_path / "out").finished > 0
    prepare(archive, tmp_path / "fresh", name="out")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_a_folder_that_is_no_archive_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder 'images'"):
        prepare(tmp_path, tmp_path / "out")


def test_superpixels_are_linked_and_all_or_none(archive: Path, tmp_path: Path) -> None:
    few = superpixels(tmp_path / "few", IDS[:2])
    with pytest.raises(DataError, match="lacks the superpixels of 1 of 3 images: img_5010"):
        prepare(archive, tmp_path / "out", "gray", superpixels=few)
    assert not (tmp_path / "out").exists()
    every = superpixels(tmp_path / "every", IDS)
    assert prepare(archive, tmp_path / "out", "gray", superpixels=every).superpixels == 3
    assert (tmp_path / "out/superpixels/img_5010.png").samefile(every / "img_5010.png")
    assert prepare(archive, tmp_path / "out", "gray", superpixels=every).superpixels == 0


@pytest.mark.parametrize("below", ["data/nyud2", "nyud2_data/data/nyud2"])
def test_the_archive_and_superpixels_may_lie_some_folders_deeper(below: str, tmp_path: Path) -> None:
    write_archive(tmp_path / "deep" / below, [5003])
    (tmp_path / "deep/images").mkdir()  # of something else
    superpixels(tmp_path / "sp/nyud2_sp", ["img_5003"])
    report = prepare(tmp_path / "deep", tmp_path / "out", "gray", superpixels=tmp_path / "sp")
    assert (report.splits, report.superpixels) == ({"train": 1}, 1)
    assert len(PreparedData.open(tmp_path / "out").annotations("train")["img_5003"].labels) == 2


def test_superpixels_are_numbered_from_1(archive: Path, tmp_path: Path) -> None:
    folder = superpixels(tmp_path / "sp", IDS)
    write_png(folder / "img_5003.png", np.zeros(CROP_SIZE_HW, np.uint16))
    with pytest.raises(DataError, match="superpixel 0"):
        prepare(archive, tmp_path / "out", "gray", superpixels=folder)


def test_proposals_of_the_published_file_come_with_it(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells, names = np.empty((3, 1), object), np.array(IDS[::-1], object)[:, None]
    cells[:, 0] = [np.array([[11, 21, 30, 60], [1, 1, 425, 560]], np.uint16)] * 3
    scipy.io.savemat(tmp_path / "nyud2_mcg_boxes.mat", {"bboxes": cells, "imnames": names})
    out = tmp_path / "out"
    words = ["prepare", "nyud2", "--archive", str(archive), "--out", str(out), "--modality", "gray", "--workers", "1"]
    assert xmodal([*words, "--proposals", str(tmp_path / "nyud2_mcg_boxes.mat"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"]["proposals"]["counts"]["kept"] == 6
    assert open_proposals(PreparedData.open(out), "mcg")["img_5003"].tolist() == [[20, 10, 60, 30], [0, 0, 560, 425]]
    assert xmodal([*words, "--proposals", str(tmp_path / "nyud2_mcg_boxes.mat")]) == 0
    assert "there already" in capsys.readouterr().err
    assert xmodal([*words, "--proposals", str(tmp_path / "none.mat")]) == 3


def test_what_prepare_folder_adds_later_does_not_lock_the_data_set(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(archive, out, "depth")
    assert xmodal(["prepare", "folder", "--modality", "gray", "--out", str(out), "-q"]) == 0
    prepare(archive, out, "hha")
    assert set(PreparedData.open(out).modalities) == {"rgb", "depth", "gray", "hha"}
