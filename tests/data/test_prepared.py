from __future__ import annotations

import json

import numpy as np
import pytest
from rigs import CAMERA, depth_mm, make_rig, prepared

from xmodal_cli.data.manifest import read_manifest
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.errors import DataError, SettingsError


@pytest.fixture
def data(tmp_path):
    rig = make_rig(tmp_path / "rig", ("a/1", "a/2", "b/1", "b/2"))
    (tmp_path / "scenes.csv").write_text("a/1,kitchen\na/2,kitchen\nb/1,hall\nb/2,hall\n")
    return prepared(
        rig,
        tmp_path / "out",
        modalities=("hha", "depth"),
        camera=CAMERA,
        scenes=tmp_path / "scenes.csv",
        val_fraction=0.5,
    )


def test_a_missing_data_set_names_three_ways_on(tmp_path):
    with pytest.raises(DataError) as caught:
        PreparedData.open(tmp_path / "absent")
    for way in ("xmodal prepare folder", "--data", "XMODAL_DATA"):
        assert way in str(caught.value.hint)


@pytest.mark.parametrize("text", ["", "[]", '{"format": 99}', '{"format": 1, "name": "x"}'])
def test_a_damaged_or_newer_description_is_refused(data, text):
    (data.root / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=r"dataset\.json"):
        PreparedData.open(data.root)


def test_a_plus_joins_splits_and_is_sorted(data):
    both = data.ids("train+val")
    assert both == data.ids("val+train") == data.all_ids == ["a/1", "a/2", "b/1", "b/2"]


def test_unknown_splits_and_modalities_name_the_closest(data):
    with pytest.raises(SettingsError) as split:
        data.ids("trian")
    with pytest.raises(SettingsError) as modality:
        data.read("hah", "a/1")
    assert "'train'" in str(split.value.hint)
    assert "'hha'" in str(modality.value.hint)


def test_images_come_with_a_channel_axis_as_stored(data):
    assert data.read("rgb", "a/1").shape == (24, 32, 3)
    assert data.read("hha", "a/1").dtype == np.uint8
    depth = data.read("depth", "a/1")
    assert (depth.shape, depth.dtype) == ((24, 32, 1), np.uint16)
    assert np.array_equal(depth[:, :, 0], depth_mm(0))
    assert data.size_hw("a/1") == (24, 32)


def test_a_file_that_is_not_what_the_description_says_is_refused(data):
    data.path("hha", "a/1").write_bytes(data.path("depth", "a/1").read_bytes())
    with pytest.raises(DataError, match="uint16"):
        data.read("hha", "a/1")


def test_scenes_are_known_by_id(data):
    assert data.scene("b/2") == "hall"
    assert data.scene("c/1") is None


def test_the_data_hash_depends_on_content_modality_and_ids_alone(data):
    whole = data.data_hash(["rgb", "hha"])
    assert whole == data.data_hash(["hha", "rgb"], reversed(data.all_ids))
    assert whole == PreparedData.open(data.root).data_hash(["rgb", "hha"])
    assert len({whole, data.data_hash(["rgb"]), data.data_hash(["rgb", "hha"], ["a/1"])}) == 3


def test_the_data_hash_changes_when_a_file_is_prepared_anew(tmp_path):
    rig = make_rig(tmp_path / "rig")
    before = prepared(rig, tmp_path / "out")
    make_rig(rig, ("d", "c", "b", "a"))
    after = prepared(rig, tmp_path / "new")
    assert before.data_hash(["disparity"]) != after.data_hash(["disparity"])
    assert before.rows["disparity", "a"].sha256 == after.rows["disparity", "d"].sha256


def test_hold_out_takes_whole_scenes_and_never_everything(data):
    fit, held = data.hold_out("train+val")
    assert {data.scene(i) for i in fit}.isdisjoint({data.scene(i) for i in held})
    assert sorted(fit + held) == data.all_ids
    fit, held = data.hold_out("train")
    assert fit
    assert held


@pytest.mark.parametrize("text", ["", "id,modality\n", "id,modality,file,height,width,bytes,sha256\na,rgb,x,1\n"])
def test_a_damaged_manifest_is_refused(data, text):
    (data.root / "manifest.csv").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.csv"):
        read_manifest(data.root)


def test_the_description_is_plain_json_with_units(data):
    document = json.loads((data.root / "dataset.json").read_text())
    assert document["modalities"]["depth"]["unit"] == "mm"
    assert document["camera"] == CAMERA.to_dict()
    assert document["provenance"]["modalities"]["hha"]["settings"]["depth_unit"] == 0.001
