"""Promises of `xmodal predict`: a JSON file and a picture for every image, and words for what cannot be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_distill import refused
from tiny_detectors import METHOD, settings, with_proposals

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.data.images import read_rgb, write_png
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.finetune import finetune
from xmodal_cli.detect.propose import ProposalSettings, prepare_proposals

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def data(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    made = with_proposals(tiny_data, tmp_path_factory.mktemp("detection") / "data")
    prepare_proposals(made, ProposalSettings("grid", most=40))
    return made


@pytest.fixture(scope="module")
def run(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that learned with the grid."""
    chosen = settings(data, proposals="grid", iterations=6, lr=0.005)
    return finetune(chosen, runs=tmp_path_factory.mktemp("runs"), name="tiny").run


@pytest.fixture
def image(data: PreparedData) -> Path:
    return data.path("disparity", data.ids("val")[0])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the command works in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def line(run: Path, *more: object) -> list[str]:
    return ["predict", str(run), *map(str, more), "--device", "cpu"]


def results(run: Path, capsys: Captured, *more: object) -> list[dict[str, Any]]:
    """What the one document of the command holds."""
    assert xmodal([*line(run, *more), "--json", "-q"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["command", "runs", "data", "split", "results"]
    assert (document["command"], document["runs"]) == ("predict", [str(run)])
    found: list[dict[str, Any]] = document["results"]
    return found


def test_every_image_gets_a_json_file_and_a_picture(run: Path, image: Path, here: Path, capsys: Captured) -> None:
    assert xmodal(line(run, image, "--least-score", "0")) == 0
    said = capsys.readouterr()
    folder = here / "runs" / "predict" / "tiny"
    assert {path.name for path in folder.iterdir()} == {f"{image.stem}.json", f"{image.stem}.png"}
    kept = json.loads((folder / f"{image.stem}.json").read_text())
    assert kept["detections"]
    assert kept["image"] == str(image)
    drawn = read_rgb(folder / f"{image.stem}.png")
    assert drawn.shape == (kept["height"], kept["width"], 3)
    assert not np.array_equal(drawn, read_rgb(image))
    assert "kept in runs/predict/tiny" in said.err
    assert kept["detections"][0]["class"] in said.out


def test_json_holds_what_the_files_hold(run: Path, image: Path, here: Path, capsys: Captured) -> None:
    (found,) = results(run, capsys, image, "--out", here / "found", "--least-score", "0")
    assert json.loads(Path(found["json"]).read_text()) == found
    assert Path(found["picture"]).parent == here / "found"
    assert set(found["detections"][0]) == {"class", "score", "box_xyxy"}


def test_weak_detections_are_left_out_and_an_image_without_any_is_drawn_unchanged(
    run: Path, image: Path, here: Path, capsys: Captured
) -> None:
    (every,) = results(run, capsys, image, "--least-score", "0")
    middle = sorted(each["score"] for each in every["detections"])[len(every["detections"]) // 2]
    (strong,) = results(run, capsys, image, "--least-score", middle)
    assert 0 < len(strong["detections"]) < len(every["detections"])
    assert all(each["score"] >= middle - 1e-4 for each in strong["detections"])
    (none,) = results(run, capsys, image, "--least-score", "1.1")
    assert none["detections"] == []
    assert np.array_equal(read_rgb(Path(none["picture"])), read_rgb(image))
    assert xmodal(line(run, image, "--least-score", "1.1")) == 0
    assert "nothing above 1.1" in capsys.readouterr().out


def test_images_of_the_same_name_do_not_overwrite_each_other(
    data: PreparedData, run: Path, here: Path, capsys: Captured
) -> None:
    images = []
    for place, name in enumerate(data.ids("val")[:3]):
        folder = here / f"camera{place}"
        folder.mkdir()
        images.append(Path(shutil.copy(data.path("disparity", name), folder / "frame.png")))
    found = results(run, capsys, *images, "--least-score", "0")
    assert [each["image"] for each in found] == [str(path) for path in images]
    assert len({each["json"] for each in found}) == len({each["picture"] for each in found}) == 3
    for each in found:
        assert json.loads(Path(each["json"]).read_text()) == each


def test_no_pictures_draws_none(run: Path, image: Path, here: Path, capsys: Captured) -> None:
    (found,) = results(run, capsys, image, "--no-pictures", "--out", here / "found")
    assert "picture" not in found
    assert [path.suffix for path in (here / "found").iterdir()] == [".json"]


def test_proposals_other_than_the_runs_are_warned_of(run: Path, image: Path, here: Path, capsys: Captured) -> None:
    assert xmodal(line(run, image, "--proposals", "bottom-up")) == 0
    assert "learned with the proposals grid; here they are bottom-up" in capsys.readouterr().err


def test_run_whose_proposals_came_from_a_file_says_what_to_do(
    data: PreparedData, run: Path, image: Path, here: Path, capsys: Captured
) -> None:
    shutil.copytree(run, here / "finetune" / "filed")
    card = json.loads((run / "card.json").read_text())
    card["proposals"] = {"method": METHOD, "description": {"method": "file", "source": "mcg.mat", "settings": {}}}
    (here / "finetune" / "filed" / "card.json").write_text(json.dumps(card))
    error = refused(line(here / "finetune" / "filed", image), 2, capsys)
    assert "mcg.mat" in error["message"]
    assert "--proposals bottom-up" in error["hint"]


@pytest.mark.parametrize("given", ["rgb", "=x.png", "rgb=", ""])
def test_partner_is_a_modality_and_a_file(given: str, run: Path, image: Path, here: Path, capsys: Captured) -> None:
    assert "MODALITY=FILE" in refused(line(run, image, "--with", given), 2, capsys)["message"]


def test_images_that_do_not_fit_are_refused_with_their_own_exit_codes(
    data: PreparedData, run: Path, image: Path, here: Path, capsys: Captured
) -> None:
    assert "sees disparity" in refused(line(run, image, "--modality", "rgb"), 2, capsys)["message"]
    write_png(here / "deep.png", np.zeros((48, 64), np.uint16))
    (here / "cut.png").write_bytes(image.read_bytes()[:200])
    for name, words in (("deep.png", "uint16"), ("cut.png", "cut off"), ("absent.png", "does not exist")):
        assert words in refused(line(run, here / name), 3, capsys)["message"]
    assert not (here / "runs").exists()


def test_only_detection_runs_predict(image: Path, here: Path, capsys: Captured) -> None:
    assert "no run at" in refused(line(here / "nowhere", image), 2, capsys)["message"]
    (here / "distill" / "x").mkdir(parents=True)
    (here / "distill" / "x" / "config.yaml").write_text("command: distill\nsettings: {}\n")
    assert "xmodal distill" in refused(line(here / "distill" / "x", image), 2, capsys)["message"]
