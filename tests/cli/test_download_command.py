"""`xmodal download` and `xmodal datasets`: what they say, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xmodal_cli.cli.app import run

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file whose size and hash the catalogue is made to expect."""
    import dataclasses
    import hashlib

    from xmodal_cli.datasets.downloads import catalogue

    (tmp_path / "splits.mat").write_bytes(b"splits")
    known = f"md5:{hashlib.md5(b'splits').hexdigest()}"
    file = dataclasses.replace(catalogue.FILES["splits.mat"], size=6, hash=known, urls=("http://127.0.0.1:1/x",))
    chosen = dataclasses.replace(catalogue.SETS["nyud2"], files=(file,))
    monkeypatch.setitem(catalogue.FILES, "splits.mat", file)
    monkeypatch.setitem(catalogue.SETS, "nyud2", chosen)
    return tmp_path


def test_a_file_fetched_by_hand_then_what_is_here(by_hand: Path, capsys: Capture) -> None:
    assert run(["download", "nyud2", "--from", str(by_hand), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "download"
    assert document["results"]["files"][0]["state"] == "taken"
    assert run(["download", "nyud2", "--from", str(by_hand)]) == 0
    assert "xmodal prepare nyud2 --out data/nyud2" in capsys.readouterr().err
    assert run(["datasets", "--json"]) == 0
    here = json.loads(capsys.readouterr().out)["results"][0]["here"]["splits.mat"]
    assert here["path"].endswith("data/nyud2/splits.mat")
    assert run(["datasets"]) == 0
    assert "1 of 1" in capsys.readouterr().out
    assert run(["datasets", "nyud2"]) == 0
    assert f"here: {Path(here['path']).parent}\n" in capsys.readouterr().out


def test_a_dead_host_is_exit_code_4_and_one_document(by_hand: Path, capsys: Capture) -> None:
    assert run(["download", "splits.mat", "--json"]) == 4
    error = json.loads(capsys.readouterr().out)["error"]
    assert "http://127.0.0.1:1/x could not be reached" in error["message"]
    assert "xmodal download splits.mat --from DIR" in error["hint"]
    assert error["code"] == 4


def test_a_dry_run_tells_sizes_and_free_space(own_cache: Path, capsys: Capture) -> None:
    assert run(["download", "coco2017", "vgg16", "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert "19.34 GB" in shown.out
    assert "to fetch: 20.41 GB and 1 of unknown size; free: " in shown.err
    assert run(["download", "kitchens_*.zip", "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert "to fetch: 3 of unknown size; free: " in shown.err
    assert shown.out.splitlines()[-1] == f"in {own_cache}/data/nyud2-raw"  # one line, whatever its length


def test_the_list_has_every_file_with_its_terms(capsys: Capture) -> None:
    assert run(["download", "--list", "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["results"]
    labelled = next(each for each in files if each["name"] == "nyu_depth_v2_labeled.mat")
    assert labelled["hash"] == "md5:520609c519fba3ba5ac58c8fefcc3530"
    assert all(each["licence"] and each["urls"] for each in files)
    assert run(["download", "--list", "jhmdb"]) == 0
    assert "Rename_Images.tar.gz" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["download"], ["download", "nyud3"], ["datasets", "nyud3"]])
def test_nothing_or_something_unknown_is_bad_usage(words: list[str], capsys: Capture) -> None:
    assert run(words) == 2
    assert "hint:" in capsys.readouterr().err
