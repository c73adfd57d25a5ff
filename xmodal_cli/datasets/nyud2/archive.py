"""The authors' archive, unpacked: images, depth, HHA and benchmark data as their own loaders read them (recipe 1.2).

Everything in it is cropped already, and is taken over byte for byte. HHA that is there is the published one; without
it, HHA is made from depth. Boxes come from the box cache where there is one, masks from the ground truth.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.data import images
from xmodal_cli.datasets.assembly import RAW_DEPTH
from xmodal_cli.datasets.nyud2.camera import CROP_SIZE_HW
from xmodal_cli.datasets.nyud2.classes import PUBLISHED
from xmodal_cli.datasets.nyud2.objects import boxes_that_differ, objects_of_record, objects_of_segmentation
from xmodal_cli.datasets.nyud2.source import GroundTruth, Reader
from xmodal_cli.datasets.nyud2.splits import IMAGE_COUNT, check_split_file, read_mat, split_numbers
from xmodal_cli.errors import DataError

# How far below the folder that was named `images/` may lie: it has moved between releases, and unpackers add a folder.
DEEPEST = 4
FOLDERS = {"depth": "depth", RAW_DEPTH: "rawdepth", "hha": "hha"}  # the archive's folder by modality
AGAIN = "Unpack the archive again."


@dataclass(frozen=True)
class Archive:
    """The archive, looked at but not read; made by `open_archive`. A `Source`.

    Args:
        root: the folder that holds `images/`.
        benchmark: the folder `benchmarkData`; None where there is none.
        ids: the images.
        present: modalities that lie there.
        notes: what is unlike the published archive.
    """

    root: Path
    benchmark: Path | None
    ids: Sequence[str]
    present: tuple[str, ...]
    notes: tuple[str, ...] = ()
    scenes: Mapping[str, str] = field(default_factory=dict)
    kind: str = "archive"
    block: int = 8

    @property
    def modalities(self) -> Sequence[str]:
        """What lies there and what can be made of it."""
        made = ("hha", "disparity") if "depth" in self.present else ()
        return tuple(dict.fromkeys((*self.present, *made, "gray")))

    @property
    def usual(self) -> Sequence[str]:
        """HHA, depth and raw depth, as far as there is any."""
        return tuple(name for name in ("hha", "depth", RAW_DEPTH) if name in self.modalities)

    @property
    def has_objects(self) -> bool:
        """Whether there is a box cache or ground truth."""
        return self.truth is not None or self.cache is not None

    @property
    def truth(self) -> Path | None:
        """The folder of segmentations."""
        return self._benchmark("groundTruth")

    @property
    def cache(self) -> Path | None:
        """The folder of boxes."""
        return self._benchmark("gt_box_cache_dir")

    def identity(self, modality: str) -> dict[str, Any]:
        """The folder, and whether the modality lies there or is made."""
        taken = modality in self.present or modality == "rgb"
        return {"source": self.kind, "folder": str(self.root), "made": not taken}

    def modified(self, modality: str, identifier: str) -> int:
        """When the newest file that a modality is made from was last changed."""
        used = {"gray": ("images",), "rgb": ("images",)}.get(modality, ("depth", "rawdepth"))
        folders = (FOLDERS[modality],) if modality in self.present else used
        paths = [self.root / folder / f"{identifier}.png" for folder in folders]
        return max((path.stat().st_mtime_ns for path in paths if path.exists()), default=0)

    @contextlib.contextmanager
    def reading(self, ids: Sequence[str]) -> Iterator[Reader]:
        """A reader; nothing is opened yet."""
        yield ArchiveReader(self)

    def _benchmark(self, name: str) -> Path | None:
        return None if self.benchmark is None or not (self.benchmark / name).is_dir() else self.benchmark / name


class ArchiveReader:
    """Reads files of the archive; a `Reader`."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def colour(self, identifier: str) -> Path:
        """The colour image's file."""
        return self._archive.root / "images" / f"{identifier}.png"

    def stored(self, modality: str, identifier: str) -> Path | None:
        """The file of a modality that lies there."""
        if modality not in self._archive.present:
            return None
        return self._archive.root / FOLDERS[modality] / f"{identifier}.png"

    def depth_mm(self, identifier: str) -> NDArray[np.uint16]:
        """Depth with holes filled."""
        return _millimetres(self._archive.root / "depth" / f"{identifier}.png")

    def raw_mm(self, identifier: str) -> NDArray[np.uint16] | None:
        """Depth as the sensor gave it, where it lies there."""
        if RAW_DEPTH not in self._archive.present:
            return None
        return _millimetres(self._archive.root / "rawdepth" / f"{identifier}.png")

    def ground_truth(self, identifier: str) -> GroundTruth | None:
        """The objects: the cache's boxes with masks of the ground truth, or whichever there is."""
        segmented, segmentation, dropped = None, None, 0
        if self._archive.truth is not None:
            path = self._archive.truth / f"{identifier}.mat"
            segmentation, classes = _segmentation(path)
            segmented, dropped = objects_of_segmentation(segmentation, classes, PUBLISHED)
        if self._archive.cache is None:
            return None if segmented is None else GroundTruth(segmented, dropped)
        path = self._archive.cache / f"{identifier}.mat"
        objects = objects_of_record(read_mat(path).get("rec"), segmentation, str(path))
        return GroundTruth(objects, dropped, 0 if segmented is None else boxes_that_differ(objects, segmented))


