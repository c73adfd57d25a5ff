"""Promises of reproduced tables: rows are what the commands give, finished ones kept, other settings refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_actions
import tiny_detectors
import tiny_runs
from masked_data import with_masks
from safetensors.torch import save_file
from tiny_actions import make_tiny_actions
from tiny_runs import assert_same_tensors
from torch import nn
from torchvision.models import squeezenet1_1

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import write_proposals
from xmodal_cli.detect.branches import load_trained
from xmodal_cli.detect.mask_evaluation import evaluate_masks
from xmodal_cli.detect.probe_evaluation import evaluate_probe
from xmodal_cli.detect.run_evaluation import evaluate_runs
from xmodal_cli.detect.unadapted import show_unadapted
from xmodal_cli.errors import Interrupted, SettingsError
from xmodal_cli.metrics.paper import paper_table
from xmodal_cli.models.weights import load_file
from xmodal_cli.runs.folder import open_run
from xmodal_cli.runs.session import Watchers
from xmodal_cli.studies import table1, table7
from xmodal_cli.studies.joints import Joint
from xmodal_cli.studies.plan import Plan, Recipe
from xmodal_cli.studies.reproduce import TABLES, estimate, gather, recipes, reproduce, steps
from xmodal_cli.studies.steps import Moment, Step

ROWS = ("1B", "1C", "3B")
# What a recipe decides itself.
DECIDED = ("modality", "backbone", "teacher", "teacher_weights", "student", "init")


@pytest.fixture(scope="module")
def data(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return with_masks(tiny_data, tmp_path_factory.mktemp("studies") / "data")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "plain.safetensors"
    network: nn.Module = squeezenet1_1()
    save_file(network.state_dict(), path)
    return path


def tiny_plan(data: PreparedData, weights: Path, runs: Path, **changes: Any) -> Plan:
    """A plan whose trainings take a second each."""
    transfer = {**tiny_runs.OPTIONS, "iterations": 3}
    detector = {**tiny_detectors.OPTIONS, **tiny_detectors.IN_FILES, "iterations": 3}
    given = {
        command: {name: value for name, value in values.items() if name not in DECIDED}
        for command, values in (("distill", transfer), ("finetune", detector))
    }
    values: dict[str, Any] = {
        "table": "table1",
        "data": data.root,
        "runs": runs,
        "preset": "small",
        "backbone": "squeezenet1_1",
        "second": "squeezenet1_0",
        "weights": weights,
        "modality": "disparity",
        "usual": "disparity",
        "rows": ROWS,
        "given": given,
    }
    return Plan(**{**values, **changes})


@pytest.fixture(scope="module")
def made(data: PreparedData, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A small table, made once; nobody may change it."""
    plan = tiny_plan(data, weights, tmp_path_factory.mktemp("made") / "runs")
    reproduce(plan)
    return plan


def test_rows_are_what_evaluate_gives(made: Plan, data: PreparedData, tmp_path: Path) -> None:
    rows = {row.id: row for row in gather(made).rows}
    assert tuple(rows) == ROWS
    for row, names in (("1C", ("1C-0",)), ("3B", ("3A-0", "1B-0"))):
        runs = [open_run(made.runs / "finetune" / name) for name in names]
        assert rows[row].main.by_seed == {0: evaluate_runs(runs, data, split="val", root=tmp_path).to_dict()["mAP"]}
        assert rows[row].main.paper == {"1C": 29.7, "3B": 33.8}[row]
    assert set(rows["1C"].figures) == {"mAP", "explained variance"}
    assert set(rows["1B"].figures) == {"mAP"}


def test_rows_of_table_4_have_the_probe_of_their_layer(data: PreparedData, weights: Path, tmp_path: Path) -> None:
    plan = tiny_plan(data, weights, tmp_path, table="table4", rows=("pool1",))
    (row,) = reproduce(plan).rows
    run = open_run(tmp_path / "distill" / "student-pool1-0")
    probed = evaluate_probe(run, data, split="val", runs=tmp_path).to_dict()["probe"]
    assert list(row.figures) == ["mAP", "explained variance", "probe"]
    assert row.figures["probe"].by_seed == {0: probed["accuracy"]}
    assert row.main.paper == 24.4
    assert all(set(figure.by_seed) == {0} for figure in row.figures.values())


