"""Bad input to `xmodal download`: the error, its exit code, nothing half-written, and the next run goes on."""

from __future__ import annotations

import io
import os
import resource
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from made_archives import tar_of, zip_of

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.datasets.downloads import archive_rules, catalogue, fetched

Capture = pytest.CaptureFixture[str]

HELD = {"clip/00001.png": b"first" * 40}


def files_of(cache: Path) -> list[str]:
    """Everything that was fetched and unpacked; not what is kept to be continued."""
    found = [path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file()]
    return sorted(name for name in found if ".partial" not in name)


def bad_list(server) -> None:
    server.files["/list.txt"] = server.files["/list.txt"].replace(b"brush", b"crush")


def short_list(server) -> None:
    server.files["/list.txt"] = server.files["/list.txt"][:-10]


def no_list(server) -> None:
    server.files["/list.txt"] = b"<html>" * 100
    server.headers["/list.txt"] = {"Content-Type": "text/html"}


def stopping(server) -> None:
    server.stops["/list.txt"] = [200] + [0] * 5


def stopping_without_ranges(server) -> None:
    stopping(server)
    server.ranges = False


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (bad_list, "came with MD5"),
        (short_list, "has 640 bytes, expected were 650"),
        (no_list, "web page"),
        (stopping, "stopped"),
        (stopping_without_ranges, "stopped"),
    ],
)
def test_a_file_that_does_not_come_whole_and_right_is_exit_code_4(
    small, own_cache: Path, capsys: Capture, spoil: Callable[..., None], said: str
) -> None:
    whole = small.server.files["/list.txt"]
    spoil(small.server)
    assert xmodal(["download", "list.txt"]) == 4
    told = " ".join(capsys.readouterr().err.split())
    assert said in told
    assert "a shelf in the library" in told
    assert files_of(own_cache) == []
    small.server.files["/list.txt"] = whole
    small.server.headers.clear()
    small.server.stops.clear()
    assert xmodal(["download", "list.txt"]) == 0
    assert fetched.catalogue_path("list.txt").read_bytes() == whole
    assert files_of(own_cache) == ["data/small/list.txt", "data/small/list.txt.sha256"]


def linked(path: Path, kind: bytes) -> Path:
    return tar_of(path, {**HELD, "clip/odd": b""}, type=kind, linkname="/etc/passwd")


def truncated(path: Path) -> Path:
    tar_of(path, {"clip/noise": os.urandom(100_000)})
    path.write_bytes(path.read_bytes()[:50_000])
    return path


def twice(path: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("same.txt"), io.BytesIO())
    return path


BAD_ARCHIVES: dict[str, Callable[[Path], Path]] = {
    "which leaves its folder": lambda path: tar_of(path, {**HELD, "../../out.txt": b"x"}),
    "'/tmp/out.txt', which leaves": lambda path: zip_of(path, {**HELD, "/tmp/out.txt": b"x"}),
    "'clip/odd' is a link": lambda path: linked(path, tarfile.SYMTYPE),
    "is a link": lambda path: linked(path, tarfile.LNKTYPE),
    "neither a file nor a folder": lambda path: linked(path, tarfile.CHRTYPE),
    "out of all proportion": lambda path: tar_of(path, {"zeros": bytes(8 << 20)}),
    "more than": lambda path: zip_of(path, {"zeros": bytes(8 << 20)}),
    "are called 'same.txt'": twice,
    "cannot be unpacked": truncated,
}


@pytest.mark.parametrize("said", BAD_ARCHIVES)
def test_an_archive_that_holds_what_it_should_not_is_exit_code_3(
    small, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, said: str
) -> None:
    monkeypatch.setattr(archive_rules, "ALWAYS_BYTES", 1 << 20)
    small.server.files["/frames.tgz"] = BAD_ARCHIVES[said](tmp_path / "bad").read_bytes()
    assert xmodal(["download", "frames.tgz"]) == 3
    assert said in " ".join(capsys.readouterr().err.split())
    packed = ["data/small/frames.tgz", "data/small/frames.tgz.sha256"]
    assert files_of(own_cache) == packed
    assert not [path for path in (tmp_path / "out.txt", own_cache / "out.txt") if path.exists()]
    small.server.files["/frames.tgz"] = small.frames
    place = fetched.place_of(catalogue.FILES["frames.tgz"])
    for path in (place, place.with_name("frames.tgz.sha256")):
        path.unlink()  # nobody promised a hash of this one: what came first is believed until it is removed
    assert xmodal(["download", "frames.tgz"]) == 0
    assert (fetched.unpacked_path("frames.tgz") / "clip/00001.png").read_bytes() == b"first" * 40


@pytest.mark.parametrize("content", [os.urandom(300_000), b"text" * 75_000], ids=["fetching", "unpacking"])
def test_a_full_disk_is_exit_code_1_and_the_next_run_goes_on(
    small, own_cache: Path, tmp_path: Path, capsys: Capture, content: bytes
) -> None:
    small.server.files["/frames.tgz"] = tar_of(tmp_path / "a.tgz", {"frames": content}).read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        assert xmodal(["download", "frames.tgz"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "The disk is full" in capsys.readouterr().err
    assert {Path(name).name for name in files_of(own_cache)} <= {"frames.tgz", "frames.tgz.sha256"}
    assert xmodal(["download", "frames.tgz"]) == 0
    assert (fetched.unpacked_path("frames.tgz") / "frames").read_bytes() == content
