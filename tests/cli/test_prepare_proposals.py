"""Promises of `xmodal prepare proposals`: every method stores boxes, says how good they are, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rigs import HEIGHT, WIDTH, make_rig, prepared, tree, write_annotations

from xmodal_cli.cli.app import run
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import open_proposals
from xmodal_cli.detect import propose
from xmodal_cli.detect.propose import ProposalSettings, prepare_proposals, propose_for
from xmodal_cli.errors import SettingsError
from xmodal_cli.metrics.recall import grid_windows


@pytest.fixture
def data(tmp_path: Path) -> PreparedData:
    rig = make_rig(tmp_path / "rig")
    labels = write_annotations(tmp_path / "val.json", ["a", "b"])
    return prepared(rig, tmp_path / "data", annotations={"val": labels})


def results(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    code = run(["prepare", "proposals", *words, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert code == 0, document
    return document["results"]


def refused(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> str:
    assert run(["prepare", "proposals", *words, "--json"]) == code
    error = json.loads(capsys.readouterr().out)["error"]
    return f"{error['message']} {error['hint']}"


def test_bottom_up_boxes_lie_inside_and_are_the_same_with_any_workers(
    data: PreparedData, capsys: pytest.CaptureFixture[str]
) -> None:
    for workers in ("1", "2"):
        found = results(capsys, str(data.root), "--most", "50", "--name", f"with{workers}", "--workers", workers)
        assert found["method"] == "bottom-up"
    one, two = (open_proposals(data, f"with{workers}") for workers in ("1", "2"))
    assert one.content_hash == two.content_hash
    assert one.ids == tuple(data.all_ids)
    for identifier in one.ids:
        boxes = one[identifier]
        assert 0 < len(boxes) <= 50
        assert (boxes >= 0).all()
        assert (boxes <= [WIDTH, HEIGHT, WIDTH, HEIGHT]).all()


def test_a_description_makes_the_same_boxes_for_an_image_again(data: PreparedData) -> None:
    prepare_proposals(data, ProposalSettings(modalities=("rgb",), most=40, workers=1))
    stored = open_proposals(data)
    description = json.loads(json.dumps(dict(stored.description)))
    images = {name: data.read(name, "c") for name in data.modalities}
    assert np.array_equal(propose_for(description, images), stored["c"])
    with pytest.raises(SettingsError, match="no rgb image"):
        propose_for(description, {"disparity": images["disparity"]})


def test_the_report_measures_splits_with_objects_and_leaves_crowds_out(
    data: PreparedData, capsys: pytest.CaptureFixture[str]
) -> None:
    found = results(capsys, str(data.root), "--method", "grid")
    assert list(found["recall"]) == ["val"]
    assert found["recall"]["val"]["proposals"]["objects"] == 2  # of four boxes two are crowds
    assert found["recall"]["val"]["proposals"]["images"] == 2
    folder = data.root / "proposals" / "grid"
    assert json.loads((folder / "recall.json").read_text())["recall"] == found["recall"]
    assert Path(found["picture"]) == folder / "recall.png"
    assert (folder / "recall.png").is_file()
    assert np.array_equal(open_proposals(data)["a"], grid_windows((HEIGHT, WIDTH), 2000))


def test_the_next_step_trains_on_what_was_made(data: PreparedData, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prepare", "proposals", str(data.root), "--method", "grid"]) == 0
    captured = capsys.readouterr()
    assert f"xmodal finetune --data {data.root} --modality disparity --proposals grid" in captured.err
    assert "recall on val, 2 objects in 2 images" in " ".join(captured.out.split())


def test_a_file_is_imported_and_every_loss_is_said(
    data: PreparedData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "mine.npz", a=[[2, 3, 12, 11], [-4, 0, 9, 9]], b=[[2, 3, 12, 11]], elsewhere=[[0, 0, 1, 2]])
    found = results(capsys, str(data.root), "--method", str(tmp_path / "mine.npz"))
    assert found["counts"]["boxes"] == 3
    assert found["counts"]["clipped"] == 1
    assert any("'elsewhere'" in note for note in found["notes"])
    assert found["recall"]["val"]["proposals"]["at"]["100"]["recall_0.7"] == 1
    stored = open_proposals(data, "mine")
    assert stored.missing(data.all_ids) == ["c", "d"]
    with pytest.raises(SettingsError) as caught:
        propose_for(stored.description, {"rgb": np.zeros((4, 4, 3), np.uint8)})
    assert "--proposals bottom-up" in str(caught.value.hint)


def test_a_dry_run_writes_nothing(data: PreparedData, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "mine.npz", a=[[2, 3, 12, 11]])
    before = tree(data.root)
    assert results(capsys, str(data.root), "--most", "20", "--dry-run")["seconds_total"] > 0
    assert results(capsys, str(data.root), "--method", str(tmp_path / "mine.npz"), "--dry-run")["counts"]["boxes"] == 1
    assert tree(data.root) == before


def test_a_split_gets_proposals_alone(data: PreparedData, capsys: pytest.CaptureFixture[str]) -> None:
    found = results(capsys, str(data.root), "--method", "grid", "--most", "9", "--split", "val")
    assert found["counts"]["images"] == 2
    assert open_proposals(data).ids == ("a", "b")


def test_what_is_there_is_replaced_only_when_asked(data: PreparedData, capsys: pytest.CaptureFixture[str]) -> None:
    results(capsys, str(data.root), "--method", "grid", "--most", "9")
    assert "--overwrite" in refused(capsys, 2, str(data.root), "--method", "grid", "--most", "5")
    results(capsys, str(data.root), "--method", "grid", "--most", "5", "--overwrite")
    assert len(open_proposals(data)["a"]) == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "botom-up"], "bottom-up"),
        (["--method", "nothing"], "Known are"),
        (["--box-order", "yxyx"], "--box-order belongs to a file"),
        (["--method", "grid", "--modality", "rgb"], "--modality belongs to"),
        (["--method", "p.npz", "--modality", "rgb"], "--modality belongs to"),
        (["--modality", "rbg"], "'rgb'"),
        (["--split", "test"], "no split 'test'"),
        (["--most", "0"], "--most"),
        (["--workers", "few"], "--workers"),
        (["--name", "a/b"], "no name"),
    ],
)
def test_bad_settings_are_refused(
    data: PreparedData, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert said in refused(capsys, 2, str(data.root), *words)
    assert not (data.root / "proposals").exists()


def test_bad_files_are_refused_and_leave_nothing(
    data: PreparedData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "nan.npz", a=[[0, 0, np.nan, 3]])
    np.savez(tmp_path / "train.npz", c=[[0, 0, 4, 3]])
    assert "image 'a'" in refused(capsys, 3, str(data.root), "--method", str(tmp_path / "nan.npz"))
    assert "There is no file" in refused(capsys, 3, str(data.root), "--method", str(tmp_path / "none.npz"))
    assert "split 'val'" in refused(
        capsys, 3, str(data.root), "--method", str(tmp_path / "train.npz"), "--split", "val"
    )
    assert not (data.root / "proposals").exists()


def test_ctrl_c_leaves_nothing_and_says_so(
    data: PreparedData, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(size_hw: tuple[int, int], count: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(propose, "grid_windows", interrupt)
    assert "nothing was written" in refused(capsys, 130, str(data.root), "--method", "grid")
    assert not list((data.root / "proposals").iterdir())
