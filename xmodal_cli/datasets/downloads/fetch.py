"""Words to files on this disk: looked up, fetched or taken from a folder, checked, unpacked; one call, one report.

A word is a set or a file of the catalogue, or the name of a network whose weights torchvision or timm published. What
fails does not keep the rest from being fetched; the failures are told together at the end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xmodal_cli import files
from xmodal_cli.datasets.downloads import archives, catalogue, fetched
from xmodal_cli.datasets.downloads.entries import PublishedFile
from xmodal_cli.errors import DownloadError, SettingsError, XmodalError
from xmodal_cli.models import catalogue as networks
from xmodal_cli.models import downloads as weights
from xmodal_cli.web.fetch import Fetched, Wanted, Watcher, accept, fetch, here, partial_of, pin_of, unwatched, with_pin
from xmodal_cli.web.promises import promise


@dataclass(frozen=True)
class DownloadSettings:
    """What is asked for.

    Args:
        names: sets, files, patterns of files, networks.
        from_folder: take the files from there, and ask no server.
        unpack: unpack archives.
        remove_archives: remove an archive once it is unpacked.
        reread: hash files that are here, even where nothing suggests that they changed.
        dry_run: only look what would be done.
    """

    names: tuple[str, ...]
    from_folder: Path | None = None
    unpack: bool = True
    remove_archives: bool = False
    reread: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Item:
    """One file to be fetched; `file` is None for the weights of a network."""

    name: str
    wanted: Wanted
    file: PublishedFile | None = None

    @property
    def unpacks(self) -> bool:
        """Whether it is an archive of the catalogue."""
        return self.file is not None and archives.is_archive(self.file.name)


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Args:
        name: the file, or the network.
        state: `fetched`, `taken` (from a folder), `here` (already), or in a dry run `missing`.
        bytes: its size; 0 if unknown.
        path: where it is, or would be.
        sha256: its hash; empty in a dry run.
        checked: what its hash was compared with.
        url: where it came from.
        unpacked: the folder of its contents, if it was unpacked.
    """

    name: str
    state: str
    bytes: int
    path: Path
    sha256: str = ""
    checked: tuple[str, ...] = ()
    url: str = ""
    unpacked: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        shown = {"name": self.name, "state": self.state, "bytes": self.bytes or None, "path": str(self.path)}
        checks = {"sha256": self.sha256 or None, "checked": list(self.checked), "url": self.url or None}
        return shown | checks | {"unpacked": str(self.unpacked) if self.unpacked else None}


@dataclass(frozen=True)
class DownloadReport:
    """What is here now, or in a dry run what would be fetched.

    Args:
        outcomes: one for each file.
        free_bytes: room on the disk of the cache.
        dry_run: whether nothing was done.
    """

    outcomes: tuple[Outcome, ...]
    free_bytes: int
    dry_run: bool = False

    @property
    def missing_bytes(self) -> int:
        """What is still to be fetched, as far as sizes are known."""
        return sum(each.bytes for each in self.outcomes if each.state == "missing")

    @property
    def unknown(self) -> int:
        """How many files are to be fetched whose sizes nobody states."""
        return sum(each.state == "missing" and not each.bytes for each in self.outcomes)

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "dry_run": self.dry_run,
            "files": [each.to_dict() for each in self.outcomes],
            "missing_bytes": self.missing_bytes,
            "files_of_unknown_size": self.unknown,
            "free_bytes": self.free_bytes,
        }

    def table(self) -> list[tuple[str, str, str]]:
        """Rows of file, state and size."""
        return [(each.name, each.state, size(each.bytes)) for each in self.outcomes]

    @property
    def folders(self) -> list[Path]:
        """Where the files are, or would be; each folder once."""
        return list(dict.fromkeys(each.path.parent for each in self.outcomes))

    @property
    def still_to_come(self) -> str:
        """How much is to be fetched, in words."""
        known = size(self.missing_bytes) if self.missing_bytes else ""
        unknown = f"{self.unknown} of unknown size" if self.unknown else ""
        return " and ".join(filter(None, (known, unknown))) or "nothing"


@dataclass(frozen=True)
class Watch:
    """Who is told what happens: bytes that arrive, archives that are unpacked, files that are done."""

    downloading: Watcher = unwatched
    unpacking: Watcher = unwatched
    finished: Callable[[Outcome], None] = field(default=lambda outcome: None)


def size(count: int) -> str:
    """Bytes as a person says them.

    Example:
        >>> size(2972037809), size(2626), size(0)
        ('2.97 GB', '2.6 kB', 'unknown')
    """
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= step:
            return f"{count / step:.{2 if unit == 'GB' else 1}f} {unit}"
    return f"{count} B" if count else "unknown"


def items(names: Sequence[str]) -> list[Item]:
    """The files that words mean, each once.

    Raises:
        SettingsError: a word means nothing, or a network without published weights.
    """
    found: dict[Path, Item] = {}
    for word in names:
        for item in _items(word):
            found.setdefault(item.wanted.path, item)
    return list(found.values())


def _items(word: str) -> list[Item]:
    if published := catalogue.named(word):
        return [Item(file.name, wanted_file(file), file) for file in published]
    try:
        model = networks.parse(word)
    except SettingsError:
        raise catalogue.unknown(word, networks.names()) from None
    wanted = weights.wanted(model)
    by_hand = f"{wanted.by_hand} Or: xmodal download {word} --from DIR, with the file in DIR."
    return [Item(word, replace(wanted, by_hand=by_hand))]


