"""Small rigs for tests: folders of colour images and of another sensor's images that belong together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from xmodal_cli.data.images import write_png
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.folder.prepare import FolderSettings, prepare_folder
from xmodal_cli.modalities.geometry import Camera

HEIGHT, WIDTH = 24, 32
CAMERA = Camera(40.0, 40.0, 16.5, 12.5)
MILLIMETRE = 0.001


def picture(number: int, hw: tuple[int, int] = (HEIGHT, WIDTH)) -> NDArray[np.uint8]:
    """A smooth colour image that no other number gives."""
    noise = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(noise, (hw[1], hw[0]), interpolation=cv2.INTER_CUBIC))


def depth_mm(number: int, hw: tuple[int, int] = (HEIGHT, WIDTH)) -> NDArray[np.uint16]:
    """Depth of a wall 3 m away and a floor that comes nearer, in millimetres, no holes."""
    column = np.linspace(3000, 1500 + 10 * number, hw[0])
    return np.repeat(column[:, None], hw[1], axis=1).round().astype(np.uint16)


def make_rig(folder: Path, names: Sequence[str] = ("a", "b", "c", "d"), unit: float = MILLIMETRE) -> Path:
    """`rgb/NAME.jpg` and `depth/NAME.png` (16-bit); returns the folder."""
    for number, name in enumerate(names):
        rgb = folder / "rgb" / f"{name}.jpg"
        rgb.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(rgb), picture(number)[:, :, ::-1])
        write_png(folder / "depth" / f"{name}.png", (depth_mm(number) * (MILLIMETRE / unit)).astype(np.uint16))
    return folder


def write_annotations(path: Path, names: Sequence[str], **changes: Any) -> Path:
    """A COCO file with one box of class 7 and one of class 3 in every image."""
    images = [
        {"id": 100 + n, "file_name": f"{name}.jpg", "width": WIDTH, "height": HEIGHT} for n, name in enumerate(names)
    ]
    boxes = [(7, [2, 3, 10, 8]), (3, [0, 0, WIDTH, HEIGHT])]
    annotations = [
        {"id": 10 * n + k, "image_id": 100 + n, "category_id": c, "bbox": box, "area": box[2] * box[3], "iscrowd": k}
        for n in range(len(names))
        for k, (c, box) in enumerate(boxes)
    ]
    categories = [{"id": 7, "name": "chair"}, {"id": 3, "name": "bed"}]
    document = {"images": images, "annotations": annotations, "categories": categories} | changes
    path.write_text(json.dumps(document))
    return path


def settings_for(rig: Path, out: Path, **changes: Any) -> FolderSettings:
    """Settings that prepare a rig's depth as disparity, in this process."""
    given: dict[str, Any] = {
        "out": out,
        "modalities": ("disparity",),
        "rgb": str(rig / "rgb"),
        "target": str(rig / "depth"),
        "depth_unit": MILLIMETRE,
        "workers": 1,
    }
    return FolderSettings(**(given | changes))


def prepared(rig: Path, out: Path, **changes: Any) -> PreparedData:
    """Prepare a rig and open the data set."""
    prepare_folder(settings_for(rig, out, **changes))
    return PreparedData.open(out)


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder and its bytes."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def but_provenance(root: Path) -> dict[str, bytes]:
    """Every file of a data set; of `dataset.json` all but how it was made."""
    found = tree(root)
    found["dataset.json"] = json.dumps({**json.loads(found["dataset.json"]), "provenance": None}).encode()
    return found
