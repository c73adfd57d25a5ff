"""The bytes of a URL from any place on, over HTTP or FTP.

A server may ignore the wish to start in the middle; then the stream says that it starts at 0. Whatever goes wrong on
the way is a `Refused` (asking again will not help) or a `Broken` (it may).
"""

from __future__ import annotations

import contextlib
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import xmodal_cli
from xmodal_cli.web.promises import Promise, of_headers

CHUNK_BYTES = 1 << 16  # of a broken transfer, at most so many bytes are lost
CONNECT_S, READ_S = 15.0, 30.0  # seconds without an answer, without a byte
ASK_ANYWAY = (403, 405, 429, 500, 501, 502, 503, 504)  # answers to HEAD that say nothing about GET
PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers to GET that another try may change
LONGEST_SIDECAR = 4096  # bytes read of a file that holds a hash
_MD5 = re.compile(r"\b[0-9a-f]{32}\b")
_OWNER = re.compile(r"^\w+\(host=.*?\): ")  # urllib3 says first which object failed
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


class Refused(Exception):
    """A server does not give the file."""


class Broken(Exception):
    """A server cannot be reached, or stopped half-way."""


@dataclass(frozen=True)
class Stream:
    """Bytes on their way.

    Args:
        start: which byte of the file comes first.
        total: size of the whole file; 0 where the server does not say.
        validator: what the server calls this version of the file; empty where it has no name.
        chunks: the bytes.
    """

    start: int
    total: int
    validator: str
    chunks: Iterator[bytes]


@dataclass(frozen=True)
class Answer:
    """What a server says about a file before it is fetched: its size (0 if unknown) and perhaps its hash."""

    size: int = 0
    promise: Promise | None = field(default=None)


def ask(url: str) -> Answer:
    """Ask a server about a file without fetching it.

    Raises:
        Refused: there is no such file.
        Broken: the server cannot be reached.
    """
    if url.startswith("ftp:"):
        return Answer()
    import requests

    try:
        last = requests.head(url, allow_redirects=True, timeout=(CONNECT_S, READ_S), headers=_headers())
    except requests.RequestException as error:
        raise _unreachable(error) from error
    if last.status_code >= 400 and last.status_code not in ASK_ANYWAY:
        raise Refused(f"answered {last.status_code} {last.reason}")
    hops = [*last.history, last]  # the hub speaks of the file before it redirects to a store that does not
    promises = [found for hop in hops if (found := of_headers(hop.headers))]
    linked = next((size for hop in hops if (size := hop.headers.get("X-Linked-Size"))), None)
    own = last.headers.get("Content-Length") if last.ok else None
    return Answer(_whole(linked or own), promises[0] if promises else None)


def read_md5(url: str, ending: str) -> Promise | None:
    """The MD5 that a small file beside another one states (`cafe.md5` for `cafe.zip`); None without one."""
    beside = url.rpartition(".")[0] + ending
    try:
        with opened(beside) as stream:
            text = next(stream.chunks, b"")[:LONGEST_SIDECAR].decode("ascii", "replace")
    except (Refused, Broken):
        return None
    found = _MD5.search(text.lower())
    return Promise("md5", found[0], beside) if found else None


@contextlib.contextmanager
def opened(url: str, offset: int = 0, validator: str = "") -> Iterator[Stream]:
    """A URL's bytes.

    Args:
        url: http, https or ftp.
        offset: the first byte wanted.
        validator: only continue this version of the file; another one is to come from its start.

    Raises:
        Refused: the server does not give it.
        Broken: it cannot be reached, or (while the chunks are read) stopped.
    """
    with (_ftp if url.startswith("ftp:") else _http)(url, offset, validator) as stream:
        yield stream


@contextlib.contextmanager
def _http(url: str, offset: int, validator: str) -> Iterator[Stream]:
    import requests

    headers = _headers()
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if validator:
            headers["If-Range"] = validator
    try:
        response = requests.get(url, stream=True, timeout=(CONNECT_S, READ_S), headers=headers)
    except requests.RequestException as error:
        raise _unreachable(error) from error
    with response:
        total = _content_range(response.headers)[1]
        if response.status_code != 416 or total == offset or not offset:
            yield _http_stream(response, offset)
            return
    with _http(url, 0, "") as stream:  # more bytes are here than there
        yield stream