def wanted_file(file: PublishedFile) -> Wanted:
    """A file of the catalogue as something to be fetched."""
    known = f"It is also known to live here: {file.elsewhere}. " if file.elsewhere else ""
    by_hand = f"{known}Fetch {file.name} by hand into a folder DIR, then: xmodal download {file.name} --from DIR"
    promises = (promise(file.hash, "the catalogue"),) if file.hash else ()
    return Wanted(file.urls, fetched.place_of(file), promises, file.size, file.sidecar, by_hand)


def download(settings: DownloadSettings, watch: Watch | None = None) -> DownloadReport:
    """Fetch, check and unpack; what is here already is left as it is.

    Args:
        settings: what is asked for.
        watch: told what happens.

    Raises:
        SettingsError: a word means nothing.
        DownloadError: some files could not be had; all others are here.
        DataError: an archive holds what it should not.
        XmodalError, OSError: the disk has no room.
    """
    asked = items(settings.names)
    free = _free(fetched.data_root())
    looked = DownloadReport(tuple(_look(item, settings) for item in asked), free, dry_run=True)
    if settings.dry_run:
        return looked
    collected = sum(_size_of(partial_of(item.wanted.path)) for item in asked)
    if looked.missing_bytes - collected > free and settings.from_folder is None:
        raise XmodalError(
            f"{size(looked.missing_bytes)} are to be fetched, and {size(free)} are free in {fetched.data_root()}.",
            "Name fewer files, free some space, or let XMODAL_CACHE name a folder on another disk.",
        )
    by_hand = _by_hand(settings.from_folder, asked)
    outcomes: list[Outcome] = []
    failures: list[XmodalError] = []
    for item in asked:
        try:
            outcomes.append(_get(item, settings, by_hand, watch or Watch()))
            (watch or Watch()).finished(outcomes[-1])
        except XmodalError as error:
            failures.append(error)
    if failures:
        raise _together(failures, len(asked))
    return DownloadReport(tuple(outcomes), _free(fetched.data_root()))


def _together(failures: list[XmodalError], count: int) -> XmodalError:
    """One error for all of them, with the exit code of the first."""
    first = failures[0]
    if len(failures) == 1:
        return first
    hints = dict.fromkeys(error.hint for error in failures if error.hint)
    lines = "\n".join(f"- {error.message}" for error in failures)
    return type(first)(f"{len(failures)} of {count} files failed; the others are here.\n{lines}", "\n".join(hints))


def _look(item: Item, settings: DownloadSettings) -> Outcome:
    """What would be done about a file; nothing is changed and no server is asked."""
    path, file = item.wanted.path, item.file
    if file is not None and settings.unpack and item.unpacks and fetched.is_unpacked(file):
        return Outcome(item.name, "here", file.bytes, path, fetched.pinned(file), unpacked=fetched.folder_of(file))
    if path.is_file():
        return Outcome(item.name, "here", path.stat().st_size, path)
    return Outcome(item.name, "missing", file.bytes if file else 0, path)


def _get(item: Item, settings: DownloadSettings, by_hand: Mapping[str, Path], watch: Watch) -> Outcome:
    """One file, here, checked and unpacked."""
    looked = _look(item, settings)
    if looked.unpacked and not (looked.path.is_file() and settings.reread):
        return looked
    if settings.from_folder is not None:
        found, state = _take(item.wanted, settings.from_folder, by_hand.get(item.wanted.path.name), settings.reread)
    else:
        found = fetch(item.wanted, watch.downloading, reread=settings.reread)
        state = "fetched" if found.url else "here"
    count = found.path.stat().st_size
    unpacked = None
    if item.file is not None and settings.unpack and item.unpacks:
        unpacked = fetched.folder_of(item.file)
        archives.unpack(found.path, unpacked, found.sha256, lambda done, total: watch.unpacking(item.name, done, total))
        if settings.remove_archives:
            found.path.unlink()
    return Outcome(item.name, state, count, found.path, found.sha256, found.checked, found.url, unpacked)


def _by_hand(folder: Path | None, asked: Sequence[Item]) -> dict[str, Path]:
    """The files that are asked for and lie in a folder or below it, by name; what cannot be read is passed over.

    Raises:
        SettingsError: there is no such folder.
    """
    if folder is None:
        return {}
    if not folder.is_dir():
        raise SettingsError(f"--from names no folder: {folder}.", "Pass the folder that holds the files.")
    names = {item.wanted.path.name for item in asked}
    found: dict[str, Path] = {}
    for place, below, inside in os.walk(folder):
        below.sort()
        found = {name: Path(place) / name for name in names.intersection(inside)} | found
    return found


def _take(wanted: Wanted, folder: Path, found: Path | None, reread: bool) -> tuple[Fetched, str]:
    """A file that was fetched by hand: checked, then linked or copied to its place."""
    if present := here(wanted, reread=reread):
        return present, "here"
    if found is None:
        where = f" It was published here: {', '.join(wanted.urls)}." if wanted.urls else ""
        raise DownloadError(f"{wanted.path.name} is not in {folder}.{where}", wanted.by_hand)
    checked = accept(with_pin(wanted), found)
    wanted.path.parent.mkdir(parents=True, exist_ok=True)
    _link_or_copy(found, wanted.path)
    files.write_text(pin_of(wanted.path), checked.sha256 + "\n")
    for left in (partial_of(wanted.path), partial_of(wanted.path).with_suffix(".partial.json")):
        left.unlink(missing_ok=True)
    return Fetched(wanted.path, checked.sha256, checked=checked.checked), "taken"


def _link_or_copy(source: Path, target: Path) -> None:
    """The same file twice where the disk allows it, else a copy."""
    with files.replacing(target, sync=False) as temporary:
        try:
            os.link(source.resolve(), temporary)
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            shutil.copyfile(source, temporary)


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _free(folder: Path) -> int:
    """Room on the disk on which a folder is, or would be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
