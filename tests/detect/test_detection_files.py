"""Promises of detection files: other tools read them, they come back as they went, and every flaw is named."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rigs import make_rig, prepared, write_annotations

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.detection_files import category_ids, read_detections, source_ids, write_detections
from xmodal_cli.errors import DataError
from xmodal_cli.metrics.detections import Detections

GOOD: dict[str, Any] = {"image_id": 0, "category_id": 1, "bbox": [4, 8, 16, 16], "score": 0.5}


def random_detections(images: int, classes: int, count: int = 500) -> Detections:
    random = np.random.default_rng(0)
    corner = (random.random((count, 2)) * 600).astype(np.float32)
    size = (random.random((count, 2)) * 300).astype(np.float32)
    return Detections(
        random.integers(0, images, count),
        random.integers(0, classes, count),
        random.normal(size=count).astype(np.float32),
        np.hstack([corner, corner + size]),
    )


def write(path: Path, *entries: Any) -> Path:
    path.write_text(json.dumps(entries))
    return path


@pytest.mark.parametrize("split", ["val", "train", "train+val"])
def test_detections_come_back_as_they_went(split: str, tiny_data: PreparedData, tmp_path: Path) -> None:
    there = random_detections(len(tiny_data.ids(split)), len(tiny_data.classes))
    write_detections(tmp_path / "detections.json", there, tiny_data, split)
    back = read_detections(tmp_path / "detections.json", tiny_data, split)
    for part in ("images", "labels", "scores", "boxes_xyxy"):
        np.testing.assert_array_equal(getattr(back, part), getattr(there, part))


def test_nothing_found_is_an_empty_list(tiny_data: PreparedData, tmp_path: Path) -> None:
    write_detections(tmp_path / "none.json", Detections.of([]), tiny_data, "val")
    assert json.loads((tmp_path / "none.json").read_text()) == []
    assert len(read_detections(tmp_path / "none.json", tiny_data, "val")) == 0


def test_pycocotools_reads_the_file_beside_the_annotations(tiny_data: PreparedData, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    there = random_detections(len(tiny_data.ids("val")), len(tiny_data.classes))
    write_detections(tmp_path / "detections.json", there, tiny_data, "val")
    with redirect_stdout(io.StringIO()):
        coco = COCO(str(tiny_data.annotation_file("val")))
        results = coco.loadRes(str(tmp_path / "detections.json"))
    names = {image["id"]: Path(image["file_name"]).with_suffix("").as_posix() for image in coco.dataset["images"]}
    assert len(results.anns) == len(there)
    for entry, image, label in zip(results.dataset["annotations"], there.images, there.labels, strict=True):
        assert names[entry["image_id"]] == tiny_data.ids("val")[image]
        assert coco.cats[entry["category_id"]]["name"] == tiny_data.classes[label]


def test_ids_are_those_of_the_source(tmp_path: Path) -> None:
    """Category ids 3 and 7, image ids from 100: kept, though classes and images count from 0 inside."""
    rig = make_rig(tmp_path / "rig")
    data = prepared(rig, tmp_path / "data", annotations={"val": write_annotations(tmp_path / "val.json", ["a", "c"])})
    assert (data.classes, category_ids(data, "val")) == (("bed", "chair"), (3, 7))
    assert source_ids(data, "val").images == (100, 101)
    assert source_ids(data, "train+val").images == (100, "b", 101, "d")
    assert source_ids(data, "train").images == ("b", "d")
    assert category_ids(data, "train") == (3, 7)


def test_data_without_any_annotations_has_ids_of_its_own(tmp_path: Path) -> None:
    data = prepared(make_rig(tmp_path / "rig"), tmp_path / "data")
    split = "+".join(data.splits)
    assert source_ids(data, split).images == ("a", "b", "c", "d")
    assert category_ids(data, split) == ()


def test_ids_are_understood_as_number_and_as_text(tiny_data: PreparedData, tmp_path: Path) -> None:
    entries = [GOOD | {"image_id": image} for image in (2, "2", 2.0, "attic/02")]
    entries += [GOOD | {"category_id": "1"}]
    found = read_detections(write(tmp_path / "x.json", *entries), tiny_data, "val")
    assert found.images.tolist() == [2, 2, 2, 2, 0]
    assert found.labels.tolist() == [0] * 5


def test_file_is_taken_exactly_as_given(tiny_data: PreparedData, tmp_path: Path) -> None:
    """No cap, no threshold, no NMS, no clipping, no sorting; other keys do not matter."""
    low = [GOOD | {"score": -5 - n, "bbox": [-100, -100, 900.5, 0], "area": 3, "id": n} for n in range(300)]
    found = read_detections(write(tmp_path / "x.json", *low, GOOD), tiny_data, "val")
    assert len(found) == 301
    assert found.scores.tolist() == [float(-5 - n) for n in range(300)] + [0.5]
    assert found.boxes_xyxy[0].tolist() == [-100, -100, 800.5, -100]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_id": 99}, "image_id 99, which is no image of split 'val'"),
        ({"image_id": "99"}, "image_id '99', which is no image"),
        ({"image_id": True}, "image_id True"),
        ({"image_id": None}, "image_id None"),
        ({"category_id": 4}, "category_id 4, which is no class"),
        ({"category_id": "near"}, "category_id 'near'"),
        ({"category_id": True}, "category_id True"),
        ({"score": float("nan")}, "its score is nan"),
        ({"score": float("inf")}, "its score is inf"),
        ({"score": 10**400}, "its score is 1000"),
        ({"score": "0.5"}, "its score is '0.5'"),
        ({"score": None}, "its score is None"),
        ({"score": True}, "its score is True"),
        ({"bbox": [1, 2, 3]}, "four finite numbers"),
        ({"bbox": [1, 2, 3, None]}, "four finite numbers"),
        ({"bbox": [1, 2, float("nan"), 4]}, "four finite numbers"),
        ({"bbox": {"x": 1}}, "four finite numbers"),
        ({"bbox": [1, 2, -3, 4]}, "negative width or height"),
    ],
)
def test_flawed_entry_is_named(change: dict[str, Any], words: str, tiny_data: PreparedData, tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", GOOD, GOOD | change, GOOD)
    with pytest.raises(DataError) as caught:
        read_detections(path, tiny_data, "val")
    assert f"'{path}', entry 1 (from 0)" in caught.value.message
    assert words in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("missing", ["image_id", "category_id", "bbox", "score"])
def test_missing_part_is_named(missing: str, tiny_data: PreparedData, tmp_path: Path) -> None:
    entry = {key: value for key, value in GOOD.items() if key != missing}
    with pytest.raises(DataError, match=f"entry 0 .* it has no {missing}"):
        read_detections(write(tmp_path / "x.json", entry), tiny_data, "val")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"images": [], "annotations": []}', "an object with annotations, images"),
        ("[3]", "entry 0 .* 3 is no detection"),
        ("[{", "is not JSON"),
        ("\x80", "is not JSON|cannot be read"),
        ("7", "holds 7, not a list"),
    ],
)
def test_file_of_another_format_is_refused(text: str, words: str, tiny_data: PreparedData, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=words):
        read_detections(tmp_path / "x.json", tiny_data, "val")


def test_missing_file_is_refused(tiny_data: PreparedData, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_detections(tmp_path / "none.json", tiny_data, "val")


def test_image_of_another_split_is_refused_and_the_split_named(tiny_data: PreparedData, tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", GOOD | {"image_id": "hall/03"})
    with pytest.raises(DataError, match="no image of split 'val'") as caught:
        read_detections(path, tiny_data, "val")
    assert "--split val+train" in str(caught.value.hint)


def test_id_that_two_images_share_is_refused(tiny_data: PreparedData, tmp_path: Path) -> None:
    """The source numbered both splits from 0: in their union 3 means two images, but their names tell them apart."""
    with pytest.raises(DataError, match=r"which several images of split 'train\+val'"):
        read_detections(write(tmp_path / "x.json", GOOD | {"image_id": 3}), tiny_data, "train+val")
    found = read_detections(write(tmp_path / "x.json", GOOD | {"image_id": 21}), tiny_data, "train+val")
    assert tiny_data.ids("train+val")[found.images[0]] == "hall/21"
