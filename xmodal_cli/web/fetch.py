"""One file from one of its mirrors to its place, whole and checked, or not at all.

What arrives is collected in `.NAME.partial` beside its place. A transfer that was cut goes on there, in the same call
or in the next one; pooch then compares the hash and moves the file to its name. The SHA-256 of what was accepted is
pinned in `NAME.sha256`, and is from then on a promise that a later fetch has to keep.

Nothing is printed: a watcher is told the size before the first byte, and the progress after.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from xmodal_cli import files
from xmodal_cli.errors import DownloadError, SettingsError, XmodalError
from xmodal_cli.web import streams
from xmodal_cli.web.promises import Promise, measure
from xmodal_cli.web.streams import Broken, Refused

Watcher = Callable[[str, int, int], None]  # (URL, bytes done, bytes in all; 0 where the server does not say)

TRIES = 4  # in a row without a new byte
WAIT_S = 1.0  # before the second try; doubled before each further one
RESERVE_BYTES = 50_000_000  # of the disk that stay free


def unwatched(url: str, done: int, total: int) -> None:
    """A watcher that does not look."""


@dataclass(frozen=True)
class Wanted:
    """A file that somebody published.

    Args:
        urls: where it is, the best first.
        path: where it is to be.
        promises: hashes that it must have.
        size: its size in bytes; 0 if unknown.
        sidecar: ending of a small file with its MD5 that lies beside it (`.md5`); empty where there is none.
        by_hand: how to go on when no server gives it: the end of the error's hint.
    """

    urls: tuple[str, ...]
    path: Path
    promises: tuple[Promise, ...] = ()
    size: int = 0
    sidecar: str = ""
    by_hand: str = ""


@dataclass(frozen=True)
class Fetched:
    """A file that is here.

    Args:
        path: where.
        sha256: its hash.
        url: where it came from; empty where it was here before.
        checked: what it was compared with, e.g. `md5 of the catalogue`; empty where nobody had promised anything.
    """

    path: Path
    sha256: str
    url: str = ""
    checked: tuple[str, ...] = field(default=())


def pin_of(path: Path) -> Path:
    """Where the SHA-256 of a fetched file is kept."""
    return path.with_name(path.name + ".sha256")


def partial_of(path: Path) -> Path:
    """Where a file is collected that is not yet whole."""
    return path.with_name(f".{path.name}.partial")


def here(wanted: Wanted, *, reread: bool) -> Fetched | None:
    """The file, if it is at its place and what it should be; what was damaged since it was fetched is removed.

    Args:
        wanted: the file.
        reread: compare its hash even where nothing suggests that it changed since it was pinned.

    Raises:
        DownloadError: somebody put another file there.
    """
    path, pin = wanted.path, pin_of(wanted.path)
    if not path.is_file():
        return None
    if pin.is_file():
        pinned = pin.read_text().strip()
        untouched = path.stat().st_mtime_ns <= pin.stat().st_mtime_ns
        if (untouched and not reread) or files.sha256(path) == pinned:
            return Fetched(path, pinned)
        path.unlink()  # damaged since it was pinned
        return None
    try:
        return accept(wanted, path)
    except DownloadError as error:  # not ours: somebody put it there
        raise DownloadError(f"{path} is not what it should be: {error.message}", "Remove it, or replace it.") from error


def accept(wanted: Wanted, found: Path, further: Sequence[Promise] = ()) -> Fetched:
    """Compare a file with everything that was promised, and pin it if it is at its place.

    Raises:
        DownloadError: it is another file.
    """
    promises = [*wanted.promises, *further]
    if wanted.size and found.stat().st_size != wanted.size:
        raise DownloadError(f"{found} has {found.stat().st_size:,} bytes, expected were {wanted.size:,}.")
    measured = measure(found, {each.algorithm for each in promises})
    for each in promises:
        actual = measured[each.algorithm]
        if not actual.startswith(each.digits):
            name = {"sha256": "SHA-256", "sha1": "SHA-1", "md5": "MD5"}[each.algorithm]
            raise DownloadError(f"{found.name} came with {name} {actual}, promised was {each.digits} ({each.by}).")
    if found == wanted.path:
        files.write_text(pin_of(found), measured["sha256"] + "\n")
    return Fetched(found, measured["sha256"], checked=tuple(f"{each.algorithm} of {each.by}" for each in promises))


def fetch(wanted: Wanted, watch: Watcher = unwatched, *, reread: bool = True) -> Fetched:
    """Fetch a file from the first mirror that has it, unless it is here.

    Args:
        wanted: the file.
        watch: told the size before the first byte, then the progress.
        reread: hash a file that is here, even where nothing suggests that it changed.

    Raises:
        DownloadError: no mirror gives the file, or each gives another one.
        SettingsError: another process is fetching it.
        OSError: the disk is full.
    """
    if found := here(wanted, reread=reread):
        return found
    wanted = with_pin(wanted)
    made = not wanted.path.parent.exists()
    wanted.path.parent.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    try:
        for url in wanted.urls:
            try:
                return _from_mirror(url, wanted, watch)
            except (Refused, Broken) as error:
                failed.append(f"{url} {error}")
            except DownloadError as error:
                failed.append(f"{url}: {error.message}")
    finally:
        if made:
            _remove_if_empty(wanted.path.parent)
    raise DownloadError(_all_failed(wanted, failed), _way_on(wanted))


def with_pin(wanted: Wanted) -> Wanted:
    """The file with the promise of what was accepted before, if it was fetched before and is gone."""
    pin = pin_of(wanted.path)
    if not pin.is_file():
        return wanted
    again = Promise("sha256", pin.read_text().strip(), f"pinned in {pin}; remove it to accept another file")
    return replace(wanted, promises=(*wanted.promises, again))


def _all_failed(wanted: Wanted, failed: list[str]) -> str:
    if not failed:
        return f"{wanted.path.name}: no address is known."
    reasons = ". ".join(each.rstrip(".") for each in failed)
    return f"{wanted.path.name} could not be fetched. {reasons}."


def _way_on(wanted: Wanted) -> str:
    partial = partial_of(wanted.path)
    kept = f"{partial.stat().st_size:,} bytes are kept; run the command again to go on. " if partial.is_file() else ""
    return kept + wanted.by_hand


def _from_mirror(url: str, wanted: Wanted, watch: Watcher) -> Fetched:
    """Fetch from one mirror; a continued file that turns out wrong is fetched once more from its start."""
    answer = streams.ask(url)
    further = [answer.promise] if answer.promise else []
    if wanted.sidecar and (beside := streams.read_md5(url, wanted.sidecar)):
        further.append(beside)
    partial = partial_of(wanted.path)
    with _collected(partial) as handle:
        started_at = _receive(url, handle, wanted, answer.size, watch)
        try:
            found = _accept_or_drop(handle, wanted, further)
        except DownloadError:
            if not started_at:
                raise
            _receive(url, handle, wanted, answer.size, watch)
            found = _accept_or_drop(handle, wanted, further)
        os.fsync(handle.fileno())
        _place(url, partial, wanted)
    files.write_text(pin_of(wanted.path), found.sha256 + "\n")
    return Fetched(wanted.path, found.sha256, url, found.checked)


def _accept_or_drop(handle: BinaryIO, wanted: Wanted, further: Sequence[Promise]) -> Fetched:
    """Compare what was collected with what was promised; what is wrong must not be continued."""
    try:
        return accept(wanted, Path(handle.name), further)
    except DownloadError:
        handle.truncate(0)
        raise


def _place(url: str, partial: Path, wanted: Wanted) -> None:
    """Move a collected file to its name by pooch, which compares the hash once more where a whole one is promised."""
    import pooch

    pooch.get_logger().setLevel("ERROR")  # its report of the hash goes to stderr otherwise
    known = next((str(each) for each in wanted.promises if each.whole), None)
    moved = lambda _, output, __: partial.replace(output)  # noqa: E731
    pooch.retrieve(url, known, fname=wanted.path.name, path=wanted.path.parent, downloader=moved)
    _note_of(partial).unlink(missing_ok=True)


@contextlib.contextmanager
def _collected(partial: Path) -> Iterator[BinaryIO]:
    """The file in which the bytes are collected, for this process alone; an empty one does not stay."""
    with partial.open("ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                f"Another process is fetching {partial.name[1:-8]}.", "Wait until it is done."
            ) from None
        if not partial.exists() or os.fstat(handle.fileno()).st_ino != partial.stat().st_ino:
            raise SettingsError(f"Another process has just fetched {partial.name[1:-8]}.", "Run the command again.")
        try:
            yield handle
        finally:
            handle.flush()
            if partial.exists() and partial.stat().st_size == 0:
                partial.unlink()
                _note_of(partial).unlink(missing_ok=True)


def _receive(url: str, handle: BinaryIO, wanted: Wanted, stated: int, watch: Watcher) -> int:
    """Collect what is missing, in as many tries as bring something new; returns how much was here before."""
    note = _resumable(url, handle, wanted)
    started_at = handle.seek(0, os.SEEK_END)
    tries, wait = 0, WAIT_S
    watch(url, started_at, stated or wanted.size)
    while True:
        before = handle.seek(0, os.SEEK_END)
        try:
            _append(url, handle, note, wanted, watch)
            return started_at
        except Broken:
            grown = handle.seek(0, os.SEEK_END) > before
            tries, wait = (1, WAIT_S) if grown else (tries + 1, wait * 2)
            if tries >= TRIES or (not grown and before == 0):  # nothing ever came: the next mirror is likelier to help
                raise
            time.sleep(wait)


def _append(url: str, handle: BinaryIO, note: dict[str, Any], wanted: Wanted, watch: Watcher) -> None:
    """One try: from where the file ends to its end."""
    with streams.opened(url, handle.seek(0, os.SEEK_END), note.get("validator", "")) as stream:
        total = stream.total or wanted.size
        if wanted.size and stream.total and stream.total != wanted.size:
            raise Refused(f"has {stream.total:,} bytes, expected were {wanted.size:,}")
        changed = note.get("total") and stream.total and note["total"] != stream.total
        if changed and stream.start:
            handle.truncate(0)
            raise Broken("has another version of the file by now")
        note.update(url=url, validator=stream.validator, total=stream.total)
        files.write_json(_note_of(Path(handle.name)), note)
        handle.truncate(stream.start)
        done = handle.seek(0, os.SEEK_END)
        _check_space(Path(handle.name), total - done)
        for chunk in stream.chunks:
            done += handle.write(chunk)
            if total and done > total:
                handle.truncate(0)
                raise Refused(f"sent more than {total:,} bytes")
            watch(url, done, total)
        handle.flush()
    if total and done < total:
        raise Broken(f"stopped at {done:,} of {total:,} bytes")


def _resumable(url: str, handle: BinaryIO, wanted: Wanted) -> dict[str, Any]:
    """What is known of the bytes that are here; those that cannot be continued are dropped."""
    path = _note_of(Path(handle.name))
    try:
        note: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        note = {}
    if note.get("url") == url:
        return note
    if any(each.whole for each in wanted.promises) and note:  # another mirror of the same file: its hash will tell
        return {"total": note.get("total", 0)}
    handle.truncate(0)
    return {}


def _note_of(partial: Path) -> Path:
    """Where it stands what a partial file is a part of."""
    return partial.with_name(partial.name + ".json")


def _check_space(beside: Path, needed: int) -> None:
    """Refuse to begin what cannot end.

    Raises:
        XmodalError: the disk has less room than that.
    """
    import shutil

    free = shutil.disk_usage(beside.parent).free
    if needed > 0 and free < needed + min(RESERVE_BYTES, needed):
        raise XmodalError(
            f"{beside.name[1:-8]} needs {needed / 1e9:.2f} GB more in {beside.parent}; {free / 1e9:.2f} GB are free.",
            "Free some space, or let XMODAL_CACHE name a folder on another disk.",
        )


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
