"""Promises of `download`: words to files, checked and unpacked, from servers or from a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xmodal_cli.datasets.downloads import catalogue, fetched
from xmodal_cli.datasets.downloads.fetch import DownloadSettings, Watch, download, items
from xmodal_cli.errors import DataError, DownloadError, SettingsError


def test_a_set_is_fetched_unpacked_and_found_by_prepare(small, own_cache: Path) -> None:
    report = download(DownloadSettings(("small",)))
    assert [each.state for each in report.outcomes] == ["fetched", "fetched"]
    assert (fetched.unpacked_path("frames.tgz") / "clip" / "00002.png").read_bytes() == b"second" * 40
    assert fetched.catalogue_path("list.txt") == own_cache / "data" / "small" / "list.txt"
    assert sorted(path.name for path in (own_cache / "data" / "small").iterdir()) == [
        "frames", "frames.tgz", "frames.tgz.sha256", "list.txt", "list.txt.sha256",
    ]  # fmt: skip


def test_a_second_call_fetches_and_unpacks_nothing(small) -> None:
    download(DownloadSettings(("small",)))
    inode = fetched.unpacked_path("frames.tgz").stat().st_ino
    small.server.files.clear()
    assert [each.state for each in download(DownloadSettings(("small",))).outcomes] == ["here", "here"]
    assert fetched.unpacked_path("frames.tgz").stat().st_ino == inode


def test_a_dry_run_asks_no_server_and_writes_nothing(small, own_cache: Path) -> None:
    report = download(DownloadSettings(("small", "squeezenet1_1"), dry_run=True))
    assert [each.state for each in report.outcomes] == ["missing"] * 3
    assert (report.missing_bytes, report.unknown) == (len(small.frames) + 650, 1)
    assert report.free_bytes > 0
    assert small.server.fetched == []
    assert not own_cache.exists()


def test_what_fails_does_not_keep_the_rest_away_and_the_next_call_goes_on(small) -> None:
    frames = small.server.files.pop("/frames.tgz")
    with pytest.raises(DownloadError, match=r"frames\.tgz could not be fetched.*answered 404"):
        download(DownloadSettings(("small",)))
    assert fetched.catalogue_path("list.txt").is_file()
    small.server.files["/frames.tgz"] = frames
    assert [each.state for each in download(DownloadSettings(("small",))).outcomes] == ["fetched", "here"]


def test_dead_hosts_name_every_address_where_else_it_lives_and_the_way_on(small) -> None:
    small.server.files.clear()
    with pytest.raises(DownloadError) as caught:
        download(DownloadSettings(("small",)))
    assert "2 of 2 files failed" in caught.value.message
    assert "127.0.0.1:1/list.txt could not be reached" in caught.value.message
    hint = str(caught.value.hint)
    assert "a shelf in the library" in hint
    assert "xmodal download list.txt --from DIR" in hint


def test_files_fetched_by_hand_are_checked_and_taken_without_a_server(small, tmp_path: Path) -> None:
    folder = tmp_path / "Downloads" / "deeper"
    folder.mkdir(parents=True)
    (folder / "frames.tgz").write_bytes(small.frames)
    (folder / "list.txt").write_bytes(small.server.files["/list.txt"])
    report = download(DownloadSettings(("small",), from_folder=tmp_path / "Downloads"))
    assert [each.state for each in report.outcomes] == ["taken", "taken"]
    assert small.server.fetched == []
    assert (fetched.unpacked_path("frames.tgz") / "clip" / "00001.png").is_file()
    assert (folder / "list.txt").samefile(fetched.catalogue_path("list.txt"))  # not stored twice


def test_a_wrong_file_in_the_folder_is_refused_and_stays_the_readers_own(small, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"x" * 650)
    with pytest.raises(DownloadError, match="came with MD5") as caught:
        download(DownloadSettings(("list.txt",), from_folder=tmp_path))
    assert caught.value.exit_code == 4
    assert (tmp_path / "list.txt").read_bytes() == b"x" * 650
    assert not fetched.place_of(catalogue.FILES["list.txt"]).exists()


def test_a_file_that_is_not_in_the_folder_is_named_with_its_addresses(small, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"list\.txt is not in .*published here: http://127.0.0.1:1/list.txt"):
        download(DownloadSettings(("list.txt",), from_folder=tmp_path))
    with pytest.raises(SettingsError, match="no folder"):
        download(DownloadSettings(("list.txt",), from_folder=tmp_path / "none"))


def test_a_file_taken_from_a_folder_has_to_match_what_was_pinned(small, tmp_path: Path) -> None:
    download(DownloadSettings(("frames.tgz",), unpack=False))
    fetched.place_of(catalogue.FILES["frames.tgz"]).unlink()
    (tmp_path / "frames.tgz").write_bytes(b"another version")
    taking = DownloadSettings(("frames.tgz",), from_folder=tmp_path, unpack=False)
    with pytest.raises(DownloadError, match=r"pinned in .*frames\.tgz\.sha256; remove it"):
        download(taking)
    (tmp_path / "frames.tgz").write_bytes(small.frames)
    assert download(taking).outcomes[0].state == "taken"


def test_weights_of_a_network_are_taken_from_the_folder_too(own_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "squeezenet1_1-b8a52dc0.pth").write_bytes(b"no such weights")
    with pytest.raises(DownloadError, match="promised was b8a52dc0"):
        download(DownloadSettings(("squeezenet1_1",), from_folder=tmp_path))


@pytest.mark.real
def test_real_metadata_is_what_the_catalogue_says(real_data: Path) -> None:
    report = download(DownloadSettings(("splits.mat", "classMapping40.mat"), from_folder=real_data / "nyud2-metadata"))
    assert [each.checked for each in report.outcomes] == [("md5 of the catalogue",)] * 2
    report = download(DownloadSettings(("jhmdb_annot.mat",), from_folder=real_data / "jhmdb"))
    assert report.outcomes[0].bytes == 207_957


def test_an_archive_can_be_removed_once_it_is_unpacked(small) -> None:
    removing = DownloadSettings(("frames.tgz",), remove_archives=True)
    download(removing)
    assert not fetched.place_of(catalogue.FILES["frames.tgz"]).exists()
    small.server.files.clear()
    assert download(removing).outcomes[0].state == "here"
    assert (fetched.unpacked_path("frames.tgz") / "clip" / "00001.png").is_file()


def test_an_archive_can_be_left_packed(small) -> None:
    report = download(DownloadSettings(("frames.tgz",), unpack=False))
    assert report.outcomes[0].unpacked is None
    with pytest.raises(DownloadError, match=r"frames\.tgz is not in") as caught:
        fetched.unpacked_path("frames.tgz")
    assert caught.value.hint == "xmodal download small"


def test_a_bad_archive_is_bad_data_and_leaves_only_the_archive(small) -> None:
    small.server.files["/frames.tgz"] = b"\x1f\x8b no archive at all"
    with pytest.raises(DataError, match="cannot be unpacked") as caught:
        download(DownloadSettings(("frames.tgz",)))
    assert caught.value.exit_code == 3
    place = fetched.place_of(catalogue.FILES["frames.tgz"])
    assert sorted(path.name for path in place.parent.iterdir()) == ["frames.tgz", "frames.tgz.sha256"]


def test_damage_that_left_no_trace_is_found_with_check(small) -> None:
    path = download(DownloadSettings(("list.txt",))).outcomes[0].path
    times = path.stat()
    path.write_bytes(b"x" * 650)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert download(DownloadSettings(("list.txt",))).outcomes[0].state == "here"
    assert download(DownloadSettings(("list.txt",), reread=True)).outcomes[0].state == "fetched"


def test_a_watcher_is_told_sizes_before_bytes_and_what_is_done(small) -> None:
    told: list[tuple[str, int, int]] = []
    done: list[str] = []
    download(
        DownloadSettings(("frames.tgz",)),
        Watch(
            downloading=lambda url, count, total: told.append(("fetch", count, total)),
            unpacking=lambda name, count, total: told.append(("unpack", count, total)),
            finished=lambda outcome: done.append(outcome.name),
        ),
    )
    assert told[0] == ("fetch", 0, len(small.frames))
    assert told[-1][0] == "unpack"
    assert done == ["frames.tgz"]


def test_words_may_be_sets_files_patterns_and_networks_each_file_once() -> None:
    names = [item.name for item in items(["ucf101", "ucf101-zip", "offices_*.zip", "splits.mat", "squeezenet1_1"])]
    assert names == [
        "UCF101.rar", "UCF101TrainTestSplits-RecognitionTask.zip", "UCF101_videos.zip",
        "offices_part1.zip", "offices_part2.zip", "splits.mat", "squeezenet1_1",
    ]  # fmt: skip


@pytest.mark.parametrize(("word", "near"), [("nyud3", "nyud2"), ("split.mat", "splits.mat"), ("alexnt", "alexnet")])
def test_a_misspelt_word_names_the_closest(word: str, near: str) -> None:
    with pytest.raises(SettingsError, match=word) as caught:
        items([word])
    assert f"'{near}'" in str(caught.value.hint)
