from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rigs import make_rig, prepared, write_annotations

from xmodal_cli.data.annotations import match_coco, merge_classes, read_coco
from xmodal_cli.errors import DataError

IMAGES = {name: Path(f"rig/{name}.jpg") for name in "ab"}


@pytest.fixture
def data(tmp_path):
    rig = make_rig(tmp_path / "rig")
    train = write_annotations(tmp_path / "train.json", "ab")
    val = write_annotations(tmp_path / "val.json", "c")
    return prepared(rig, tmp_path / "out", annotations={"train": train, "val": val})


def test_boxes_are_xyxy_with_exclusive_ends_and_labels_index_the_classes(data):
    found = data.annotations("train")["a"]
    assert found.boxes_xyxy.tolist() == [[2, 3, 12, 11], [0, 0, 32, 24]]
    assert (found.boxes_xyxy.dtype, found.labels.dtype) == (np.float32, np.int64)
    assert [data.classes[label] for label in found.labels] == ["chair", "bed"]
    assert data.classes == ("bed", "chair")  # in order of category id


def test_source_ids_and_crowds_are_kept(data):
    found = data.annotations("train")["b"]
    assert (found.image_id, found.annotation_ids.tolist(), found.crowd.tolist()) == (101, [10, 11], [False, True])


def test_every_id_of_the_split_is_there_and_unlabelled_is_not_empty(data):
    found = data.annotations("train+val")
    assert list(found) == ["a", "b", "c", "d"]
    assert [found[name].labelled for name in "abcd"] == [True, True, True, False]
    assert len(found["d"]) == 0


def test_the_stored_file_is_coco_that_pycocotools_reads(data):
    coco_api = pytest.importorskip("pycocotools.coco")
    coco = coco_api.COCO(str(data.annotation_file("train")))
    for image in coco.loadImgs(coco.getImgIds()):
        ours = data.annotations("train")[Path(image["file_name"]).stem]
        theirs = np.array([a["bbox"] for a in coco.loadAnns(coco.getAnnIds(image["id"]))])
        assert np.array_equal(ours.boxes_xyxy[:, 2:] - ours.boxes_xyxy[:, :2], theirs[:, 2:])
        assert (data.root / "rgb" / image["file_name"]).exists()


def test_an_image_listed_without_objects_is_labelled_and_empty(tmp_path):
    rig = make_rig(tmp_path / "rig")
    train = write_annotations(tmp_path / "train.json", "abcd", annotations=[])
    found = prepared(rig, tmp_path / "out", annotations={"train": train}).annotations("train")["a"]
    assert (len(found), found.labelled, found.boxes_xyxy.shape) == (0, True, (0, 4))


@pytest.mark.parametrize(
    "broken",
    [
        {"images": None},
        {"annotations": [{"id": 1, "image_id": 999, "category_id": 7, "bbox": [0, 0, 1, 1]}]},
        {"annotations": [{"id": 1, "image_id": 100, "category_id": 999, "bbox": [0, 0, 1, 1]}]},
        {"annotations": [{"id": 1, "image_id": 100, "category_id": 7, "bbox": [0, 0, 1]}]},
        {"annotations": [{"id": 1, "image_id": 100, "category_id": 7}]},
        {"annotations": [{"id": "one", "image_id": 100, "category_id": 7, "bbox": [0, 0, 1, 1]}]},
        {"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}]},
        {"categories": "chairs"},
    ],
)
def test_files_that_are_no_coco_instances_are_refused_by_name(tmp_path, broken):
    path = write_annotations(tmp_path / "broken.json", "ab", **broken)
    with pytest.raises(DataError, match=r"broken\.json"):
        read_coco(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1, 2]"])
def test_files_that_are_no_json_document_are_refused_by_name(tmp_path, content):
    (tmp_path / "broken.json").write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.json"):
        read_coco(tmp_path / "broken.json")


def test_file_names_that_mean_no_image_are_counted_and_none_at_all_is_an_error(tmp_path):
    found, strangers = match_coco(read_coco(write_annotations(tmp_path / "a.json", "axy")), IMAGES)
    assert (found, strangers) == ({"a": 100}, ["x.jpg", "y.jpg"])
    with pytest.raises(DataError, match=r"x\.jpg.*a\.jpg"):
        match_coco(read_coco(write_annotations(tmp_path / "b.json", "xy")), IMAGES)


def test_two_files_must_agree_on_their_categories(tmp_path):
    first = read_coco(write_annotations(tmp_path / "a.json", "a"))
    other = [{"id": 7, "name": "stool"}, {"id": 3, "name": "bed"}]
    second = read_coco(write_annotations(tmp_path / "b.json", "b", categories=other))
    with pytest.raises(DataError, match="stool"):
        merge_classes([first, second])


@pytest.mark.real
def test_real_annotations_keep_every_object(real_data):
    source = json.loads((real_data / "nyud2-8bit/val.json").read_text())
    coco = read_coco(real_data / "nyud2-8bit/val.json")
    assert sum(len(objects) for objects in coco.objects.values()) == len(source["annotations"]) == 2239
