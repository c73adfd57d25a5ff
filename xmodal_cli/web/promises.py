"""What somebody promised about a file before it was fetched: its hash, or the start of it.

Promises come from a catalogue, from the name of a file (torchvision writes eight digits of the SHA-256 into it), from
the headers of a server, or from an earlier fetch, which pinned what it got.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from xmodal_cli.files import HASH_BLOCK

_LENGTH = {"md5": 32, "sha1": 40, "sha256": 64}  # hexadecimal digits
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Promise:
    """Hexadecimal digits that the hash of a file must start with.

    Args:
        algorithm: md5, sha1 or sha256.
        digits: the hash, or as much of its start as was promised.
        by: who promised it, for the error.
    """

    algorithm: str
    digits: str
    by: str

    @property
    def whole(self) -> bool:
        """Whether all digits are known."""
        return len(self.digits) == _LENGTH[self.algorithm]

    def __str__(self) -> str:
        """As pooch and catalogues write it."""
        return f"{self.algorithm}:{self.digits}"


def promise(text: str, by: str) -> Promise:
    """A hash as catalogues write it.

    Example:
        >>> promise("md5:08e3c3aea27130ac7c01ffd739a4535f", "NYU").whole
        True
    """
    algorithm, _, digits = text.partition(":")
    return Promise(algorithm, digits, by)


def measure(path: Path, algorithms: Iterable[str]) -> dict[str, str]:
    """Several hashes of a file, which is read once; SHA-256 is always among them."""
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in {"sha256", *algorithms}}
    with path.open("rb") as handle:
        while block := handle.read(HASH_BLOCK):
            for digest in digests.values():
                digest.update(block)
    return {name: digest.hexdigest() for name, digest in digests.items()}


def of_headers(headers: Mapping[str, str]) -> Promise | None:
    """What a server says about the file itself, not about the way it is sent; None where it says nothing.

    The Hugging Face hub, Amazon's and Google's stores and servers that know RFC 9530 or its forerunner do. An ETag
    is no promise.

    Example:
        >>> of_headers({"x-goog-hash": "crc32c=AAAAAA==,md5=COPDrqJxMKx8Af/XOaRTXw=="}).digits
        '08e3c3aea27130ac7c01ffd739a4535f'
    """
    named = {name.lower(): value for name, value in headers.items()}
    linked = named.get("x-linked-etag", "").strip('W/"')
    if _SHA256.fullmatch(linked):
        return Promise("sha256", linked, "the server")
    stated = [
        ("sha256", named.get("x-amz-checksum-sha256", "")),
        ("sha256", _value(named.get("repr-digest", ""), "sha-256").strip(":")),
        ("sha256", _value(named.get("digest", ""), "sha-256")),
        ("md5", _value(named.get("x-goog-hash", ""), "md5")),
    ]
    for algorithm, encoded in stated:
        digits = _hexadecimal(encoded)
        if len(digits) == _LENGTH[algorithm]:
            return Promise(algorithm, digits, "the server")
    return None


def _value(header: str, name: str) -> str:
    """The value of one `name=value` in a list."""
    for part in header.split(","):
        key, _, value = part.strip().partition("=")
        if key.lower() == name:
            return value
    return ""


def _hexadecimal(encoded: str) -> str:
    """Base64 as hexadecimal digits; empty where it is none."""
    try:
        return base64.b64decode(encoded, validate=True).hex()
    except (binascii.Error, ValueError):
        return ""
