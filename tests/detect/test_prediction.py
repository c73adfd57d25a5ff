"""Promises of prediction for images of anywhere: the same as in an evaluation, partners found, misfits refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tiny_detectors import METHOD, settings, with_proposals
from tiny_runs import HEIGHT, WIDTH

from xmodal_cli.data.images import write_png
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import open_proposals
from xmodal_cli.detect.branches import Branch, Trained, load_trained
from xmodal_cli.detect.finetune import finetune
from xmodal_cli.detect.predict import detect
from xmodal_cli.detect.prediction import Prediction, predict_images
from xmodal_cli.detect.propose import ProposalSettings, prepare_proposals
from xmodal_cli.errors import DataError, SettingsError, XmodalError
from xmodal_cli.metrics.detections import Detections
from xmodal_cli.runs.folder import open_run

CPU = torch.device("cpu")
MOST = 40  # boxes per image: so few that an evaluation's budget over all images drops none of one image
BOTTOM_UP, GRID = "bottom-up", "grid"


@pytest.fixture(scope="module")
def data(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """The tiny data set with three kinds of proposals: of a file, as it were, of a grid, and of regions."""
    made = with_proposals(tiny_data, tmp_path_factory.mktemp("detection") / "data")
    prepare_proposals(made, ProposalSettings(GRID, most=MOST))
    prepare_proposals(made, ProposalSettings(BOTTOM_UP, most=MOST, workers=1, split="val"))
    return made


@pytest.fixture(scope="module")
def grid_run(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A finished run that learned with the grid."""
    chosen = settings(data, proposals=GRID, iterations=10, lr=0.005)
    return load_trained(open_run(finetune(chosen, runs=tmp_path_factory.mktemp("runs"), name="grid").run))


def learned_with(run: Trained, data: PreparedData, method: str) -> Trained:
    """The same detector, as if it had learned with other proposals."""
    about = {"method": method, "description": dict(open_proposals(data, method).description)}
    return replace(run, proposals=about)


def joint(run: Trained, data: PreparedData) -> Trained:
    """A run of two branches: the detector looks at colour as it looks at disparity."""
    colour = replace(run.branches[0], modality="rgb", encoding=data.modality("rgb").to_dict())
    return replace(run, branches=(*run.branches, colour))


def predicted(run: Trained, *paths: Path, **more: Any) -> list[Prediction]:
    return list(predict_images(run, paths, device="cpu", **more))


def refused(kind: type[XmodalError], run: Trained, *paths: Path, **more: Any) -> str:
    """What is said, hint and all."""
    with pytest.raises(kind) as caught:
        predicted(run, *paths, **more)
    return f"{caught.value} {caught.value.hint}"


def evaluated(branches: Sequence[Branch], data: PreparedData, run: Trained, name: str, method: str) -> Detections:
    """What an evaluation finds in one image, best first."""
    found = detect(branches, data, [name], open_proposals(data, method), run.cutoffs, device=CPU)
    return found[np.argsort(-found.scores, kind="stable")]


def assert_same(one: Detections, other: Detections) -> None:
    assert len(one) == len(other) > 0
    assert np.array_equal(one.labels, other.labels)
    assert np.array_equal(one.scores, other.scores)
    assert np.array_equal(one.boxes_xyxy, other.boxes_xyxy)


@pytest.fixture
def lone(data: PreparedData, tmp_path: Path) -> Path:
    """A copy of an image of the data set, far from it."""
    return Path(shutil.copy(data.path("disparity", data.ids("val")[0]), tmp_path / "lone.png"))


# The same as in an evaluation


@pytest.mark.parametrize("method", [GRID, BOTTOM_UP])
def test_image_of_the_data_set_is_seen_as_in_an_evaluation(method: str, data: PreparedData, grid_run: Trained) -> None:
    """Bottom-up proposals of colour and disparity are made again, so the colour image was found beside."""
    run, ids = learned_with(grid_run, data, method), data.ids("val")[:2]
    found = predicted(run, *(data.path("disparity", name) for name in ids))
    for prediction, name in zip(found, ids, strict=True):
        assert_same(prediction.detections, evaluated(run.branches, data, run, name, method))
        assert prediction.notes == ()
        assert prediction.classes == data.classes
        assert np.array_equal(prediction.image, data.read("disparity", name))


