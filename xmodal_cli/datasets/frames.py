"""One pair, from the files of a rig to the files of a prepared data set: the work that runs in a pool of processes.

Depth takes these steps: stored numbers to metres, holes filled, coarse steps smoothed (8-bit depth only), encoded. What
is wrong with a pair comes back as a sentence with the pair's name; it does not stop the others.

Shapes: `(H, W)` depth and thermal, `(H, W, 3)` colour, the same H and W in both images of a pair.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xmodal_cli import files
from xmodal_cli.data import images
from xmodal_cli.data.manifest import ManifestRow
from xmodal_cli.data.prepared import RGB
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.modalities import Frame, encode_frame, modality
from xmodal_cli.modalities.geometry import Camera

Link = Literal["hard", "sym", "copy"]

# Kinect recorders (7-Scenes among them) write it where there is no depth; 65.535 m is none a depth camera measures.
NOTHING_16_BIT = 65535
# Half of what a camera sees in a room or a street lies between these; outside, the unit is wrong.
NEAREST_MEDIAN_M = 0.1
FARTHEST_MEDIAN_M = 50.0


@dataclass(frozen=True)
class Recipe:
    """How the frames of one target become modalities; the same for every pair.

    Args:
        root: the prepared data set.
        modalities: what to make.
        target: the target's source as the user wrote it, for messages.
        dtype: type that every target file has.
        depth_unit: metres per step; None where none was given.
        depth_offset: metres at 0.
        camera: of every image; None where none is needed.
        smooth: whether coarse depth is smoothed.
        range: raw values that become 0 and 255, for thermal.
        link: how RGB files get into the data set.
        overwrite: whether an RGB file that differs is replaced.
    """

    root: Path
    modalities: tuple[str, ...]
    target: str
    dtype: str
    depth_unit: float | None = None
    depth_offset: float = 0.0
    camera: Camera | None = None
    smooth: bool = False
    range: tuple[float, float] | None = None
    link: Link = "hard"
    overwrite: bool = False

    @property
    def source(self) -> str:
        """The kind of image that the target is: depth, thermal or colour."""
        return modality(self.modalities[0]).source


@dataclass(frozen=True)
class Pair:
    """The files of one pair and what is still to be made of them.

    Args:
        id: its ID.
        rgb: the colour image, in its source or already in the data set.
        target: the target sensor's image.
        missing: raw depth whose zeros the sensor did not see; None where there is none.
        wanted: modalities to make; others of the recipe are finished.
    """

    id: str
    rgb: Path
    target: Path
    missing: Path | None
    wanted: tuple[str, ...]


@dataclass(frozen=True)
class FrameResult:
    """What became of one pair.

    Args:
        id: its ID.
        rows: manifest rows of its files, RGB's among them; empty where something is wrong.
        error: what is wrong; None where nothing is.
        hint: how to mend it.
        made: files written.
        pixels: pixels of the target.
        filled: pixels that the sensor did not see and that were filled.
        median_m: median depth in metres; None for other targets.
    """

    id: str
    rows: tuple[ManifestRow, ...] = ()
    error: str | None = None
    hint: str | None = None
    made: int = 0
    pixels: int = 0
    filled: int = 0
    median_m: float | None = None


@dataclass(frozen=True)
class Target:
    """A target image in the unit of its kind.

    Args:
        frame: what the encoders take.
        filled: how many pixels were filled.
        median_m: median of the pixels that were seen, metres; None where the target is not depth.
    """

    frame: Frame
    filled: int = 0
    median_m: float | None = None


def prepare_pair(recipe: Recipe, pair: Pair) -> FrameResult:
    """Bring one pair into the data set; errors of its data come back in the result.

    Args:
        recipe: how.
        pair: the files.

    Returns:
        Rows of the manifest and figures, or what is wrong.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    try:
        rgb_bytes = images.read_bytes(pair.rgb)
        size_hw = images.decode_rgb(rgb_bytes, pair.rgb).shape[:2]
        target = read_target(recipe, pair, (size_hw[0], size_hw[1]))
        hw = (size_hw[0], size_hw[1])
        rows = [add_rgb(recipe.root, pair.id, pair.rgb, rgb_bytes, hw, recipe.link, recipe.overwrite)]
        rows += [_add_modality(recipe, pair, name, target.frame) for name in recipe.modalities]
    except (DataError, SettingsError) as error:
        return FrameResult(pair.id, error=error.message, hint=error.hint)
    return FrameResult(
        pair.id,
        tuple(rows),
        made=len(pair.wanted),
        pixels=size_hw[0] * size_hw[1],
        filled=target.filled,
        median_m=target.median_m,
    )


