"""Promises of the losses, the normalisation, and explained variance: known values."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from xmodal_cli.errors import SettingsError
from xmodal_cli.transfer import normalise
from xmodal_cli.transfer.losses import LOGISTIC_THRESHOLD, LOSSES
from xmodal_cli.transfer.normalise import SMALLEST_SHARE, FeatureStatistics, FeatureSums
from xmodal_cli.transfer.points import TransferPoint, parse
from xmodal_cli.transfer.task import ResidualSums


def maps(*values: float) -> Tensor:
    """One image, one cell, a channel for each value."""
    return torch.tensor(values).view(1, -1, 1, 1)


@pytest.mark.parametrize(
    ("loss", "student", "teacher", "expected"),
    [
        ("l2", (1, 2), (3, 2), 2.0),
        ("smooth-l1", (0.5, 3), (0, 0), (0.125 + 2.5) / 2),
        ("cosine", (1, 0), (0, 5), 1.0),
        ("cosine", (2, 2), (5, 5), 0.0),
        ("logistic", (0, 0), (0, 9), 0.693147),
    ],
)
def test_losses_have_known_values(
    loss: str, student: tuple[float, ...], teacher: tuple[float, ...], expected: float
) -> None:
    value = LOSSES[loss](maps(*map(float, student)), maps(*map(float, teacher)))
    assert value.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_do_not_grow_with_the_map(loss: str) -> None:
    student, teacher = torch.randn(2, 5, 3, 3), torch.rand(2, 5, 3, 3)
    larger = LOSSES[loss](student.repeat(1, 1, 2, 2), teacher.repeat(1, 1, 2, 2))
    assert larger.item() == pytest.approx(LOSSES[loss](student, teacher).item(), rel=1e-5)


def test_logistic_pulls_up_where_the_teacher_is_active_and_down_elsewhere() -> None:
    student = torch.zeros(1, 2, 1, 1, requires_grad=True)
    LOSSES["logistic"](student, maps(LOGISTIC_THRESHOLD + 0.1, LOGISTIC_THRESHOLD - 0.1)).backward()
    assert student.grad is not None
    active, silent = student.grad.flatten().tolist()
    assert active < 0 < silent


def statistics_of(*batches: Tensor) -> FeatureStatistics:
    sums = FeatureSums()
    for batch in batches:
        sums.add(batch)
    return sums.statistics()


def test_statistics_do_not_depend_on_how_pairs_are_batched() -> None:
    features = torch.randn(6, 4, 5, 7).relu() * torch.tensor([0.01, 1, 10, 100]).view(1, 4, 1, 1)
    whole, parts = statistics_of(features), statistics_of(features[:1], features[1:4], features[4:])
    torch.testing.assert_close(whole.std, parts.std)
    torch.testing.assert_close(whole.std, features.std((0, 2, 3), unbiased=False))
    torch.testing.assert_close(whole.mean, features.mean((0, 2, 3)))
    assert whole.mean_norm == pytest.approx(features.norm(dim=1).mean().item(), rel=1e-5)
    assert whole.smallest == 0


def test_channel_normalisation_gives_unit_variance() -> None:
    features = torch.randn(8, 3, 16, 16) * torch.tensor([1.0, 1.0, 1.0]).view(1, 3, 1, 1) * 7
    found = statistics_of(features)
    spread = (features / found.divisor("channel").view(1, 3, 1, 1)).std((0, 2, 3), unbiased=False)
    torch.testing.assert_close(spread, torch.full((3,), 1 / (1 + SMALLEST_SHARE)), rtol=0.02, atol=0)


def test_scale_makes_the_mean_norm_one_per_channel() -> None:
    features = torch.rand(8, 9, 4, 4) * 50
    scaled = features / statistics_of(features).divisor("scale").view(1, 9, 1, 1)
    assert scaled.norm(dim=1).mean().item() == pytest.approx(3.0, rel=1e-5)


def test_silent_channel_is_not_blown_up() -> None:
    features = torch.cat([torch.zeros(4, 1, 8, 8), torch.randn(4, 1, 8, 8)], 1)
    divisor = statistics_of(features).divisor("channel")
    assert divisor[0] >= SMALLEST_SHARE * 0.5 * features[:, 1].std() * 0.99


def test_none_leaves_features_alone() -> None:
    assert statistics_of(torch.rand(2, 3, 2, 2)).divisor("none").tolist() == [1, 1, 1]


def test_sign_of_the_features_decides_about_the_adapters_relu() -> None:
    assert statistics_of(torch.rand(1, 2, 2, 2)).non_negative
    assert not statistics_of(torch.rand(1, 2, 2, 2) - 0.5).non_negative


def test_saved_statistics_come_back_exactly(tmp_path: Path) -> None:
    points = [statistics_of(torch.randn(2, channels, 4, 4)) for channels in (3, 5)]
    normalise.save(tmp_path / "statistics.safetensors", points)
    for before, after in zip(points, normalise.load(tmp_path / "statistics.safetensors", 2), strict=True):
        for how in normalise.NORMALISATIONS:
            assert torch.equal(before.divisor(how), after.divisor(how))
        assert (before.mean_norm, before.smallest) == (after.mean_norm, after.smallest)


def explained(student: Tensor, teacher: Tensor) -> float:
    sums = ResidualSums()
    for half in (slice(0, 3), slice(3, None)):
        sums.add(student[half], teacher[half])
    return sums.explained_variance()


def test_explained_variance_is_one_for_a_perfect_student_and_zero_for_the_channel_means() -> None:
    teacher = torch.randn(7, 4, 5, 6) * torch.tensor([1, 5, 0.1, 3]).view(1, 4, 1, 1) + 2
    assert explained(teacher, teacher) == 1
    means = teacher.mean((0, 2, 3), keepdim=True).expand_as(teacher)
    assert explained(means, teacher) == pytest.approx(0, abs=1e-6)
    assert explained(-teacher, teacher) < 0


def test_explained_variance_has_a_known_value() -> None:
    teacher = torch.tensor([0.0, 2.0, 0.0, 2.0]).view(4, 1, 1, 1)
    assert explained(teacher * 0.5 + 0.5, teacher) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("conv3:conv4=0.5", TransferPoint("conv3", "conv4", 0.5)),
        ("pool5", TransferPoint("pool5", "pool5", 1.0)),
        (" a.b.c=2 ", TransferPoint("a.b.c", "a.b.c", 2.0)),
    ],
)
def test_transfer_points_are_read_as_written(text: str, expected: TransferPoint) -> None:
    assert parse(text) == expected
    assert parse(str(expected)) == expected


@pytest.mark.parametrize("text", ["", ":", "a:", "a=", "a=x", "a=0", "a=-1", "a=inf", "a=nan", "a:b:c", "a=1=2"])
def test_malformed_transfer_points_are_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        parse(text)