def test_rows_of_table_5_are_joined_of_the_runs_of_table_1(made: Plan, data: PreparedData, weights: Path) -> None:
    plan = replace(made, table="table5", rows=("RGB", "as-it-is", "D", "RGB+D"))
    assert {step.name for step in steps(plan) if step.finished()} == {"3A-0"}  # trained for table 1
    rows = {row.id: row for row in reproduce(plan).rows}
    published = {"RGB": 33.0, "as-it-is": None, "D": 30.4, "RGB+D": 37.6}
    assert {row.id: row.main.paper for row in rows.values()} == published
    joined = [open_run(made.runs / "finetune" / "3A-0"), open_run(made.runs / "zero-shot" / "zero-shot-0")]
    assert rows["RGB+D"].main.by_seed == {0: evaluate_runs(joined, data, split="val", root=made.runs).to_dict()["mAP"]}
    assert set(rows["D"].figures["explained variance"].by_seed) == {0}
    assert "explained variance" not in rows["as-it-is"].figures


def test_rows_of_table_2_are_masks_on_the_detectors_of_table_1(
    made: Plan, data: PreparedData, weights: Path, tmp_path: Path
) -> None:
    given = {**made.given, "segmentation": {"iterations": 2, "threads": 1, "workers": 0}}
    plan = replace(made, table="table2", rows=("RGB/fc7", "RGB/hypercolumns"), given=given)
    rows = {row.id: row.figures for row in reproduce(plan).rows}
    assert [each.trainings["masks-rgb-fc7"].saved()["features"] for each in recipes(plan)] == ["fc7"]
    assert {name: figure.paper for name, figure in rows["RGB/fc7"].items()} == {
        "AP^r at 0.5": 26.3,
        "AP^r at 0.7": 14.8,
    }
    assert rows["RGB/hypercolumns"]["AP^r at 0.7"].paper == 18.3
    run = open_run(made.runs / "segmentation" / "masks-rgb-hypercolumns-0")
    measured = evaluate_masks([run], data, split="val", root=tmp_path).to_dict()["mAP_r"]
    assert rows["RGB/hypercolumns"]["AP^r at 0.5"].by_seed == {0: measured["0.5"]}
    (masks,) = (each for each in estimate(replace(plan, rows=("D/fc7",))) if each.name.startswith("masks"))
    assert (masks.finished, masks.seconds) == (False, None)  # there is no detector to try them on


def test_what_is_finished_is_not_done_again(made: Plan) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.runs.rglob("*") if path.is_file()}
    told: list[Moment] = []
    reproduce(made, told.append)
    assert all(moment.kept for moment in told)
    assert len(told) == len(steps(made)) == 3 + 1 + 2  # detectors 3A, 1B, 1C; a student; passes that score
    assert before == {path: path.stat().st_mtime_ns for path in made.runs.rglob("*") if path.is_file()}


def test_run_of_other_settings_is_refused_with_the_difference(made: Plan) -> None:
    given = {**made.given, "finetune": {**made.given["finetune"], "iterations": 5}}
    with pytest.raises(SettingsError, match="iterations 3, not 5"):
        reproduce(replace(made, given=given))


def test_settings_of_the_machine_do_not_make_another_run(made: Plan) -> None:
    given = {command: {**values, "threads": 2, "workers": 1} for command, values in made.given.items()}
    assert all(step.finished() for step in steps(replace(made, given=given)))


def test_scores_of_runs_that_changed_are_not_kept(
    made: Plan, data: PreparedData, weights: Path, tmp_path: Path
) -> None:
    plan = tiny_plan(data, weights, tmp_path / "runs", rows=("1B",))
    reproduce(plan)
    card = plan.runs / "finetune" / "1B-0" / "card.json"
    card.write_text(card.read_text() + "\n")
    assert [step.name for step in steps(plan) if not step.finished()] == ["score-1B-0"]


