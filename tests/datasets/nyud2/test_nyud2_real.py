"""Promises of `prepare nyud2` on real images: frames of NYU Depth v2 in a file of the published structure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from nyud2_files import Labelled, write_labelled
from pycocotools import mask as coco_masks

from xmodal_cli.data.images import read_raw, read_rgb
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.nyud2.camera import COLUMNS, FULL_SIZE_HW, ROWS
from xmodal_cli.datasets.nyud2.classes import CLASSES, LABEL_IDS
from xmodal_cli.datasets.nyud2.prepare import Nyud2Settings, prepare_nyud2
from xmodal_cli.datasets.nyud2.splits import split_numbers
from xmodal_cli.metrics.recall import pairwise_iou

COUNT = 27  # images 5001 to 5027: 18 of them real, at their own places; the others of test repeat them
REAL_WANTED = 20
STEP, OFFSET = 1 / 25.5, 0.5 / 25.5  # of the 8-bit depth


def padded(image: np.ndarray) -> np.ndarray:
    """An image of the crop in the middle of a whole frame, its border continued."""
    height, width = FULL_SIZE_HW
    around = ((ROWS.start, height - ROWS.stop), (COLUMNS.start, width - COLUMNS.stop), *[(0, 0)] * (image.ndim - 2))
    return np.pad(image, around, mode="edge")


def label_maps(objects: list[dict[str, object]]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and instance numbers of one image, from COCO's masks: numbers begin anew for each label."""
    labels, instances = np.zeros((425, 560), np.uint16), np.zeros((425, 560), np.uint8)
    counts: dict[int, int] = {}
    for each in objects:
        label = LABEL_IDS[CLASSES[int(each["category_id"]) - 1]]  # type: ignore[call-overload]
        counts[label] = counts.get(label, 0) + 1
        mask = coco_masks.decode(each["segmentation"]).astype(bool)
        labels[mask], instances[mask] = label, counts[label]
    return labels, instances


@pytest.fixture(scope="module")
def numbers(real_data: Path) -> list[int]:
    """The frames at places 1, 2, ...: their own where the real data has them, other real ones elsewhere."""
    have = {int(path.stem.removeprefix("img_")) for path in (real_data / "nyud2-8bit/rgb").glob("*.jpg")}
    others = iter(sorted(have - set(range(5001, 5001 + COUNT))))
    return [number if number in have else next(others) for number in range(5001, 5001 + COUNT)]


@pytest.fixture(scope="module")
def objects(real_data: Path) -> dict[int, list[dict[str, object]]]:
    """The annotations of the real frames by number."""
    found: dict[int, list[dict[str, object]]] = {}
    for split in ("train", "val"):
        document = json.loads((real_data / f"nyud2-8bit/{split}.json").read_text())
        for each in document["annotations"]:
            found.setdefault(each["image_id"], []).append(each)
    return found


@pytest.fixture(scope="module")
def made(
    real_data: Path,
    numbers: list[int],
    objects: dict[int, list[dict[str, object]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> PreparedData:
    folder = tmp_path_factory.mktemp("real")
    found = Labelled([], [], [], [], [], [])
    found.names = [
        str(name)
        for name in scipy.io.loadmat(real_data / "nyud2-metadata/classMapping40.mat", simplify_cells=True)[
            "allClassName"
        ]
    ]
    splits = {number: split for split, members in split_numbers().items() for number in members}
    for place, number in enumerate(numbers, start=5001):
        depth = (read_raw(real_data / f"nyud2-8bit/depth/img_{number}.png") * STEP + OFFSET).astype(np.float32)
        raw = depth.copy()
        raw[200:230, 100:160] = 0
        labels, instances = label_maps(objects.get(number, []))
        found.images.append(padded(read_rgb(real_data / f"nyud2-8bit/rgb/img_{number}.jpg")))
        found.depths.append(padded(depth))
        found.raw.append(padded(raw))
        found.labels.append(padded(labels))
        found.instances.append(padded(instances))
        found.scenes.append(f"{splits[place]}_{place // 4:04d}")
    mat = write_labelled(folder / "nyu_depth_v2_labeled.mat", found)
    settings = Nyud2Settings(folder / "out", mat, splits=real_data / "nyud2-metadata/splits.mat", workers=1)
    report = prepare_nyud2(settings)
    assert any("agrees" in note for note in report.notes)
    return PreparedData.open(folder / "out")


@pytest.mark.real
def test_colour_and_depth_of_real_frames_come_through_unchanged(
    made: PreparedData, numbers: list[int], real_data: Path
) -> None:
    assert len(made.all_ids) == COUNT >= REAL_WANTED
    for identifier, number in zip(made.all_ids, numbers, strict=True):
        assert (made.read("rgb", identifier) == read_rgb(real_data / f"nyud2-8bit/rgb/img_{number}.jpg")).all()
        exact_mm = (read_raw(real_data / f"nyud2-8bit/depth/img_{number}.png") + 0.5) / 25.5 * 1000
        assert np.abs(made.read("depth", identifier)[..., 0] - exact_mm).max() <= 0.501
        raw = made.read("raw_depth", identifier)[..., 0]
        assert (raw[200:230, 100:160] == 0).all()
        assert np.count_nonzero(raw == 0) == 30 * 60


@pytest.mark.real
def test_real_objects_keep_their_classes_boxes_and_masks(
    made: PreparedData, numbers: list[int], objects: dict[int, list[dict[str, object]]]
) -> None:
    checked = 0
    for split in made.splits:
        for identifier, found in made.annotations(split).items():
            listed = objects.get(numbers[made.all_ids.index(identifier)], [])
            assert sorted(found.labels.tolist()) == sorted(int(each["category_id"]) - 1 for each in listed)  # type: ignore[call-overload]
            if not listed:
                continue
            wanted = np.array([each["bbox"] for each in listed], np.float64)
            wanted[:, 2:] += wanted[:, :2]
            assert (pairwise_iou(wanted, found.boxes_xyxy.astype(np.float64)).max(axis=1) == 1).all()
            assert sum(found.areas) == sum(int(each["area"]) for each in listed)  # type: ignore[call-overload]
            checked += len(listed)
    assert checked > 50


@pytest.mark.real
def test_splits_are_gupta_s(made: PreparedData, real_data: Path) -> None:
    for split in made.splits:
        listed = {f"img_{n}" for n in (real_data / f"nyud2-metadata/{split}.txt").read_text().split()}
        assert set(made.ids(split)) == listed & set(made.all_ids)
