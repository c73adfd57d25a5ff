"""Where raw frames lie: folders of scenes, or the published zip parts, which are read without unpacking them.

A scene is a folder with files `r-TIME-TICKS.ppm` (colour), `d-TIME-TICKS.pgm` (depth) and `a-TIME-TICKS.dump`
(accelerometer, not used); TIME is in seconds. Scene folders may lie one or more levels below what is named.
"""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from xmodal_cli.datasets.downloads.catalogue import SETS
from xmodal_cli.datasets.downloads.fetched import folder_of, is_here, is_unpacked, place_of
from xmodal_cli.errors import DataError, DownloadError, SettingsError

FRAME = re.compile(r"([rd])-(\d+(?:\.\d+)?)-(\d+)\.(ppm|pgm)")
LOOKS_LIKE_FRAME = re.compile(r"[rd]-.*\.(ppm|pgm)")
KINDS = {"r": "ppm", "d": "pgm"}
OPEN_ZIPS = 8  # archives that one process keeps open


@dataclass(frozen=True, order=True)
class RawFile:
    """One file of a scene.

    Args:
        time_s: the time stamp in its name, seconds.
        name: its name without folder.
        container: the folder it lies in, or the zip archive.
        member: its name in the archive; None for a file in a folder.
    """

    time_s: float
    name: str
    container: str
    member: str | None = None

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            DataError: it cannot be read, or the archive is damaged there.
        """
        try:
            if self.member is None:
                return (Path(self.container) / self.name).read_bytes()
            return _archive(self.container).read(self.member)
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"'{self.shown}' cannot be read: {reason}.") from None

    @property
    def shown(self) -> str:
        """Its place, for messages."""
        return f"{self.container}/{self.member or self.name}"


@dataclass(frozen=True)
class SceneFolder:
    """The frames of one scene folder.

    Args:
        name: of the folder.
        colour: its colour files in order of time.
        depth: its depth files in order of time.
        bad_names: files that look like frames but have no time stamp that can be read.
    """

    name: str
    colour: tuple[RawFile, ...]
    depth: tuple[RawFile, ...]
    bad_names: tuple[str, ...]


def downloaded() -> tuple[Path, ...]:
    """The parts that `xmodal download` fetched: folders of what was unpacked, archives of what was not.

    Raises:
        DownloadError: there is none.
    """
    parts = SETS["nyud2-raw"].files
    here = tuple(folder_of(part) if is_unpacked(part) else place_of(part) for part in parts if is_here(part))
    if not here:
        raise DownloadError(
            f"No raw video is in {place_of(parts[0]).parent}.",
            "xmodal download basements.zip 'kitchens_*.zip'; or name a folder or an archive of yours with --raw.",
        )
    return here


def find_scenes(sources: Sequence[Path]) -> list[SceneFolder]:
    """All scene folders in some folders and zip archives, by name; parts of one that lie in several are joined.

    Raises:
        SettingsError: a source is not there, or none was named.
        DataError: a source holds no frames, or is a damaged archive.
    """
    if not sources:
        raise SettingsError("No raw video was named.", "Name folders of scenes, or zip parts: --raw raw/basements.zip.")
    found: dict[str, dict[str, tuple[str, str | None]]] = {}
    for source in sources:
        count = 0
        for folder, name, container, member in _files(source):
            found.setdefault(folder, {}).setdefault(name, (container, member))
            count += 1
        if not count:
            raise DataError(
                f"'{source}' holds no raw frames (r-TIME-N.ppm, d-TIME-N.pgm in a folder for each scene).",
                "Name the folder that holds the scenes' folders, or a zip part as it was published.",
            )
    return [_scene(name, files) for name, files in sorted(found.items())]


def _scene(name: str, files: dict[str, tuple[str, str | None]]) -> SceneFolder:
    frames: dict[str, list[RawFile]] = {"r": [], "d": []}
    bad = []
    for file, (container, member) in files.items():
        parsed = FRAME.fullmatch(file)
        if parsed is None or KINDS[parsed[1]] != parsed[4]:
            bad.append(file)
        else:
            frames[parsed[1]].append(RawFile(float(parsed[2]), file, container, member))
    return SceneFolder(name, tuple(sorted(frames["r"])), tuple(sorted(frames["d"])), tuple(sorted(bad)))


def _files(source: Path) -> Iterator[tuple[str, str, str, str | None]]:
    """Scene folder, file name, container and member of everything in a source that looks like a frame."""
    if source.is_dir():
        for folder, folders, names in os.walk(source, followlinks=True):
            folders.sort()
            scene = Path(folder).resolve().name
            yield from ((scene, name, folder, None) for name in _frames(names))
    elif zipfile.is_zipfile(source):
        for member in _members(source):
            path = PurePosixPath(member)
            if path.parent.name and LOOKS_LIKE_FRAME.fullmatch(path.name):
                yield path.parent.name, path.name, str(source), member
    elif source.exists():
        raise DataError(f"'{source}' is neither a folder nor a whole zip archive.", "Fetch it again.")
    else:
        raise SettingsError(f"'{source}' is not there.", "Check the path.")


def _frames(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if LOOKS_LIKE_FRAME.fullmatch(name))


def _members(source: Path) -> list[str]:
    try:
        with zipfile.ZipFile(source) as archive:
            return archive.namelist()
    except zipfile.BadZipFile as error:
        raise DataError(f"'{source}' is a damaged zip archive: {error}.", "Fetch it again.") from None


@lru_cache(maxsize=OPEN_ZIPS)
def _archive(path: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)
