"""Promises of feature pictures: the same features have the same colours, figures are those of the training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.errors import SettingsError
from xmodal_cli.pictures.eyes import View, ids_to_look_at, open_view
from xmodal_cli.pictures.features import as_colours, draw_features, find_basis, look_at_features
from xmodal_cli.runs.folder import RunFolder


@pytest.fixture(scope="module")
def view(transferred: RunFolder, proposed: PreparedData) -> View:
    return open_view(transferred, proposed)


def test_student_that_is_its_teacher_has_its_colours(view: View) -> None:
    found = look_at_features(replace(view, own=view.teacher), 2)
    assert np.array_equal(found.student, found.teacher)
    assert found.explained == pytest.approx([1.0, 1.0])


def test_explained_variance_is_that_of_the_training(view: View, proposed: PreparedData) -> None:
    held_out = tuple(proposed.hold_out("train", 0.1)[1])
    found = look_at_features(replace(view, ids=held_out))
    expected = view.subject.card["metrics"]["explained_variance"]
    assert found.explained_variance == pytest.approx(expected, abs=1e-4)


def test_a_row_a_pair_and_the_same_picture_twice(view: View) -> None:
    one, two = look_at_features(view, 1), look_at_features(view, 2)
    pictures = [draw_features(view, each) for each in (one, two, look_at_features(view, 2))]
    assert pictures[1].shape[0] - pictures[0].shape[0] > 150
    assert np.array_equal(pictures[1], pictures[2])


def test_directions_are_orthonormal_and_their_shares_fall() -> None:
    vectors = np.random.default_rng(0).normal(size=(200, 5)) * [5, 3, 2, 1, 0.1]
    basis = find_basis(vectors)
    assert np.allclose(basis.directions @ basis.directions.T, np.eye(3))
    assert list(basis.shares) == sorted(basis.shares, reverse=True)
    assert sum(basis.shares) < 1


def test_a_cell_covers_its_part_of_the_picture() -> None:
    values = np.array([[[0.0, 0, 0], [1, 1, 1]], [[2, 2, 2], [4, 4, 4]]])
    drawn = as_colours(values, np.zeros(3), np.full(3, 4.0), (8, 6))
    assert drawn[3, 2].tolist() == [0] * 3
    assert drawn[3, 3].tolist() == [64] * 3
    assert drawn[4, 0].tolist() == [128] * 3
    assert drawn[7, 5].tolist() == [255] * 3


def test_layer_without_a_teacher_is_refused(transferred: RunFolder, proposed: PreparedData) -> None:
    alone = open_view(transferred, proposed, layer="features.3")
    with pytest.raises(SettingsError, match="no transfer point"):
        look_at_features(alone)


def test_pairs_that_were_trained_on_are_not_looked_at(proposed: PreparedData) -> None:
    assert ids_to_look_at(proposed, None, "train") == proposed.ids("val")
    without = replace(proposed, splits=("train",))
    assert ids_to_look_at(without, None, "train") == proposed.hold_out("train")[1]
    with pytest.raises(SettingsError, match="no split 'vall'"):
        ids_to_look_at(proposed, "vall", "train")
