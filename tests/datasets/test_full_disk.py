"""A full disk during every `prepare`: an error with exit code 1, nothing half-written, and the next run goes on.

Files of this process cannot grow beyond some size, which the system reports as it reports a full disk.
"""

from __future__ import annotations

import contextlib
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from coco_files import thing, write_coco_file
from made_scenes import write_scene
from made_videos import write_moving_video
from rigs import tree

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.data.images import write_png

HW = (200, 300)
LARGEST_BYTES = 20_000  # below the size of an image, beyond that of what is written about it
NAMES = ("a", "b", "c", "d")

Capture = pytest.CaptureFixture[str]


@contextlib.contextmanager
def full_beyond(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1000, 3000, HW).astype(np.uint16)


def write_pictures(folder: Path) -> None:
    folder.mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        cv2.imwrite(str(folder / f"{name}.jpg"), np.repeat((noise(seed) % 256).astype(np.uint8)[..., None], 3, axis=2))


def make_folder(here: Path) -> list[str]:
    write_pictures(here / "rgb")
    for seed, name in enumerate(NAMES):
        write_png(here / f"depth/{name}.png", noise(seed))
    target = "--target", str(here / "depth"), "--modality", "depth", "--depth-unit", "0.001"
    return ["folder", "--rgb", str(here / "rgb"), *target]


def make_coco(here: Path) -> list[str]:
    write_pictures(here / "images")
    images = [{"id": n, "file_name": f"{name}.jpg", "width": HW[1], "height": HW[0]} for n, name in enumerate(NAMES)]
    boxes = [{**thing("bed", segmentation=[]), "id": n, "image_id": n} for n in range(len(NAMES))]
    file = write_coco_file(here / "train.json", {}, images=images, annotations=boxes)
    return ["coco", "--annotations", str(file), "--images", str(here / "images"), "--link", "copy"]


def make_raw(here: Path) -> list[str]:
    write_scene(here / "raw/kitchen_0004a", 2)
    (here / "scenes.csv").write_text("scene,split\nkitchen_0004a,train\n")
    return ["nyud2-raw", "--raw", str(here / "raw"), "--scenes", str(here / "scenes.csv"), "--frames-per-scene", "2"]


def make_videos(here: Path) -> list[str]:
    for name in "ab":
        write_moving_video(here / f"videos/{name}.avi", 4, hw=(192, 256))
    return ["video", "--videos", str(here / "videos")]


def make_parts(here: Path) -> list[str]:
    words = make_coco(here)
    parts = [str(here / f"part{index}") for index in (1, 2)]
    for index, part in enumerate(parts, start=1):
        assert xmodal(["prepare", *words, "--shard", f"{index}/2", "--out", part, "-q"]) == 0
    return ["merge", *parts, "--link", "copy"]


MAKERS: dict[str, Callable[[Path], list[str]]] = {
    "folder": make_folder,
    "coco": make_coco,
    "nyud2-raw": make_raw,
    "video": make_videos,
    "merge": make_parts,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_full_disk_leaves_no_half_file_and_the_next_run_ends_as_undisturbed(
    kind: str, tmp_path: Path, capsys: Capture
) -> None:
    words = ["prepare", *MAKERS[kind](tmp_path / "source"), "--name", "x", "-q"]
    words += [] if kind == "merge" else ["--workers", "1"]
    out, whole = tmp_path / "out", tmp_path / "whole"
    with full_beyond(LARGEST_BYTES):
        assert xmodal([*words, "--out", str(out)]) == 1
    assert "The disk is full" in capsys.readouterr().err
    assert not list(out.rglob("*.part"))
    assert not (out / "dataset.json").exists()
    for folder in (out, whole):
        assert xmodal([*words, "--out", str(folder)]) == 0
    assert tree(out) == tree(whole)


def test_a_full_disk_during_flow_leaves_the_frames_whole_and_the_next_run_goes_on(
    tmp_path: Path, capsys: Capture
) -> None:
    words = ["prepare", *make_videos(tmp_path / "source"), "--name", "x", "--workers", "1", "-q"]
    out, whole = tmp_path / "out", tmp_path / "whole"
    assert xmodal([*words, "--out", str(out)]) == 0
    shutil.copytree(out, tmp_path / "frames")
    with full_beyond(LARGEST_BYTES // 4):
        assert xmodal([*words, "--modality", "flow", "--out", str(out)]) == 1
    assert "The disk is full" in capsys.readouterr().err
    assert not list(out.rglob("*.part"))
    kept = {name: content for name, content in tree(out).items() if not name.startswith(("flow/", ".preparing"))}
    assert kept == tree(tmp_path / "frames")
    for folder in (out, whole):
        assert xmodal([*words, "--modality", "flow", "--out", str(folder)]) == 0
    assert tree(out) == tree(whole)
