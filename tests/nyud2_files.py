"""Files in the layouts that NYU Depth v2 is published in: MATLAB 7.3 as MATLAB writes it, and the authors' archive."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray

from xmodal_cli.data.images import write_png
from xmodal_cli.datasets.nyud2.camera import CROP_SIZE_HW, FULL_SIZE_HW

USER_BLOCK = 512
FIELDS = (
    "accelData",
    "depths",
    "images",
    "instances",
    "labels",
    "names",
    "namesToIds",
    "rawDepths",
    "rawDepthFilenames",
    "rawRgbFilenames",
    "scenes",
    "sceneTypes",
)
# Names in an order of their own: ids must come from the file's list.
NAMES = [
    "book", "bottle", "cabinet", "toilet", "chair", "night stand", "counter", "wall", "television", "garbage bin",
    "bathtub", "bed", "bookshelf", "box", "desk", "door", "dresser", "lamp", "monitor", "pillow", "sink", "sofa",
    "table",
]  # fmt: skip
LABEL = {name: number for number, name in enumerate(NAMES, start=1)}


@dataclass
class Labelled:
    """The content of a labelled file, axes as in MATLAB without the last: one image each.

    Args:
        images: `(480, 640, 3)` uint8.
        depths: `(480, 640)` metres.
        raw: `(480, 640)` metres, 0 where the sensor saw nothing.
        labels: `(480, 640)` label ids.
        instances: `(480, 640)` instance numbers.
        scenes: one name an image.
        names: what labels 1, 2, ... are called.
    """

    images: list[NDArray[np.uint8]]
    depths: list[NDArray[np.float32]]
    raw: list[NDArray[np.float32]]
    labels: list[NDArray[np.uint16]]
    instances: list[NDArray[np.uint8]]
    scenes: list[str]
    names: list[str] = field(default_factory=lambda: list(NAMES))


def made_up(count: int = 6) -> Labelled:
    """Some smooth images with two chairs, a bed that the crop cuts, and a night stand; holes in raw depth."""
    height, width = FULL_SIZE_HW
    v, u = np.mgrid[:height, :width]
    found = Labelled([], [], [], [], [], [])
    for number in range(count):
        image = np.stack([u * 0.3, v * 0.4, (u + v) * 0.1 + 10 * number], axis=2).astype(np.uint8)
        depth = (2 + 0.001 * u + 0.0005 * v + 0.1 * number).astype(np.float32)
        raw = depth.copy()
        raw[100:120, 200:260] = 0
        labels, instances = np.zeros((height, width), np.uint16), np.zeros((height, width), np.uint8)
        for name, instance, rows, columns in (
            ("chair", 1, slice(100, 150), slice(100, 180)),
            ("chair", 2, slice(100, 150), slice(180, 200)),
            ("bed", 1, slice(0, 60), slice(0, 300)),
            ("night stand", 1, slice(300, 301 + number), slice(599, 640)),
            ("wall", 1, slice(400, 440), slice(300, 500)),
        ):
            labels[rows, columns], instances[rows, columns] = LABEL[name], instance
        labels[20:40, 400:420] = LABEL["lamp"]  # no instance
        for part, value in zip(
            (found.images, found.depths, found.raw, found.labels, found.instances),
            (image, depth, raw, labels, instances),
            strict=True,
        ):
            part.append(value)  # type: ignore[arg-type]
        found.scenes.append(f"kitchen_{number // 2:04d}")
    return found


def write_labelled(path: Path, content: Labelled, *, without: tuple[str, ...] = (), block: int = 1) -> Path:
    """Write a labelled file as MATLAB would: heading, reversed axes, references for texts, classes of variables.

    Args:
        path: the file.
        content: what it holds.
        without: fields to leave out.
        block: images that the file stores together.
    """
    count = len(content.images)
    with h5py.File(path, "w", userblock_size=USER_BLOCK, libver="earliest") as file:
        references = file.create_group("#refs#")
        for name, images, kind in (
            ("images", content.images, "uint8"),
            ("depths", content.depths, "single"),
            ("rawDepths", content.raw, "single"),
            ("labels", content.labels, "uint16"),
            ("instances", content.instances, "uint8"),
        ):
            if name not in without:
                _images(file, name, images, kind, block)
        _variable(file, "accelData", np.zeros((4, count), np.float32), "single")
        names = file.create_dataset("namesToIds", data=np.array([[0xDD000000, 2, 1, 1, 1, 1]], np.uint32))
        names.attrs["MATLAB_class"] = np.bytes_("containers.Map")
        names.attrs["MATLAB_object_decode"] = np.int32(3)
        stamps = [f"{scene}/d-1294886363.{i:06d}-2337226518.pgm" for i, scene in enumerate(content.scenes)]
        _texts(file, references, "names", content.names, without)
        _texts(file, references, "scenes", content.scenes, without, across=True)
        _texts(file, references, "sceneTypes", [name.rpartition("_")[0] for name in content.scenes], without)
        _texts(file, references, "rawDepthFilenames", stamps, without)
        _texts(file, references, "rawRgbFilenames", [each.replace("pgm", "ppm") for each in stamps], without)
    heading = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Sat Nov 28 05:05:00 2026 HDF5 schema 1.00 ."
    with path.open("r+b") as handle:
        handle.write(heading.ljust(116) + bytes(8) + b"\x00\x02IM")
    return path


def _images(file: h5py.File, name: str, images: list[Any], kind: str, block: int) -> None:
    shape = (len(images), *images[0].T.shape)
    chunks = (min(block, shape[0]), *shape[1:-1], shape[-1] // 4)
    array = file.create_dataset(name, shape, images[0].dtype, chunks=chunks, compression=1)
    for number, image in enumerate(images):
        array[number] = image.T
    array.attrs["MATLAB_class"] = np.bytes_(kind)


def _variable(file: h5py.File, name: str, value: NDArray[Any], kind: str) -> None:
    file.create_dataset(name, data=value).attrs["MATLAB_class"] = np.bytes_(kind)


def _texts(
    file: h5py.File, references: h5py.Group, name: str, texts: list[str], without: tuple[str, ...], across: bool = False
) -> None:
    """A cell array of texts, N x 1 (1 x N in the file's axes) or, across, the other way round."""
    if name in without:
        return
    cell = np.empty((len(texts), 1) if across else (1, len(texts)), h5py.ref_dtype)
    for number, text in enumerate(texts):
        characters = references.create_dataset(f"{name}{number}", data=np.array([[ord(c)] for c in text], np.uint16))
        characters.attrs["MATLAB_class"] = np.bytes_("char")
        characters.attrs["MATLAB_int_decode"] = np.int32(2)
        cell[(number, 0) if across else (0, number)] = characters.ref
    file.create_dataset(name, data=cell, dtype=h5py.ref_dtype).attrs["MATLAB_class"] = np.bytes_("cell")


def write_archive(folder: Path, numbers: list[int], *, hha: bool = True, cache: bool = True) -> Path:
    """Write an archive of some images: a chair (instance 1), a night stand (2), one that is nothing by half (3)."""
    height, width = CROP_SIZE_HW
    v, u = np.mgrid[:height, :width]
    data, benchmark = folder / "data", folder / "benchmarkData"
    for name in ("groundTruth", "metadata", *(["gt_box_cache_dir"] if cache else [])):
        (benchmark / name).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        depth = (2000 + u + v // 2 + 10 * (number % 100)).astype(np.uint16)
        raw = depth.copy()
        raw[50:60, 50:90] = 0
        image = np.stack([u * 0.3, v * 0.4, (u + v) * 0.1 + number % 7], axis=2).astype(np.uint8)
        write_png(data / f"images/img_{number}.png", image)
        write_png(data / f"depth/img_{number}.png", depth)
        write_png(data / f"rawdepth/img_{number}.png", raw)
        if hha:
            write_png(data / f"hha/img_{number}.png", image[..., ::-1])
        _write_truth(benchmark, number, cache)
    return folder


def _write_truth(benchmark: Path, number: int, cache: bool) -> None:
    segmentation, classes = np.zeros(CROP_SIZE_HW, np.uint16), np.zeros(CROP_SIZE_HW, np.uint16)
    segmentation[10:30, 20:60], classes[10:30, 20:60] = 1, 5  # chair
    classes[10:12, 20:60] = 19  # a sliver of table
    segmentation[100:140, 100:150], classes[100:140, 100:150] = 2, 158  # night stand
    segmentation[200:203, 0:10] = 3
    classes[200, 0:10], classes[201, 0:10], classes[202, 0:10] = 5, 7, 19
    truth = np.empty((1, 1), object)
    truth[0, 0] = {"Segmentation": segmentation, "SegmentationClass": classes}
    scipy.io.savemat(benchmark / f"groundTruth/img_{number}.mat", {"groundTruth": truth})
    if not cache:
        return
    fields = [(name, object) for name in ("instanceId", "difficult", "truncated", "bbox", "class")]
    objects = np.array(
        [
            (1, False, False, np.array([[21.0, 11.0, 60.0, 30.0]]), "chair"),
            (2, False, False, np.array([[101.0, 101.0, 150.0, 140.0]]), "night-stand"),
            (4, False, False, np.array([[1.0, 1.0, 5.0, 5.0]]), "wall"),
        ],
        dtype=fields,
    ).reshape(1, -1)
    record = {"rec": {"objects": objects, "imgsize": [list(CROP_SIZE_HW)]}}
    scipy.io.savemat(benchmark / f"gt_box_cache_dir/img_{number}.mat", record)
