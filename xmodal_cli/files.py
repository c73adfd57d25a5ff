"""Files that appear whole or not at all: written under a temporary name, synced to disk, renamed.

Every file a run, a data set or a cache leaves behind goes through here, so that a process killed at any moment never
leaves half a file under a real name. It stands beside `errors.py`, below every folder, because all of them need it.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

HASH_BLOCK = 1 << 20  # bytes read at a time when hashing


@contextlib.contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """A temporary path in the same folder that becomes `path` when the block ends without an error.

    Args:
        path: the file to make or replace; its folder must exist.
        sync: wait until the disk has it. Without, a killed process leaves no half file either, but a power cut may;
            for files by the thousand that can be made again and are checked by a manifest.

    Yields:
        The temporary path to write to.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        if sync:
            with temporary.open("rb+") as handle:
                os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its place when the block ends without an error."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.part"):  # of processes that were killed
        shutil.rmtree(left, ignore_errors=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    old = target.with_name(f".{target.name}.{os.getpid()}.old.part")
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.iterdir():
            with path.open("rb+") as handle:
                os.fsync(handle.fileno())
        if target.exists():
            target.replace(old)
        temporary.replace(target)
    finally:
        if old.exists() and not target.exists():
            old.replace(target)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def remove_parts(*folders: Path) -> None:
    """Remove the temporary files that processes killed in the midst of `replacing` left in some folders.

    Only for folders that nobody else writes to at this moment.
    """
    for folder in folders:
        for left in folder.glob(".*.part"):
            left.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Write bytes atomically; `sync` as in `replacing`."""
    with replacing(path, sync=sync) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document atomically, readable and with a final newline."""
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def write_yaml(path: Path, document: Any) -> None:
    """Write a YAML document atomically, keys in the order given."""
    write_text(path, yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120))


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()