def stop_at(report: int) -> Watchers:
    """A watcher that presses Ctrl-C at the n-th report of a training."""
    seen = []

    def training(_: Any) -> None:
        seen.append(1)
        if len(seen) == report:
            raise KeyboardInterrupt

    return Watchers(training=training)


def test_interrupted_table_goes_on_to_the_same_end(
    made: Plan, data: PreparedData, weights: Path, tmp_path: Path
) -> None:
    plan = tiny_plan(data, weights, tmp_path / "runs", rows=("1C",))
    for report in (1, 2):
        with pytest.raises(Interrupted, match="Stopped in"):
            reproduce(plan, watchers=stop_at(report))
    reproduce(plan)
    file = Path("finetune") / "1C-0" / "detector.safetensors"
    assert_same_tensors(load_file(plan.runs / file), load_file(made.runs / file))


def test_each_seed_has_runs_of_its_own(data: PreparedData, weights: Path, tmp_path: Path) -> None:
    plan = tiny_plan(data, weights, tmp_path / "runs", seeds=(0, 3))
    seeds = {step.name: step.given["seed"] for step in steps(plan) if hasattr(step, "given")}
    assert seeds["1B-0"] == 0
    assert seeds["1B-3"] == 3
    assert len(seeds) == 8


def test_estimate_writes_nothing_and_knows_what_is_finished(
    made: Plan, data: PreparedData, weights: Path, tmp_path: Path
) -> None:
    assert all(each.finished and each.seconds is None for each in estimate(made))
    plan = tiny_plan(data, weights, tmp_path / "runs")
    planned = estimate(plan)
    assert not plan.runs.exists()
    trained = [each for each in planned if not each.name.startswith("score")]
    assert all(each.seconds and each.seconds > 0 for each in trained)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"table": "table9"}, "table1, table2"),
        ({"rows": ("1Z",)}, "1A, 1B"),
        ({"given": {"finetune": {"iteration": 3}}}, "iterations"),
    ],
)
def test_unknown_tables_rows_and_settings_are_refused(
    changes: dict[str, Any], words: str, data: PreparedData, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError) as caught:
        reproduce(tiny_plan(data, weights, tmp_path / "runs", **changes))
    assert words in f"{caught.value.message} {caught.value.hint}"
    assert not (tmp_path / "runs").exists()


def paper_plan(table: str) -> Plan:
    return Plan(table, Path("data"), Path("runs"), "paper", "alexnet", "vgg16")


def first_recipe(table: str) -> Recipe:
    return recipes(paper_plan(table))[0]


def test_paper_preset_is_the_papers() -> None:
    made = first_recipe("table1")
    assert (made.trainings["1A"].given["lr"], made.trainings["1A"].given["iterations"]) == (1e-2, 100_000)
    assert (made.trainings["1B"].given["lr"], made.trainings["1B"].given["iterations"]) == (1e-3, 40_000)
    assert made.trainings["2C"].given["freeze_through"] == "conv5"
    assert made.trainings["second-rgb"].given["backbone"] == "vgg16"
    assert made.needs["student-second"] == ("second-rgb",)
    assert set(made.scores) == set(table1.ROWS)


def test_table4_transfers_at_every_layer_of_the_paper() -> None:
    made = first_recipe("table4")
    assert list(made.scores) == ["pool1", "pool2", "conv3", "conv4", "pool5", "fc6", "fc7", "conv3+fc7"]
    assert made.trainings["student-conv3+fc7"].given["transfer"] == ("conv3:conv3", "fc7:fc7")
    assert made.trainings["student-conv3+fc7"].given["regions"] == "proposals"
    assert "regions" not in made.trainings["student-conv3"].given


def test_zero_shot_run_of_the_readers_own_is_not_replaced(made: Plan, tmp_path: Path) -> None:
    plan = replace(made, table="table5", rows=("as-it-is",), runs=tmp_path)
    (joint,) = (step for step in steps(plan) if isinstance(step, Joint))
    own = show_unadapted(
        load_trained(open_run(made.runs / "finetune" / "3A-0")),
        PreparedData.open(made.data),
        "disparity",
        runs=tmp_path,
        name=joint.name,
    )
    with pytest.raises(SettingsError, match="was joined of"):
        reproduce(plan)
    assert own.finished


