"""One image of NYU Depth v2, from its source into the data set: the work that runs in a pool of processes.

Blocks of neighbours are one job, because the labelled file stores neighbours together. Everything that is encoded comes
from depth in whole millimetres, as the authors' own PNGs hold it, whichever the source is; what the sensor did not see
has no normal in HHA.

Shapes: `(425, 560)` cropped images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from xmodal_cli import files
from xmodal_cli.data import images
from xmodal_cli.data.manifest import ManifestRow
from xmodal_cli.data.prepared import RGB
from xmodal_cli.datasets.assembly import RAW_DEPTH
from xmodal_cli.datasets.frames import FrameResult, Link, link_file
from xmodal_cli.datasets.nyud2.camera import CROP_CAMERA, CROP_SIZE_HW
from xmodal_cli.datasets.nyud2.source import GroundTruth, Reader, Source
from xmodal_cli.errors import DataError
from xmodal_cli.modalities import Frame, encode_frame, modality

MILLIMETRE = 0.001


@dataclass(frozen=True)
class ImageRecipe:
    """How all images are made.

    Args:
        root: the prepared data set.
        source: where they come from.
        modalities: what is made, rgb first.
        link: how files of the archive get into the data set.
        objects: whether ground truth is read.
    """

    root: Path
    source: Source
    modalities: tuple[str, ...]
    link: Link = "hard"
    objects: bool = True


@dataclass(frozen=True)
class ImageJob:
    """One image and which of its files are still to be made.

    Args:
        id: its ID.
        wanted: modalities to make; others of the recipe are finished.
    """

    id: str
    wanted: tuple[str, ...]


@dataclass(frozen=True)
class ImageResult:
    """What became of one image.

    Args:
        frame: rows and figures, or what is wrong.
        truth: its objects; None where they were not asked for or are not known.
    """

    frame: FrameResult
    truth: GroundTruth | None = None


def prepare_block(recipe: ImageRecipe, jobs: Sequence[ImageJob]) -> list[ImageResult]:
    """Bring some neighbouring images into the data set; errors of their data come back in the results.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    try:
        with recipe.source.reading([job.id for job in jobs]) as reader:
            return [_prepare(recipe, job, reader) for job in jobs]
    except DataError as error:  # the file as a whole
        return [ImageResult(FrameResult(job.id, error=error.message, hint=error.hint)) for job in jobs]


@dataclass(frozen=True)
class ImageFile:
    """One file of the data set before it is written.

    Args:
        content: its bytes.
        source: the file that it is a copy of; None where it was made.
    """

    content: bytes
    source: Path | None = None


def make_file(reader: Reader, identifier: str, name: str) -> ImageFile:
    """One file of the data set: taken over as it is, or made.

    Args:
        reader: of the image's source.
        identifier: the image.
        name: the modality, or rgb.

    Raises:
        DataError: what it is made from is damaged, or of another size or type.
    """
    if name == RGB:
        colour = reader.colour(identifier)
        return _taken(colour, name) if isinstance(colour, Path) else ImageFile(images.encode_png(colour))
    path = reader.stored(name, identifier)
    return _taken(path, name) if path is not None else ImageFile(images.encode_png(_encoded(reader, identifier, name)))


def _taken(path: Path, name: str) -> ImageFile:
    content = images.read_bytes(path)
    _check_image(content, path, name)
    return ImageFile(content, path)


def _prepare(recipe: ImageRecipe, job: ImageJob, reader: Reader) -> ImageResult:
    try:
        rows = [_add(recipe, job, reader, name) for name in recipe.modalities]
        truth = reader.ground_truth(job.id) if recipe.objects else None
        return ImageResult(FrameResult(job.id, tuple(rows), made=len(job.wanted)), truth)
    except DataError as error:
        return ImageResult(FrameResult(job.id, error=error.message, hint=error.hint))


def _add(recipe: ImageRecipe, job: ImageJob, reader: Reader, name: str) -> ManifestRow:
    """Write one file of an image, or read back what an earlier run wrote."""
    file = f"{name}/{job.id}.png"
    path = recipe.root / file
    if name in job.wanted:
        made = make_file(reader, job.id, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if made.source is not None:
            link_file(made.source, path, recipe.link)
        else:
            files.write_bytes(path, made.content)
    else:
        made = _taken(path, name)
    digest = hashlib.sha256(made.content).hexdigest()
    return ManifestRow(job.id, name, file, *CROP_SIZE_HW, len(made.content), digest)


def _check_image(content: bytes, path: Path, name: str) -> None:
    """A file that lies there must be whole, of the crop's size and of the modality's type."""
    image = images.decode_raw(content, path)
    entry = modality("depth" if name == RAW_DEPTH else name) if name != RGB else None
    channels, dtype = (3, "uint8") if entry is None else (entry.channels, entry.dtype)
    expected = CROP_SIZE_HW if channels == 1 else (*CROP_SIZE_HW, channels)
    if image.shape != expected or str(image.dtype) != dtype:
        raise DataError(
            f"'{path}' holds {images.describe(image)}; expected {' x '.join(map(str, expected))} {dtype}.",
            "Unpack the archive again.",
        )


def _encoded(reader: Reader, identifier: str, name: str) -> NDArray[Any]:
    """Make one modality of an image."""
    if name == RAW_DEPTH:
        raw = reader.raw_mm(identifier)
        if raw is None:
            raise DataError(f"There is no raw depth of '{identifier}'.")
        return raw
    if name == "depth":
        return reader.depth_mm(identifier)
    if name == "gray":
        colour = reader.colour(identifier)
        return encode_frame(name, Frame(images.read_rgb(colour) if isinstance(colour, Path) else colour))
    return encode_frame(name, _depth_frame(reader, identifier))


def _depth_frame(reader: Reader, identifier: str) -> Frame:
    """Depth in metres and what the sensor did not see; holes that are left are filled."""
    from xmodal_cli.modalities import depth

    stored, raw = reader.depth_mm(identifier), reader.raw_mm(identifier)
    depth_m = depth.to_metres(stored, MILLIMETRE)
    holes = stored == 0
    if holes.any():
        depth_m = depth.fill_holes(depth_m, holes)
    missing = holes if raw is None else holes | (raw == 0)
    return Frame(depth_m, CROP_CAMERA, missing if missing.any() else None)
