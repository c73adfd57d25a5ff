"""Promises of `prepare coco` about what is wrong: said by name, with the way on, and nothing half-written left."""

from __future__ import annotations

import json

import pytest
from coco_files import HEIGHT, WIDTH, make_coco, prepared_coco, settings_of_coco, thing, write_coco_file, write_images

from xmodal_cli.datasets.coco.prepare import prepare_coco
from xmodal_cli.errors import DataError, SettingsError


@pytest.fixture
def coco(tmp_path):
    return make_coco(tmp_path / "coco")


def one_image(tmp_path, *things, **changes):
    """Settings of a data set of one image with these things."""
    path = write_coco_file(tmp_path / "boxes.json", {"1.jpg": things, "2.jpg": [thing("bed", 99)]}, **changes)
    photos = write_images(tmp_path / "photos", ["1.jpg", "2.jpg"])
    return settings_of_coco(tmp_path, tmp_path / "out", annotations={"train": path}, images={"": str(photos)})


def test_annotations_of_another_folder_show_names_of_both_sides(coco, tmp_path):
    write_images(tmp_path / "holiday", ["beach.jpg"])
    with pytest.raises(DataError, match=r"'01\.jpg'.*none is among.*beach\.jpg"):
        prepare_coco(settings_of_coco(coco, tmp_path / "out", images={"": str(tmp_path / "holiday")}))
    assert not (tmp_path / "out").exists()


def test_missing_images_are_counted_and_named(coco, tmp_path):
    (coco / "train2017/02.jpg").unlink()
    with pytest.raises(DataError, match=r"1 images that the annotations list are not in .*'02\.jpg'") as caught:
        prepare_coco(settings_of_coco(coco, tmp_path / "out"))
    assert "--skip-bad" in caught.value.hint
    data = prepared_coco(coco, tmp_path / "out", skip_bad=True)
    assert data.ids("train") == ["train2017/01", "train2017/03"]
    assert data.provenance["missing"] == ["02.jpg"]


def test_an_image_that_the_rules_drop_need_not_be_there(coco, tmp_path):
    (coco / "train2017/03.jpg").unlink()
    assert prepared_coco(coco, tmp_path / "out", classes=("nyud2-shared",)).ids("train")


@pytest.mark.parametrize(
    ("change", "said", "hint"),
    [
        ({"classes": ("couhc",)}, "no category 'couhc'", "'couch'"),
        ({"classes": ("sofa",)}, "no category 'sofa'", "There are: bottle"),
        ({"renamed": {"tvs": "television"}}, "no category 'tvs'", "'tv'"),
        ({"classes": ("bed",), "renamed": {"tv": "television"}}, "--map renames 'tv'", "--classes"),
        ({"limit": 0}, "--limit", "--help"),
        ({"images": {}}, "--images DIR", "--help"),
        ({"images": {"train": "a"}}, "split 'val' has no --images", "--help"),
    ],
)
def test_wrong_options_name_the_way_on(coco, tmp_path, change, said, hint):
    with pytest.raises(SettingsError, match=said) as caught:
        prepare_coco(settings_of_coco(coco, tmp_path / "out", **change))
    assert hint in caught.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"bbox": [50, 5, 10, 10]}, "box .* lies outside 40 x 30"),
        ({"segmentation": [[50, 5, 60, 5, 60, 9]]}, "polygons lie outside"),
        ({"segmentation": [[1, 1, 9, 1]]}, "a polygon has 4 numbers"),
        ({"segmentation": [[1, 1, 9, 1, 9]]}, "a polygon has 5 numbers"),
        ({"segmentation": [[1, 1, 9, 1, 9, float("nan")]]}, "no finite numbers"),
        ({"segmentation": [7]}, "no list of numbers"),
        ({"segmentation": "xyz"}, "neither polygons nor RLE"),
        ({"segmentation": {"size": [WIDTH, HEIGHT], "counts": "abc"}}, "RLE is of 30 x 40"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [7]}}, "RLE counts 7 pixels of 1200"),
        ({"segmentation": {"counts": [7]}}, "no size and counts"),
    ],
)
def test_bad_objects_are_named_by_id_and_can_be_left_out(tmp_path, more, said):
    settings = one_image(tmp_path, thing("bed", 5), thing("tv", 77, **more))
    with pytest.raises(DataError, match=f"annotation 77: .*{said}"):
        prepare_coco(settings)
    data = prepared_coco(tmp_path, **{**vars(settings), "skip_bad": True})
    assert data.annotations("train")["1"].annotation_ids.tolist() == [5]
    assert list(data.provenance["left_out"]) == ["train, annotation 77"]


