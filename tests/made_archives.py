"""Archives of every format that is unpacked, made of names and bytes."""

from __future__ import annotations

import io
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest

needs_bsdtar = pytest.mark.skipif(
    not shutil.which("bsdtar"), reason="no bsdtar (Debian: apt-get install libarchive-tools)"
)


def tar_of(path: Path, members: Mapping[str, bytes], mode: str = "w:gz", **changes: object) -> Path:
    """A tar file; `changes` are attributes of its last member."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if name == list(members)[-1]:
                for key, value in changes.items():
                    setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return path


def zip_of(path: Path, members: Mapping[str, bytes], mode: int = 0) -> Path:
    """A zip file; `mode` are the Unix mode bits of its last member."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if name == list(members)[-1]:
                info.external_attr = mode << 16
            opened.writestr(info, content)
    return path


def rar_of(path: Path, members: Mapping[str, bytes]) -> Path:
    """A RAR 4 file, stored without compression, byte for byte as its format note says."""

    def block(kind: int, flags: int, rest: bytes, data: bytes = b"") -> bytes:
        body = struct.pack("<BHH", kind, flags, 7 + len(rest)) + rest
        return struct.pack("<H", zlib.crc32(body) & 0xFFFF) + body + data

    parts = [b"Rar!\x1a\x07\x00", block(0x73, 0, bytes(6))]
    for name, content in members.items():
        encoded = name.encode()
        sizes = struct.pack(
            "<IIBIIBBHI", len(content), len(content), 3, zlib.crc32(content), 0, 20, 0x30, len(encoded), 0o100644
        )
        parts.append(block(0x74, 0x8000, sizes + encoded, content))
    path.write_bytes(b"".join([*parts, block(0x7B, 0x4000, b"")]))
    return path
