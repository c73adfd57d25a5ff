"""Promises of the proposal store: what is written is read, whole or not at all, lazily, and by any process."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as some
import numpy as np
import pytest
from numpy.typing import NDArray
from rigs import make_rig, prepared, tree

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import Proposals, open_proposals, require, stored_methods, write_proposals
from xmodal_cli.errors import DataError, SettingsError

KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
import numpy as np
from xmodal_cli.data.proposals import write_proposals

def boxes():
    yield "a", np.array([[0, 0, 4, 4]] * 5000)
    os.kill(os.getpid(), signal.SIGKILL)

write_proposals(Path(sys.argv[1]), "mine", boxes(), {}, overwrite=True)
"""


def boxes_of(count: int, seed: int = 0) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    begin = random.uniform(0, 50, (count, 2))
    return np.hstack([begin, begin + random.uniform(0.5, 40, (count, 2))]).astype(np.float32)


@pytest.fixture
def data(tmp_path: Path) -> PreparedData:
    return prepared(make_rig(tmp_path / "rig"), tmp_path / "data")


@hypothesis.given(some.lists(some.integers(0, 30), max_size=12))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, counts: list[int]) -> None:
    written = {f"hall {n}/ü{n}": boxes_of(count, n) for n, count in enumerate(counts)}
    stored = write_proposals(tmp_path_factory.mktemp("store"), "mine", written.items(), {})
    assert stored.ids == tuple(written)
    for identifier, boxes in written.items():
        assert np.array_equal(stored[identifier], boxes)
        assert np.array_equal(stored.boxes(identifier, most=7), boxes[:7])
    assert stored.description["counts"]["boxes"] == sum(counts)
    assert stored.description["counts"]["images_without_boxes"] == counts.count(0)


def test_files_are_plain_numpy_and_text(data: PreparedData) -> None:
    write_proposals(data.root, "mine", [("a", boxes_of(3)), ("b", boxes_of(0)), ("c", boxes_of(2, 1))], {"settings": 1})
    folder = data.root / "proposals" / "mine"
    assert np.array_equal(np.load(folder / "boxes.npy"), np.vstack([boxes_of(3), boxes_of(2, 1)]))
    assert np.load(folder / "offsets.npy").tolist() == [0, 3, 3, 5]
    assert (folder / "ids.txt").read_text() == "a\nb\nc\n"
    document = json.loads((folder / "proposals.json").read_text())
    assert document["method"] == "mine"
    assert document["settings"] == 1
    assert {"made", "xmodal", "counts", "sha256"} <= document.keys()


def test_the_only_proposals_are_opened_without_a_name(data: PreparedData) -> None:
    write_proposals(data.root, "mine", [("a", boxes_of(3))], {})
    assert open_proposals(data).method == "mine"
    assert stored_methods(data) == ["mine"]


