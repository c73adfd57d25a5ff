"""Promises of the probe's result record."""

from __future__ import annotations

import numpy as np
import pytest

from xmodal_cli.metrics.results import ProbeResult, SeedScore


def result(hits: list[float], images: list[int], *accuracies: float) -> ProbeResult:
    seeds = tuple(SeedScore(number, value, value / 2) for number, value in enumerate(accuracies))
    return ProbeResult(seeds, ("sofa",), 99, np.array(hits, np.float32), np.array(images))


def test_figures_are_means_over_seeds() -> None:
    found = result([1, 0], [0, 1], 40.0, 50.0, 60.0)
    assert (found.accuracy, found.class_mean_accuracy) == (50.0, 25.0)


@pytest.mark.parametrize("seed", range(5))
def test_interval_contains_the_accuracy_and_narrows_with_more_images(seed: int) -> None:
    widths = []
    for images in (40, 640):
        hits = np.random.default_rng(seed).random(2 * images) < 0.6
        found = result(hits.tolist(), [n // 2 for n in range(2 * images)], 100 * float(hits.mean()))
        low, high = found.interval()
        assert low <= found.accuracy <= high
        widths.append(high - low)
    assert widths[1] < 0.5 * widths[0]


def test_interval_draws_whole_images_since_their_regions_belong_together() -> None:
    alike = result([1.0] * 50 + [0.0] * 50, [n // 50 for n in range(100)], 50.0)
    apart = result([1.0] * 50 + [0.0] * 50, list(range(100)), 50.0)
    assert alike.interval() == (0.0, 100.0)
    assert apart.interval()[0] > 35


def test_interval_is_the_same_every_time() -> None:
    found = result([1, 0, 1, 1], [0, 1, 2, 3], 75.0)
    assert found.interval() == found.interval()


def test_document_holds_what_the_contract_names() -> None:
    probe = result([1, 0], [0, 1], 40.0, 50.0).to_dict()["probe"]
    assert isinstance(probe, dict)
    assert probe["accuracy"] == 45.0
    assert [seed["accuracy"] for seed in probe["seeds"]] == [40.0, 50.0]
    assert probe["regions"] == {"learned": 99, "scored": 2}
    assert probe["classes_without_objects"] == ["sofa"]
    assert len(probe["interval_95"]) == 2
