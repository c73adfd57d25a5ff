"""What shards promise: parts joined are what one machine makes, and nothing else can be joined."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs import CAMERA, but_provenance, make_rig, prepared, settings_for, tree, write_annotations

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.data.check import check
from xmodal_cli.data.images import write_png
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.folder.prepare import prepare_folder
from xmodal_cli.datasets.merge.merge import merge
from xmodal_cli.datasets.shards import Shard
from xmodal_cli.errors import DataError, SettingsError

NAMES = [f"{scene}/{number}" for scene in ("hall", "bath") for number in range(4)]
PARTS = 3


@pytest.fixture
def rig(tmp_path):
    made = make_rig(tmp_path / "rig", NAMES)
    lines = "".join(f"{name},{name.split('/')[0]}\n" for name in NAMES)
    (made / "scenes.csv").write_text("ID,scene\n" + lines)
    write_annotations(made / "val.json", [name for name in NAMES if name.startswith("bath")])
    return made


def options(rig, **changes):
    return {"scenes": rig / "scenes.csv", "annotations": {"val": rig / "val.json"}, "name": "rig"} | changes


def parts_of(rig, folder, **changes):
    made = [folder / f"part{index}" for index in range(1, PARTS + 1)]
    for index, part in enumerate(made, start=1):
        prepare_folder(settings_for(rig, part, **options(rig, shard=Shard(index, PARTS), **changes)))
    return made


@given(st.sets(st.text(min_size=1), min_size=5, max_size=40), st.integers(1, 5))
def test_every_id_is_in_exactly_one_part(ids, count):
    own = [Shard(index, count).own(ids) for index in range(1, count + 1)]
    assert sorted(name for part in own for name in part) == sorted(ids)
    assert max(map(len, own)) - min(map(len, own)) <= 1


def test_joined_parts_equal_an_undivided_run(rig, tmp_path):
    whole = prepared(rig, tmp_path / "whole", **options(rig))
    report = merge(list(reversed(parts_of(rig, tmp_path))), tmp_path / "joined", name="rig")
    assert but_provenance(tmp_path / "joined") == but_provenance(whole.root)
    assert report.splits == {"train": 4, "val": 4}
    assert check(PreparedData.open(tmp_path / "joined")).ok


def test_every_part_is_a_data_set_of_its_own(rig, tmp_path):
    for part in parts_of(rig, tmp_path):
        assert check(PreparedData.open(part)).ok


def test_a_range_is_measured_over_all_pairs_and_the_same_in_every_part(rig, tmp_path):
    for number, name in enumerate(NAMES):  # the hottest image is in one part only
        image = (18000 + 100 * number + 10 * np.arange(24 * 32).reshape(24, 32)).astype("uint16")
        write_png(rig / "thermal" / f"{name}.png", image)
    heat = {"modalities": ("thermal",), "target": str(rig / "thermal"), "depth_unit": None}
    parts = parts_of(rig, tmp_path, **heat)
    whole = prepared(rig, tmp_path / "whole", **options(rig, **heat))
    ranges = {PreparedData.open(part).modalities["thermal"].source_range for part in parts}
    assert ranges == {whole.modalities["thermal"].source_range}
    merge(parts, tmp_path / "joined", name="rig")
    assert but_provenance(tmp_path / "joined") == but_provenance(whole.root)


def test_a_finished_part_is_found_finished(rig, tmp_path):
    part = parts_of(rig, tmp_path)[1]
    report = prepare_folder(settings_for(rig, part, **options(rig, shard=Shard(2, PARTS))))
    assert report.written == 0
    assert sum(report.splits.values()) == len(PreparedData.open(part).all_ids)


@pytest.mark.parametrize("shard", [Shard(1, PARTS), None])
def test_a_part_is_not_overwritten_by_another_one(rig, tmp_path, shard):
    part = parts_of(rig, tmp_path)[1]
    before = tree(part)
    with pytest.raises(SettingsError, match=r"part 2/3 of a data set"):
        prepare_folder(settings_for(rig, part, **options(rig, shard=shard)))
    assert tree(part) == before


def test_modalities_are_added_to_the_whole_only(rig, tmp_path):
    part = parts_of(rig, tmp_path)[0]
    with pytest.raises(SettingsError, match="without depth"):
        prepare_folder(settings_for(rig, part, rgb=None, modalities=("depth",), shard=Shard(1, PARTS)))
    joined = tmp_path / "joined"
    merge([part, tmp_path / "part2", tmp_path / "part3"], joined)
    prepare_folder(settings_for(rig, joined, rgb=None, modalities=("depth",)))
    assert len(PreparedData.open(joined).all_ids) == len(NAMES)


def test_a_missing_part_is_named(rig, tmp_path):
    parts = parts_of(rig, tmp_path)
    with pytest.raises(SettingsError, match="these are missing: 2"):
        merge([parts[0], parts[2]], tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_a_part_that_comes_twice_is_named(rig, tmp_path):
    parts = parts_of(rig, tmp_path)
    with pytest.raises(SettingsError, match="Part 1 comes twice"):
        merge([*parts, parts[0]], tmp_path / "joined")


def test_parts_of_other_settings_are_refused_with_the_difference(rig, tmp_path):
    parts = parts_of(rig, tmp_path)
    shutil.rmtree(parts[2])
    prepare_folder(settings_for(rig, parts[2], **options(rig, shard=Shard(3, PARTS), depth_offset=0.5)))
    with pytest.raises(SettingsError, match=r"made disparity of other settings.*0\.5"):
        merge(parts, tmp_path / "joined")


@pytest.mark.parametrize("change", ["annotations", "scenes", "split files", "a fraction"])
def test_parts_of_the_same_images_but_otherwise_planned_are_refused(rig, tmp_path, change):
    parts = parts_of(rig, tmp_path)
    (tmp_path / "val.txt").write_text("".join(f"{name}\n" for name in NAMES if name.startswith("bath")))
    (tmp_path / "train.txt").write_text("".join(f"{name}\n" for name in NAMES if name.startswith("hall")))
    other = {
        "annotations": {
            "annotations": {"val": write_annotations(tmp_path / "other.json", NAMES[4:], info={"year": 1})}
        },
        "scenes": {"scenes": None},
        "split files": {"annotations": {}, "split_files": {s: tmp_path / f"{s}.txt" for s in ("train", "val")}},
        "a fraction": {"annotations": {}, "val_fraction": 0.5},
    }[change]
    shutil.rmtree(parts[2])
    prepare_folder(settings_for(rig, parts[2], **options(rig, shard=Shard(3, PARTS), **other)))
    with pytest.raises(SettingsError, match=r"of the same images, but of other splits|classes"):
        merge(parts, tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_parts_of_another_camera_are_refused_with_both(rig, tmp_path):
    parts = parts_of(rig, tmp_path, modalities=("hha",), camera=CAMERA)
    shutil.rmtree(parts[1])
    other = replace(CAMERA, fx=50.0)
    hha = options(rig, modalities=("hha",), shard=Shard(2, PARTS), camera=other)
    prepare_folder(settings_for(rig, parts[1], **hha))
    with pytest.raises(SettingsError, match=r"has the camera .*40\.0.*; .*50\.0"):
        merge(parts, tmp_path / "joined")


def test_a_part_that_is_prepared_again_with_other_annotations_is_refused(rig, tmp_path):
    parts = parts_of(rig, tmp_path)
    write_annotations(rig / "val.json", [name for name in NAMES if name.startswith("bath")], info={"year": 1})
    prepare_folder(settings_for(rig, parts[0], **options(rig, shard=Shard(1, PARTS))))
    with pytest.raises(SettingsError, match="of the same images, but"):
        merge(parts, tmp_path / "joined")


def test_parts_with_a_share_for_val_are_found_finished_and_joined(rig, tmp_path):
    share = {"annotations": {}, "val_fraction": 0.3}
    for _ in range(2):
        parts = parts_of(rig, tmp_path, **share)
    whole = prepared(rig, tmp_path / "whole", **options(rig, **share))
    merge(parts, tmp_path / "joined", name="rig")
    assert but_provenance(tmp_path / "joined") == but_provenance(whole.root)


def test_parts_of_other_images_are_refused(rig, tmp_path):
    parts = parts_of(rig, tmp_path)
    other = make_rig(tmp_path / "other", ["a", "b", "c"])
    prepare_folder(settings_for(other, tmp_path / "stranger", shard=Shard(3, PARTS)))
    with pytest.raises(SettingsError, match="another data set"):
        merge([*parts[:2], tmp_path / "stranger"], tmp_path / "joined")


def test_a_whole_data_set_is_no_part(rig, tmp_path):
    whole = prepared(rig, tmp_path / "whole", **options(rig))
    with pytest.raises(SettingsError, match="made without --shard"):
        merge([whole.root], tmp_path / "joined")


def test_a_file_that_a_part_lost_is_named_and_the_next_run_goes_on(rig, tmp_path):
    parts = parts_of(rig, tmp_path)
    data = PreparedData.open(parts[1])
    lost = data.path("disparity", data.all_ids[-1])
    content = lost.read_bytes()
    lost.unlink()
    with pytest.raises(DataError, match="is missing; the manifest says"):
        merge(parts, tmp_path / "joined")
    assert not (tmp_path / "joined/dataset.json").exists()
    lost.write_bytes(content)
    report = merge(parts, tmp_path / "joined")
    assert 0 < report.written < 2 * len(NAMES)
    assert check(PreparedData.open(tmp_path / "joined")).ok
    assert merge(parts, tmp_path / "joined").written == 0


def test_nothing_that_lies_there_is_replaced(rig, tmp_path):
    parts = parts_of(rig, tmp_path)
    other = prepared(make_rig(tmp_path / "other"), tmp_path / "mine")
    before = tree(other.root)
    with pytest.raises(SettingsError, match="of other content"):
        merge(parts, other.root)
    assert tree(other.root) == before


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3", ""])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(SettingsError, match=r"--shard takes I/N"):
        Shard.parse(text)


def test_more_parts_than_images_are_refused(rig, tmp_path):
    with pytest.raises(SettingsError, match="8 cannot be divided into 9 parts"):
        prepare_folder(settings_for(rig, tmp_path / "part", **options(rig, shard=Shard(1, 9))))


def test_the_command_line_prepares_parts_and_joins_them(rig, tmp_path, capsys):
    shared = f"--rgb {rig}/rgb --target {rig}/depth --modality disparity --depth-unit 0.001 --workers 1 --quiet"
    for index in (1, 2):
        assert xmodal(f"prepare folder {shared} --out {tmp_path}/p{index} --shard {index}/2".split()) == 0
    capsys.readouterr()
    assert xmodal(f"prepare merge {tmp_path}/p1 {tmp_path}/p2 --out {tmp_path}/joined --json".split()) == 0
    assert json.loads(capsys.readouterr().out)["results"]["splits"] == {"train": len(NAMES)}
    assert xmodal(f"prepare merge {tmp_path}/p1 --out {tmp_path}/again --json".split()) == 2
