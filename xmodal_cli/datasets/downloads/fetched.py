"""Where fetched files lie, and how `prepare` finds them.

```
CACHE/data/SET/FILE           as it was published, its SHA-256 beside it
CACHE/data/SET/ARCHIVE/       what an archive of that name held
```
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xmodal_cli.datasets.downloads import archives, catalogue
from xmodal_cli.datasets.downloads.entries import PublishedFile
from xmodal_cli.errors import DownloadError
from xmodal_cli.web.cache import cache_root
from xmodal_cli.web.fetch import pin_of


def data_root() -> Path:
    """The folder of all published data sets."""
    return cache_root() / "data"


def place_of(file: PublishedFile) -> Path:
    """Where a file is, or would be."""
    return data_root() / catalogue.set_of(file).name / file.name


def folder_of(file: PublishedFile) -> Path:
    """Where an archive is unpacked, or would be."""
    place = place_of(file)
    return place.with_name(archives.stem(place.name))


def pinned(file: PublishedFile) -> str:
    """The SHA-256 that a file was pinned with; empty where it was never fetched."""
    pin = pin_of(place_of(file))
    return pin.read_text().strip() if pin.is_file() else ""


def is_fetched(file: PublishedFile) -> bool:
    """Whether a file is here and was checked."""
    return place_of(file).is_file() and bool(pinned(file))


def is_unpacked(file: PublishedFile) -> bool:
    """Whether what an archive held is here, from the archive that was checked."""
    found = archives.unpacked_from(folder_of(file))
    return found is not None and found == pinned(file)


def unpacked_of(names: Sequence[str]) -> str:
    """Of archives that hold the same, the first that is unpacked; the first of all where none is."""
    return next((name for name in names if is_unpacked(catalogue.FILES[name])), names[0])


def is_here(file: PublishedFile) -> bool:
    """Whether a file, or what it held, is here."""
    return is_fetched(file) or is_unpacked(file)


def catalogue_path(name: str) -> Path:
    """A published file that was fetched.

    Args:
        name: its name in the catalogue, e.g. `splits.mat`.

    Raises:
        DownloadError: it is not here yet.
    """
    file = _known(name)
    if not is_fetched(file):
        raise _missing(name)
    return place_of(file)


def unpacked_path(name: str) -> Path:
    """The folder of what a published archive held.

    Args:
        name: the archive's name in the catalogue, e.g. `Rename_Images.tar.gz`.

    Raises:
        DownloadError: it is not here yet.
    """
    file = _known(name)
    if not is_unpacked(file):
        raise _missing(name)
    return folder_of(file)


def _known(name: str) -> PublishedFile:
    file = catalogue.FILES.get(name)
    if file is None:
        raise catalogue.unknown(name)
    return file


def _missing(name: str) -> DownloadError:
    found = catalogue.FILES[name]
    return DownloadError(
        f"{name} is not in {place_of(found).parent}.", f"xmodal download {catalogue.set_of(found).name}"
    )
