"""A catalogue with one small set, served on this machine."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from web_server import Server, serving

from xmodal_cli.datasets.downloads import catalogue
from xmodal_cli.datasets.downloads.entries import PublishedFile, PublishedSet

LIST = b"brush_hair 1\n" * 50


def tgz(members: dict[str, bytes]) -> bytes:
    """A compressed tar file."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


@dataclass
class Small:
    """The set `small`: `frames.tgz` (at `/frames.tgz`) and `list.txt` (at a dead host and at `/list.txt`)."""

    server: Server
    frames: bytes


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[Small]:
    monkeypatch.setattr("xmodal_cli.web.fetch.WAIT_S", 0.001)
    frames = tgz({"clip/00001.png": b"first" * 40, "clip/00002.png": b"second" * 40})
    with serving() as server:
        server.files |= {"/frames.tgz": frames, "/list.txt": LIST}
        files = (
            PublishedFile("frames.tgz", (f"{server.url}/frames.tgz",), "frames", "a test", about=len(frames)),
            PublishedFile(
                "list.txt",
                ("http://127.0.0.1:1/list.txt", f"{server.url}/list.txt"),
                "a list",
                "a test",
                size=len(LIST),
                hash=f"md5:{hashlib.md5(LIST).hexdigest()}",
                elsewhere="a shelf in the library",
            ),
        )
        monkeypatch.setitem(catalogue.SETS, "small", PublishedSet("small", "Small", "page", "CC0", files))
        for file in files:
            monkeypatch.setitem(catalogue.FILES, file.name, file)
        yield Small(server, frames)
