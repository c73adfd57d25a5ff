"""Small COCO files and the images they are of, for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
from rigs import picture

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.coco.prepare import CocoSettings, prepare_coco

WIDTH, HEIGHT = 40, 30
# COCO's own ids and names; "cup" and "bowl" are no shared classes.
CATEGORIES = {44: "bottle", 47: "cup", 51: "bowl", 62: "chair", 63: "couch", 65: "bed", 67: "dining table"}
CATEGORIES |= {70: "toilet", 72: "tv", 81: "sink"}
BOX = (2, 3, 10, 8)
POLYGON = ((2, 3, 12, 3, 12, 11, 2, 11),)


def thing(category: str, number: int = 0, image: int = 0, **more: Any) -> dict[str, Any]:
    """One annotation; `number` and `image` are filled in by `write_coco_file` where they are 0."""
    identifier = next(key for key, name in CATEGORIES.items() if name == category)
    given = {"id": number, "image_id": image, "category_id": identifier, "bbox": list(BOX), "area": 80.0, "iscrowd": 0}
    return {**given, "segmentation": [list(POLYGON[0])], **more}


def write_coco_file(path: Path, things: Mapping[str, Sequence[dict[str, Any]]], **changes: Any) -> Path:
    """A COCO file of images by file name (with folders) and their things; ids are not 1, 2, 3, as in COCO."""
    images, annotations = [], []
    for n, (name, listed) in enumerate(things.items()):
        image = 1000 * (len(path.stem) + 1) + 7 * n
        images.append({"id": image, "file_name": name, "width": WIDTH, "height": HEIGHT, "license": 4})
        for k, each in enumerate(listed):
            annotations.append({**each, "id": each["id"] or 31 * image + k, "image_id": each["image_id"] or image})
    categories = [{"id": key, "name": name, "supercategory": "thing"} for key, name in CATEGORIES.items()]
    about = {"info": {"year": 2017}, "licenses": [{"id": 4, "name": "CC BY 2.0"}]}
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {**about, "images": images, "annotations": annotations, "categories": categories} | changes
    path.write_text(json.dumps(document))
    return path


def write_images(folder: Path, names: Sequence[str], hw: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    """A JPEG of each name."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), picture(number, hw)[:, :, ::-1])
    return folder


def make_coco(folder: Path) -> Path:
    """`annotations/instances_{train,val}2017.json`, `train2017/` and `val2017/`, as COCO unpacks; returns the folder.

    Train: a couch and a cup; a tv; a cup only; a crowd of chairs only. Val: a bed; nothing; two bowls.
    """
    train = {
        "01.jpg": [thing("couch"), thing("cup", bbox=[0, 0, 5, 5])],
        "02.jpg": [thing("tv")],
        "03.jpg": [thing("cup")],
        "04.jpg": [thing("chair", iscrowd=1, segmentation={"size": [HEIGHT, WIDTH], "counts": [600, 600]})],
    }
    val = {"11.jpg": [thing("bed")], "12.jpg": [], "13.jpg": [thing("bowl"), thing("bowl")]}
    write_coco_file(folder / "annotations" / "instances_train2017.json", train)
    write_coco_file(folder / "annotations" / "instances_val2017.json", val)
    write_images(folder / "train2017", list(train))
    write_images(folder / "val2017", list(val))
    return folder


def settings_of_coco(folder: Path, out: Path, **changes: Any) -> CocoSettings:
    """Settings that prepare what `make_coco` made, in this process."""
    given: dict[str, Any] = {
        "out": out,
        "annotations": {s: folder / "annotations" / f"instances_{s}2017.json" for s in ("train", "val")},
        "images": {"": str(folder)},
        "workers": 1,
    }
    return CocoSettings(**(given | changes))


def prepared_coco(folder: Path, out: Path, **changes: Any) -> PreparedData:
    """Prepare it and open the data set."""
    prepare_coco(settings_of_coco(folder, out, **changes))
    return PreparedData.open(out)
