"""Promises of imported proposals: all layouts give the same boxes, nothing wraps or runs, every loss is counted."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray
from rigs import HEIGHT, WIDTH, make_rig, prepared, write_annotations

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.proposals.files import READERS, read_proposal_file
from xmodal_cli.datasets.proposals.importing import fit_to_data, match_images, swap_suspicion
from xmodal_cli.errors import DataError, SettingsError

# xyxy from 0, exclusive ends; whole numbers, so that every layout can hold them.
BOXES = {
    "a": np.array([[0, 0, 12, 11], [2, 3, 30, 20], [5, 5, 6, 6]], np.float32),
    "b": np.array([[1, 0, 32, 24]], np.float32),
    "c": np.zeros((0, 4), np.float32),
}


def cells(items: list[Any]) -> NDArray[Any]:
    array = np.empty((1, len(items)), object)
    array[0, :] = items
    return array


def matlab(boxes: NDArray[np.float32]) -> NDArray[np.uint16]:
    return (boxes[:, [1, 0, 3, 2]] + [1, 1, 0, 0]).astype(np.uint16)


def write_mat(path: Path, first: str = "bboxes", second: str = "imnames") -> None:
    scipy.io.savemat(path, {first: cells([matlab(boxes) for boxes in BOXES.values()]), second: cells(list(BOXES))})


def write_npz(path: Path) -> None:
    np.savez(path, **BOXES)


def write_packed(path: Path) -> None:
    np.savez(path, boxes=np.vstack(list(BOXES.values())), offsets=[0, 3, 4, 4], ids=list(BOXES))


def write_json(path: Path) -> None:
    path.write_text(json.dumps({name: boxes.tolist() for name, boxes in BOXES.items()}))


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(BOXES))


WRITERS: list[tuple[str, Any]] = [
    ("mcg.mat", write_mat),
    ("selective_search.mat", lambda path: write_mat(path, "boxes", "images")),
    ("arrays.npz", write_npz),
    ("packed.npz", write_packed),
    ("lists.json", write_json),
    ("arrays.pkl", write_pickle),
]


@pytest.fixture
def data(tmp_path: Path) -> PreparedData:
    return prepared(make_rig(tmp_path / "rig"), tmp_path / "data")


@pytest.fixture
def annotated(tmp_path: Path) -> PreparedData:
    rig = make_rig(tmp_path / "rig")
    labels = write_annotations(tmp_path / "val.json", ["a", "b"])
    return prepared(rig, tmp_path / "data", annotations={"val": labels})


@pytest.mark.parametrize(("name", "write"), WRITERS, ids=[name for name, _ in WRITERS])
def test_every_layout_gives_the_same_boxes(tmp_path: Path, name: str, write: Any) -> None:
    write(tmp_path / name)
    read = read_proposal_file(tmp_path / name).boxes_xyxy
    assert read.keys() == BOXES.keys()
    for image, boxes in BOXES.items():
        assert np.array_equal(read[image], boxes)
        assert read[image].dtype == np.float32


def test_unsigned_values_never_wrap(tmp_path: Path) -> None:
    scipy.io.savemat(
        tmp_path / "zero.mat", {"bboxes": cells([np.array([[0, 0, 9, 9]], np.uint16)]), "imnames": cells(["a"])}
    )
    assert read_proposal_file(tmp_path / "zero.mat").boxes_xyxy["a"].tolist() == [[-1, -1, 9, 9]]


def test_coco_results_are_sorted_by_score_and_named_by_image_id(tmp_path: Path, annotated: PreparedData) -> None:
    entries = [
        {"image_id": image, "bbox": [x, 1, 4, 5], "score": score, "category_id": 1}
        for image, x, score in ((101, 2, 0.1), (101, 3, 0.9), (100, 4, 0.5))
    ]
    (tmp_path / "results.json").write_text(json.dumps(entries))
    fitted = fit_to_data(read_proposal_file(tmp_path / "results.json"), annotated, annotated.all_ids)
    assert fitted.boxes_xyxy["b"].tolist() == [[3, 1, 7, 6], [2, 1, 6, 6]]
    assert fitted.boxes_xyxy["a"].tolist() == [[4, 1, 8, 6]]
    assert fitted.counts["ids_without"] == 2


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("keys", [("ids", "objectness_logits"), ("indexes", "scores")])
def test_detectron_pickles_are_sorted_by_score(tmp_path: Path, protocol: int, keys: tuple[str, str]) -> None:
    document = {
        "boxes": list(BOXES.values()),
        keys[0]: np.array([7, 8, 9]),
        keys[1]: [np.array([0.1, 0.3, 0.2], np.float32), np.array([1.0]), np.zeros(0)],
    }
    (tmp_path / "d.pkl").write_bytes(pickle.dumps(document, protocol))
    read = read_proposal_file(tmp_path / "d.pkl").boxes_xyxy
    assert list(read) == [7, 8, 9]
    assert np.array_equal(read[7], BOXES["a"][[1, 2, 0]])


class Malicious:
    def __init__(self, function: Any, *words: str) -> None:
        self.call = function, words

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("hidden", [False, True], ids=["plain", "among boxes"])
def test_a_malicious_pickle_is_refused_and_never_run(tmp_path: Path, hidden: bool) -> None:
    import os

    trace = tmp_path / "trace"
    attack = Malicious(os.system, f"touch {trace}")
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps({"a": BOXES["a"], "b": [attack]} if hidden else attack))
    with pytest.raises(DataError, match=r"asks for .*system") as caught:
        read_proposal_file(tmp_path / "bad.pkl")
    assert "Nothing of it was run" in str(caught.value.hint)
    assert not trace.exists()


@pytest.mark.parametrize("function", [eval, exec, getattr, np.load, np.fromfile, pickle.loads, open, __import__])
def test_no_function_is_called(tmp_path: Path, function: Any) -> None:
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(Malicious(function, "1")))
    with pytest.raises(DataError, match="asks for"):
        read_proposal_file(tmp_path / "bad.pkl")


def test_arrays_of_foreign_objects_are_refused(tmp_path: Path) -> None:
    objects = np.empty(1, object)
    objects[0] = Path("a")
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps({"a": objects}))
    with pytest.raises(DataError, match="asks for"):
        read_proposal_file(tmp_path / "bad.pkl")


def test_a_file_of_one_image_is_named_by_the_file_or_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "b_boxes.mat"
    scipy.io.savemat(path, {"boxes": np.array([[0, 0, 9, 7]], np.uint16)})
    assert {name: boxes.tolist() for name, boxes in read_proposal_file(path).boxes_xyxy.items()} == {
        "b": [[0, 0, 10, 8]]
    }
    assert list(read_proposal_file(path, identifier="hall/3").boxes_xyxy) == ["hall/3"]
    write_npz(tmp_path / "many.npz")
    with pytest.raises(SettingsError, match="names its images"):
        read_proposal_file(tmp_path / "many.npz", identifier="a")


def test_the_convention_can_be_overridden(tmp_path: Path) -> None:
    np.savez(tmp_path / "y.npz", a=[[4, 3, 10, 8]])
    read = read_proposal_file(tmp_path / "y.npz", order="yxyx", origin=1, ends="inclusive")
    assert read.boxes_xyxy["a"].tolist() == [[2, 3, 8, 10]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_name_file_and_image(tmp_path: Path, bad: float) -> None:
    np.savez(tmp_path / "bad.npz", a=BOXES["a"], b=[[0, 0, bad, 4]])
    with pytest.raises(DataError, match="image 'b'") as caught:
        read_proposal_file(tmp_path / "bad.npz")
    assert "bad.npz" in caught.value.message


@pytest.mark.parametrize(
    "document", [{"a": [[1, 2, 3]]}, {"a": [1, 2, 3, 4]}, {"a": [[1, 2, 3, "x"]]}, {"a": [[1, 2, 3, 4], [1]]}]
)
def test_wrong_shapes_name_file_and_image(tmp_path: Path, document: Any) -> None:
    (tmp_path / "bad.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match="image 'a'"):
        read_proposal_file(tmp_path / "bad.json")


@pytest.mark.parametrize("ending", READERS)
@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04", b"\x80\x04\x95", b"[1]", b"{}x", b"null"])
def test_broken_files_are_one_sentence(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"broken{ending}"
    path.write_bytes(content)
    with pytest.raises(DataError, match="broken"):
        read_proposal_file(path)


@pytest.mark.parametrize(("name", "write"), WRITERS, ids=[name for name, _ in WRITERS])
def test_files_cut_off_are_one_sentence(tmp_path: Path, name: str, write: Any) -> None:
    path = tmp_path / name
    write(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(DataError, match=name):
        read_proposal_file(path)


def test_matlab_7_3_files_are_named_with_the_way_on(tmp_path: Path) -> None:
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    (tmp_path / "new.mat").write_bytes(header + bytes(384) + b"\x89HDF\r\n\x1a\n" + bytes(64))
    with pytest.raises(DataError, match=r"7\.3") as caught:
        read_proposal_file(tmp_path / "new.mat")
    assert "-v7" in str(caught.value.hint)


def test_annotations_are_no_proposals(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="annotations, not proposals"):
        read_proposal_file(write_annotations(tmp_path / "val.json", ["a"]))


def test_unknown_endings_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no file of proposals"):
        read_proposal_file(tmp_path / "boxes.txt")
    with pytest.raises(DataError, match="There is no file"):
        read_proposal_file(tmp_path / "boxes.mat")


def test_names_without_counts_and_twice_are_refused(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "n.mat", {"bboxes": cells([matlab(BOXES["a"])] * 2), "imnames": cells(["a"])})
    with pytest.raises(DataError, match="1 names and boxes of 2"):
        read_proposal_file(tmp_path / "n.mat")
    scipy.io.savemat(tmp_path / "t.mat", {"bboxes": cells([matlab(BOXES["a"])] * 2), "imnames": cells(["a", "a"])})
    with pytest.raises(DataError, match="two lists"):
        read_proposal_file(tmp_path / "t.mat")
    np.savez(tmp_path / "o.npz", boxes=BOXES["a"], offsets=[0, 5], ids=["a"])
    with pytest.raises(DataError, match="do not fit together"):
        read_proposal_file(tmp_path / "o.npz")


def test_every_loss_is_counted(tmp_path: Path, data: PreparedData) -> None:
    boxes = [
        [0, 0, 5, 5],
        [-3, 2, 5, 900],  # clipped
        [WIDTH, 0, WIDTH + 5, 5],  # outside
        [3, 3, 3, 9],  # empty
        [9, 9, 4, 12],  # inverted
        [1, 1, 2, 2],
    ]
    np.savez(tmp_path / "p.npz", **{"b.jpg": boxes, "nowhere": boxes, "c": np.zeros((0, 4))})
    fitted = fit_to_data(read_proposal_file(tmp_path / "p.npz"), data, data.all_ids, most=2)
    assert fitted.boxes_xyxy["b"].tolist() == [[0, 0, 5, 5], [0, 2, 5, HEIGHT]]
    assert len(fitted.boxes_xyxy["c"]) == 0
    assert fitted.counts == {
        "images": 2,
        "unmatched": 1,
        "ids_without": 2,
        "kept": 2,
        "clipped": 1,
        "outside": 1,
        "empty": 1,
        "inverted": 1,
        "beyond_most": 1,
    }
    words = " ".join(fitted.notes)
    assert all(word in words for word in ("'nowhere'", "'a', 'd'", "clipped", "no area", "ended before"))


def test_a_file_of_other_images_is_refused(tmp_path: Path, data: PreparedData) -> None:
    np.savez(tmp_path / "p.npz", x=BOXES["a"], y=BOXES["a"])
    with pytest.raises(DataError, match=r"'x', 'y'.*none is in the data set"):
        fit_to_data(read_proposal_file(tmp_path / "p.npz"), data, data.all_ids)


def test_two_names_of_one_image_are_refused(tmp_path: Path, data: PreparedData) -> None:
    np.savez(tmp_path / "p.npz", **{"a": BOXES["a"], "a.jpg": BOXES["a"]})
    with pytest.raises(DataError, match="both mean"):
        match_images(read_proposal_file(tmp_path / "p.npz"), data)


def test_shares_of_the_image_are_refused(tmp_path: Path, data: PreparedData) -> None:
    np.savez(tmp_path / "p.npz", a=[[0.1, 0.1, 0.5, 0.9], [0, 0, 1, 1]])
    with pytest.raises(DataError, match="shares of the image"):
        fit_to_data(read_proposal_file(tmp_path / "p.npz"), data, data.all_ids)


def test_swapped_axes_are_suspected_by_recall(tmp_path: Path, annotated: PreparedData) -> None:
    good = np.array([[2, 3, 12, 11]])  # an annotated object
    np.savez(tmp_path / "right.npz", a=good, b=good)
    assert swap_suspicion(read_proposal_file(tmp_path / "right.npz"), annotated) is None
    tall = write_annotations(tmp_path / "tall.json", ["a", "b"])
    document = json.loads(tall.read_text())
    for entry in document["annotations"]:
        entry["bbox"] = [20, 2, 4, 12]
    tall.write_text(json.dumps(document))
    other = prepared(make_rig(tmp_path / "rig2"), tmp_path / "data2", annotations={"val": tall})
    np.savez(tmp_path / "yx.npz", a=[[2, 20, 14, 24]], b=[[2, 20, 14, 24]])
    said = swap_suspicion(read_proposal_file(tmp_path / "yx.npz"), other)
    assert said is not None
    assert "0% of the objects" in said
    assert "--box-order yxyx" in said
    assert swap_suspicion(read_proposal_file(tmp_path / "yx.npz", order="yxyx"), other) is None


def test_swapped_axes_are_suspected_without_annotations(tmp_path: Path, data: PreparedData) -> None:
    np.savez(tmp_path / "yx.npz", a=[[2, 20, 14, 32]] * 3)
    said = swap_suspicion(read_proposal_file(tmp_path / "yx.npz"), data)
    assert said is not None
    assert "0% of the cases" in said


@pytest.mark.real
@pytest.mark.parametrize(("name", "count"), [("000004", 2888), ("001551", 2057)])
def test_published_boxes_lie_inside_their_images_and_reach_their_ends(real_data: Path, name: str, count: int) -> None:
    folder = real_data / "proposals-mat"
    boxes = read_proposal_file(folder / f"{name}_boxes.mat").boxes_xyxy[name]
    height, width = cv2.imread(str(folder / f"{name}.jpg")).shape[:2]
    assert boxes.shape == (count, 4)
    assert boxes.min() == 0
    assert boxes[:, 2].max() == width
    assert boxes[:, 3].max() == height
    assert (boxes[:, 2:] > boxes[:, :2]).all()
