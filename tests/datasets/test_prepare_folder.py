"""What `prepare folder` promises, on small rigs."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time

import cv2
import numpy as np
import pytest
from rigs import CAMERA, HEIGHT, WIDTH, depth_mm, make_rig, prepared, settings_for, tree, write_annotations

from xmodal_cli.data.check import check
from xmodal_cli.data.images import read_raw, write_png
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.folder.prepare import prepare_folder
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.modalities import Frame, encode_frame


@pytest.fixture
def rig(tmp_path):
    return make_rig(tmp_path / "rig")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_a_folder_leaves_exactly_the_files_of_the_design(rig, out):
    prepare_folder(settings_for(rig, out))
    images = {f"{folder}/{name}" for name in "abcd" for folder in ("rgb", "disparity")}
    expected = {f"{path}.jpg" if path.startswith("rgb") else f"{path}.png" for path in images}
    assert set(tree(out)) == expected | {"dataset.json", "manifest.csv", "splits/train.txt"}


@pytest.mark.parametrize("link", ["hard", "sym", "copy"])
def test_colour_images_are_byte_for_byte_the_source(rig, out, link):
    data = prepared(rig, out, link=link)
    path = data.path("rgb", "a")
    assert path.read_bytes() == (rig / "rgb/a.jpg").read_bytes()
    assert path.is_symlink() == (link == "sym")
    assert path.samefile(rig / "rgb/a.jpg") == (link != "copy")


def test_pixels_are_what_the_encoders_give(rig, out):
    data = prepared(rig, out, modalities=("hha", "disparity", "depth"), camera=CAMERA)
    frame = Frame(depth_mm(1) / 1000.0, CAMERA)
    for name in ("hha", "disparity", "depth"):
        expected = encode_frame(name, frame)
        assert np.array_equal(data.read(name, "b").squeeze(), expected.squeeze()), name


def test_two_processes_give_what_one_gives(tmp_path):
    rig = make_rig(tmp_path / "rig", [f"{n:02d}" for n in range(8)])
    prepare_folder(settings_for(rig, tmp_path / "one"))
    prepare_folder(settings_for(rig, tmp_path / "two", workers=2, name="one"))
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_a_second_run_opens_no_image_and_changes_no_file(rig, out):
    settings = settings_for(rig, out)
    prepare_folder(settings)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    report = prepare_folder(settings)
    assert (report.written, report.finished) == (0, 4)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}


def test_an_interrupted_run_goes_on_and_ends_like_an_uninterrupted_one(rig, out, tmp_path):
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_folder(settings_for(rig, out), interrupt)
    with pytest.raises(DataError):
        PreparedData.open(out)  # not a data set until it is whole
    report = prepare_folder(settings_for(rig, out))
    assert (report.written, report.finished) == (2, 2)
    prepare_folder(settings_for(rig, tmp_path / "whole", name="out"))
    assert tree(out) == tree(tmp_path / "whole")


def test_other_settings_do_not_go_on_with_an_interrupted_run(rig, out):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_folder(settings_for(rig, out), interrupt)
    with pytest.raises(SettingsError, match=r"depth_unit was 0.001, now 0.002"):
        prepare_folder(settings_for(rig, out, depth_unit=0.002))


def test_a_changed_source_is_encoded_again(rig, out):
    prepare_folder(settings_for(rig, out))
    write_png(rig / "depth/b.png", depth_mm(40))
    later = time.time_ns() + 10**9
    os.utime(rig / "depth/b.png", ns=(later, later))
    report = prepare_folder(settings_for(rig, out))
    assert report.written == 1
    assert np.array_equal(
        PreparedData.open(out).read("disparity", "b"), encode_frame("disparity", Frame(depth_mm(40) / 1000))
    )


def test_another_modality_adds_to_the_data_set_and_leaves_the_rest_alone(rig, out, tmp_path):
    val = write_annotations(tmp_path / "val.json", "cd")
    prepare_folder(settings_for(rig, out, annotations={"val": val}))
    before = tree(out)
    prepare_folder(settings_for(rig, out, rgb=None, modalities=("hha",), camera=CAMERA))
    after = tree(out)
    kept = [name for name in before if name not in ("dataset.json", "manifest.csv")]
    assert all(before[name] == after[name] for name in kept)
    data = PreparedData.open(out)
    assert list(data.modalities) == ["rgb", "disparity", "hha"]
    assert data.classes == ("bed", "chair")
    assert check(data, workers=1).ok


def test_the_camera_of_the_data_set_serves_later_modalities(rig, out):
    prepare_folder(settings_for(rig, out, modalities=("hha",), camera=CAMERA))
    shutil.copytree(rig / "depth", rig / "other")
    data = prepared(rig, out, rgb=None, modalities=("depth",), target=str(rig / "other"))
    assert data.camera == CAMERA.to_dict()


def test_changed_settings_are_refused_with_the_difference_and_overwrite_mends_it(rig, out):
    prepare_folder(settings_for(rig, out))
    with pytest.raises(SettingsError, match=r"depth_unit was 0.001, now 0.0005") as caught:
        prepare_folder(settings_for(rig, out, depth_unit=0.0005))
    assert "--overwrite" in str(caught.value.hint)
    assert prepare_folder(settings_for(rig, out, depth_unit=0.0005, overwrite=True)).written == 4
    assert check(PreparedData.open(out), workers=1).ok


def test_a_modality_that_lacks_images_is_refused_and_skip_bad_drops_them(rig, out):
    prepare_folder(settings_for(rig, out))
    shutil.copytree(rig / "depth", rig / "other")
    (rig / "other/c.png").unlink()
    settings = settings_for(rig, out, modalities=("depth",), target=str(rig / "other"))
    with pytest.raises(DataError, match="'c'"):
        prepare_folder(settings)
    prepare_folder(dataclasses.replace(settings, skip_bad=True))
    data = PreparedData.open(out)
    assert data.all_ids == ["a", "b", "d"]
    assert check(data, workers=1).ok


def test_a_replaced_colour_image_is_not_mixed_in_silently(rig, out):
    prepare_folder(settings_for(rig, out, link="copy"))
    shutil.copy(rig / "rgb/a.jpg", rig / "rgb/b.jpg")
    with pytest.raises(DataError, match="differs"):
        prepare_folder(settings_for(rig, out, link="copy", modalities=("depth",)))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
def test_depth_formats_agree(rig, tmp_path, suffix):
    for number, name in enumerate("abcd"):
        path = rig / "again" / f"{name}{suffix}"
        path.parent.mkdir(exist_ok=True)
        if suffix == ".npy":
            np.save(path, (depth_mm(number) / 1000).astype(np.float64))
        else:
            cv2.imwrite(str(path), depth_mm(number))
    unit = None if suffix == ".npy" else 0.001
    again = prepared(rig, tmp_path / "again", target=str(rig / "again"), depth_unit=unit)
    first = prepared(rig, tmp_path / "first")
    assert again.data_hash(["disparity"]) == first.data_hash(["disparity"])


def test_patterns_name_pairs_that_lie_in_one_folder(tmp_path, out):
    rig = make_rig(tmp_path / "rig")
    for name in "abcd":
        shutil.move(rig / f"rgb/{name}.jpg", tmp_path / f"{name}.color.jpg")
        shutil.move(rig / f"depth/{name}.png", tmp_path / f"{name}.depth.png")
    data = prepared(rig, out, rgb=f"{tmp_path}/*.color.jpg", target=f"{tmp_path}/*.depth.png")
    assert data.all_ids == ["a", "b", "c", "d"]
    assert data.path("rgb", "a").name == "a.jpg"


def test_images_without_a_partner_are_left_out_and_named(rig, out):
    (rig / "depth/d.png").unlink()
    report = prepare_folder(settings_for(rig, out))
    assert report.splits == {"train": 3}
    assert any("'d'" in note for note in report.notes)


def test_holes_are_filled_counted_and_masked_for_hha(rig, out):
    holed = depth_mm(0)
    holed[4:8, 4:8] = 0
    holed[20, 20] = 65535
    write_png(rig / "depth/a.png", holed)
    data = prepared(rig, out, modalities=("depth", "hha"), camera=CAMERA)
    assert (data.read("depth", "a") > 0).all()
    assert data.read("depth", "a").max() < 65535
    assert data.provenance["modalities"]["depth"]["filled_pixels"] == 17
    missing = np.zeros((HEIGHT, WIDTH), bool)
    missing[4:8, 4:8] = missing[20, 20] = True
    filled = data.read("depth", "a")[:, :, 0] / 1000.0
    assert np.array_equal(data.read("hha", "a"), encode_frame("hha", Frame(filled, CAMERA, missing)))


def test_raw_depth_names_what_the_sensor_did_not_see(rig, out):
    for number, name in enumerate("abcd"):
        raw = depth_mm(number)
        raw[:, :20] = 0
        write_png(rig / "raw" / f"{name}.png", raw)
    data = prepared(rig, out, modalities=("hha",), camera=CAMERA, missing=str(rig / "raw"))
    missing = np.zeros((HEIGHT, WIDTH), bool)
    missing[:, :20] = True
    expected = encode_frame("hha", Frame(depth_mm(0) / 1000.0, CAMERA, missing))
    assert np.array_equal(data.read("hha", "a"), expected)
    assert data.provenance["modalities"]["hha"]["filled_pixels"] == 0


def coarse_rig(rig):
    for number, name in enumerate("abcd"):
        write_png(rig / "depth" / f"{name}.png", (depth_mm(number) / 40).round().astype(np.uint8))
    return {"depth_unit": 0.04, "modalities": ("depth",)}


def test_depth_of_8_bits_and_only_it_is_smoothed(rig, tmp_path):
    fine = prepare_folder(settings_for(rig, tmp_path / "fine"))
    options = coarse_rig(rig)
    coarse = prepare_folder(settings_for(rig, tmp_path / "coarse", **options))
    off = prepare_folder(settings_for(rig, tmp_path / "off", smooth="off", **options))
    assert (fine.smooth, coarse.smooth, off.smooth) == (False, True, False)
    data, raw = PreparedData.open(coarse.root), PreparedData.open(off.root)
    assert data.provenance["modalities"]["depth"]["settings"]["smooth"] is True
    assert len(np.unique(data.read("depth", "a"))) > len(np.unique(raw.read("depth", "a")))


def test_thermal_has_one_range_measured_on_the_train_split(rig, out, tmp_path):
    for number, name in enumerate("abcd"):
        write_png(rig / "thermal" / f"{name}.png", depth_mm(0) + np.uint16(20000 if number == 3 else 1000 * number))
    val = write_annotations(tmp_path / "val.json", "d")
    options = {"modalities": ("thermal",), "target": str(rig / "thermal"), "depth_unit": None}
    data = prepared(rig, out, annotations={"val": val}, **options)
    low, high = data.modalities["thermal"].source_range
    assert 1500 <= low < high <= 5000
    assert data.modalities["thermal"].range == (0, 255)
    assert data.read("thermal", "d").min() == 255  # hotter than anything trained on
    expected = encode_frame("thermal", Frame(read_raw(rig / "thermal/a.png"), range=(low, high)))
    assert np.array_equal(data.read("thermal", "a")[:, :, 0], expected)


def test_a_thermal_range_given_is_used_and_kept_by_later_runs(rig, out):
    options = {"modalities": ("thermal",), "depth_unit": None}
    data = prepared(rig, out, value_range=(1000.0, 4000.0), **options)
    expected = encode_frame("thermal", Frame(depth_mm(0), range=(1000.0, 4000.0)))
    assert np.array_equal(data.read("thermal", "a")[:, :, 0], expected)
    assert prepared(rig, out, **options).modalities["thermal"].source_range == (1000, 4000)
    with pytest.raises(SettingsError, match="range was"):
        prepare_folder(settings_for(rig, out, value_range=(1000.0, 5000.0), **options))


def test_gray_is_made_from_colour_without_a_target(rig, out):
    data = prepared(rig, out, modalities=("gray",), target=None, depth_unit=None)
    assert np.array_equal(data.read("gray", "a")[:, :, 0], encode_frame("gray", Frame(data.read("rgb", "a"))))


def test_annotations_decide_the_splits_and_the_rest_is_train(rig, out, tmp_path):
    val = write_annotations(tmp_path / "val.json", "bx")
    report = prepare_folder(settings_for(rig, out, annotations={"val": val}))
    assert report.splits == {"train": 3, "val": 1}
    assert any("x.jpg" in note for note in report.notes)


def test_split_files_decide_and_leave_out_the_rest(rig, out, tmp_path):
    (tmp_path / "train.txt").write_text("a\nc.jpg\n")
    (tmp_path / "test.txt").write_text("b\n")
    files = {"train": tmp_path / "train.txt", "test": tmp_path / "test.txt"}
    data = prepared(rig, out, split_files=files)
    assert {split: data.ids(split) for split in data.splits} == {"train": ["a", "c"], "test": ["b"]}
    assert not (out / "disparity/d.png").exists()
    again = prepare_folder(settings_for(rig, out))  # without the files the splits stay, and d stays out
    assert again.splits == {"train": 2, "test": 1}


def test_images_never_change_their_split_unasked(rig, out, tmp_path):
    prepare_folder(settings_for(rig, out, val_fraction=0.5))
    (tmp_path / "val.txt").write_text("a\n")
    (tmp_path / "train.txt").write_text("b\nc\nd\n")
    files = {"train": tmp_path / "train.txt", "val": tmp_path / "val.txt"}
    with pytest.raises(SettingsError, match="change their split"):
        prepare_folder(settings_for(rig, out, split_files=files))


@pytest.mark.parametrize("by", ["annotations", "split_files"])
def test_an_image_in_two_splits_is_refused(rig, out, tmp_path, by):
    if by == "annotations":
        files = {name: write_annotations(tmp_path / f"{name}.json", "ab") for name in ("train", "val")}
    else:
        (tmp_path / "both.txt").write_text("a\nb\n")
        files = {"train": tmp_path / "both.txt", "val": tmp_path / "both.txt"}
    with pytest.raises(DataError, match="train and val"):
        prepare_folder(settings_for(rig, out, **{by: files}))
    assert not out.exists()


def test_a_scene_in_two_splits_is_refused(rig, out, tmp_path):
    (tmp_path / "scenes.csv").write_text("id,scene\na,kitchen\nb,kitchen\nc,hall\nd,hall\n")
    val = write_annotations(tmp_path / "val.json", "a")
    with pytest.raises(DataError, match="kitchen"):
        prepare_folder(settings_for(rig, out, annotations={"val": val}, scenes=tmp_path / "scenes.csv"))


def test_a_dry_run_estimates_and_writes_nothing(rig, out):
    report = prepare_folder(settings_for(rig, out, dry_run=True))
    assert not out.exists()
    assert (report.dry_run, report.written, report.bytes > 0) == (True, 4, True)