def _http_stream(response: Any, offset: int) -> Stream:
    """What an answer to GET means for a file of which `offset` bytes are here."""
    code, found = response.status_code, response.headers
    first, total = _content_range(found)
    named = found.get("ETag", "")
    validator = named if named and not named.startswith("W/") else found.get("Last-Modified", "")
    if code == 416 and total == offset:  # nothing is missing
        return Stream(offset, total, validator, iter(()))
    if code in PASSING:
        raise Broken(f"answered {code} {response.reason}")
    if code not in (200, 206):
        raise Refused(f"answered {code} {response.reason}")
    if found.get("Content-Type", "").startswith("text/html"):
        raise Refused("answered with a web page in place of the file")
    if code == 206:
        if first is None or first > offset:
            raise Refused(f"sent other bytes than asked for ({found.get('Content-Range', 'no range')})")
        return Stream(first, total, validator, _http_chunks(response))
    return Stream(0, _whole(found.get("Content-Length")), validator, _http_chunks(response))


def _http_chunks(response: Any) -> Iterator[bytes]:
    import requests

    # Some servers call a .tgz an encoding of a .tar; it is the .tgz that has a hash.
    response.raw.headers.pop("Content-Encoding", None)
    try:
        yield from response.iter_content(CHUNK_BYTES)
    except (requests.RequestException, OSError) as error:
        raise Broken(f"stopped ({_reason(error)})") from error


@contextlib.contextmanager
def _ftp(url: str, offset: int, _: str) -> Iterator[Stream]:
    import ftplib

    parts = urllib.parse.urlsplit(url)
    server = ftplib.FTP(timeout=READ_S)
    try:
        server.connect(parts.hostname or "", parts.port or ftplib.FTP_PORT, timeout=CONNECT_S)
        server.login()
        server.voidcmd("TYPE I")
        total = server.size(urllib.parse.unquote(parts.path)) or 0
        connection = server.transfercmd(f"RETR {urllib.parse.unquote(parts.path)}", rest=offset or None)
    except ftplib.error_perm as error:
        server.close()
        raise Refused(f"answered {error}") from error
    except (ftplib.Error, OSError, EOFError, UnicodeError) as error:
        server.close()
        raise _unreachable(error) from error
    with contextlib.closing(server), connection:
        yield Stream(offset, total, "", _ftp_chunks(connection))


def _ftp_chunks(connection: Any) -> Iterator[bytes]:
    try:
        while chunk := connection.recv(CHUNK_BYTES):
            yield chunk
    except OSError as error:
        raise Broken(f"stopped ({_reason(error)})") from error


def _headers() -> dict[str, str]:
    return {"Accept-Encoding": "identity", "User-Agent": f"xmodal/{xmodal_cli.__version__}"}


def _content_range(headers: Mapping[str, str]) -> tuple[int | None, int]:
    """First byte (None if it is not said) and size of the whole (0 if it is not said)."""
    found = _RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if found is None:
        return None, 0
    return (int(found[1]) if found[1] else None), _whole(found[2])


def _whole(text: str | None) -> int:
    """A whole number in a header; 0 where there is none."""
    return int(text) if text and text.isascii() and text.isdigit() else 0


def _unreachable(error: Exception) -> Broken:
    return Broken(f"could not be reached ({_reason(error)})")


def _reason(error: BaseException) -> str:
    """The innermost cause in one line: the outer ones only repeat it with the names of classes around it."""
    seen = set()
    while id(error) not in seen:
        seen.add(id(error))
        inner = [each for each in error.args if isinstance(each, BaseException)]
        reason = getattr(error, "reason", None)
        inner += [reason] if isinstance(reason, BaseException) else []
        error = inner[0] if inner else error
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return _OWNER.sub("", text)
