"""Promises of `--method rpn`: a network learns where objects are, its boxes obey the contract, a run can be resumed."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rigs import make_rig, prepared, write_annotations
from safetensors.torch import load_file
from tiny_runs import CUT_SHORT, HEIGHT, WIDTH, kill_at_first_report, steps_in_metrics
from torchvision.ops import box_iou

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.cli.progress import TrainingScreen
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import open_proposals
from xmodal_cli.detect.propose import ProposalSettings, prepare_proposals, propose_for
from xmodal_cli.detect.rpn_settings import RpnSettings
from xmodal_cli.detect.rpn_task import learnable
from xmodal_cli.detect.rpn_training import WEIGHTS, resume, train
from xmodal_cli.errors import DataError, Interrupted, SettingsError
from xmodal_cli.metrics.recall import grid_windows, measure_recall
from xmodal_cli.models.backbones import build
from xmodal_cli.models.layers import grid
from xmodal_cli.models.rpn import Anchors, RpnShape
from xmodal_cli.models.weights import load_into
from xmodal_cli.runs.session import Watchers

# A network that learns in seconds: read half way up, small images, few steps.
OPTIONS: dict[str, Any] = {
    "layer": "features.5",
    "size": 48,
    "reduced": 32,
    "iterations": 4,
    "batch_size": 4,
    "precision": "fp32",
    "device": "cpu",
    "threads": 1,
    "workers": 0,
    "lr": 0.002,
    "checkpoint_every": 100,
}
SUPPRESSION = 0.7


@pytest.fixture
def data(tiny_data: PreparedData, tmp_path: Path) -> PreparedData:
    """A copy of the tiny data set that a test may write to."""
    shutil.copytree(tiny_data.root, tmp_path / "data")
    return PreparedData.open(tmp_path / "data")


def make(data: PreparedData, runs: Path, name: str = "rpn", most: int = 300, **changes: Any) -> Any:
    """Proposals of a network trained for a few steps."""
    settings = ProposalSettings("rpn", name=name, most=most, rpn={**OPTIONS, **changes}, runs=runs, split="train+val")
    prepare_proposals(data, settings)
    return open_proposals(data, name)


def network(data: PreparedData, **changes: Any) -> RpnSettings:
    return RpnSettings.from_dict({"data": str(data.root), **OPTIONS, **changes})


def test_boxes_obey_the_contract_of_all_proposals(data: PreparedData, tmp_path: Path) -> None:
    stored = make(data, tmp_path / "runs", most=25)
    assert stored.ids == tuple(data.all_ids)
    for name in stored.ids:
        boxes = torch.from_numpy(stored[name])
        assert 0 < len(boxes) <= 25
        assert bool((boxes >= 0).all())
        assert bool((boxes <= torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])).all())
        assert bool((boxes[:, 2:] > boxes[:, :2]).all())
        overlaps = box_iou(boxes, boxes).fill_diagonal_(0)
        assert float(overlaps.max()) <= SUPPRESSION + 1e-4


def test_fewer_boxes_are_the_best_of_more(data: PreparedData, tmp_path: Path) -> None:
    many = make(data, tmp_path / "runs", "many")
    few = make(data, tmp_path / "runs", "few", most=7)
    assert len(many["hall/00"]) > 7
    assert np.array_equal(few["hall/00"], many["hall/00"][:7])


def test_the_same_settings_give_the_same_boxes(data: PreparedData, tmp_path: Path) -> None:
    first, again = (make(data, tmp_path / "runs", name) for name in ("first", "again"))
    other = make(data, tmp_path / "runs", "other", seed=1)
    assert first.content_hash == again.content_hash
    assert first.content_hash != other.content_hash


def test_a_trained_network_finds_objects_that_a_grid_does_not(data: PreparedData, tmp_path: Path) -> None:
    losses: list[float] = []
    settings = ProposalSettings("rpn", most=20, rpn={**OPTIONS, "iterations": 120, "lr": 0.005}, runs=tmp_path / "runs")
    prepare_proposals(data, settings, watchers=Watchers(training=lambda moment: losses.append(moment.loss)))
    assert losses[-1] < 0.5 * losses[0]
    stored = open_proposals(data, "rpn")
    objects = {name: each.boxes_xyxy for name, each in data.annotations("val").items()}
    found = measure_recall([(stored[name], boxes) for name, boxes in objects.items()], [20])
    content_free = measure_recall([(grid_windows((HEIGHT, WIDTH), 20), boxes) for boxes in objects.values()], [20])
    assert found.at(20, 0.5) > content_free.at(20, 0.5)
    assert found.at(20, 0.5) == 1


def test_only_the_training_split_is_learned_from(data: PreparedData, tmp_path: Path) -> None:
    before = make(data, tmp_path / "runs", "before")
    (data.root / "annotations" / "val.json").unlink()
    after = make(PreparedData.open(data.root), tmp_path / "runs", "after")
    assert before.content_hash == after.content_hash
    assert before.description["settings"]["network"]["learned_from"]["split"] == "train"


def test_propose_for_gives_the_stored_boxes_without_the_run_and_wherever_they_lie(
    data: PreparedData, tmp_path: Path
) -> None:
    stored = make(data, tmp_path / "runs", modality="rgb")
    description = json.loads(json.dumps(dict(stored.description)))
    images = {"rgb": data.read("rgb", "attic/03")}
    shutil.rmtree(tmp_path / "runs")
    assert np.array_equal(propose_for(description, images), stored["attic/03"])
    moved = stored.root.rename(tmp_path / "elsewhere")
    assert np.array_equal(propose_for(description, images, moved), stored["attic/03"])


def test_propose_for_refuses_other_weights_and_missing_ones(data: PreparedData, tmp_path: Path) -> None:
    stored = make(data, tmp_path / "runs", seed=5)
    images = {"rgb": data.read("rgb", "attic/03")}
    shutil.rmtree(tmp_path / "runs")
    (stored.root / WEIGHTS).write_bytes(b"others")
    with pytest.raises(DataError, match="there are others"):
        propose_for(stored.description, images)
    (stored.root / WEIGHTS).unlink()
    with pytest.raises(DataError, match="no such file") as caught:
        propose_for(stored.description, images)
    assert "--overwrite" in str(caught.value.hint)
    with pytest.raises(SettingsError, match="no rgb image"):
        propose_for(stored.description, {"disparity": data.read("disparity", "attic/03")})


def test_another_modality_can_be_looked_at(data: PreparedData, tmp_path: Path) -> None:
    settings = ProposalSettings("rpn", modalities=("disparity",), most=50, rpn=OPTIONS, runs=tmp_path / "runs")
    prepare_proposals(data, settings)
    stored = open_proposals(data, "rpn")
    images = {"disparity": data.read("disparity", "hall/04")}
    assert stored.description["settings"]["modalities"] == ["disparity"]
    assert np.array_equal(propose_for(stored.description, images), stored["hall/04"])
    run = tmp_path / "runs" / "rpn" / "latest"
    prepare_proposals(data, ProposalSettings("rpn", name="again", most=50, run=run))
    assert open_proposals(data, "again").content_hash == stored.content_hash


def cut_short(data: PreparedData, runs: Path) -> Path:
    """A run of 24 steps that ended at step 10, after its checkpoint of step 5, as if its process had been killed."""
    kill_at_first_report(lambda watchers: train(network(data, **CUT_SHORT), runs=runs, name="cut", watchers=watchers))
    return runs / "rpn" / "cut"


def test_resume_equals_uninterrupted_run(tiny_data: PreparedData, tmp_path: Path) -> None:
    cut = cut_short(tiny_data, tmp_path)
    resume(cut, tiny_data)
    train(network(tiny_data, iterations=24, checkpoint_every=5), runs=tmp_path, name="whole")
    one, other = load_file(cut / WEIGHTS), load_file(tmp_path / "rpn" / "whole" / WEIGHTS)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert steps_in_metrics(cut) == [10, 20, 24]


def test_resume_on_the_command_line_goes_on_and_then_proposes(
    data: PreparedData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = cut_short(data, tmp_path)
    words = ["prepare", "proposals", str(data.root), "--method", "rpn", "--resume", str(cut), "--json"]
    assert xmodal(words) == 0
    first = open_proposals(data, "rpn").content_hash
    assert xmodal([*words, "--overwrite"]) == 0  # the run is finished now: its network is used again
    assert open_proposals(data, "rpn").content_hash == first
    assert "finished already" in capsys.readouterr().err


def test_ctrl_c_saves_the_training_and_says_how_to_go_on(
    data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ProposalSettings("rpn", rpn={**OPTIONS, "iterations": 30}, runs=tmp_path / "runs")
    with pytest.raises(Interrupted, match="step 10 of") as caught:
        prepare_proposals(data, settings, watchers=Watchers(training=lambda _: signal.raise_signal(signal.SIGINT)))
    assert not (data.root / "proposals").exists()
    words = str(caught.value.hint).split("xmodal ")[1].split()
    assert words[:4] == ["prepare", "proposals", str(data.root), "--method"]

    def stop(done: int, total: int) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(TrainingScreen, "filling", staticmethod(stop))
    assert xmodal(words) == 130
    monkeypatch.undo()
    assert xmodal(words) == 0
    assert "finished already" in capsys.readouterr().err
    assert open_proposals(data, "rpn").ids == tuple(data.all_ids)


def test_resume_refuses_data_and_settings_that_changed(data: PreparedData, tmp_path: Path) -> None:
    cut = cut_short(data, tmp_path)
    with pytest.raises(SettingsError, match="lr was"):
        resume(cut, data, changes={"lr": 0.5})
    with pytest.raises(SettingsError, match="modality was 'rgb', now 'disparity'"):
        prepare_proposals(data, ProposalSettings("rpn", modalities=("disparity",), run=cut))
    labels = data.root / "annotations" / "train.json"
    document = json.loads(labels.read_text())
    document["annotations"][0]["bbox"][2] += 1
    labels.write_text(json.dumps(document))
    with pytest.raises(DataError, match="not as it was"):
        resume(cut, PreparedData.open(data.root))


def test_a_run_holds_weights_of_the_plain_network_and_a_card(data: PreparedData, tmp_path: Path) -> None:
    stored = make(data, tmp_path / "runs")
    run = tmp_path / "runs" / "rpn" / "latest"
    card = json.loads((run / "card.json").read_text())
    state = load_file(run / WEIGHTS)
    plain = {key: tensor for key, tensor in state.items() if not key.startswith("rpn_head.")}
    load_into(build("squeezenet1_1").module, plain, "card", card["network"]["missing_keys"])
    assert stored.description["settings"]["weights"]["sha256"] == card["weights"]["sha256"]
    assert (stored.root / WEIGHTS).read_bytes() == (run / WEIGHTS).read_bytes()


def test_a_network_begins_from_what_a_run_learned(tiny_data: PreparedData, tmp_path: Path) -> None:
    first = train(network(tiny_data), runs=tmp_path, name="first")
    again = train(network(tiny_data, init=str(tmp_path / "rpn" / "first"), lr=1e-12), runs=tmp_path, name="again")
    one, other = first.module.trunk.state_dict(), again.module.trunk.state_dict()
    assert all(torch.allclose(one[key], other[key], atol=1e-6) for key in one)


def test_anchors_stand_where_the_cells_look() -> None:
    where = grid(build("squeezenet1_1"), "features", (224, 320))
    shape = RpnShape("features", 0, (32.0, 64.0), (1.0,), where.stride_yx, where.first_centre_yx)
    boxes = Anchors(shape).of(where.size_hw).view(*where.size_hw, 2, 4)
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    rows, columns = where.centres()
    assert torch.allclose(centres[..., 0, 1], torch.tensor(rows)[:, None] + 0.5)
    assert torch.allclose(centres[..., 1, 0], torch.tensor(columns)[None] + 0.5)
    assert torch.equal(boxes[0, 0, 1, 2:] - boxes[0, 0, 1, :2], torch.tensor([64.0, 64.0]))


def test_crowds_and_boxes_outside_the_image_teach_nothing(tmp_path: Path) -> None:
    rig = make_rig(tmp_path / "rig", ("a", "b"))
    labels = write_annotations(tmp_path / "train.json", ["a", "b"])  # the second object of each image is a crowd
    document = json.loads(labels.read_text())
    document["annotations"][0]["bbox"] = [100, 100, 5, 5]
    document["annotations"][2]["bbox"] = [-4, 3, 10, 8]
    labels.write_text(json.dumps(document))
    data = prepared(rig, tmp_path / "data", annotations={"train": labels})
    found = learnable(data.annotations("train"), data)
    assert {name: boxes.tolist() for name, boxes in found.items()} == {"b": [[0, 3, 6, 11]]}


def test_without_annotations_nothing_can_be_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = prepared(make_rig(tmp_path / "rig"), tmp_path / "data")
    assert xmodal(["prepare", "proposals", str(data.root), "--method", "rpn", "--json"]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert "no annotated boxes" in error["message"]
    assert "--annotations" in error["hint"]
    assert not (data.root / "proposals").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "rpn", "--modality", "thermal"], "no modality 'thermal'"),
        (["--method", "rpn", "--modality", "rgb", "--modality", "disparity"], "one modality"),
        (["--method", "rpn", "--init", "imagenet", "--weights", "no.pth"], "there is no file 'no.pth'"),
        (["--method", "rpn", "--weights", "no.pth"], "belongs to --init imagenet"),
        (["--method", "rpn", "--init", "imagnet"], "'imagenet'"),
        (["--method", "rpn", "--backbone", "squeezenet9"], "squeezenet"),
        (["--method", "rpn", "--train-split", "test"], "no split 'test'"),
        (["--method", "rpn", "--resume", "no/run"], "no run at no/run"),
        (["--method", "grid", "--train-split", "train"], "--train-split belongs to rpn"),
        (["--iterations", "5"], "--iterations belongs to rpn"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(
    data: PreparedData, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    line = ["prepare", "proposals", str(data.root), *words, "--runs", str(tmp_path / "runs"), "--json"]
    assert xmodal(line) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert said in f"{error['message']} {error['hint']}"
    assert not (tmp_path / "runs").exists()
    assert not (data.root / "proposals").exists()


def test_a_dry_run_writes_nothing_and_estimates_the_training(data: PreparedData, tmp_path: Path) -> None:
    settings = ProposalSettings("rpn", dry_run=True, rpn=OPTIONS, runs=tmp_path / "runs")
    report = prepare_proposals(data, settings)
    assert "training would take about" in report.notes[0]
    assert report.counts["images"] == 3
    assert not (tmp_path / "runs").exists()
    assert not (data.root / "proposals").exists()
