"""Promises of drawn filters: before is before, figures are right, any number of channels can be seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_runs

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.models.backbones import build
from xmodal_cli.models.inputs import CAFFE_INPUT
from xmodal_cli.pictures.filters import FilterComparison, compare_filters, draw_filters, filters_of, mosaic, stretch
from xmodal_cli.runs.folder import RunFolder, open_run
from xmodal_cli.transfer.build import TEACHER_SEED
from xmodal_cli.transfer.distill import distill


def test_start_of_a_transfer_is_the_random_network_of_its_seed(transferred: RunFolder) -> None:
    compared = compare_filters(transferred)
    expected = build("squeezenet1_1", seed=0).module.features[0].weight.detach().numpy()
    assert np.array_equal(compared.start.weights, expected)
    now = tiny_runs.student(transferred.path)["features.0.weight"].numpy()
    assert np.array_equal(compared.now.weights, now)
    change = np.linalg.norm(now - expected) / np.linalg.norm(expected)
    assert compared.relative_change == pytest.approx(change, rel=1e-5)
    assert 0 < change < 1
    assert compared.correlation_to_start > 0.9
    assert abs(compared.correlation_to_teacher) < 0.2  # a stranger: another random network


def test_start_of_a_student_that_began_as_its_teacher_is_its_teacher(tiny_data: PreparedData, tmp_path: Path) -> None:
    asked = tiny_runs.settings(tiny_data, init="teacher", iterations=1)
    run = open_run(distill(asked, runs=tmp_path, name="copy").run)
    teacher = build("squeezenet1_1", seed=TEACHER_SEED).module.features[0].weight.detach().numpy()
    compared = compare_filters(run)
    assert compared.start.title == "start: teacher"
    assert np.array_equal(compared.start.weights, teacher)
    assert compared.correlation_to_teacher > 0.9


def test_untouched_filters_moved_by_nothing(detecting: RunFolder, transferred: RunFolder) -> None:
    compared = compare_filters(detecting)
    assert compared.relative_change == 0
    assert compared.correlation_to_start == pytest.approx(1, abs=1e-9)
    assert compared.start.title == f"start: {transferred.path.name}"


def test_teacher_of_a_detector_is_the_one_of_the_student_it_began_with(
    detecting: RunFolder, transferred: RunFolder
) -> None:
    one, other = compare_filters(detecting).teacher, compare_filters(transferred).teacher
    assert one is not None
    assert other is not None
    assert np.array_equal(one.weights, other.weights)


@pytest.mark.parametrize(("channels", "mosaics"), [(1, 1), (3, 4), (5, 5)])
def test_any_number_of_channels_is_drawn(channels: int, mosaics: int) -> None:
    filters = filters_of(build("squeezenet1_0", in_channels=channels), "it", "thermal")
    assert filters.weights.shape == (96, channels, 7, 7)
    picture = draw_filters(FilterComparison("conv1", filters, filters))
    one = mosaic(stretch(filters.weights)[:, :1])
    assert one.shape[0] * mosaics < picture.shape[0] < (one.shape[0] + 40) * mosaics + 100
    assert (picture[..., 0] != picture[..., 1]).any() == (channels == 3)  # colour only where there are three


def test_filters_of_a_network_that_wants_blue_first_are_in_the_order_of_the_image() -> None:
    network = replace(build("squeezenet1_1"), input=CAFFE_INPUT)
    plain = network.module.get_submodule("features.0").weight.detach().numpy()
    assert np.array_equal(filters_of(network, "it", "rgb").weights, plain[:, ::-1])


def test_every_weight_of_a_mosaic_is_a_square_of_its_value() -> None:
    weights = np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2)
    drawn = mosaic(stretch(weights))
    times = (drawn.shape[1] - 2) // 4  # two filters of two weights, a gap of two pixels
    assert drawn[0, 0].tolist() == [0, 0, 0]
    assert drawn[times, 0].tolist() == [170] * 3  # the third of four evenly spaced weights
    assert drawn[-1, -1].tolist() == [255] * 3


def test_unfinished_run_and_run_without_its_start_are_told(runs: Path) -> None:
    moved = runs / "distill" / "student"
    moved.rename(runs / "distill" / "elsewhere")
    (runs / "distill" / "elsewhere" / "card.json").unlink()
    with pytest.raises(DataError, match="not finished"):
        compare_filters(open_run(runs / "distill" / "elsewhere"))


def test_run_of_another_command_has_no_filters(runs: Path) -> None:
    config = runs / "distill" / "student" / "config.yaml"
    config.write_text(config.read_text().replace("command: distill", "command: evaluate"))
    with pytest.raises(SettingsError, match="leaves no network"):
        compare_filters(open_run(runs / "distill" / "student"))
