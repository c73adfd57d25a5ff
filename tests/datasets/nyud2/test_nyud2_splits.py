"""Promises about the splits of NYU Depth v2: the built-in lists, and files that are compared with them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from xmodal_cli.datasets.nyud2.classes import LABEL_IDS, categories_by_label, class_name
from xmodal_cli.datasets.nyud2.splits import PUBLISHED_SIZES, check_split_file, split_numbers
from xmodal_cli.errors import DataError


def test_splits_have_the_published_sizes_and_share_no_image() -> None:
    numbers = split_numbers()
    assert {split: len(members) for split, members in numbers.items()} == PUBLISHED_SIZES
    assert set().union(*numbers.values()) == set(range(5001, 6450))


def test_the_authors_own_split_file_is_understood(tmp_path: Path) -> None:
    numbers = {name: np.array(sorted(members)) for name, members in split_numbers().items()}
    trainval = np.union1d(numbers["train"], numbers["val"])
    scipy.io.savemat(
        tmp_path / "nyusplits.mat",
        {**{k: numbers[k] for k in ("train", "val")}, "trainval": trainval, "tst": numbers["test"]},
    )
    assert "trainval 795, tst 654" in check_split_file(tmp_path / "nyusplits.mat")


def test_other_splits_are_refused_with_the_difference(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "splits.mat", {"testNdxs": np.arange(1, 655)[:, None]})
    with pytest.raises(DataError, match=r"testNdxs is not test .* are not in ours \(5003, 5004, 5005, \.\.\.\)"):
        check_split_file(tmp_path / "splits.mat")


@pytest.mark.parametrize("content", [None, b"garbage", b""])
def test_what_is_no_split_file_is_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "splits.mat").write_bytes(content)
    with pytest.raises(DataError):
        check_split_file(tmp_path / "splits.mat")


def test_a_split_file_of_another_version_of_matlab_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "splits.mat", "w", userblock_size=512) as file:
        file["trainNdxs"] = np.arange(3)
    heading = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    with (tmp_path / "splits.mat").open("r+b") as handle:
        handle.write(heading)
    with pytest.raises(DataError, match=r"is a MATLAB 7\.3 file; expected version 5 to 7") as caught:
        check_split_file(tmp_path / "splits.mat")
    assert "'-v7'" in str(caught.value.hint)


def test_a_file_without_splits_says_what_was_expected(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "splits.mat", {"boxes": [1, 2]})
    with pytest.raises(DataError, match="none of trainNdxs, testNdxs, train"):
        check_split_file(tmp_path / "splits.mat")


@pytest.mark.real
def test_the_official_file_agrees(real_data: Path) -> None:
    assert "trainNdxs 795, testNdxs 654" in check_split_file(real_data / "nyud2-metadata/splits.mat")


@pytest.mark.real
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_public_lists_of_the_same_splits_agree(real_data: Path, split: str) -> None:
    listed = {int(word) for word in (real_data / f"nyud2-metadata/{split}.txt").read_text().split()}
    assert listed == split_numbers()[split]


@pytest.mark.real
def test_label_ids_are_those_of_the_published_list(real_data: Path) -> None:
    found = scipy.io.loadmat(real_data / "nyud2-metadata/classMapping40.mat", simplify_cells=True)["allClassName"]
    assert {class_name(found[label - 1]) for label in LABEL_IDS.values()} == set(LABEL_IDS)
    assert set(categories_by_label(list(found), "classMapping40.mat")) == set(LABEL_IDS.values())
