"""Promises of unpacking: whole or not at all, below its folder, of a plausible size."""

from __future__ import annotations

import io
import os
import resource
import stat
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from made_archives import needs_bsdtar, rar_of, tar_of, zip_of

from xmodal_cli.datasets.downloads import archive_rules
from xmodal_cli.datasets.downloads.archives import unpack, unpacked_from
from xmodal_cli.errors import DataError, SettingsError

HELD = {"set/images/a.png": b"picture" * 100, "set/list.txt": b"a\n"}


MAKERS: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "a.tar": lambda path, held: tar_of(path, held, "w"),
    "a.tgz": tar_of,
    "a.tar.xz": lambda path, held: tar_of(path, held, "w:xz"),
    "a.zip": zip_of,
}


def contents(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.mark.parametrize("name", [*MAKERS, pytest.param("a.rar", marks=needs_bsdtar)])
def test_every_format_is_unpacked_whole(name: str, tmp_path: Path) -> None:
    archive = MAKERS.get(name, rar_of)(tmp_path / name, HELD)
    unpack(archive, tmp_path / "out", "1234")
    assert contents(tmp_path / "out") == HELD
    assert unpacked_from(tmp_path / "out") == "1234"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "out"])


@pytest.mark.parametrize(
    "bad", ["../out.txt", "/tmp/out.txt", "set/../../out.txt", "C:\\out.txt", "..\\out.txt", "a\nb"]
)
@pytest.mark.parametrize("name", ["a.tgz", "a.zip"])
def test_no_path_leaves_the_folder(name: str, bad: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    archive = MAKERS[name](tmp_path / "in" / name, {**HELD, bad: b"x"})
    with pytest.raises(DataError, match=r"leaves its folder|no name for a file") as caught:
        unpack(archive, tmp_path / "in" / "out", "1")
    assert caught.value.exit_code == 3
    assert "unpack it yourself" in str(caught.value.hint)
    assert [path.name for path in tmp_path.rglob("*")] == ["in", name]


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "neither a file nor a folder"),
        (tarfile.FIFOTYPE, "neither a file nor a folder"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, word: str, tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a.tgz", {**HELD, "set/odd": b""}, type=kind, linkname="/etc/passwd")
    with pytest.raises(DataError, match=rf"'set/odd' is {word}"):
        unpack(archive, tmp_path / "out", "1")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tgz"]


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFCHR | 0o666])
def test_links_and_devices_in_a_zip_are_refused(mode: int, tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", {**HELD, "set/odd": b"/etc/passwd"}, mode)
    with pytest.raises(DataError, match=r"'set/odd' is (a link|neither)"):
        unpack(archive, tmp_path / "out", "1")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("name", ["a.tgz", "a.zip"])
def test_a_bomb_is_stopped_before_it_fills_the_disk(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_rules, "ALWAYS_BYTES", 1 << 20)
    archive = MAKERS[name](tmp_path / name, {"zeros": bytes(8 << 20)})
    assert archive.stat().st_size < 20_000
    with pytest.raises(DataError, match="out of all proportion"):
        unpack(archive, tmp_path / "out", "1")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_zip_that_lies_about_its_sizes_is_found_out(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", {"zeros": bytes(1 << 20)})
    content = archive.read_bytes().replace(struct.pack("<I", 1 << 20), struct.pack("<I", 10))
    archive.write_bytes(content)
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(archive, tmp_path / "out", "1")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_member_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("same.txt"), io.BytesIO())
    with pytest.raises(DataError, match=r"Two members of the archive are called 'same\.txt'"):
        unpack(tmp_path / "a.tar", tmp_path / "out", "1")


@pytest.mark.parametrize("name", ["a.tgz", "a.tar.xz", "a.zip"])
def test_a_truncated_archive_leaves_nothing(name: str, tmp_path: Path) -> None:
    archive = MAKERS[name](tmp_path / name, {"noise": os.urandom(200_000)})
    archive.write_bytes(archive.read_bytes()[:100_000])
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(archive, tmp_path / "out", "1")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@needs_bsdtar
def test_a_truncated_rar_is_found_out(tmp_path: Path) -> None:
    archive = rar_of(tmp_path / "a.rar", {"noise": os.urandom(200_000)})
    archive.write_bytes(archive.read_bytes()[:100_000])
    with pytest.raises(DataError, match=r"bsdtar could not read it|cannot be unpacked"):
        unpack(archive, tmp_path / "out", "1")
    assert [path.name for path in tmp_path.iterdir()] == ["a.rar"]


@needs_bsdtar
def test_a_rar_that_leaves_its_folder_is_refused(tmp_path: Path) -> None:
    archive = rar_of(tmp_path / "a.rar", {"../out.txt": b"x"})
    with pytest.raises(DataError, match="leaves its folder"):
        unpack(archive, tmp_path / "out", "1")
    assert [path.name for path in tmp_path.iterdir()] == ["a.rar"]


@pytest.mark.parametrize(
    ("program", "arguments"),
    [("unar", 'shift 3; folder="$1"; archive="$2"'), ("unrar", 'shift 4; archive="$1"; folder="$2"')],
)
@pytest.mark.parametrize(
    ("end", "error"), [("true", None), ("ln -s /etc/passwd link", "is a link"), ("exit 3", "could not")]
)
def test_other_programs_unpack_a_rar_and_the_rules_hold(
    program: str, arguments: str, end: str, error: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in takes the place of the program, which few systems have; it is called as the manual says."""
    stand_in = tmp_path / "bin" / program
    stand_in.parent.mkdir()
    lines = ["#!/bin/sh", "set -e", arguments, 'test -f "$archive"', 'cd "$folder"', "echo a > list.txt", end]
    stand_in.write_text("\n".join(lines))
    stand_in.chmod(0o755)
    monkeypatch.setattr("xmodal_cli.datasets.downloads.rar.shutil.which", lambda name: {program: stand_in}.get(name))
    archive = rar_of(tmp_path / "a.rar", HELD)
    if error is None:
        unpack(archive, tmp_path / "out", "1")
        assert contents(tmp_path / "out") == {"list.txt": b"a\n"}
    else:
        with pytest.raises(DataError, match=error):
            unpack(archive, tmp_path / "out", "1")
    assert {path.name for path in tmp_path.iterdir()} - {"out"} == {"bin", "a.rar"}


def test_a_rar_without_a_program_says_which_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match="bsdtar, unar, unrar") as caught:
        unpack(rar_of(tmp_path / "a.rar", HELD), tmp_path / "out", "1")
    assert "apt-get install libarchive-tools" in str(caught.value.hint)
    assert "ucf101-zip" in str(caught.value.hint)
    assert [path.name for path in tmp_path.iterdir()] == ["a.rar"]


def test_a_full_disk_leaves_nothing_and_the_next_call_goes_on(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a.tgz", {"noise": os.urandom(400_000)})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            unpack(archive, tmp_path / "out", "1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tgz"]
    unpack(archive, tmp_path / "out", "1")
    assert list(contents(tmp_path / "out")) == ["noise"]


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".out.unpacking" / "set").mkdir(parents=True)
    (tmp_path / ".out.unpacking" / "set" / "half").write_bytes(b"x")
    unpack(tar_of(tmp_path / "a.tgz", HELD), tmp_path / "out", "1")
    assert contents(tmp_path / "out") == HELD
    assert not (tmp_path / ".out.unpacking").exists()


def test_a_folder_of_the_same_archive_is_left_and_of_another_replaced(tmp_path: Path) -> None:
    unpack(tar_of(tmp_path / "a.tgz", HELD), tmp_path / "out", "1")
    (tmp_path / "out" / "mine.txt").write_text("note")
    unpack(tmp_path / "a.tgz", tmp_path / "out", "1")
    assert (tmp_path / "out" / "mine.txt").is_file()
    unpack(tar_of(tmp_path / "a.tgz", {"other": b"1"}), tmp_path / "out", "2")
    assert contents(tmp_path / "out") == {"other": b"1"}


def test_a_folder_that_is_not_ours_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("note")
    with pytest.raises(SettingsError, match="not unpacked by xmodal"):
        unpack(tar_of(tmp_path / "a.tgz", HELD), tmp_path / "out", "1")
    assert contents(tmp_path / "out") == {"mine.txt": b"note"}
