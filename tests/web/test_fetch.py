"""Promises of every transfer: whole and checked, or not there; what is here already is not fetched again."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from web_server import FtpServer, Server, serving

from xmodal_cli.errors import DownloadError, SettingsError, XmodalError
from xmodal_cli.web import fetch as web_fetch
from xmodal_cli.web.fetch import Wanted, fetch, partial_of, pin_of
from xmodal_cli.web.promises import promise

CONTENT = bytes(range(256)) * 4096  # 1 MiB
CUT = 4 << 16  # where servers stop: what has arrived by then is a whole number of chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_fetch, "WAIT_S", 0.001)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def wanted(server: Server, tmp_path: Path, *paths: str, **changes: object) -> Wanted:
    urls = tuple(f"{server.url}{path}" for path in paths or ("/file.bin",))
    given = {"promises": (promise(f"md5:{MD5}", "the catalogue"),), "size": len(CONTENT), **changes}
    return Wanted(urls, tmp_path / "set" / "file.bin", **given)  # type: ignore[arg-type]


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.rglob("*") if path.is_file())


def test_a_file_is_checked_and_its_sha256_pinned(server: Server, tmp_path: Path) -> None:
    server.files["/file.bin"] = CONTENT
    found = fetch(wanted(server, tmp_path))
    assert (found.path.read_bytes(), found.sha256, found.checked) == (CONTENT, SHA256, ("md5 of the catalogue",))
    assert pin_of(found.path).read_text().strip() == SHA256
    assert left(tmp_path) == ["file.bin", "file.bin.sha256"]


def test_a_server_that_stops_half_way_is_asked_for_the_rest_only(server: Server, tmp_path: Path) -> None:
    server.files["/file.bin"] = CONTENT
    server.stops["/file.bin"] = [CUT, CUT]
    seen: list[int] = []
    found = fetch(wanted(server, tmp_path), lambda url, done, total: seen.append(done))
    assert found.path.read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={CUT}-", f"bytes={2 * CUT}-"]
    assert seen == sorted(seen)
    assert seen[-1] == len(CONTENT)


def test_an_interrupted_transfer_goes_on_in_the_next_call(server: Server, tmp_path: Path) -> None:
    server.files["/file.bin"] = CONTENT
    server.headers["/file.bin"] = {"ETag": '"one"'}

    def interrupt(url: str, done: int, total: int) -> None:
        if done > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(wanted(server, tmp_path), interrupt)
    kept = partial_of(tmp_path / "set" / "file.bin").stat().st_size
    assert 0 < kept < len(CONTENT)
    assert not (tmp_path / "set" / "file.bin").exists()
    assert fetch(wanted(server, tmp_path)).path.read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={kept}-"]


def test_a_killed_process_leaves_a_part_that_the_next_one_continues(server: Server, tmp_path: Path) -> None:
    server.files["/file.bin"] = CONTENT
    code = (
        "import os, signal, sys, pathlib; from xmodal_cli.web.fetch import Wanted, fetch;"
        "fetch(Wanted((sys.argv[1],), pathlib.Path(sys.argv[2])),"
        " lambda url, done, total: done > 500_000 and os.kill(os.getpid(), signal.SIGKILL))"
    )
    path = tmp_path / "set" / "file.bin"
    killed = subprocess.run([sys.executable, "-c", code, f"{server.url}/file.bin", str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert left(tmp_path) == [".file.bin.partial", ".file.bin.partial.json"]
    assert fetch(wanted(server, tmp_path)).path.read_bytes() == CONTENT
    assert server.asked[-1] is not None
    assert left(tmp_path) == ["file.bin", "file.bin.sha256"]


@pytest.mark.parametrize("count", [len(CONTENT), len(CONTENT) + 5])
def test_a_part_that_has_all_bytes_or_too_many_is_no_trap(server: Server, tmp_path: Path, count: int) -> None:
    """Killed between the last byte and its name; or the file on the server became shorter."""
    server.files["/file.bin"] = CONTENT
    partial = partial_of(tmp_path / "set" / "file.bin")
    partial.parent.mkdir()
    partial.write_bytes((CONTENT + b"12345")[:count])
    partial.with_name(partial.name + ".json").write_text(json.dumps({"url": f"{server.url}/file.bin"}))
    assert fetch(wanted(server, tmp_path)).path.read_bytes() == CONTENT
    assert server.asked == [f"bytes={count}-"] + [None] * (count > len(CONTENT))


def test_a_server_that_ignores_ranges_starts_cleanly_from_the_beginning(server: Server, tmp_path: Path) -> None:
    server.files["/file.bin"] = CONTENT
    server.ranges = False
    server.stops["/file.bin"] = [CUT]
    assert fetch(wanted(server, tmp_path)).path.read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={CUT}-"]


def test_another_version_on_the_server_is_fetched_whole(server: Server, tmp_path: Path) -> None:
    """If-Range: the half that is here belongs to a file that is gone."""
    server.files["/file.bin"] = bytes(len(CONTENT))
    server.headers["/file.bin"] = {"ETag": '"old"'}
    server.stops["/file.bin"] = [CUT] + [0] * 5
    unhashed = wanted(server, tmp_path, promises=())
    with pytest.raises(DownloadError):
        fetch(unhashed)
    server.files["/file.bin"], server.headers["/file.bin"] = CONTENT, {"ETag": '"new"'}
    server.stops.clear()
    assert fetch(unhashed).path.read_bytes() == CONTENT


def test_half_a_file_of_one_mirror_is_continued_at_another_where_a_hash_will_tell(
    server: Server, tmp_path: Path
) -> None:
    server.files |= {"/one": CONTENT, "/two": CONTENT}
    server.stops["/one"] = [CUT] + [0] * 5
    assert fetch(wanted(server, tmp_path, "/one", "/two")).path.read_bytes() == CONTENT
    assert server.asked[-1] == f"bytes={CUT}-"
    assert server.fetched[-1] == "/two"


def test_a_continued_file_that_turns_out_wrong_is_fetched_once_more(server: Server, tmp_path: Path) -> None:
    server.files |= {"/one": bytes(len(CONTENT)), "/two": CONTENT}
    server.stops["/one"] = [CUT] + [0] * 5
    assert fetch(wanted(server, tmp_path, "/one", "/two")).path.read_bytes() == CONTENT
    assert server.asked[-2:] == [f"bytes={CUT}-", None]


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ("/gone", "answered 404"),
        ("/wrong", "came with MD5"),
        ("/short", "has 1,000 bytes, expected were 1,048,576"),
        ("/page", "web page"),
        ("/busy", "answered 503"),
    ],
)
def test_the_next_mirror_is_tried(server: Server, tmp_path: Path, first: str, reason: str) -> None:
    server.files |= {"/good": CONTENT, "/wrong": bytes(len(CONTENT)), "/short": CONTENT[:1000], "/busy": CONTENT}
    server.files["/page"] = CONTENT
    server.headers["/page"] = {"Content-Type": "text/html; charset=utf-8"}
    server.codes["/busy"] = 503
    assert fetch(wanted(server, tmp_path, first, "/good")).url.endswith("/good")
    (tmp_path / "set" / "file.bin").unlink()
    with pytest.raises(DownloadError, match=reason) as caught:
        fetch(wanted(server, tmp_path, first, by_hand="Use --from."))
    assert caught.value.exit_code == 4
    assert caught.value.hint == "Use --from."
    assert left(tmp_path) == ["file.bin.sha256"]


def test_all_reasons_are_told_and_an_empty_folder_does_not_stay(server: Server, tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:1/file.bin"
    with pytest.raises(DownloadError) as caught:
        fetch(Wanted((nobody, f"{server.url}/gone"), tmp_path / "set" / "file.bin"))
    assert f"{nobody} could not be reached" in caught.value.message
    assert "/gone answered 404" in caught.value.message
    assert not (tmp_path / "set").exists()


def test_redirects_are_followed(server: Server, tmp_path: Path) -> None:
    server.files["/store"] = CONTENT
    server.redirects |= {"/file.bin": "/hop", "/hop": "/store"}
    assert fetch(wanted(server, tmp_path)).path.read_bytes() == CONTENT


def test_a_server_that_knows_no_head_is_still_fetched_from(server: Server, tmp_path: Path) -> None:
    server.heads = False
    server.files["/file.bin"] = CONTENT
    assert fetch(wanted(server, tmp_path)).path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "header",
    [
        {"x-goog-hash": "crc32c=AAAAAA==,md5=" + base64.b64encode(bytes.fromhex("0" * 32)).decode()},
        {"Repr-Digest": f"sha-256=:{base64.b64encode(bytes(32)).decode()}:"},
        {"x-amz-checksum-sha256": base64.b64encode(bytes(32)).decode()},
    ],
)
def test_what_the_server_promises_is_checked(server: Server, tmp_path: Path, header: dict[str, str]) -> None:
    server.files["/file.bin"] = CONTENT
    server.headers["/file.bin"] = header
    with pytest.raises(DownloadError, match=r"promised was 0000.*the server"):
        fetch(wanted(server, tmp_path, promises=()))
    assert left(tmp_path) == []


def test_a_promise_made_before_a_redirect_holds_where_the_store_refuses_head(server: Server, tmp_path: Path) -> None:
    server.files["/store"] = CONTENT
    server.redirects["/file.bin"] = "/store"
    server.headers["/file.bin"] = {"X-Linked-ETag": f'"{"0" * 64}"'}
    server.no_heads.add("/store")
    with pytest.raises(DownloadError, match=r"promised was 0000.*the server"):
        fetch(wanted(server, tmp_path, promises=()))


def test_an_md5_beside_the_file_is_checked(server: Server, tmp_path: Path) -> None:
    server.files |= {"/file.bin": CONTENT, "/file.md5": f"{MD5}  file.bin\n".encode()}
    beside = wanted(server, tmp_path, promises=(), sidecar=".md5")
    assert fetch(beside).checked == (f"md5 of {server.url}/file.md5",)
    server.files["/file.md5"] = b"0" * 32
    (tmp_path / "set" / "file.bin").unlink()
    with pytest.raises(DownloadError, match="promised was 0000"):
        fetch(beside)


def test_without_any_promise_the_first_fetch_is_one(server: Server, tmp_path: Path) -> None:
    server.files["/file.bin"] = CONTENT
    unhashed = wanted(server, tmp_path, promises=())
    assert fetch(unhashed).checked == ()
    (tmp_path / "set" / "file.bin").unlink()
    server.files["/file.bin"] = bytes(len(CONTENT))
    with pytest.raises(DownloadError, match=r"pinned in .*file.bin.sha256; remove it"):
        fetch(unhashed)


def test_a_file_that_is_here_needs_no_server_and_a_changed_one_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    server.files["/file.bin"] = CONTENT
    path = fetch(wanted(server, tmp_path)).path
    assert fetch(wanted(server, tmp_path), reread=False).url == ""
    path.write_bytes(b"damaged")
    assert fetch(wanted(server, tmp_path), reread=False).path.read_bytes() == CONTENT
    assert server.fetched == ["/file.bin"] * 2


def test_a_strange_file_in_its_place_is_named_and_left_alone(server: Server, tmp_path: Path) -> None:
    server.files["/file.bin"] = CONTENT
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "file.bin").write_bytes(b"somebody's own")
    with pytest.raises(DownloadError, match=r"file.bin is not what it should be: .* has 14 bytes"):
        fetch(wanted(server, tmp_path))
    assert (tmp_path / "set" / "file.bin").read_bytes() == b"somebody's own"
    assert server.fetched == []


def test_a_server_that_sends_more_than_it_should_is_cut_off(server: Server, tmp_path: Path) -> None:
    server.heads = False
    server.files["/file.bin"] = CONTENT * 2
    server.headers["/file.bin"] = {"Transfer-Encoding": "identity", "Connection": "close"}  # says no length
    with pytest.raises(DownloadError, match="more than 1,048,576 bytes"):
        fetch(wanted(server, tmp_path))
    assert not (tmp_path / "set" / "file.bin").exists()


def test_a_full_disk_is_an_error_of_the_disk_and_the_next_call_goes_on(server: Server, tmp_path: Path) -> None:
    server.files["/file.bin"] = CONTENT
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            fetch(wanted(server, tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "set" / "file.bin").exists()
    assert fetch(wanted(server, tmp_path)).path.read_bytes() == CONTENT
    assert server.asked[-1] is not None


def test_what_cannot_fit_is_not_begun(server: Server, tmp_path: Path) -> None:
    server.files["/file.bin"] = b"x"
    server.headers["/file.bin"] = {"Content-Length": str(10**18)}
    with pytest.raises(XmodalError, match=r"needs 1000000000.00 GB more") as caught:
        fetch(wanted(server, tmp_path, size=0))
    assert caught.value.exit_code == 1
    assert left(tmp_path) == []


def test_two_processes_do_not_write_one_file(server: Server, tmp_path: Path) -> None:
    server.files["/file.bin"] = CONTENT
    (tmp_path / "set").mkdir()
    with partial_of(tmp_path / "set" / "file.bin").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(SettingsError, match=r"Another process is fetching file\.bin"):
            fetch(wanted(server, tmp_path))


def test_ftp_is_spoken_and_resumed(tmp_path: Path) -> None:
    ftp = FtpServer(CONTENT, stops=[300_000])
    try:
        promises = (promise(f"md5:{MD5}", "the catalogue"),)
        found = fetch(Wanted((ftp.url,), tmp_path / "file.bin", promises))
        assert found.path.read_bytes() == CONTENT
        assert ftp.rests == [300_000]
        with pytest.raises(DownloadError, match="550 no such file"):
            fetch(Wanted((ftp.url.replace("file", "gone"),), tmp_path / "gone.bin", promises))
    finally:
        ftp.close()