def read_target(recipe: Recipe, pair: Pair, size_hw: tuple[int, int]) -> Target:
    """Read the target image of a pair and bring it into the unit of its kind.

    Args:
        recipe: how.
        pair: the files.
        size_hw: size of the colour image, which the target must have.

    Raises:
        DataError: damaged, another size or type, or depth that cannot be in metres.
    """
    raw = one_channel(images.read_raw(pair.target), pair.target) if recipe.source != "colour" else _colour(pair)
    if raw.shape[:2] != size_hw:
        raise DataError(
            f"The images of pair '{pair.id}' differ in size: '{pair.rgb}' has {size_hw[1]} x {size_hw[0]} pixels, "
            f"'{pair.target}' {raw.shape[1]} x {raw.shape[0]}.",
            "Register the target to the colour camera first; xmodal does not guess how they lie on each other.",
        )
    if recipe.source == "colour":
        return Target(Frame(raw))
    if str(raw.dtype) != recipe.dtype:
        raise DataError(f"'{pair.target}' is {raw.dtype}; the other files of '{recipe.target}' are {recipe.dtype}.")
    return _depth(recipe, pair, raw) if recipe.source == "depth" else Target(Frame(raw, range=recipe.range))


def one_channel(image: NDArray[Any], path: Path) -> NDArray[Any]:
    """One channel of a measured image; several are accepted when all are alike, as some programs store grey.

    Raises:
        DataError: the channels differ: colours are no measurement.
    """
    if image.ndim == 2:
        return image
    if (image[:, :, :3] == image[:, :, :1]).all():
        return np.ascontiguousarray(image[:, :, 0])
    raise DataError(
        f"'{path}' holds colours ({images.describe(image)}); depth and thermal images hold one measured value a pixel.",
        "Export the sensor's raw values (16-bit PNG, TIFF or NPY), not a picture in false colours.",
    )


def unseen(raw: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a depth sensor saw nothing: 0, no finite number, or the largest 16-bit value, as some recorders write.

    Args:
        raw: `(H, W)` depth as stored.

    Returns:
        `(H, W)` bool.

    Example:
        >>> unseen(np.array([[0, 1500, 65535]], np.uint16)).tolist()
        [[True, False, True]]
    """
    nothing: NDArray[np.bool_] = ~np.isfinite(raw) | (raw <= 0)
    return nothing | (raw == NOTHING_16_BIT) if raw.dtype == np.uint16 else nothing


def link_file(source: Path, destination: Path, how: Link) -> None:
    """Put a file into the data set byte for byte; a hard link that the file system refuses becomes a copy.

    Args:
        source: the file.
        destination: where it shall be; replaced whole or not at all.
        how: `hard`, `sym` or `copy`.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    if how == "copy":
        _copy(source, destination)
        return
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}.part")
    temporary.unlink(missing_ok=True)  # of a killed process that had the same number
    try:
        if how == "sym":
            temporary.symlink_to(source.resolve())
        else:
            temporary.hardlink_to(source.resolve())
    except OSError:  # another file system, or one without links
        _copy(source, destination)
        return
    temporary.replace(destination)
    temporary.unlink(missing_ok=True)  # it stays where both are links to one file already


def add_rgb(
    root: Path, identifier: str, source: Path, content: bytes, size_hw: tuple[int, int], link: Link, overwrite: bool
) -> ManifestRow:
    """Link a colour image into the data set, unless the same bytes lie there.

    Args:
        root: the data set.
        identifier: the image's ID.
        source: the file.
        content: its bytes.
        size_hw: its size in pixels.
        link: how it gets in.
        overwrite: whether a file there that differs is replaced.

    Raises:
        DataError: another file of that ID lies there and may not be replaced.
    """
    file = f"{RGB}/{identifier}{source.suffix}"
    destination = root / file
    digest = hashlib.sha256(content).hexdigest()
    if not destination.exists():
        link_file(source, destination, link)
    elif not destination.samefile(source) and files.sha256(destination) != digest:
        if not overwrite:
            raise DataError(
                f"'{destination}' differs from '{source}'.",
                "Pass --overwrite to replace it, or prepare into another folder with --out.",
            )
        link_file(source, destination, link)
    return ManifestRow(identifier, RGB, file, size_hw[0], size_hw[1], len(content), digest)


