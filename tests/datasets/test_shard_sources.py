"""What shards of rooms, of COCO and of partly labelled folders promise: joined they are the whole, nothing lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from coco_files import make_coco, prepared_coco, settings_of_coco
from rigs import but_provenance, make_rig, prepared, tree, write_annotations

from xmodal_cli.data.check import check
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.coco.prepare import prepare_coco
from xmodal_cli.datasets.merge.merge import merge
from xmodal_cli.datasets.rooms.prepare import prepare_rooms
from xmodal_cli.datasets.rooms.settings import RoomsSettings
from xmodal_cli.datasets.shards import Shard
from xmodal_cli.errors import DataError, SettingsError


class Killed(Exception):
    """Stands for a process that dies."""


def rooms(out: Path, **changes) -> RoomsSettings:
    given = {"scenes": 3, "frames_per_scene": 2, "size_hw": (48, 64), "modalities": ("disparity",), "workers": 1}
    return RoomsSettings(out, **given | {"name": "rooms"} | changes)


@pytest.fixture
def coco(tmp_path):
    return make_coco(tmp_path / "coco")


def coco_parts(coco: Path, folder: Path, count: int = 3, **changes) -> list[Path]:
    parts = [folder / f"part{index}" for index in range(1, count + 1)]
    for index, part in enumerate(parts, start=1):
        prepared_coco(coco, part, shard=Shard(index, count), **{"empty": "keep", "name": "coco", **changes})
    return parts


def test_joined_rooms_equal_an_undivided_run_with_poses_and_counted_ids(tmp_path):
    splits = {"val": 1, "train": 2}  # not in the order of their names
    prepare_rooms(rooms(tmp_path / "whole", splits=splits))
    for index in (1, 2):
        prepare_rooms(rooms(tmp_path / f"part{index}", splits=splits, shard=Shard(index, 2)))
    part = PreparedData.open(tmp_path / "part1")
    assert check(part).ok
    assert set(part.scenes.values()) == {"room_0000", "room_0002"}
    merge([tmp_path / "part2", tmp_path / "part1"], tmp_path / "joined", name="rooms")
    assert but_provenance(tmp_path / "joined") == but_provenance(tmp_path / "whole")
    assert "poses.csv" in tree(tmp_path / "joined")


def test_a_part_of_rooms_is_no_place_for_another_part(tmp_path):
    prepare_rooms(rooms(tmp_path / "part", shard=Shard(1, 3), modalities=("gray",)))
    before = tree(tmp_path / "part")
    assert prepare_rooms(rooms(tmp_path / "part", shard=Shard(1, 3), modalities=("gray",))).written == 0
    for shard in (Shard(2, 3), None):
        with pytest.raises(SettingsError, match="part 1/3"):
            prepare_rooms(rooms(tmp_path / "part", shard=shard, modalities=("gray",)))
    assert tree(tmp_path / "part") == before


def test_joined_parts_of_coco_equal_an_undivided_run(coco, tmp_path):
    files = {split: coco / f"annotations/instances_{split}2017.json" for split in ("val", "train")}
    whole = prepared_coco(coco, tmp_path / "whole", empty="keep", name="coco", annotations=files)
    parts = coco_parts(coco, tmp_path, annotations=files)
    assert all(check(PreparedData.open(part)).ok for part in parts)
    merge(parts, tmp_path / "joined", name="coco")
    assert but_provenance(tmp_path / "joined") == but_provenance(whole.root)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": ("couch", "tv", "bed")}, r"classes, '.*' .* or others"),
        ({"renamed": {"tv": "screen"}}, "or others"),
        ({"empty": "drop"}, "another data set"),
        ({"limit": 3}, "another data set"),
        ({}, "of the same images, but of other splits, scenes or annotations"),
    ],
)
def test_parts_of_coco_with_other_options_or_annotations_are_refused(coco, tmp_path, change, said):
    parts = coco_parts(coco, tmp_path)
    shutil.rmtree(parts[1])
    if not change:  # the same files, of other content by now
        path = coco / "annotations/instances_train2017.json"
        path.write_text(path.read_text().replace('"iscrowd": 0', '"iscrowd": 0, "checked": 1'))
    given = {"empty": "keep", "name": "coco", **change}
    prepared_coco(coco, parts[1], shard=Shard(2, 3), **given)
    with pytest.raises(SettingsError, match=said):
        merge(parts, tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_parts_of_rooms_with_other_splits_are_refused(tmp_path):
    for index, splits in ((1, {"train": 2, "val": 1}), (2, {"train": 1, "val": 2})):
        made = rooms(tmp_path / f"part{index}", splits=splits, shard=Shard(index, 2), modalities=("gray",))
        prepare_rooms(made)
    with pytest.raises(SettingsError, match="of the same images, but of other splits"):
        merge([tmp_path / "part1", tmp_path / "part2"], tmp_path / "joined")


def test_an_interrupted_part_of_coco_goes_on_only_as_the_same_part(coco, tmp_path):
    def die(done, total):
        raise Killed

    half = settings_of_coco(coco, tmp_path / "half", shard=Shard(1, 2))
    with pytest.raises(Killed):
        prepare_coco(half, die)
    with pytest.raises(SettingsError, match="part 1/2 of a data set; --shard 2/2 was asked for"):
        prepared_coco(coco, half.out, shard=Shard(2, 2))
    done = tree(prepared_coco(coco, half.out, shard=Shard(1, 2)).root)
    assert done == tree(prepared_coco(coco, tmp_path / "again/half", shard=Shard(1, 2)).root)
    with pytest.raises(SettingsError, match="part 1/2"):
        prepared_coco(coco, half.out)


def test_a_part_without_any_labelled_image_is_a_valid_data_set(tmp_path):
    rig = make_rig(tmp_path / "rig")
    labels = {"train": write_annotations(tmp_path / "train.json", "a")}
    parts = [tmp_path / f"part{index}" for index in (1, 2)]
    for index, part in enumerate(parts, start=1):
        assert check(prepared(rig, part, annotations=labels, shard=Shard(index, 2), name="rig")).ok
    whole = prepared(rig, tmp_path / "whole", annotations=labels, name="rig")
    merge(parts, tmp_path / "joined", name="rig")
    assert but_provenance(tmp_path / "joined") == but_provenance(whole.root)


def test_a_merge_that_is_killed_in_the_middle_goes_on_as_undisturbed(coco, tmp_path):
    def die(done, total):
        if done == 3:
            raise Killed

    parts = coco_parts(coco, tmp_path)
    merge(parts, tmp_path / "a/joined")
    with pytest.raises(Killed):
        merge(parts, tmp_path / "b/joined", progress=die)
    assert not (tmp_path / "b/joined/dataset.json").exists()
    assert merge(parts, tmp_path / "b/joined").finished == 3
    assert tree(tmp_path / "b/joined") == tree(tmp_path / "a/joined")


def test_parts_are_only_read(coco, tmp_path):
    parts = coco_parts(coco, tmp_path)
    before = [tree(part) for part in parts]
    merge(parts, tmp_path / "joined")
    assert [tree(part) for part in parts] == before


def test_other_files_of_parts_are_taken_over_and_none_is_lost_in_silence(coco, tmp_path):
    parts = coco_parts(coco, tmp_path)
    (parts[0] / "superpixels").mkdir()
    (parts[0] / "superpixels/1.npy").write_text("kept")
    (parts[1] / "notes.csv").write_text("kept")
    (parts[1] / "rgb/.1.jpg.7.part").write_text("half")
    for _ in range(2):
        merge(parts, tmp_path / "joined")
    assert (tmp_path / "joined/superpixels/1.npy").read_text() == (tmp_path / "joined/notes.csv").read_text() == "kept"
    assert not list((tmp_path / "joined").rglob("*.part"))
    for part in parts:
        (part / "proposals").mkdir()
        (part / "proposals/boxes.npy").write_text(part.name)
    with pytest.raises(SettingsError, match=r"1 files differ.*proposals/boxes\.npy") as caught:
        merge(parts, tmp_path / "other")
    assert "after the merge" in caught.value.hint
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(("kind", "said"), [("images", "images of the same id"), ("annotations", "have the same id")])
def test_parts_with_the_same_ids_are_refused(coco, tmp_path, kind, said):
    first, second, third = coco_parts(coco, tmp_path)
    donor = json.loads((first / "annotations/train.json").read_text())
    changed = json.loads((second / "annotations/train.json").read_text())
    old = changed[kind][0]["id"]
    changed[kind][0]["id"] = donor[kind][0]["id"]
    for entry in changed["annotations"] if kind == "images" else ():
        entry["image_id"] = changed[kind][0]["id"] if entry["image_id"] == old else entry["image_id"]
    (second / "annotations/train.json").write_text(json.dumps(changed))
    with pytest.raises(DataError, match=said):
        merge([first, second, third], tmp_path / "joined")


def test_an_image_in_two_parts_is_refused(coco, tmp_path):
    first, _ = coco_parts(coco, tmp_path, 2)
    shutil.copytree(first, tmp_path / "forged")
    document = json.loads((tmp_path / "forged/dataset.json").read_text())
    document["provenance"]["shard"]["index"] = 2
    (tmp_path / "forged/dataset.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match="in two parts"):
        merge([first, tmp_path / "forged"], tmp_path / "joined")
