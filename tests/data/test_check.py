from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from rigs import CAMERA, depth_mm, make_rig, picture, prepared, write_annotations

from xmodal_cli.data.check import check
from xmodal_cli.data.images import encode_png, write_png
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.splits import write_scenes, write_split
from xmodal_cli.datasets.folder.prepare import FolderSettings, prepare_folder
from xmodal_cli.modalities.geometry import Camera


@pytest.fixture
def data(tmp_path):
    rig = make_rig(tmp_path / "rig", "abcdef")
    train = write_annotations(tmp_path / "train.json", "abcd")
    val = write_annotations(tmp_path / "val.json", "ef")
    annotations = {"train": train, "val": val}
    return prepared(rig, tmp_path / "out", annotations=annotations, link="copy", camera=CAMERA)


def again(data: PreparedData):
    """What check says about the data set as it now lies on disk."""
    return check(PreparedData.open(data.root), workers=1)


def test_a_sound_data_set_has_no_errors_and_no_warnings(data):
    report = again(data)
    assert (report.errors, report.warnings, report.ok) == ((), (), True)
    assert (report.splits, report.objects) == ({"train": 4, "val": 2}, {"train": 8, "val": 4})


def test_figures_are_those_of_the_pixels(data):
    figures = again(data).to_dict()["figures"]["disparity"]
    images = np.stack([data.read("disparity", i) for i in data.all_ids])
    assert figures["mean"] == pytest.approx(images.mean(axis=(0, 1, 2)).tolist(), abs=1e-4)
    assert (figures["lowest"], figures["highest"]) == (images.min(), images.max())
    assert figures["at_ceiling_percent"] == pytest.approx([100 * (images[..., c] == 255).mean() for c in range(3)])
    assert figures["files"] == 6


def test_two_processes_find_what_one_finds(data):
    data.path("rgb", "a").write_bytes(b"")
    assert check(data, workers=2) == check(data, workers=1)


@pytest.mark.parametrize("content", [b"", b"no image", encode_png(depth_mm(0))[:-9]])
def test_unreadable_files_are_errors_by_name(data, content):
    data.path("disparity", "b").write_bytes(content)
    data.path("rgb", "c").unlink()
    errors = again(data).errors
    assert len(errors) == 2
    assert "disparity/b.png" in errors[0]
    assert "rgb/c.jpg" in errors[1]


def test_wrong_size_type_and_changed_bytes_are_errors(data):
    write_png(data.path("disparity", "a"), picture(0, (12, 16)))
    write_png(data.path("disparity", "b"), depth_mm(0))
    write_png(data.path("disparity", "c"), picture(0))
    text = "\n".join(again(data).errors)
    for part in ("16 x 12 pixels", "The images of 'a' differ in size", "uint16; disparity is 3 x uint8", "has changed"):
        assert part in text


def test_an_id_without_its_modality_is_an_error(data):
    with (data.root / "splits/train.txt").open("a") as handle:
        handle.write("z\n")
    assert sum("'z' has no" in error for error in again(data).errors) == 2


def test_files_that_nobody_knows_are_a_warning(data):
    shutil.copy(data.path("disparity", "a"), data.root / "disparity/stray.png")
    report = again(data)
    assert report.ok
    assert "disparity/stray.png" in report.warnings[0]


def test_an_image_or_a_scene_in_two_splits_is_an_error(data):
    write_split(data.root, "val", ["a", "e", "f"])
    write_scenes(data.root, {"b": "kitchen", "e": "kitchen"})
    errors = again(data).errors
    assert "'a' is in the splits train and val." in errors
    assert any("Scene 'kitchen'" in error for error in errors)


@pytest.mark.parametrize("box", [[-5, 0, 10, 10], [30, 0, 10, 10], [0, 20, 5, 50], [4, 4, 0, 3], [4, 4, 3, -2]])
def test_boxes_outside_or_empty_are_errors(data, box):
    path = data.annotation_file("val")
    document = json.loads(path.read_text())
    document["annotations"][0]["bbox"] = box
    path.write_text(json.dumps(document))
    errors = again(data).errors
    assert len(errors) == 1
    assert "Annotation 0 of 'e'" in errors[0]


def test_boxes_may_touch_the_border_and_round_over_it_by_a_pixel(data):
    path = data.annotation_file("val")
    document = json.loads(path.read_text())
    document["annotations"][0]["bbox"] = [-1, 0, 34, 25]
    path.write_text(json.dumps(document))
    assert again(data).ok


def test_image_sizes_in_annotations_must_agree(data):
    path = data.annotation_file("val")
    path.write_text(path.read_text().replace('"width": 32', '"width": 64'))
    assert sum("64 x 24 pixels; it has 32 x 24" in error for error in again(data).errors) == 2


def test_a_copy_across_splits_is_a_warning(tmp_path):
    rig = make_rig(tmp_path / "rig", "abcdef")
    shutil.copy(rig / "rgb/a.jpg", rig / "rgb/f.jpg")
    report = again(prepared(rig, tmp_path / "out", annotations={"val": write_annotations(tmp_path / "v.json", "ef")}))
    assert report.ok
    assert len(report.warnings) == 1
    assert "'a' and 'f'" in report.warnings[0]


def test_depth_that_is_too_near_saturates_disparity_and_is_a_warning(tmp_path):
    rig = make_rig(tmp_path / "rig")
    report = again(prepared(rig, tmp_path / "out", modalities=("hha",), camera=CAMERA, depth_unit=0.0002))
    assert report.ok
    assert any("hha is saturated: 100% is 255 in disparity" in warning for warning in report.warnings)


@pytest.mark.real
@pytest.mark.parametrize(("slip", "saturated"), [(1.0, False), (10.0, True)])
def test_real_depth_ten_times_too_far_saturates_height_and_is_a_warning(tmp_path, real_data, slip, saturated):
    for path in sorted((real_data / "kinect").glob("frame-000[0-4]00.*")):
        shutil.copy(path, tmp_path)
    settings = FolderSettings(
        out=tmp_path / "out",
        modalities=("hha",),
        rgb=f"{tmp_path}/*.color.jpg",
        target=f"{tmp_path}/*.depth.png",
        depth_unit=0.001 * slip,
        camera=Camera.parse("585,585,320,240", origin=0),
        workers=1,
    )
    prepare_folder(settings)
    report = check(PreparedData.open(settings.out), workers=1)
    assert report.ok
    assert any("255 in height" in warning for warning in report.warnings) == saturated


def test_an_unlikely_median_depth_is_a_warning(tmp_path):
    rig = make_rig(tmp_path / "rig")
    report = again(prepared(rig, tmp_path / "out", modalities=("depth",), depth_unit=0.01))
    assert any("unlikely" in warning for warning in report.warnings)


def test_an_image_of_one_value_is_a_warning(tmp_path):
    rig = make_rig(tmp_path / "rig")
    write_png(rig / "depth/a.png", np.full((24, 32), 2000, np.uint16))
    report = again(prepared(rig, tmp_path / "out", modalities=("depth",)))
    assert any("same value everywhere: 'a'" in warning for warning in report.warnings)


def test_the_report_is_json(data):
    document = json.loads(json.dumps(again(data).to_dict()))
    assert document["ok"] is True
    columns, lines = again(data).table()
    assert all(len(line) == len(columns) for line in lines)
