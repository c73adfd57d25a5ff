"""Promises of the demo: every stage really runs, what is finished is kept, and it ends with a table and a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.run_evaluation import evaluate_runs
from xmodal_cli.errors import Interrupted, SettingsError
from xmodal_cli.models.weights import load_file, without_heads
from xmodal_cli.runs.folder import open_run
from xmodal_cli.runs.session import Watchers
from xmodal_cli.studies.demo import ROWS, VAL, Demo, DemoSettings, demo, recipe, steps
from xmodal_cli.studies.demo_report import NO_PROOF, write_demo_report
from xmodal_cli.studies.steps import Moment

TRAINED = ("teacher", "student", "none", "copied", "transferred")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """A quick demo, stopped once on its way; nobody may change it."""
    settings = DemoSettings(tmp_path_factory.mktemp("demo") / "xmodal-demo", quick=True, device="cpu", workers=1)

    def stop(_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="teacher"):
        demo(settings, watchers=Watchers(training=stop))
    return demo(settings)


def test_rows_are_those_of_the_papers_table_and_what_evaluate_gives(made: Demo, tmp_path: Path) -> None:
    assert [row.id for row in made.rows] == list(ROWS)
    assert [row.main.paper for row in made.rows] == [22.7, 25.1, 30.5, 22.3, 33.8, 35.6, None, 30.4, 37.6]
    data = PreparedData.open(made.settings.data)
    for row in made.rows:
        runs = [open_run(made.detectors[name]) for name in ROWS[row.id][1]]
        assert row.main.by_seed[0] == evaluate_runs(runs, data, split=VAL, root=tmp_path).to_dict()["mAP"]


def test_student_never_sees_a_label_and_nobody_sees_the_rooms_that_are_scored(made: Demo) -> None:
    data = PreparedData.open(made.settings.data)
    rooms = {split: {name.split("/")[0] for name in data.ids(split)} for split in data.splits}
    assert list(rooms) == ["teach", "pairs", "few", "val"]
    assert sum(len(found) for found in rooms.values()) == len(set().union(*rooms.values()))
    used = {name: open_run(made.detectors[name]).config()["settings"]["split"] for name in TRAINED}
    assert used == {"teacher": "teach", "student": "pairs", "none": "few", "copied": "few", "transferred": "few"}


def test_detectors_begin_with_what_their_rows_say(made: Demo) -> None:
    asked = {name: open_run(made.detectors[name]).config()["asked"] for name in TRAINED}
    assert "init" not in asked["none"]
    assert asked["copied"]["init"] == str((made.detectors["teacher"] / "detector.safetensors").resolve())
    assert asked["transferred"]["init"] == str(made.detectors["student"].resolve())
    same = ("iterations", "size", "layer", "trunk_lr", "lr", "regions", "batch_size")
    trained = [open_run(made.detectors[name]).config()["settings"] for name in ("none", "copied", "transferred")]
    assert all(each[key] == trained[0][key] for each in trained for key in same)
    teacher = without_heads(load_file(made.detectors["teacher"] / "detector.safetensors"))
    assert set(teacher) == set(load_file(made.detectors["student"] / "student.safetensors"))


def test_what_is_finished_is_kept(made: Demo) -> None:
    told: list[Moment] = []
    again = demo(made.settings, told.append)
    assert all(moment.kept for moment in told)
    assert again.to_dict() == made.to_dict()
    assert len(told) == len(steps(made.settings)) == 2 + len(TRAINED) + 2 + 3  # passes that measure


def test_device_is_that_of_every_training_and_measurement() -> None:
    made = recipe(DemoSettings(device="cpu"), 0)
    assert {each.given["device"] for each in made.trainings.values()} == {"cpu"}
    assert {each.device for each in made.scores.values()} == {"cpu"}


def test_folder_of_another_demo_is_refused(made: Demo) -> None:
    with pytest.raises(SettingsError):
        demo(DemoSettings(made.settings.out, quick=False, device="cpu", workers=1))


def test_page_has_the_table_and_says_what_a_quick_run_proves(made: Demo) -> None:
    path = write_demo_report(made)
    text = path.read_text()
    assert path == made.settings.out / "report.html"
    assert NO_PROOF in text
    for row in made.rows:
        assert row.title in text
        assert f"{row.main.mean:.1f}" in text
    assert text.count("data:image/") >= 6
    assert "http" not in text.split("<body>")[1]
    assert write_demo_report(made).read_text() == text


def test_command_gives_the_table_as_a_document(made: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["demo", "--quick", "--out", str(made.settings.out), "--device", "cpu", "--workers", "1"]
    assert xmodal([*words, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert results["rows"] == json.loads(json.dumps(made.to_dict()["rows"]))
    assert results["quick"] is True
    assert Path(results["report"]).is_file()
    assert xmodal(words) == 0
    said = capsys.readouterr()
    assert "HHA: transferred" in said.out
    assert "prove nothing" in said.err
