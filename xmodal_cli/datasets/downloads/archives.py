"""Archives unpacked into a folder that appears whole or not at all.

Members are read as a stream of names and bytes, whatever the format, and written by this module alone: no unpacker
chooses a path. They are collected in `.FOLDER.unpacking`, which is renamed at the end; what a killed process left of it
is removed by the next one.
"""

from __future__ import annotations

import contextlib
import json
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from xmodal_cli import files
from xmodal_cli.datasets.downloads import rar
from xmodal_cli.datasets.downloads.archive_rules import Allowance, safe_path
from xmodal_cli.errors import DataError, SettingsError, XmodalError

Progress = Callable[[int, int], None]  # (bytes done, bytes in all)

ENDINGS = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tar", ".zip", ".rar")
MARK = ".unpacked.json"  # in a folder that is whole: which archive it came from
COPY_BYTES = 1 << 20
BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, RuntimeError, NotImplementedError)


@dataclass(frozen=True)
class Member:
    """One entry of an archive: a folder where it has no content."""

    name: str
    content: IO[bytes] | None


def is_archive(name: str) -> bool:
    """Whether a file of that name is unpacked."""
    return name.endswith(ENDINGS)


def stem(name: str) -> str:
    """The name of an archive without its ending.

    Example:
        >>> stem("Rename_Images.tar.gz")
        'Rename_Images'
    """
    return next((name.removesuffix(ending) for ending in ENDINGS if name.endswith(ending)), name)


def unpacked_from(folder: Path) -> str | None:
    """The SHA-256 of the archive that a folder was unpacked from; None where it was not unpacked by this module."""
    try:
        return str(json.loads((folder / MARK).read_text())["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def unpack(archive: Path, folder: Path, sha256: str, progress: Progress = lambda done, total: None) -> None:
    """Unpack an archive, unless its folder is there.

    Args:
        archive: a tar (plain, gzip, bzip2, xz), zip or rar file, told apart by what is inside.
        folder: to be made; one that was unpacked from another archive is replaced.
        sha256: the archive's hash, kept in the folder.
        progress: told how far it is.

    Raises:
        DataError: the archive is broken, or holds what `archive_rules` does not allow.
        SettingsError: the folder is there and not ours, or a rar file finds no program that reads it.
        OSError: the disk is full.
    """
    found = unpacked_from(folder)
    if found == sha256:
        return
    if folder.exists() and found is None:
        raise SettingsError(
            f"{folder} is there, but was not unpacked by xmodal.", "Move it away, or use it as it is: pass its path."
        )
    staging = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(parents=True)
        allowance = _write_all(archive, staging, progress)
        mark = {"archive": archive.name, "sha256": sha256, "members": allowance.members, "bytes": allowance.bytes}
        files.write_json(staging / MARK, mark)
        if found is not None:
            shutil.rmtree(folder)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write_all(archive: Path, staging: Path, progress: Progress) -> Allowance:
    allowance = Allowance(archive.stat().st_size)
    try:
        with _members(archive, progress) as members:
            for member in members:
                allowance.member()
                _write(member, staging, allowance)
    except XmodalError as error:
        if isinstance(error, DataError):
            raise DataError(f"{archive}: {error.message}", error.hint or _BY_HAND) from error
        raise
    except BROKEN as error:
        why = str(error) or type(error).__name__
        hint = f"Remove it and {archive.name}.sha256 beside it, and fetch it again."
        raise DataError(f"{archive} cannot be unpacked: {why}.", hint) from error
    return allowance


_BY_HAND = "Nothing was unpacked. If you trust it, unpack it yourself and pass the folder to `xmodal prepare`."


def _write(member: Member, staging: Path, allowance: Allowance) -> None:
    """Write one member below the staging folder."""
    path = safe_path(member.name)
    if path is None or str(path) == MARK:
        return
    target = staging / path
    try:
        if member.content is None:
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as handle:
            while block := member.content.read(COPY_BYTES):
                allowance.take(len(block))
                handle.write(block)
    except (FileExistsError, NotADirectoryError):
        raise DataError(f"Two members of the archive are called {member.name!r}.") from None


@contextlib.contextmanager
def _members(archive: Path, progress: Progress) -> Iterator[Iterator[Member]]:
    """The entries of an archive, one after the other; each is to be read before the next."""
    with archive.open("rb") as handle:
        start = handle.read(8)
        handle.seek(0)
        if start.startswith(b"PK"):
            with zipfile.ZipFile(handle) as opened:
                yield _zip_members(opened, progress)
        elif start.startswith(b"Rar!"):
            with rar.as_tar(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
                yield _tar_members(tar, lambda: None)
        else:
            size = archive.stat().st_size
            with tarfile.open(fileobj=handle, mode="r|*") as tar:
                yield _tar_members(tar, lambda: progress(handle.tell(), size))


def _tar_members(tar: tarfile.TarFile, tell: Callable[[], Any]) -> Iterator[Member]:
    for each in tar:
        tell()
        if each.isdir():
            yield Member(each.name, None)
        elif each.isreg():
            yield Member(each.name, tar.extractfile(each))
        else:
            kind = "a link" if each.issym() or each.islnk() else "neither a file nor a folder"
            raise DataError(f"The member {each.name!r} is {kind}.")


def _zip_members(opened: zipfile.ZipFile, progress: Progress) -> Iterator[Member]:
    entries = opened.infolist()
    total, done = sum(each.file_size for each in entries), 0
    Allowance(Path(str(opened.fp.name)).stat().st_size if opened.fp else 0).take(total)  # said by the archive itself
    for each in entries:
        kind = stat.S_IFMT(each.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            what = "a link" if kind == stat.S_IFLNK else "neither a file nor a folder"
            raise DataError(f"The member {each.orig_filename!r} is {what}.")
        if each.is_dir():
            yield Member(each.orig_filename, None)
        else:
            with opened.open(each) as content:
                yield Member(each.orig_filename, content)
        done += each.file_size
        progress(done, total)