def test_joint_run_sees_both_images_of_the_data_set(data: PreparedData, grid_run: Trained) -> None:
    run, name = joint(grid_run, data), data.ids("val")[0]
    (found,) = predicted(run, data.path("disparity", name))
    assert_same(found.detections, evaluated(run.branches, data, run, name, GRID))


def test_only_as_many_proposals_are_scored_as_in_an_evaluation(data: PreparedData, grid_run: Trained) -> None:
    few = replace(grid_run, cutoffs=replace(grid_run.cutoffs, proposals=5))
    name = data.ids("val")[0]
    (found,) = predicted(few, data.path("disparity", name))
    assert_same(found.detections, evaluated(few.branches, data, few, name, GRID))
    assert len(found.detections) <= 5 * len(data.classes)


def test_detections_come_best_first_and_weak_ones_are_left_out(data: PreparedData, grid_run: Trained) -> None:
    path = data.path("disparity", data.ids("val")[0])
    (every,) = predicted(grid_run, path)
    scores = every.detections.scores
    assert np.all(np.diff(scores) <= 0)
    middle = float(np.median(scores))
    (strong,) = predicted(grid_run, path, least_score=middle)
    assert strong.detections.scores.tolist() == scores[scores >= middle].tolist()
    assert len(strong.detections) < len(scores)


def test_prediction_in_plain_values_has_a_class_a_score_and_a_box_each(data: PreparedData, grid_run: Trained) -> None:
    path = data.path("disparity", data.ids("val")[0])
    (found,) = predicted(grid_run, path)
    plain = json.loads(json.dumps(found.to_dict()))
    assert (plain["image"], plain["height"], plain["width"]) == (str(path), HEIGHT, WIDTH)
    assert len(plain["detections"]) == len(found.detections)
    first = plain["detections"][0]
    assert first["class"] == data.classes[found.detections.labels[0]]
    assert first["score"] == pytest.approx(found.detections.scores[0], abs=1e-4)
    assert first["box_xyxy"] == pytest.approx(found.detections.boxes_xyxy[0].tolist(), abs=0.1)
    boxes = np.array([each["box_xyxy"] for each in plain["detections"]])
    assert boxes.min() >= 0
    assert np.all(boxes.max(0) <= [WIDTH, HEIGHT, WIDTH, HEIGHT])


# Images that lie elsewhere


def test_lone_image_is_searched_by_itself_and_says_so(data: PreparedData, grid_run: Trained, lone: Path) -> None:
    (found,) = predicted(learned_with(grid_run, data, BOTTOM_UP), lone)
    assert found.notes == ("The run's proposals were made from rgb, disparity; here from disparity alone.",)
    assert len(found.detections) > 0


def test_given_partner_makes_a_lone_image_the_same_as_in_its_data_set(
    data: PreparedData, grid_run: Trained, lone: Path
) -> None:
    name = data.ids("val")[0]
    run = joint(learned_with(grid_run, data, BOTTOM_UP), data)
    (found,) = predicted(run, lone, partners={"rgb": data.path("rgb", name)})
    assert_same(found.detections, evaluated(run.branches, data, run, name, BOTTOM_UP))
    assert found.notes == ()


def test_grid_needs_nothing_beside_a_lone_image(data: PreparedData, grid_run: Trained, lone: Path) -> None:
    (found,) = predicted(grid_run, lone)
    assert found.notes == ()
    assert_same(found.detections, evaluated(grid_run.branches, data, grid_run, data.ids("val")[0], GRID))


def test_link_to_an_image_of_the_data_set_brings_its_partners(
    data: PreparedData, grid_run: Trained, tmp_path: Path
) -> None:
    (tmp_path / "link.png").symlink_to(data.path("disparity", data.ids("val")[0]))
    (found,) = predicted(learned_with(grid_run, data, BOTTOM_UP), tmp_path / "link.png")
    assert found.notes == ()


