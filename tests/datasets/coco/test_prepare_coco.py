"""Promises of `prepare coco`: classes chosen and renamed, everything of the source kept, a valid data set."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from coco_files import HEIGHT, WIDTH, make_coco, prepared_coco, settings_of_coco, thing, write_coco_file, write_images
from pycocotools.coco import COCO
from rigs import tree

from xmodal_cli.data.check import check
from xmodal_cli.data.manifest import read_manifest
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.coco.prepare import prepare_coco
from xmodal_cli.datasets.coco.settings import NYUD2_SHARED
from xmodal_cli.datasets.folder.prepare import FolderSettings, prepare_folder
from xmodal_cli.pictures.contact_sheet import draw_contact_sheet


@pytest.fixture
def coco(tmp_path):
    return make_coco(tmp_path / "coco")


def written(data, split):
    return json.loads((data.root / "annotations" / f"{split}.json").read_text())


def test_the_seven_shared_classes_get_the_names_of_nyud2(coco, tmp_path):
    data = prepared_coco(coco, tmp_path / "out", classes=("nyud2-shared",))
    assert data.classes == ("chair", "sofa", "bed", "table", "toilet", "television", "sink")  # by COCO's ids
    assert len(NYUD2_SHARED) == 7
    objects = data.annotations("train")["train2017/01"]
    assert [data.classes[label] for label in objects.labels] == ["sofa"]
    assert objects.boxes_xyxy.tolist() == [[2, 3, 12, 11]]


def test_train_loses_images_that_show_none_of_the_classes_and_val_keeps_them(coco, tmp_path):
    data = prepared_coco(coco, tmp_path / "out", classes=("nyud2-shared",))
    assert data.ids("train") == ["train2017/01", "train2017/02"]  # not the cup's, not the crowd's
    assert data.ids("val") == ["val2017/11", "val2017/12", "val2017/13"]
    empty = data.annotations("val")["val2017/13"]
    assert (len(empty), empty.labelled) == (0, True)
    assert data.provenance["without_objects"] == {"train": 2, "val": 0}


@pytest.mark.parametrize(("empty", "train", "val"), [("keep", 4, 3), ("drop", 2, 1)])
def test_images_without_objects_are_kept_or_dropped_in_all_splits(coco, tmp_path, empty, train, val):
    data = prepared_coco(coco, tmp_path / "out", classes=("nyud2-shared",), empty=empty)
    assert (len(data.ids("train")), len(data.ids("val"))) == (train, val)


def test_ids_masks_crowds_and_licences_of_the_source_are_kept(coco, tmp_path):
    data = prepared_coco(coco, tmp_path / "out", empty="keep")
    source = json.loads((coco / "annotations/instances_train2017.json").read_text())
    made = written(data, "train")
    assert made["annotations"] == source["annotations"]
    assert made["licenses"] == source["licenses"]
    assert [image["file_name"] for image in made["images"]] == [f"train2017/0{n}.jpg" for n in (1, 2, 3, 4)]
    strip = [{key: value for key, value in image.items() if key != "file_name"} for image in source["images"]]
    assert [{key: value for key, value in image.items() if key != "file_name"} for image in made["images"]] == strip
    crowd = data.annotations("train")["train2017/04"]
    assert crowd.crowd.tolist() == [True]
    assert crowd.segmentations[0]["counts"] == [600, 600]


def test_the_reference_reader_finds_the_same_masks(coco, tmp_path):
    data = prepared_coco(coco, tmp_path / "out", empty="keep")
    before = COCO(str(coco / "annotations/instances_train2017.json"))
    after = COCO(str(data.annotation_file("train")))
    assert sorted(before.anns) == sorted(after.anns)
    for identifier, entry in before.anns.items():
        assert np.array_equal(before.annToMask(entry), after.annToMask(after.anns[identifier]))


def test_images_get_in_byte_for_byte_as_links(coco, tmp_path):
    data = prepared_coco(coco, tmp_path / "out")
    assert data.path("rgb", "train2017/01").samefile(coco / "train2017/01.jpg")
    data = prepared_coco(coco, tmp_path / "copied", link="copy")
    assert not data.path("rgb", "train2017/01").samefile(coco / "train2017/01.jpg")
    assert data.path("rgb", "train2017/01").read_bytes() == (coco / "train2017/01.jpg").read_bytes()
    assert prepared_coco(coco, tmp_path / "soft", link="sym").path("rgb", "val2017/12").is_symlink()


def test_a_data_set_of_colour_alone_passes_the_check_and_can_be_drawn(coco, tmp_path):
    data = prepared_coco(coco, tmp_path / "out", empty="keep")
    report = check(data, workers=1)
    assert report.errors == ()
    assert report.objects == {"train": 5, "val": 3}
    assert draw_contact_sheet(data, 4).ndim == 3


def test_classes_that_share_a_new_name_share_the_lowest_id(coco, tmp_path):
    renamed = {"cup": "dish", "bowl": "dish"}
    data = prepared_coco(coco, tmp_path / "out", classes=("cup", "bowl"), renamed=renamed)
    assert data.classes == ("dish",)
    assert written(data, "train")["categories"] == [{"id": 47, "name": "dish"}]
    assert {entry["category_id"] for entry in written(data, "val")["annotations"]} == {47}


def test_splits_with_folders_of_their_own_may_use_the_same_file_names(tmp_path):
    for split in ("train", "val"):
        write_coco_file(tmp_path / f"{split}.json", {"1.jpg": [thing("bed")]})
        write_images(tmp_path / split, ["1.jpg"])
    files = {split: tmp_path / f"{split}.json" for split in ("train", "val")}
    folders = {split: str(tmp_path / split) for split in ("train", "val")}
    data = prepared_coco(tmp_path, tmp_path / "out", annotations=files, images=folders)
    assert (data.ids("train"), data.ids("val")) == (["train/1"], ["val/1"])


def test_names_with_folders_are_found_further_below(tmp_path):
    names = ["left/1.jpg", "right/1.jpg"]
    path = write_coco_file(tmp_path / "boxes.json", {name: [thing("bed")] for name in names})
    write_images(tmp_path / "photos", [f"2024/{name}" for name in names])
    given = {"annotations": {"train": path}, "images": {"": str(tmp_path / "photos")}}
    assert prepared_coco(tmp_path, tmp_path / "out", **given).all_ids == ["2024/left/1", "2024/right/1"]


def test_a_limit_takes_the_same_images_and_a_larger_one_adds_to_them(tmp_path):
    names = [f"{n}.jpg" for n in range(12)]
    path = write_coco_file(tmp_path / "boxes.json", {name: [thing("bed")] for name in names})
    write_images(tmp_path / "photos", names)
    given = {"annotations": {"train": path}, "images": {"": str(tmp_path / "photos")}}
    few = prepared_coco(tmp_path, tmp_path / "few", limit=4, **given)
    more = prepared_coco(tmp_path, tmp_path / "more", limit=7, **given)
    assert len(few.all_ids) == 4
    assert set(few.all_ids) < set(more.all_ids)
    assert few.all_ids != sorted(name[:-4] for name in names)[:4]  # not the first by name


def test_boxes_are_cut_at_the_border_and_flat_ones_left_out(tmp_path):
    things = [
        thing("bed", 1, bbox=[30, 20, 20.5, 9]),
        thing("bed", 2, bbox=[5, 5, 0, 4]),
        thing("bed", 3, bbox=[-0.4, 0, 10, 10]),
    ]
    path = write_coco_file(tmp_path / "boxes.json", {"1.jpg": things})
    given = {"annotations": {"train": path}, "images": {"": str(write_images(tmp_path / "photos", ["1.jpg"]))}}
    report = prepare_coco(settings_of_coco(tmp_path, tmp_path / "out", **given))
    assert len(report.notes) == 2
    assert "enclose nothing and are left out: 2" in " ".join(report.notes)
    assert "are cut: 1." in " ".join(report.notes)  # less than a pixel is rounding
    data = prepared_coco(tmp_path, tmp_path / "out", **given)
    found = data.annotations("train")["1"]
    assert found.boxes_xyxy.tolist() == [[30, 20, WIDTH, 29], [0, 0, np.float32(9.6), 10]]
    assert found.annotation_ids.tolist() == [1, 3]
    assert check(data, workers=1).errors == ()


def test_running_again_changes_nothing_and_mends_what_was_lost(coco, tmp_path):
    out = tmp_path / "out"
    prepared_coco(coco, out, link="copy")
    before = tree(out)
    prepared_coco(coco, out, link="copy")
    assert tree(out) == before
    (out / "rgb/train2017/01.jpg").unlink()
    os.truncate(out / "rgb/train2017/02.jpg", 9)
    prepared_coco(coco, out, link="copy")
    assert tree(out) == before


def test_killed_before_the_end_and_continued_is_as_undisturbed(coco, tmp_path):
    class Killed(Exception):
        """Stands for a process that dies."""

    def die(done, total):
        if done == 2:
            raise Killed

    whole = tree(prepared_coco(coco, tmp_path / "a" / "out").root)
    again = settings_of_coco(coco, tmp_path / "b" / "out")
    with pytest.raises(Killed):
        prepare_coco(again, die)
    assert not (again.out / "dataset.json").exists()
    prepare_coco(again)
    assert tree(again.out) == whole


def test_a_dry_run_counts_and_writes_nothing(coco, tmp_path):
    report = prepare_coco(replace(settings_of_coco(coco, tmp_path / "out"), dry_run=True))
    assert report.splits == {"train": 3, "val": 3}
    assert report.objects == {"bed": 1, "bowl": 2, "couch": 1, "cup": 2, "tv": 1}
    assert not (tmp_path / "out").exists()


def test_gray_can_be_added_and_stays_when_coco_is_prepared_again(coco, tmp_path):
    data = prepared_coco(coco, tmp_path / "out")
    prepare_folder(FolderSettings(data.root, ("gray",), workers=1))
    before = tree(data.root)
    described = json.loads(before.pop("dataset.json"))
    assert set(prepared_coco(coco, data.root).modalities) == {"rgb", "gray"}
    after = tree(data.root)
    assert json.loads(after.pop("dataset.json")) == described
    assert after == before
    assert check(PreparedData.open(data.root), workers=1).ok


def test_the_manifest_lists_each_image_once_with_its_size(coco, tmp_path):
    rows = read_manifest(prepared_coco(coco, tmp_path / "out").root).values()
    assert [(row.height, row.width) for row in rows] == [(HEIGHT, WIDTH)] * 6