def test_rows_that_share_a_detector_are_measured_in_one_pass() -> None:
    made = first_recipe("table1")
    measured = [step.name for step in made.steps(("1A", "1B", "1C", "3A", "3B")) if "score" in step.name]
    assert measured == ["score-1A-0", "score-1B-0+score-3A-0+score-3B-0", "score-1C-0"]
    assert [step.name for step in made.steps(("3B",)) if "score" in step.name] == ["score-3B-0"]


def test_pass_measures_only_what_is_missing(made: Plan) -> None:
    kept = {path.name: path.stat().st_mtime_ns for path in made.folder.iterdir()}
    rows = [row.to_dict() for row in gather(made).rows]
    (made.folder / "score-3B-0.json").unlink()
    assert [row.to_dict() for row in reproduce(made).rows] == rows
    again = {path.name: path.stat().st_mtime_ns for path in made.folder.iterdir()}
    assert {name for name in kept if again[name] != kept[name]} == {"score-3B-0.json"}


@pytest.mark.parametrize("table", TABLES)
def test_every_row_needs_only_what_the_recipe_makes_before(table: str) -> None:
    made = first_recipe(table)
    for row in made.scores:
        done: set[str] = set()
        for step in made.steps((row,)):
            name = step.name.removesuffix("-0")
            assert set(made.needs.get(name, ())) <= done
            done.add(name)


def test_differences_from_the_paper_are_spelled_out(made: Plan) -> None:
    lines = gather(made).differences
    assert any("squeezenet1_1" in line and "AlexNet" in line for line in lines)
    assert "finetune: iterations 3; the paper's preset: 40000" in lines
    assert "distill: iterations 3; the paper's preset: 100000" in lines