def test_image_that_the_data_set_holds_as_a_link_brings_its_partners(
    data: PreparedData, grid_run: Trained, tmp_path: Path
) -> None:
    shutil.copytree(data.root, tmp_path / "linked")
    linked = PreparedData.open(tmp_path / "linked")
    path = linked.path("disparity", linked.ids("val")[0])
    path.rename(tmp_path / "sensor.png")
    path.symlink_to(tmp_path / "sensor.png")
    (found,) = predicted(learned_with(grid_run, data, BOTTOM_UP), path)
    assert found.notes == ()


def test_description_of_another_program_is_no_data_set(data: PreparedData, grid_run: Trained, lone: Path) -> None:
    (lone.parent / "dataset.json").write_text('{"format": "ours"}')
    (found,) = predicted(grid_run, lone)
    assert len(found.detections) > 0


# Proposals that cannot be made


def test_proposals_of_a_file_cannot_be_made_and_the_hint_can_be_followed(
    data: PreparedData, grid_run: Trained, lone: Path
) -> None:
    run = learned_with(grid_run, data, METHOD)
    assert "--proposals bottom-up" in refused(SettingsError, run, lone)
    for method in (BOTTOM_UP, GRID):
        (found,) = predicted(run, lone, proposals=method)
        assert found.notes == (f"The run learned with the proposals tiny; here they are {method}.",)
        assert len(found.detections) > 0


@pytest.mark.parametrize("method", ["rpn", METHOD, "nonsense"])
def test_proposals_that_need_more_than_an_image_are_refused(method: str, grid_run: Trained, lone: Path) -> None:
    said = refused(SettingsError, grid_run, lone, proposals=method)
    assert method in said
    assert "bottom-up, grid" in said


# Images that do not fit


def test_image_of_another_modality_is_refused(data: PreparedData, grid_run: Trained) -> None:
    path = data.path("rgb", data.ids("val")[0])
    said = refused(SettingsError, grid_run, path, modality="rgb")
    assert "sees disparity, not rgb" in said
    assert predicted(grid_run, data.path("disparity", data.ids("val")[0]), modality="disparity")


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((HEIGHT, WIDTH), np.uint8), f"{HEIGHT} x {WIDTH} x 1 uint8"),
        (np.zeros((HEIGHT, WIDTH, 3), np.uint16), "uint16"),
    ],
)
def test_image_of_other_channels_or_type_is_refused(
    image: np.ndarray[Any, Any], words: str, grid_run: Trained, tmp_path: Path
) -> None:
    write_png(tmp_path / "other.png", image)
    said = refused(DataError, grid_run, tmp_path / "other.png")
    assert words in said
    assert "3 x uint8 (disparity)" in said
    assert "xmodal prepare folder" in said


def test_damaged_and_missing_images_are_named(grid_run: Trained, lone: Path) -> None:
    whole = lone.read_bytes()
    for content, words in ((whole[: len(whole) // 2], "cut off"), (b"", "empty"), (b"no image", "no image")):
        lone.write_bytes(content)
        said = refused(DataError, grid_run, lone)
        assert words in said
        assert str(lone) in said
    lone.unlink()
    assert "does not exist" in refused(DataError, grid_run, lone)
    assert str(lone.parent) in refused(DataError, grid_run, lone.parent)


def test_missing_partner_of_a_joint_run_says_how_to_give_it(data: PreparedData, grid_run: Trained, lone: Path) -> None:
    said = refused(SettingsError, joint(grid_run, data), lone)
    assert "also sees rgb" in said
    assert "--with rgb=FILE" in said
    assert "does not exist" in refused(DataError, joint(grid_run, data), lone, partners={"rgb": lone.parent / "no.png"})


def test_partner_of_another_size_is_refused(grid_run: Trained, lone: Path) -> None:
    small = lone.with_name("small.png")
    cv2.imwrite(str(small), np.zeros((20, 30, 3), np.uint8))
    said = refused(DataError, grid_run, lone, partners={"rgb": small})
    assert f"disparity {HEIGHT}x{WIDTH}, rgb 20x30" in said


def test_partners_belong_to_one_image_and_to_other_modalities(grid_run: Trained, lone: Path) -> None:
    assert "one image" in refused(SettingsError, grid_run, lone, lone, partners={"rgb": lone})
    assert "--with disparity" in refused(SettingsError, grid_run, lone, partners={"disparity": lone})
