"""Promises of scoring: perfect detections are perfect, files score as arrays do, and what is unknown is not judged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from rigs import make_rig, prepared, write_annotations

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.folder.prepare import FolderSettings, prepare_folder
from xmodal_cli.detect.detection_files import read_detections, write_detections
from xmodal_cli.detect.scoring import evaluation_folder, objects_of, save_evaluation, score_detections
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.metrics.detections import Detections


def perfect(data: PreparedData, split: str) -> Detections:
    """The annotated objects as detections, with scores that differ."""
    objects = objects_of(data, split)
    scores = np.random.default_rng(0).random(len(objects), np.float32)
    return Detections(objects.images, objects.labels, scores, objects.boxes_xyxy)


def shaken(data: PreparedData, split: str) -> Detections:
    """Detections that are right in part: objects moved by some pixels, some of another class."""
    random = np.random.default_rng(1)
    right = perfect(data, split)
    boxes = np.repeat(right.boxes_xyxy, 3, 0)
    return Detections(
        np.repeat(right.images, 3),
        np.where(random.random(len(boxes)) < 0.2, 0, np.repeat(right.labels, 3)),
        random.random(len(boxes), np.float32),
        boxes + random.normal(0, 3, (len(boxes), 1)).astype(np.float32),
    )


@pytest.mark.parametrize("metric", ["voc", "coco"])
@pytest.mark.parametrize("split", ["val", "train+val"])
def test_perfect_detections_score_100_through_a_file(
    metric: str, split: str, tiny_data: PreparedData, tmp_path: Path
) -> None:
    write_detections(tmp_path / "x.json", perfect(tiny_data, split), tiny_data, split)
    scores = score_detections(
        tiny_data, split, read_detections(tmp_path / "x.json", tiny_data, split), metric=metric
    ).to_dict()
    assert (scores["metric"], scores["mAP"]) == (metric, 100)
    assert scores["AP"] == {"near": 100, "far": 100, "never": None}
    assert scores["classes_without_objects"] == ["never"]
    assert (scores["images"], scores["images_without_annotations"]) == (len(tiny_data.ids(split)), 0)


@pytest.mark.parametrize("metric", ["voc", "coco"])
def test_file_scores_as_the_arrays_it_was_written_from(metric: str, tiny_data: PreparedData, tmp_path: Path) -> None:
    there = shaken(tiny_data, "train")
    write_detections(tmp_path / "x.json", there, tiny_data, "train")
    back = read_detections(tmp_path / "x.json", tiny_data, "train")
    scores = [score_detections(tiny_data, "train", each, metric=metric) for each in (there, back)]
    assert scores[0].ap == scores[1].ap
    assert 1 < scores[0].mAP < 99


def test_objects_are_those_of_the_annotations(tiny_data: PreparedData) -> None:
    objects = objects_of(tiny_data, "val")
    assert objects.counts(3).tolist() == [6, 6, 0]
    assert objects.images.tolist() == [n for n in range(6) for _ in range(2)]
    assert objects.boxes_xyxy[:2].tolist() == [[4, 8, 20, 24], [36, 20, 60, 44]]
    assert objects.areas[:2].tolist() == [256, 576]


def test_no_detection_at_all_scores_0(tiny_data: PreparedData) -> None:
    for metric in ("voc", "coco"):
        scores = score_detections(tiny_data, "val", Detections.of([]), metric=metric)
        assert scores.ap == {"near": 0, "far": 0, "never": None}


def test_images_without_annotations_are_left_out(tmp_path: Path) -> None:
    """The file lists a and c with a chair each; detections in b and d, surer than any other, do not count."""
    rig = make_rig(tmp_path / "rig")
    data = prepared(rig, tmp_path / "data", annotations={"val": write_annotations(tmp_path / "val.json", ["a", "c"])})
    split = "train+val"
    right = perfect(data, split)
    unknown = Detections(
        np.array([1, 3]), np.array([1, 1]), np.array([9.0, 9.0], np.float32), np.ones((2, 4), np.float32)
    )
    scores = score_detections(data, split, Detections.of([right, unknown]))
    assert (scores.images, scores.unlabelled) == (2, 2)
    assert scores.ap == {"bed": None, "chair": 100.0}  # the beds of this rig are crowds
    with pytest.raises(DataError, match=r"No image of split 'train' .* is annotated") as caught:
        score_detections(data, "train", Detections.of([]))
    assert "--annotations train=FILE" in str(caught.value.hint)


def test_what_cannot_be_scored_is_refused(tiny_data: PreparedData) -> None:
    with pytest.raises(SettingsError, match="'vok' is not one of voc, coco") as caught:
        score_detections(tiny_data, "val", Detections.of([]), metric="vok")
    assert "voc" in str(caught.value.hint)
    with pytest.raises(SettingsError, match="no split 'vall'"):
        score_detections(tiny_data, "vall", Detections.of([]))
    outside = replace(perfect(tiny_data, "val"), images=np.full(12, 6))
    with pytest.raises(ValueError, match="split 'val' has 6 images"):
        score_detections(tiny_data, "val", outside)


def test_table_has_a_row_per_class_the_mean_and_the_papers_figures(tiny_data: PreparedData) -> None:
    scores = score_detections(tiny_data, "val", perfect(tiny_data, "val"))
    assert scores.rows() == [
        ["near", "100.0", 6, 6],
        ["far", "100.0", 6, 6],
        ["never", "no objects", 0, 0],
        ["mean", "100.0", 12, 12],
    ]
    assert [row[-1] for row in scores.rows({"far": 59.4, "bed": 1.0})] == ["", "59.4", "", ""]


def test_evaluation_is_kept_with_everything_that_decided_it(tiny_data: PreparedData, tmp_path: Path) -> None:
    detections = shaken(tiny_data, "val")
    scores = score_detections(tiny_data, "val", detections)
    folder = evaluation_folder(tmp_path, "one+two", "val")
    assert folder.parent == tmp_path / "evaluate"
    assert folder.name.startswith("one+two-val-")
    about = {"subject": "one + two", "runs": ["runs/finetune/one", "runs/finetune/two"]}
    save_evaluation(folder, scores, detections, tiny_data, about)
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "detections.json", "results.json"}
    results = json.loads((folder / "results.json").read_text())
    assert results["results"] == scores.to_dict()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config == {key: value for key, value in results.items() if key != "results"}
    assert (config["command"], config["runs"], config["split"]) == ("evaluate", about["runs"], "val")
    again = score_detections(tiny_data, "val", read_detections(folder / "detections.json", tiny_data, "val"))
    assert again.ap == scores.ap


@pytest.fixture(scope="module")
def nyud2(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """The val split of NYUD2 with its boxes, beside grey images, which are made at once."""
    folder = tmp_path_factory.mktemp("nyud2")
    annotations = real_data / "nyud2-8bit" / "val.json"
    (folder / "rgb").mkdir()
    for entry in json.loads(annotations.read_text())["images"]:
        name = Path(entry["file_name"]).stem + ".jpg"
        (folder / "rgb" / name).symlink_to(real_data / "nyud2-8bit" / "rgb" / name)
    prepare_folder(
        FolderSettings(
            out=folder / "data",
            modalities=("gray",),
            rgb=str(folder / "rgb"),
            annotations={"val": annotations},
            link="sym",
            workers=1,
        )
    )
    return PreparedData.open(folder / "data")


@pytest.mark.real
@pytest.mark.parametrize("metric", ["voc", "coco"])
def test_perfect_detections_of_real_objects_score_100_for_every_class(
    metric: str, nyud2: PreparedData, tmp_path: Path
) -> None:
    write_detections(tmp_path / "x.json", perfect(nyud2, "val"), nyud2, "val")
    back = read_detections(tmp_path / "x.json", nyud2, "val")
    scores = score_detections(nyud2, "val", back, metric=metric)
    assert len(nyud2.classes) == 19
    assert scores.classes_without_objects == ()
    assert list(scores.ap.values()) == pytest.approx([100.0] * 19)


@pytest.mark.real
def test_real_file_scores_as_its_arrays_and_near_coco_at_iou_one_half(nyud2: PreparedData, tmp_path: Path) -> None:
    there = shaken(nyud2, "val")
    write_detections(tmp_path / "x.json", there, nyud2, "val")
    back = read_detections(tmp_path / "x.json", nyud2, "val")
    ours, again = (score_detections(nyud2, "val", each) for each in (there, back))
    assert ours.ap == again.ap
    coco = score_detections(nyud2, "val", there, metric="coco").to_dict()
    assert 1 < ours.mAP < 99
    assert coco["AP50"] == pytest.approx(ours.mAP, abs=1)