def test_command_prints_the_table_and_the_same_as_a_document(made: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["reproduce", "table1", "--data", str(made.data), "--runs", str(made.runs), "--weights", str(made.weights)]
    words += ["--modality", "disparity", *(word for row in ROWS for word in ("--row", row))]
    for command, values in made.given.items():
        words += [word for name, value in values.items() for word in ("--set", f"{command}.{name}={in_yaml(value)}")]
    assert xmodal([*words, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [row["id"] for row in results["rows"]] == list(ROWS)
    assert results["rows"][1] == gather(made).rows[1].to_dict()
    assert xmodal(words) == 0
    said = capsys.readouterr()
    assert "29.7" in said.out
    assert "finished before" in said.err
    assert xmodal([*words, "--dry-run"]) == 0
    assert "finished" in capsys.readouterr().out


def in_yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@pytest.mark.parametrize("text", ["iterations=3", "finetune.iterations", "train.iterations=3", "finetune.=3"])
def test_setting_of_another_form_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert xmodal(["reproduce", "table1", "--set", text]) == 2
    assert "COMMAND.SETTING=VALUE" in capsys.readouterr().err


def test_the_rows_of_table_7_are_the_papers_where_it_has_them() -> None:
    made = first_recipe("table7")
    assert set(made.scores) == set(table7.ROWS)
    in_the_paper = set(paper_table("table7").rows)
    assert set(table7.ROWS) & in_the_paper == {
        "rgb-fast-rcnn",
        "flow-fast-rcnn-random",
        "flow-fast-rcnn-supervised",
        "flow-transfer",
    }
    assert made.trainings[table7.CLASSIFIER].given["init"] == "imagenet"
    assert made.needs[table7.CLASSIFIED] == (table7.CLASSIFIER,)


def test_figures_of_several_splits_are_means_over_them(weights: Path, tmp_path: Path) -> None:
    plan = actions_plan(weights, tmp_path)
    (row,) = reproduce(plan).rows
    measured = {}
    for data, name in ((plan.data, "7-classified-0"), (plan.more_data[0], "7-classified-second-0")):
        run = open_run(plan.runs / "finetune" / name)
        found = evaluate_runs([run], PreparedData.open(data), split="test", device="cpu", root=tmp_path / "again")
        measured[data.name] = {0: found.to_dict()["mAP"]}
        assert open_run(Path(run.config()["asked"]["init"])).config()["settings"]["data"] == str(data)
    assert row.main.by_data == measured
    assert row.main.by_seed == {0: sum(each[0] for each in measured.values()) / 2}
    assert row.main.paper == 38.4


def test_what_learns_elsewhere_is_made_once_for_all_splits(weights: Path, tmp_path: Path) -> None:
    plan = Plan("table7", tmp_path / "a", tmp_path, "small", "squeezenet1_1", "", more_data=(tmp_path / "b",))
    everywhere = [step.name for step in steps(plan)]
    assert {"7-student-0", "7-student-b-0", "7-classifier-0", "7-classifier-b-0"} < set(everywhere)
    given = {"distill": {"data": "ucf101"}, "classification": {"data": "ucf101"}}
    once = [step.name for step in steps(replace(plan, given=given))]
    assert set(everywhere) - set(once) == {"7-student-b-0", "7-classifier-b-0"}
    assert len(once) == len(set(once))
    made = recipes(replace(plan, given=given))
    assert made[0].trainings["7-transferred"].given["init"] == made[1].trainings["7-transferred"].given["init"]


@pytest.mark.parametrize(("table", "colour"), [("table1", {"3A-0", "second-rgb-0"}), ("table5", {"3A-0"})])
def test_another_modality_stands_beside_the_usual_one_and_shares_what_sees_colour(
    table: str, colour: set[str], tmp_path: Path
) -> None:
    usual = Plan(table, tmp_path / "data", tmp_path, "small", "squeezenet1_1", "squeezenet1_0")
    of_hha, of_disparity = (recipes(plan)[0] for plan in (usual, replace(usual, modality="disparity")))

    def named(steps: Mapping[str, Step]) -> set[str]:
        return {each.name for each in steps.values()}

    assert named(of_hha.trainings) & named(of_disparity.trainings) == colour
    assert not named(of_hha.joints) & named(of_disparity.joints)
    shared = {
        of_hha.name_of(each.runs[0]) for each in of_hha.scores.values() if each.name in named(of_disparity.scores)
    }
    assert shared == {"3A"}
    assert {each.name for each in of_disparity.trainings.values() if each.given["modality"] == "rgb"} == colour


def test_data_sets_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    plan = Plan("table7", Path("a/data"), tmp_path, "small", "squeezenet1_1", "", more_data=(Path("b/data"),))
    with pytest.raises(SettingsError, match="names of their folders"):
        steps(plan)


def actions_plan(weights: Path, folder: Path) -> Plan:
    """One row of Table 7 on two tiny splits, with trainings that take a second each."""
    clips = make_tiny_actions(folder / "clips", folder / "first")
    shutil.copytree(clips.root, folder / "second")
    boxes = np.array([[10, 5, 30, 35], [0, 0, 20, 20], [30, 10, 60, 40]], np.float32)
    for data, moved_px in (("first", 0), ("second", 2)):
        found = [(name, boxes + np.float32(moved_px)) for name in clips.all_ids]
        write_proposals(folder / data, "tiny", found, {"settings": {}})
    detector = {**tiny_detectors.OPTIONS, **tiny_detectors.IN_FILES, "iterations": 3}
    kinds = {"finetune": detector, "classification": {**tiny_actions.OPTIONS, "iterations": 3}}
    return Plan(
        table="table7",
        data=folder / "first",
        more_data=(folder / "second",),
        runs=folder / "runs",
        preset="small",
        backbone="squeezenet1_1",
        second="",
        weights=weights,
        modality="flow",
        usual="flow",
        split="test",
        rows=("flow-fast-rcnn-supervised",),
        given={
            kind: {name: value for name, value in values.items() if name not in DECIDED}
            for kind, values in kinds.items()
        },
    )
