"""What the catalogue says about a published file and about the set that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class PublishedFile:
    """One file that somebody published.

    Args:
        name: its name, unique in the catalogue.
        urls: where it is or was, the best first.
        what: what it holds and what it is for.
        source: where its address, size and hash were learned.
        size: exact size in bytes; 0 if unknown.
        about: size in bytes as somebody stated it in words; 0 if nobody did, or the exact one is known.
        hash: `md5:...`, `sha1:...` or `sha256:...`; empty where nobody published one: it is pinned at the first fetch.
        sidecar: ending of a file with its MD5 beside it.
        elsewhere: where else it is known to live, for people: pages and folders that no program can fetch from.
    """

    name: str
    urls: tuple[str, ...]
    what: str
    source: str
    size: int = 0
    about: int = 0
    hash: str = ""
    sidecar: str = ""
    elsewhere: str = ""

    @property
    def bytes(self) -> int:
        """The size as well as it is known; 0 if nobody stated one."""
        return self.size or self.about


@dataclass(frozen=True)
class PublishedSet:
    """Files that are fetched together.

    Args:
        name: the word for the command line.
        title: what it is.
        page: its page.
        licence: what is known of its terms.
        files: its files.
        prepare: the command that reads it; empty where none does yet.
        found: whether that command finds it by itself, without a path.
        about: size of the whole in bytes, where those of the files are unknown.
    """

    name: str
    title: str
    page: str
    licence: str
    files: tuple[PublishedFile, ...]
    prepare: str = field(default="")
    found: bool = False
    about: int = 0

    @property
    def bytes(self) -> int:
        """Size of all files, as well as it is known."""
        return self.about or sum(each.bytes for each in self.files)

    @property
    def is_known(self) -> bool:
        """Whether the size of every file, or of the whole, was stated by anybody."""
        return bool(self.about) or all(each.bytes for each in self.files)

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "name": self.name,
            "title": self.title,
            "page": self.page,
            "licence": self.licence,
            "bytes": self.bytes,
            "prepare": self.prepare,
            "files": [file.name for file in self.files],
        }
