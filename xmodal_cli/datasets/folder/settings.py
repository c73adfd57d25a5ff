"""What `prepare folder` was asked to do, checked as far as that goes without opening an image."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from xmodal_cli.data.prepared import RGB, PreparedData
from xmodal_cli.datasets.assembly import read_state
from xmodal_cli.datasets.frames import Link
from xmodal_cli.datasets.shards import Shard
from xmodal_cli.errors import SettingsError
from xmodal_cli.modalities import modality
from xmodal_cli.modalities.geometry import Camera

Smooth = Literal["auto", "on", "off"]

SPLIT_NAME = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class FolderSettings:
    """The options of `prepare folder`.

    Args:
        out: the prepared data set to make or to add to.
        modalities: what to make of the target.
        rgb: folder or pattern of the colour images; None takes those of the data set.
        target: folder or pattern of the other sensor's images; None where the modality is made from colour.
        depth_unit: metres per step of stored depth; None for files that hold metres.
        depth_offset: metres at stored 0.
        camera: of all images, counted from 1.
        value_range: raw thermal values that become 0 and 255; None measures them on the train split.
        missing: folder or pattern of raw depth whose zeros the sensor did not see.
        annotations: COCO files by split.
        split_files: files with one ID per line, by split.
        val_fraction: share of the images, by scene, that becomes the split val.
        scenes: CSV file `ID,scene`.
        link: how colour images get into the data set.
        smooth: whether coarse depth is smoothed; auto smooths 8-bit depth.
        skip_bad: leave out what is wrong, count it and go on.
        overwrite: make modalities again that are there with other settings.
        workers: processes; None decides.
        dry_run: look at everything, estimate time and size, write nothing.
        name: of the data set; None takes the folder's.
        shard: the part of the pairs that is prepared here; None for all.
    """

    out: Path
    modalities: tuple[str, ...]
    rgb: str | None = None
    target: str | None = None
    depth_unit: float | None = None
    depth_offset: float = 0.0
    camera: Camera | None = None
    value_range: tuple[float, float] | None = None
    missing: str | None = None
    annotations: Mapping[str, Path] = field(default_factory=dict)
    split_files: Mapping[str, Path] = field(default_factory=dict)
    val_fraction: float | None = None
    scenes: Path | None = None
    link: Link = "hard"
    smooth: Smooth = "auto"
    skip_bad: bool = False
    overwrite: bool = False
    workers: int | None = None
    dry_run: bool = False
    name: str | None = None
    shard: Shard | None = None


def check_settings(settings: FolderSettings, old: PreparedData | None) -> None:
    """Check everything that can be known before files are looked at; all problems are reported at once.

    Raises:
        SettingsError: options that are missing, unknown or contradict each other.
    """
    if not settings.modalities:
        raise SettingsError("No modality was named.", "Pass --modality hha (or disparity, depth, thermal, gray).")
    entries = [modality(name) for name in settings.modalities]
    sources = {entry.source for entry in entries}
    problems = []
    if "flow" in sources:
        problems.append(
            "Flow is not made from files of others yet; `xmodal prepare rooms` makes it with its own pictures."
        )
    if len(sources) > 1:
        kinds = ", ".join(f"{entry.name} from {entry.source}" for entry in entries)
        problems.append(f"One target is one kind of image: {kinds}. Prepare them one after another, same --out.")
    if settings.rgb is None and old is None:
        problems.append("A new data set needs its colour images: --rgb DIR or a quoted pattern.")
    if settings.target is None and sources != {"colour"}:
        problems.append("The other sensor's images are not named: --target DIR or a quoted pattern.")
    if camera_of(settings, old) is None and any(entry.needs_camera for entry in entries):
        needing = ", ".join(entry.name for entry in entries if entry.needs_camera)
        problems.append(
            f"{needing} needs the camera in pixels: --camera fx,fy,cx,cy (and --pixel-origin 0 for OpenCV and ROS); "
            "--modality disparity does without."
        )
    known = None if old is None else camera_of_data(old)
    if known is not None and camera_of(settings, old) != known and not settings.overwrite:
        problems.append(
            f"The data set has the camera {_numbers(known)}; --camera gives another one (counted from 1). "
            "Prepare into another folder with --out, or pass --overwrite to make the modality anew."
        )
    problems += _value_problems(settings, sources) + _split_problems(settings)
    if problems:
        raise SettingsError("\n".join(problems), "See `xmodal prepare folder --help` for examples.")


def camera_of(settings: FolderSettings, old: PreparedData | None) -> Camera | None:
    """The camera given, else the one that the data set knows."""
    if settings.camera is not None or old is None:
        return settings.camera
    return camera_of_data(old)


def camera_of_data(data: PreparedData) -> Camera | None:
    """The camera that a data set knows."""
    return None if data.camera is None else Camera.from_dict(dict(data.camera))


def settings_of(name: str, settings: FolderSettings, camera: Camera | None, smooth: bool) -> dict[str, Any]:
    """The settings that decide what one modality's pixels are, as they are recorded and compared.

    Args:
        name: the modality.
        settings: the options.
        camera: of all images.
        smooth: what `auto` came to.
    """
    entry = modality(name)
    recorded: dict[str, Any] = {"target": absolute(settings.target or settings.rgb)}
    if entry.source == "depth":
        recorded["depth_unit"] = 1.0 if settings.depth_unit is None else settings.depth_unit
        recorded["depth_offset"] = settings.depth_offset
        recorded["missing"] = absolute(settings.missing)
        recorded["smooth"] = smooth
    if entry.needs_camera and camera is not None:
        recorded["camera"] = camera.to_dict()
    return recorded


def recorded_settings(settings: FolderSettings, old: PreparedData | None) -> dict[str, dict[str, Any]]:
    """What earlier runs into the same folder made, finished or not: settings by modality."""
    finished = {} if old is None else old.provenance.get("modalities", {})
    known = {name: dict(entry.get("settings", {})) for name, entry in finished.items()}
    return known | {name: dict(entry) for name, entry in read_state(settings.out).items()}


def _numbers(camera: Camera) -> str:
    return ",".join(f"{value:g}" for value in camera.to_dict().values())


def _value_problems(settings: FolderSettings, sources: set[Any]) -> list[str]:
    problems = []
    if settings.depth_unit is not None and not 0 < settings.depth_unit < float("inf"):
        problems.append(f"--depth-unit is metres per step, above 0; found {settings.depth_unit}.")
    given = settings.depth_unit is not None or settings.depth_offset != 0 or settings.missing is not None
    if given and "depth" not in sources:
        names = ", ".join(settings.modalities)
        problems.append(f"--depth-unit, --depth-offset and --missing are for depth; {names} is not made from depth.")
    if settings.value_range is not None:
        low, high = settings.value_range
        if "thermal" not in sources:
            problems.append(f"--range is for thermal; {', '.join(settings.modalities)} is not made from it.")
        if not low < high:
            problems.append(f"--range is LOW,HIGH, the lower first; found {low:g},{high:g}.")
    return problems


def _split_problems(settings: FolderSettings) -> list[str]:
    problems = []
    ways = [bool(settings.annotations), bool(settings.split_files), settings.val_fraction is not None]
    if sum(ways) > 1:
        problems.append("Splits are decided in one way: --annotations, --split-file or --val-fraction.")
    if settings.val_fraction is not None and not 0 < settings.val_fraction < 1:
        problems.append(f"--val-fraction is above 0 and below 1; found {settings.val_fraction}.")
    for name in (*settings.annotations, *settings.split_files):
        if not SPLIT_NAME.fullmatch(name) or name == RGB:
            problems.append(f"'{name}' is no name for a split: letters, digits, -, _ and . are allowed.")
    return problems


def absolute(source: str | Path | None) -> str | None:
    """A source as an absolute path, so that the same files are recognised from another folder."""
    return None if source is None else os.path.abspath(source)  # noqa: PTH100  (Path.absolute keeps "..")
