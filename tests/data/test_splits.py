from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmodal_cli.data.splits import check_scenes, divide, read_names, read_scenes, write_scenes, write_split
from xmodal_cli.errors import DataError, SettingsError

names = st.lists(st.text("abc0123", min_size=1, max_size=4), min_size=2, max_size=60, unique=True)
shares = st.floats(0.01, 0.99)


@given(names, shares)
def test_parts_are_disjoint_complete_and_never_empty(ids, fraction):
    fit, held = divide(ids, fraction)
    assert sorted(fit + held) == sorted(ids)
    assert fit
    assert held


@given(names, shares, st.integers(2, 6))
def test_scenes_are_never_divided(ids, fraction, count):
    scenes = {name: f"scene{index % count}" for index, name in enumerate(ids)}
    fit, held = divide(ids, fraction, scenes)
    assert fit
    assert held
    assert not check_scenes({"fit": fit, "held": held}, scenes)


@given(names, shares, st.randoms())
def test_the_choice_depends_on_the_names_alone(ids, fraction, random):
    shuffled = list(ids)
    random.shuffle(shuffled)
    assert divide(ids, fraction) == divide(shuffled, fraction)


def test_without_scenes_blocks_of_neighbours_are_held_out():
    ids = [f"{number:04d}" for number in range(500)]
    _, held = divide(ids, 0.1)
    borders = sum(int(b) - int(a) != 1 for a, b in itertools.pairwise(held))
    assert len(held) == 50
    assert borders == 4


def test_one_scene_alone_is_divided_by_blocks():
    fit, held = divide(["a", "b", "c"], 0.3, dict.fromkeys("abc", "kitchen"))
    assert (fit, held) == (["a", "c"], ["b"])


def test_a_single_image_stays_on_the_first_side():
    assert divide(["a"], 0.5) == (["a"], [])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(fraction):
    with pytest.raises(SettingsError):
        divide(["a", "b"], fraction)


def test_a_scene_in_two_splits_is_named_once():
    scenes = {"a": "kitchen", "b": "kitchen", "c": "hall"}
    assert check_scenes({"train": ["a", "c"], "val": ["b"]}, scenes) == [
        "Scene 'kitchen' is in the splits train and val ('a' and 'b')."
    ]


def test_split_and_scene_files_come_back_as_written(tmp_path):
    write_split(tmp_path, "train", ["b", "a/1"])
    write_scenes(tmp_path, {"b": "hall, upper", "a/1": "kitchen"})
    assert read_names(tmp_path / "splits/train.txt") == ["a/1", "b"]
    assert read_scenes(tmp_path / "scenes.csv") == {"a/1": "kitchen", "b": "hall, upper"}


@pytest.mark.parametrize("text", ["a\n", "a,b,c\n", "a,\n", "a,x\na,y\n"])
def test_scene_files_with_a_wrong_line_are_refused_by_line(tmp_path, text):
    (tmp_path / "scenes.csv").write_text(text)
    with pytest.raises(DataError, match="line"):
        read_scenes(tmp_path / "scenes.csv")


def test_comments_and_blank_lines_in_split_files_are_no_names(tmp_path):
    (tmp_path / "val.txt").write_text("# by hand\n\n 5001 \n")
    assert read_names(tmp_path / "val.txt") == ["5001"]