def _depth(recipe: Recipe, pair: Pair, raw: NDArray[Any]) -> Target:
    """Depth in metres, holes filled and, if wanted, smoothed."""
    from xmodal_cli.modalities import depth

    unit = depth_unit(recipe, raw, pair.target)
    holes = unseen(raw)
    missing = holes if pair.missing is None else holes | _unseen(pair, raw.shape)
    depth_m = depth.to_metres(np.where(holes, 0, raw), unit, recipe.depth_offset)
    if holes.all():
        raise DataError(f"'{pair.target}' is empty: every pixel is 0.", "Leave it out with --skip-bad.")
    median_m = float(np.median(depth_m[~holes]))
    _check_median(median_m, unit, pair.target)
    if not pair.wanted:  # finished by an earlier run: only its figures are wanted
        return Target(Frame(depth_m), int(np.count_nonzero(holes)), median_m)
    if holes.any():
        depth_m = depth.fill_holes(depth_m, holes)
    if recipe.smooth:
        depth_m = depth.smooth_quantised(depth_m, unit)
    frame = Frame(depth_m, recipe.camera, missing if missing.any() else None)
    return Target(frame, int(np.count_nonzero(holes)), median_m)


def depth_unit(recipe: Recipe, raw: NDArray[Any], path: Path) -> float:
    """Metres per step; without a unit the file must hold metres already, which 8 bits cannot.

    Raises:
        DataError: 8-bit depth without a unit.
    """
    if recipe.depth_unit is not None:
        return recipe.depth_unit
    if raw.dtype == np.uint8:
        raise DataError(
            f"'{path}' is 8-bit depth: its values 0 to 255 are no metres, and no unit was given.",
            "Pass --depth-unit in metres per step (and --depth-offset): 0.0392157 where 255 means 10 m.",
        )
    return 1.0


def _check_median(median_m: float, unit: float, path: Path) -> None:
    if median_m > FARTHEST_MEDIAN_M:
        raise DataError(
            f"'{path}': half of the depth is beyond {median_m:.0f} m at {unit:g} m per step: no room or street.",
            "Depth in millimetres needs --depth-unit 0.001, in tenths of a millimetre 0.0001.",
        )
    if median_m < NEAREST_MEDIAN_M:
        raise DataError(
            f"'{path}': half of the depth is nearer than {median_m * 1000:.2g} mm at {unit:g} m per step.",
            "Pass the unit of the file in metres per step: --depth-unit 1 for metres, 0.001 for millimetres.",
        )


def _unseen(pair: Pair, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Where the raw depth of `--missing` saw nothing."""
    if pair.missing is None:
        return np.zeros(shape, np.bool_)
    raw = one_channel(images.read_raw(pair.missing), pair.missing)
    if raw.shape != shape:
        raise DataError(
            f"The raw depth '{pair.missing}' has {raw.shape[1]} x {raw.shape[0]} pixels, "
            f"'{pair.target}' {shape[1]} x {shape[0]}."
        )
    return unseen(raw)


def _colour(pair: Pair) -> NDArray[Any]:
    return images.read_rgb(pair.target)


def _add_modality(recipe: Recipe, pair: Pair, name: str, frame: Frame) -> ManifestRow:
    """Encode and write one modality of a pair, or read back what an earlier run wrote."""
    file = f"{name}/{pair.id}.png"
    path = recipe.root / file
    if name in pair.wanted:
        image = encode_frame(name, frame)
        content = images.encode_png(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(path, content)
    else:
        content = images.read_bytes(path)
        image = images.decode_raw(content, path)
    digest = hashlib.sha256(content).hexdigest()
    return ManifestRow(pair.id, name, file, image.shape[0], image.shape[1], len(content), digest)


def _copy(source: Path, destination: Path) -> None:
    with files.replacing(destination) as temporary:
        shutil.copyfile(source, temporary)
        times = source.stat()
        os.utime(temporary, ns=(times.st_atime_ns, times.st_mtime_ns))