def open_archive(folder: Path) -> Archive:
    """Find the parts of an unpacked archive and check that they belong together; no image is read.

    Raises:
        DataError: no images, a modality lacks some of them, or its split file is not the published one.
    """
    root = _find_root(folder)
    if root is None:
        raise DataError(
            f"There is no folder 'images' with img_5001.png and others in '{folder}', nor {DEEPEST} folders below it.",
            "Unpack nyud2_data.tgz or eccv14-data.tgz and name its folder with --archive.",
        )
    root = root.resolve()
    known = {f"img_{number}" for numbers in split_numbers().values() for number in numbers}
    found = {path.stem for path in (root / "images").glob("img_*.png")}
    ids = sorted(found & known)
    if not ids:
        raise DataError(f"'{root / 'images'}' has no image img_5001.png to img_6449.png.", AGAIN)
    benchmark = next(
        (each / "benchmarkData" for each in (root.parent, root) if (each / "benchmarkData").is_dir()), None
    )
    archive = Archive(root, benchmark, ids, tuple(name for name, f in FOLDERS.items() if (root / f).is_dir()))
    _require_all(archive)
    notes = []
    if len(ids) != IMAGE_COUNT:
        notes.append(f"'{root / 'images'}' holds {len(ids)} images; published are {IMAGE_COUNT}.")
    if not archive.has_objects:
        notes.append(f"There is no ground truth: no benchmarkData beside or in '{root}'.")
    splits = None if benchmark is None else benchmark / "metadata" / "nyusplits.mat"
    if splits is not None and splits.exists():
        check_split_file(splits)
    return Archive(root, benchmark, ids, archive.present, tuple(notes))


def _find_root(folder: Path) -> Path | None:
    """The folder that holds `images/`, the highest one."""
    places = (place for depth in range(DEEPEST + 1) for place in sorted(folder.glob("*/" * depth + "images")))
    return next((place.parent for place in places if any(place.glob("img_*.png"))), None)


def _require_all(archive: Archive) -> None:
    """Every image has every modality that lies there, and ground truth if there is any."""
    wanted = [(archive.root / FOLDERS[name], ".png") for name in archive.present]
    wanted += [(folder, ".mat") for folder in (archive.truth, archive.cache) if folder is not None]
    problems = []
    for folder, ending in wanted:
        names = {path.stem for path in folder.glob(f"*{ending}")}
        absent = [each for each in archive.ids if each not in names]
        if absent:
            more = ", ..." if len(absent) > 3 else ""
            problems.append(f"'{folder}' lacks {len(absent)} of {len(archive.ids)}: {', '.join(absent[:3])}{more}.")
    if problems:
        raise DataError("\n".join(problems), AGAIN)


def _segmentation(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Instance numbers and label ids of one file of the ground truth."""
    found: Any = read_mat(path).get("groundTruth")
    while isinstance(found, np.ndarray | list) and len(found):  # a cell of one
        found = found[0]
    try:
        maps = [np.asarray(found[name]) for name in ("Segmentation", "SegmentationClass")]
    except (KeyError, TypeError, IndexError):
        maps = []
    if [each.shape for each in maps] != [CROP_SIZE_HW] * 2 or any(each.dtype.kind not in "uif" for each in maps):
        raise DataError(
            f"'{path}' has no groundTruth{{1}} with Segmentation and SegmentationClass of {CROP_SIZE_HW}.", AGAIN
        )
    return maps[0].astype(np.int64), maps[1].astype(np.int64)


def _millimetres(path: Path) -> NDArray[np.uint16]:
    """A depth image, its size and type checked."""
    image = images.read_raw(path)
    if image.shape != CROP_SIZE_HW or image.dtype != np.uint16:
        height, width = CROP_SIZE_HW
        raise DataError(f"'{path}' holds {images.describe(image)}; expected {height} x {width} uint16.", AGAIN)
    return image