def test_the_hash_is_of_the_content_alone(data: PreparedData) -> None:
    hashes = [
        write_proposals(
            data.root, name, [("a", boxes_of(3, seed)), (other, boxes_of(1))], {"settings": name}
        ).content_hash
        for name, seed, other in (("one", 0, "b"), ("two", 0, "b"), ("three", 1, "b"), ("four", 0, "c"))
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_what_a_caller_changes_is_its_own(data: PreparedData) -> None:
    stored = write_proposals(data.root, "mine", [("a", boxes_of(3))], {})
    stored["a"][:] = -1
    assert np.array_equal(stored["a"], boxes_of(3))


def test_pickles_without_the_boxes(data: PreparedData) -> None:
    stored = write_proposals(data.root, "mine", [(name, boxes_of(2000)) for name in "abcd"], {})
    assert len(stored["a"]) == 2000  # everything is open now
    pickled = pickle.dumps(stored)
    assert len(pickled) < 2000
    assert np.array_equal(pickle.loads(pickled)["d"], stored["d"])


def test_boxes_are_mapped_not_read(data: PreparedData) -> None:
    stored = write_proposals(data.root, "mine", [("a", boxes_of(3))], {})
    assert isinstance(stored._boxes, np.memmap)


def test_without_proposals_the_command_is_named(data: PreparedData) -> None:
    with pytest.raises(SettingsError) as caught:
        open_proposals(data)
    assert caught.value.hint == f"Make them: xmodal prepare proposals {data.root} --method bottom-up"


def test_several_proposals_want_a_choice(data: PreparedData) -> None:
    for name in ("mine", "yours"):
        write_proposals(data.root, name, [("a", boxes_of(3))], {})
    with pytest.raises(SettingsError, match="mine, yours"):
        open_proposals(data)
    assert open_proposals(data, "yours").method == "yours"
    with pytest.raises(SettingsError, match="mine, yours") as caught:
        open_proposals(data, "your")
    assert "'yours'" in str(caught.value.hint)


def test_missing_images_are_named_with_the_way_on(data: PreparedData) -> None:
    stored = write_proposals(data.root, "mine", [("a", boxes_of(3)), ("b", boxes_of(0))], {"method": "bottom-up"})
    assert stored.missing("abcd") == ["c", "d"]
    require(stored, ["a", "b"])
    with pytest.raises(DataError, match=r"2 of 4 images have no proposals.*'c', 'd'") as caught:
        require(stored, "abcd")
    assert f"prepare proposals {data.root} --method bottom-up --name mine --overwrite" in str(caught.value.hint)
    with pytest.raises(DataError, match="'c'"):
        stored["c"]


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        (np.array([[0, 0, np.nan, 4]]), "NaN"),
        (np.array([[0, 0, np.inf, 4]]), "infinite"),
        (np.array([[0, 0, 4]]), "shape"),
        (np.zeros(4), "shape"),
        (np.array([[3, 0, 3, 4]]), "without area"),
        (np.array([[3, 4, 5, 2]]), "without area"),
    ],
)
def test_bad_boxes_are_refused_and_leave_nothing(data: PreparedData, boxes: NDArray[Any], words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        write_proposals(data.root, "mine", [("a", boxes_of(3)), ("bad", boxes)], {})
    assert "'bad'" in caught.value.message
    assert not list((data.root / "proposals").iterdir())


def test_an_image_given_twice_is_refused(data: PreparedData) -> None:
    with pytest.raises(DataError, match="two lists"):
        write_proposals(data.root, "mine", [("a", boxes_of(3)), ("a", boxes_of(2))], {})


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", " a", "C:x"])
def test_names_that_are_no_folder_are_refused(data: PreparedData, name: str) -> None:
    with pytest.raises(SettingsError, match="no name"):
        write_proposals(data.root, name, [], {})


def test_a_name_that_is_taken_is_refused_before_any_work(data: PreparedData) -> None:
    def boxes() -> Iterator[tuple[str, NDArray[np.float32]]]:
        raise AssertionError("work was begun")
        yield

    write_proposals(data.root, "mine", [("a", boxes_of(3))], {})
    with pytest.raises(SettingsError) as caught:
        write_proposals(data.root, "mine", boxes(), {})
    assert "--overwrite" in str(caught.value.hint)


def test_overwriting_replaces_all_or_nothing(data: PreparedData) -> None:
    write_proposals(data.root, "mine", [("a", boxes_of(3))], {})
    before = tree(data.root / "proposals")
    with pytest.raises(DataError):
        write_proposals(data.root, "mine", [("a", np.full((1, 4), np.nan))], {}, overwrite=True)
    assert tree(data.root / "proposals") == before
    write_proposals(data.root, "mine", [("b", boxes_of(1))], {}, overwrite=True)
    assert open_proposals(data).ids == ("b",)
    assert [path.name for path in (data.root / "proposals").iterdir()] == ["mine"]


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_killed_writer_leaves_what_was_there(data: PreparedData) -> None:
    write_proposals(data.root, "mine", [("a", boxes_of(3))], {})
    done = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(data.root)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert stored_methods(data) == ["mine"]
    assert np.array_equal(open_proposals(data)["a"], boxes_of(3))
    write_proposals(data.root, "mine", [("b", boxes_of(1))], {}, overwrite=True)
    assert [path.name for path in (data.root / "proposals").iterdir()] == ["mine"]


@pytest.mark.parametrize("file", ["boxes.npy", "offsets.npy", "ids.txt", "proposals.json"])
@pytest.mark.parametrize("kind", ["missing", "cut off", "of something else"])
def test_damage_is_named(data: PreparedData, file: str, kind: str) -> None:
    write_proposals(data.root, "mine", [("a", boxes_of(3)), ("b", boxes_of(3))], {})
    path = data.root / "proposals" / "mine" / file
    if kind == "missing":
        path.unlink()
    elif kind == "cut off":
        path.write_bytes(path.read_bytes()[: -max(2, path.stat().st_size // 4)])
    else:
        path.write_bytes({"ids.txt": b"a\n", "proposals.json": b"{}"}.get(file, _npy(np.zeros((5, 3)))))
    with pytest.raises((DataError, SettingsError)) as caught:
        _ = open_proposals(data, "mine")["a"]
    assert caught.value.hint is not None
    assert "prepare proposals" in caught.value.hint or "again" in caught.value.hint


def _npy(array: NDArray[Any]) -> bytes:
    import io

    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_an_empty_store_is_a_store(data: PreparedData) -> None:
    stored = write_proposals(data.root, "mine", [("a", boxes_of(0))], {})
    assert isinstance(stored, Proposals)
    assert stored["a"].shape == (0, 4)
