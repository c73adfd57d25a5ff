"""Promises of the baseline of zero-shot detection: the detector as it is, shown something else."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_detectors
import torch
from tiny_detectors import with_proposals

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.assembly import modality_info
from xmodal_cli.detect.branches import Trained, load_trained
from xmodal_cli.detect.finetune import finetune
from xmodal_cli.detect.run_detection import Looking, detect_together
from xmodal_cli.detect.run_evaluation import evaluate_runs, learned_from
from xmodal_cli.detect.unadapted import show_unadapted
from xmodal_cli.errors import SettingsError
from xmodal_cli.models.detector_files import read_detector
from xmodal_cli.runs.folder import RunFolder, open_run


@pytest.fixture(scope="module")
def data(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return with_proposals(tiny_data, tmp_path_factory.mktemp("unadapted") / "data")


@pytest.fixture(scope="module")
def detector(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A detector on RGB that finds something; nobody may change it."""
    chosen = tiny_detectors.settings(data, modality="rgb", iterations=20, lr=0.005, regions=32)
    return load_trained(open_run(finetune(chosen, runs=tmp_path_factory.mktemp("runs"), name="rgb").run))


def found_by(run: RunFolder, data: PreparedData) -> Any:
    return detect_together([run], data, data.ids("val"), Looking(device="cpu")).detections


def test_shown_colour_it_finds_what_the_detector_finds(data: PreparedData, detector: Trained, tmp_path: Path) -> None:
    same = found_by(show_unadapted(detector, data, "rgb", runs=tmp_path), data)
    own = found_by(detector.run, data)
    assert len(own) > 0
    assert np.array_equal(same.boxes_xyxy, own.boxes_xyxy)
    assert np.array_equal(same.scores, own.scores)


def test_shown_another_modality_it_looks_at_that(data: PreparedData, detector: Trained, tmp_path: Path) -> None:
    run = show_unadapted(detector, data, "disparity", runs=tmp_path)
    assert run.card()["branches"][0]["modality"] == "disparity"
    other, own = found_by(run, data), found_by(detector.run, data)
    assert len(other) != len(own) or not np.array_equal(other.scores, own.scores)


def test_scored_on_another_data_set_nothing_is_said_of_images_that_it_did_not_learn_from(
    data: PreparedData, detector: Trained, tmp_path: Path
) -> None:
    shutil.copytree(data.root, tmp_path / "other")
    other = PreparedData.open(tmp_path / "other")
    here, there = (
        show_unadapted(detector, each, "disparity", runs=tmp_path, name=each.root.name) for each in (data, other)
    )
    assert learned_from(here, data, "train") == [f"data learned from {len(data.ids('train'))} of the 22 images scored."]
    assert learned_from(there, other, "train") == []
    fewer = replace(other, splits=("val",))
    assert evaluate_runs([there], fewer, split="val", device="cpu", root=tmp_path).notes == ()


def test_command_scores_a_detector_without_student(
    data: PreparedData, detector: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"zero-shot --detector {detector.run.path} --data {data.root} --runs {tmp_path} --device cpu --json"
    assert xmodal([*words.split(), "--modality", "disparity"]) == 0
    assert '"zero_shot"' in capsys.readouterr().out
    assert xmodal(words.split()) == SettingsError.exit_code
    assert "--student RUN" in capsys.readouterr().out


def test_an_image_of_one_channel_is_shown_as_a_grey_one(data: PreparedData, detector: Trained, tmp_path: Path) -> None:
    """Exact up to the edge of the map: a network pads with the value that each channel's own mean becomes."""
    gray = replace(data, modalities={**data.modalities, "gray": modality_info("gray")})
    run = show_unadapted(detector, gray, "gray", runs=tmp_path)
    described = run.card()["branches"][0]
    shown, backbone = read_detector(run.path, described, len(detector.classes))
    assert (described["backbone"]["in_channels"], described["backbone"]["input"]["range"]) == (1, [0.0, 255.0])
    pixels = torch.randint(0, 256, (1, 1, 96, 96), generator=torch.Generator().manual_seed(0))
    colour = detector.branches[0].detector
    grey_spec = replace(colour.input, mean=backbone.input.mean * 3, std=backbone.input.std * 3)
    with torch.no_grad():
        expected = colour.maps(grey_spec.normalise(pixels.repeat(1, 3, 1, 1)))
        found = shown.eval().maps(shown.input.normalise(pixels))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_modality_of_other_channels_needs_a_student(data: PreparedData, detector: Trained, tmp_path: Path) -> None:
    five = replace(modality_info("gray"), channels=5)
    with pytest.raises(SettingsError, match="looks at 3 channels, and radar has 5"):
        show_unadapted(detector, replace(data, modalities={**data.modalities, "radar": five}), "radar", runs=tmp_path)
    assert not any(tmp_path.iterdir())
