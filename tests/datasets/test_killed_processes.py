"""Real processes killed in the midst of `prepare coco` and `prepare merge`: the same command again ends as undisturbed.

One picture under many names, so large that reading or copying it takes a while: there is a midst to be killed in.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from coco_files import thing, write_coco_file
from rigs import tree

from xmodal_cli.cli.app import run as xmodal

COUNT = 16
HEIGHT, WIDTH = 1500, 2000
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotations and images, all of the same bytes; nobody may change them."""
    folder = tmp_path_factory.mktemp("large")
    names = [f"{number:02d}.jpg" for number in range(COUNT)]
    things = [thing("bed", segmentation=[])]
    images = [{"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT} for number, name in enumerate(names)]
    annotations = [{**each, "id": number, "image_id": number} for number in range(COUNT) for each in things]
    write_coco_file(folder / "train.json", {}, images=images, annotations=annotations)
    (folder / "images").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "images" / names[0]), noise)
    for name in names[1:]:
        os.link(folder / "images" / names[0], folder / "images" / name)
    return folder


def words_of_coco(coco: Path, out: Path, *more: str) -> list[str]:
    source = ["--annotations", f"train={coco}/train.json", "--images", str(coco / "images")]
    return ["prepare", "coco", *source, "--out", str(out), "--name", "large", "--workers", "1", "-q", *more]


def kill(words: list[str], when: Callable[[], bool]) -> None:
    """Run a command and kill it as soon as something is so."""
    process = subprocess.Popen([sys.executable, "-m", "xmodal_cli", *words])
    deadline = time.monotonic() + PATIENCE_S
    while not when() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=PATIENCE_S) == -signal.SIGKILL


def few_of(out: Path) -> Callable[[], bool]:
    return lambda: len(list(out.glob("rgb/*.jpg"))) >= 3


def test_coco_goes_on_where_it_was_killed(coco: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    kill(words_of_coco(coco, out), few_of(out))
    assert 3 <= len(list(out.glob("rgb/*.jpg"))) < COUNT
    assert not (out / "dataset.json").exists()
    (out / "rgb/.05.jpg.7.part").write_bytes(b"half")  # what a kill within a write leaves
    for words in (words_of_coco(coco, out), words_of_coco(coco, whole)):
        assert xmodal(words) == 0
    assert tree(out) == tree(whole)


def test_a_part_of_coco_goes_on_where_it_was_killed_and_only_as_that_part(coco: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    kill(words_of_coco(coco, out, "--shard", "1/2"), few_of(out))
    assert xmodal(words_of_coco(coco, out, "--shard", "2/2")) == xmodal(words_of_coco(coco, out)) == 2
    for words in (words_of_coco(coco, out, "--shard", "1/2"), words_of_coco(coco, whole, "--shard", "1/2")):
        assert xmodal(words) == 0
    assert tree(out) == tree(whole)


def test_a_merge_goes_on_where_it_was_killed(coco: Path, tmp_path: Path) -> None:
    parts = [str(tmp_path / f"part{index}") for index in (1, 2)]
    for index, part in enumerate(parts, start=1):
        assert xmodal(words_of_coco(coco, Path(part), "--shard", f"{index}/2")) == 0
    out, whole = tmp_path / "out", tmp_path / "whole"
    merge = ["prepare", "merge", *parts, "--name", "large", "--link", "copy", "-q"]
    kill([*merge, "--out", str(out)], few_of(out))
    assert not (out / "dataset.json").exists()
    for folder in (out, whole):
        assert xmodal([*merge, "--out", str(folder)]) == 0
    assert tree(out) == tree(whole)