def test_ids_that_occur_twice_are_refused(tmp_path):
    with pytest.raises(DataError, match="1 annotation ids occur more than once: 5"):
        prepare_coco(one_image(tmp_path, thing("bed", 5), thing("tv", 5)))
    image = {"id": 1, "file_name": "1.jpg"}
    with pytest.raises(DataError, match="two images have the same id"):
        prepare_coco(one_image(tmp_path, images=[image, {**image, "file_name": "2.jpg"}], annotations=[]))
    with pytest.raises(DataError, match=r"'1\.jpg' more than once"):
        prepare_coco(one_image(tmp_path, images=[image, {**image, "id": 2}], annotations=[thing("bed", 3, 1)]))


def test_a_name_that_means_two_images_is_no_missing_image(coco, tmp_path):
    write_images(coco / "test2017", ["01.jpg"])
    with pytest.raises(DataError, match=r"1 names in .* mean more than one image: '01\.jpg'") as caught:
        prepare_coco(settings_of_coco(coco, tmp_path / "out"))
    assert "--images train=DIR" in caught.value.hint


def test_an_image_in_two_splits_is_refused(coco, tmp_path):
    file = coco / "annotations/instances_train2017.json"
    with pytest.raises(DataError, match="in two splits"):
        prepare_coco(settings_of_coco(coco, tmp_path / "out", annotations={"train": file, "val": file}))


def test_damaged_images_and_images_of_another_size_are_all_named(coco, tmp_path):
    (coco / "train2017/01.jpg").write_bytes(b"\xff\xd8 cut")
    write_images(coco / "train2017", ["02.jpg"], (20, 20))
    with pytest.raises(DataError, match=r"(?s)2 of 6 images are bad.*01\.jpg.*20 x 20 pixels.*40 x 30"):
        prepare_coco(settings_of_coco(coco, tmp_path / "out"))
    data = prepared_coco(coco, tmp_path / "out", skip_bad=True)
    assert data.ids("train") == ["train2017/03"]
    assert {"train2017/01", "train2017/02"} == set(data.provenance["left_out"])


def test_no_image_of_the_classes_is_an_error(coco, tmp_path):
    with pytest.raises(DataError, match="No image shows any of the classes"):
        prepare_coco(settings_of_coco(coco, tmp_path / "out", classes=("bottle",), empty="drop"))


def test_a_folder_of_something_else_is_refused(coco, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("")
    with pytest.raises(SettingsError, match="not empty"):
        prepare_coco(settings_of_coco(coco, tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_other_settings_in_the_same_folder_are_refused_with_the_difference(coco, tmp_path):
    prepared_coco(coco, tmp_path / "out")
    with pytest.raises(SettingsError, match=r"classes was \[\], now \['bed'\]"):
        prepare_coco(settings_of_coco(coco, tmp_path / "out", classes=("bed",)))
    data = prepared_coco(coco, tmp_path / "out", classes=("bed",), overwrite=True)
    assert data.classes == ("bed",)
    assert {path.name for path in (data.root / "rgb").rglob("*.jpg")} == {"11.jpg", "12.jpg", "13.jpg"}


def test_files_that_are_no_coco_instances_are_refused(tmp_path):
    (tmp_path / "boxes.json").write_text(json.dumps([1, 2]))
    with pytest.raises(DataError, match="no COCO instance file"):
        prepare_coco(settings_of_coco(tmp_path, tmp_path / "out", annotations={"train": tmp_path / "boxes.json"}))
