"""Promises of scenes: a file shows what its run found, hits are hits, masks are where they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from faster_coco_eval.core import mask as coco_masks
from tiny_detectors import FAR, NEAR

from xmodal_cli.data.annotations import Annotations
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.detection_files import write_detections
from xmodal_cli.detect.run_detection import Looking, detect_together
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.metrics.detections import Detections
from xmodal_cli.pictures.canvas import COLOURS
from xmodal_cli.pictures.detections import Scene, decode_mask, draw_scenes, hits
from xmodal_cli.pictures.scenes import choose_ids, scenes_in_file, scenes_of_runs
from xmodal_cli.runs.folder import RunFolder

LIMITS = {"least_score": 0.0, "most": 5}


def detections(*found: tuple[int, float, tuple[float, ...]]) -> Detections:
    labels, scores, boxes = zip(*found, strict=True)
    zeros = np.zeros(len(found), np.int64)
    return Detections(zeros, np.array(labels), np.array(scores, np.float32), np.array(boxes, np.float32))


def objects(data: PreparedData) -> Annotations:
    return next(iter(data.annotations("val").values()))


def test_file_of_a_run_shows_what_the_run_shows(detecting: RunFolder, proposed: PreparedData, tmp_path: Path) -> None:
    shown = proposed.ids("val")
    found = detect_together([detecting], proposed, shown, Looking(device="cpu")).detections
    write_detections(tmp_path / "found.json", found, proposed, "val")
    by_run = scenes_of_runs([detecting], proposed, "val", shown, 9, device="cpu", **LIMITS)
    by_file = scenes_in_file(tmp_path / "found.json", proposed, "val", shown, 9, **LIMITS)
    assert [scene.to_dict(proposed.classes) for scene in by_run] == [each.to_dict(proposed.classes) for each in by_file]
    assert all(0 < len(scene.found) <= 5 for scene in by_run)


def test_each_object_is_hit_once_and_only_by_its_class(proposed: PreparedData) -> None:
    near, far = NEAR, FAR
    found = detections((1, 0.9, near), (0, 0.8, near), (0, 0.7, near), (1, 0.6, far), (0, 0.5, (0, 0, 4, 4)))
    assert hits(found, objects(proposed)).tolist() == [False, True, False, True, False]


def test_a_second_detection_of_an_object_hits_no_other_one() -> None:
    boxes = np.array([[0, 0, 20, 20], [5, 0, 25, 20]], np.float32)
    there = Annotations(boxes, np.zeros(2, np.int64), np.arange(2), np.zeros(2, np.bool_), np.full(2, 400.0))
    found = detections(
        (0, 0.9, (0, 0, 20, 20)), (0, 0.8, (1, 0, 21, 20))
    )  # both overlap the first most, the second too
    assert hits(found, there).tolist() == [True, False]


def test_a_hit_has_a_solid_box_and_a_miss_a_broken_one(proposed: PreparedData) -> None:
    name = proposed.ids("val")[0]
    lines = []
    for label in (1, 0):
        scene = Scene(name, detections((label, 0.9, FAR)), (None,), objects(proposed))
        picture = draw_scenes(proposed, [scene], "title")
        coloured = (picture[:, : picture.shape[1] // 3] == COLOURS[label]).all(2)
        lines.append(int(coloured.sum()))
    assert lines[1] < 0.8 * lines[0]


def test_masks_of_a_file_are_drawn(proposed: PreparedData, tmp_path: Path) -> None:
    name = proposed.ids("val")[0]
    mask = np.zeros((48, 64), np.uint8, order="F")
    mask[30:40, 40:50] = 1
    rle = coco_masks.encode(mask)
    rle = {**rle, "counts": rle["counts"].decode() if isinstance(rle["counts"], bytes) else rle["counts"]}
    entry = {"image_id": name, "category_id": 2, "bbox": [36, 20, 24, 24], "score": 0.9, "segmentation": rle}
    pictures = []
    for each in (entry, {key: value for key, value in entry.items() if key != "segmentation"}):
        (tmp_path / "found.json").write_text(json.dumps([each]))
        scenes = scenes_in_file(tmp_path / "found.json", proposed, "val", [name], 1, **LIMITS)
        pictures.append(draw_scenes(proposed, scenes, "title"))
    changed = np.argwhere((pictures[0] != pictures[1]).any(2))
    assert len(changed) > 1000
    assert np.array_equal(
        scenes_in_file(tmp_path / "found.json", proposed, "val", [name], 1, **LIMITS)[0].masks, [None]
    )


def test_masks_come_as_rle_or_polygons_and_damage_is_told() -> None:
    square = decode_mask([[2, 1, 5, 1, 5, 4, 2, 4]], (6, 8))
    assert square is not None
    assert np.argwhere(square).min(0).tolist() == [1, 2]
    assert square.sum() == 9
    assert decode_mask(None, (6, 8)) is None
    with pytest.raises(DataError, match="mask"):
        decode_mask({"size": [3, 3], "counts": "04"}, (6, 8))


def test_pairs_are_those_named_or_some_with_objects(proposed: PreparedData) -> None:
    assert choose_ids(proposed, "val", ["attic/03"], 9) == ["attic/03"]
    assert len(choose_ids(proposed, "val", None, 3)) == 3
    with pytest.raises(SettingsError, match="no pair 'atic/03'") as error:
        choose_ids(proposed, "val", ["atic/03"], 1)
    assert "attic/03" in str(error.value.hint)


def test_run_that_finds_nothing_by_its_nature_is_refused(transferred: RunFolder, proposed: PreparedData) -> None:
    with pytest.raises(SettingsError, match="finds no objects"):
        scenes_of_runs([transferred], proposed, "val", None, 1, **LIMITS)
