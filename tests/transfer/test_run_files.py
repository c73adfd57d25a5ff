"""Promises of what a run leaves: which files, the plain model's keys, no teacher, settings that reproduce it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
import yaml
from safetensors.torch import load_file
from tiny_runs import CUT_SHORT, assert_same_student, cut_short, settings, steps_in_metrics, student

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.errors import DataError, DivergedError, SettingsError
from xmodal_cli.runs.folder import RunFolder, open_run
from xmodal_cli.runs.session import Watchers
from xmodal_cli.runs.training_settings import from_file, with_changes
from xmodal_cli.transfer import normalise
from xmodal_cli.transfer.build import build
from xmodal_cli.transfer.distill import distill, rehearse, resume, saved_settings
from xmodal_cli.transfer.settings import DistillSettings
from xmodal_cli.transfer.student import load_student
from xmodal_cli.transfer.task import TransferTask

FILES = {
    ".lock",
    "adapter.safetensors",
    "card.json",
    "checkpoints/last.pt",
    "config.yaml",
    "environment.json",
    "log.txt",
    "metrics.jsonl",
    "student.safetensors",
    "teacher_statistics.safetensors",
}


@pytest.fixture(scope="module")
def run(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of four steps; nobody may change it."""
    return distill(settings(tiny_data), runs=tmp_path_factory.mktemp("runs"), name="tiny").run


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Every tensor in a nested structure."""
    if isinstance(value, torch.Tensor):
        return [value]
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else []
    return [tensor for member in members for tensor in tensors_in(member)]


def test_finished_run_leaves_exactly_these_files(run: Path) -> None:
    assert {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()} == FILES
    assert (run.parent / "latest").resolve() == run


def test_student_loads_into_the_plain_model_with_only_the_cards_keys_missing(run: Path) -> None:
    plain = torchvision.models.squeezenet1_1()
    report = plain.load_state_dict(student(run), strict=False)
    assert report.unexpected_keys == []
    assert set(report.missing_keys) == set(json.loads((run / "card.json").read_text())["missing_keys"])
    assert report.missing_keys


def test_student_holds_exactly_the_tensors_up_to_the_transfer_point(run: Path) -> None:
    plain = torchvision.models.squeezenet1_1().state_dict()
    below = {name for name in plain if name.startswith("features.") and int(name.split(".")[1]) <= 5}
    assert student(run).keys() == below


def test_loaded_student_gives_the_same_features_as_the_plain_model(run: Path, tiny_data: PreparedData) -> None:
    found = load_student(open_run(run))
    plain = torchvision.models.squeezenet1_1().eval()
    plain.load_state_dict(student(run), strict=False)
    inputs = torch.randn(1, 3, 64, 80)
    with torch.no_grad():
        torch.testing.assert_close(found.tapped()(inputs)["features.5"], plain.features[:6](inputs))
    assert found.modality == "disparity"
    assert found.layers == ("features.5",)


def test_no_saved_file_holds_a_tensor_of_the_teacher(run: Path, tiny_data: PreparedData) -> None:
    teacher = build(settings(tiny_data)).teacher
    saved = tensors_in(torch.load(run / "checkpoints" / "last.pt", weights_only=True))
    for path in run.glob("*.safetensors"):
        saved += list(load_file(path).values())
    for name, weight in teacher.tapped.kept_state().items():
        if weight.abs().sum() > 0:
            twins = [each for each in saved if each.shape == weight.shape and torch.equal(each, weight)]
            assert not twins, f"{name} of the teacher is saved"
    assert teacher.weights_hash == json.loads((run / "card.json").read_text())["teacher"]["weights_sha256"]


def test_adapter_lies_beside_the_student_with_what_undoes_the_normalisation(run: Path) -> None:
    adapter = load_file(run / "adapter.safetensors")
    assert set(adapter) == {"0.weight", "0.bias", "0.divisor"}
    measured = normalise.load(run / "teacher_statistics.safetensors", 1)[0]
    assert torch.equal(adapter["0.divisor"], measured.divisor("channel"))


def test_metrics_hold_each_step_once_and_the_held_out_figure(run: Path) -> None:
    assert steps_in_metrics(run) == [4]
    assert steps_in_metrics(run, "evaluate") == [1, 2, 3, 4]


def test_card_says_what_is_needed_to_use_the_student(run: Path, tiny_data: PreparedData) -> None:
    card = json.loads((run / "card.json").read_text())
    assert card["student"]["library"] == "torchvision"
    assert card["student"]["input"]["mean"]
    assert card["encoding"] == tiny_data.modality("disparity").to_dict() | {"range": [0, 255]}
    (point,) = card["transfer"]
    assert point == {
        "teacher": "features.5",
        "student": "features.5",
        "weight": 1.0,
        "adapter": True,
        "adapter_relu": True,
    }
    assert card["data"]["pairs"] == 20
    assert card["iterations"] == 4


def test_saved_config_has_no_auto_left_and_reproduces_the_run(run: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    unresolved = {name: value for name, value in config["settings"].items() if value is None or value == "auto"}
    assert unresolved == {"teacher_run": None, "teacher_detector": None, "proposals": None}  # not used here
    again = distill(DistillSettings.from_dict(from_file(run / "config.yaml")), runs=tmp_path)
    assert_same_student(run, again.run)


def test_a_run_can_be_repeated_bit_for_bit_and_another_seed_differs(
    run: Path, tiny_data: PreparedData, tmp_path: Path
) -> None:
    assert_same_student(run, distill(settings(tiny_data), runs=tmp_path).run)
    other = distill(settings(tiny_data, seed=1), runs=tmp_path).run
    assert any(not torch.equal(student(run)[name], tensor) for name, tensor in student(other).items())


def test_student_learns_and_its_teacher_does_not(tiny_data: PreparedData, tmp_path: Path) -> None:
    result = distill(settings(tiny_data, iterations=60, batch_size=8, evaluate_every=10), runs=tmp_path)
    records = [json.loads(line) for line in (result.run / "metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if record["phase"] == "train"]
    explained = [record["explained_variance"] for record in records if record["phase"] == "evaluate"]
    assert losses[-1] < 0.8 * losses[0]
    assert explained[-1] > explained[0]


def test_teacher_that_would_be_trained_is_noticed(tiny_data: PreparedData) -> None:
    plan = build(settings(tiny_data))
    plan.teacher.check()
    plan.teacher.tapped.train()
    with pytest.raises(AssertionError, match="eval mode"):
        plan.teacher.check()


def test_teacher_inside_the_trained_module_is_noticed(tiny_data: PreparedData) -> None:
    plan = build(settings(tiny_data))

    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mine = plan.teacher.tapped

    task = TransferTask(Both(), plan.teacher, [], "l2", "rgb", "disparity")  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="teacher is trained"):
        task.check()


def test_several_points_of_one_layer_and_of_several_are_summed_with_their_weights(
    tiny_data: PreparedData, tmp_path: Path
) -> None:
    points = ("features.3:features.3=0.5", "features.5:features.5=2", "features.5:features.3")
    result = distill(settings(tiny_data, transfer=points, cache="on"), runs=tmp_path)
    card = json.loads((result.run / "card.json").read_text())
    assert [point["weight"] for point in card["transfer"]] == [0.5, 2, 1]
    assert {name for name in result.metrics if "/" in name} == {
        "explained_variance/features.3:features.3",
        "explained_variance/features.5:features.5",
        "explained_variance/features.5:features.3",
    }


@pytest.mark.parametrize("loss", ["logistic", "cosine", "smooth-l1"])
def test_other_losses_train_too(loss: str, tiny_data: PreparedData, tmp_path: Path) -> None:
    assert distill(settings(tiny_data, loss=loss, optimiser="sgd", schedule="step"), runs=tmp_path).finished


def test_resuming_a_finished_run_says_so_and_changes_nothing(run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    said: list[str] = []
    result = resume(run, watchers=Watchers(say=said.append))
    assert result.finished
    assert result.iterations == 4
    assert any("finished already" in line for line in said)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_resume_equals_uninterrupted_run(tiny_data: PreparedData, tmp_path: Path) -> None:
    cut = cut_short(tiny_data, tmp_path)
    assert not RunFolder(cut, "distill").finished
    resume(cut)
    whole = distill(settings(tiny_data, **CUT_SHORT), runs=tmp_path / "whole")
    assert_same_student(cut, whole.run)
    assert steps_in_metrics(cut) == steps_in_metrics(whole.run) == [10, 20, 24]


def test_torn_last_line_of_the_metrics_is_dropped(tiny_data: PreparedData, tmp_path: Path) -> None:
    cut = cut_short(tiny_data, tmp_path)
    with (cut / "metrics.jsonl").open("a") as handle:
        handle.write('{"phase": "train", "step": 12, "lo')
    resume(cut)
    assert steps_in_metrics(cut) == [10, 20, 24]


def test_resume_refuses_data_that_changed_since(tiny_data: PreparedData, tmp_path: Path) -> None:
    cut = cut_short(tiny_data, tmp_path)
    config = yaml.safe_load((cut / "config.yaml").read_text())
    config["data"]["hash"] = "0" * 64
    (cut / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(DataError, match="has changed since"):
        resume(cut)


def test_diverged_run_names_the_pairs_and_keeps_its_last_checkpoint(tiny_data: PreparedData, tmp_path: Path) -> None:
    chosen = settings(tiny_data, lr=1e30, warmup=0, iterations=40, optimiser="sgd", checkpoint_every=1)
    with pytest.raises(DivergedError, match=r"diverged\.json"):
        distill(chosen, runs=tmp_path, name="wild")
    run = tmp_path / "distill" / "wild"
    found = json.loads((run / "diverged.json").read_text())
    assert len(found["ids"]) == 4
    assert set(found["ids"]) <= set(tiny_data.ids("train"))
    state = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    assert state["step"] == found["step"]
    assert not (run / "card.json").exists()


def test_rehearsal_writes_nothing_and_knows_the_sizes(tiny_data: PreparedData, tmp_path: Path, own_cache: Path) -> None:
    found = rehearse(settings(tiny_data, cache="on"))
    assert (found.images, found.held_out) == (20, 2)
    assert found.seconds > 0
    assert found.cache_bytes > 0
    assert not own_cache.exists()
    assert list(tmp_path.iterdir()) == []


def test_finished_student_can_start_a_new_run(run: Path, tiny_data: PreparedData, tmp_path: Path) -> None:
    """Its file holds no weights above the transfer point, and needs none."""
    start = str(run / "student.safetensors")
    begun = distill(settings(tiny_data, init=start, iterations=1, lr=1e-12, warmup=0), runs=tmp_path)
    for name, tensor in student(begun.run).items():
        torch.testing.assert_close(tensor, student(run)[name])
    with pytest.raises(DataError, match="do not fit"):
        distill(settings(tiny_data, init=start, transfer=("features.5:features.7",)), runs=tmp_path)


def test_resume_refuses_another_teacher(tiny_data: PreparedData, tmp_path: Path) -> None:
    weights = tmp_path / "teacher.pth"
    torch.save(torchvision.models.squeezenet1_1().state_dict(), weights)
    cut = cut_short(tiny_data, tmp_path, teacher_weights=str(weights))
    torch.save(torchvision.models.squeezenet1_1().state_dict(), weights)
    with pytest.raises(DataError, match="weights"):
        resume(cut)


def test_unknown_settings_are_refused_with_the_closest(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("itterations: 3\nlr: 0.1\n")
    with pytest.raises(SettingsError, match="itterations") as caught:
        DistillSettings.from_dict({"data": "x", **from_file(path)})
    assert "'iterations'" in str(caught.value.hint)


def test_numbers_in_a_file_may_be_written_as_people_write_them(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("lr: 1e-4\ncrop: 1\niterations: 30\nwarmup: null\ntransfer: pool5\n")
    found = DistillSettings.from_dict({"data": "x", **from_file(tmp_path / "mine.yaml")})
    assert (found.lr, found.crop, found.iterations, found.warmup, found.transfer) == (1e-4, 1.0, 30, None, ("pool5",))


@pytest.mark.parametrize(
    "line", ["lr: fast", "iterations: 2.5", "iterations: many", "flip: 3", "loss: 2", "transfer: [1]", "lr: [1]"]
)
def test_values_of_the_wrong_kind_are_refused_by_name(line: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(line)
    with pytest.raises(SettingsError, match=line.split(":")[0]):
        DistillSettings.from_dict({"data": "x", **from_file(tmp_path / "mine.yaml")})


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "", "just words"])
def test_settings_file_that_is_no_mapping_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(content)
    with pytest.raises(SettingsError):
        from_file(tmp_path / "bad.yaml")


def test_changes_that_matter_are_refused_with_what_was_and_what_is_asked(run: Path) -> None:
    saved = saved_settings(open_run(run))
    assert with_changes(saved, {"lr": saved.lr, "transfer": saved.transfer}, "--init X") == saved
    with pytest.raises(SettingsError, match=r"lr was 0\.001, now 0\.5"):
        with_changes(saved, {"lr": 0.5}, "--init X")
    with pytest.raises(SettingsError, match="transfer was"):
        with_changes(saved, {"transfer": ("features.3",)}, "--init X")


def test_changes_that_the_student_cannot_notice_are_taken(run: Path) -> None:
    saved = saved_settings(open_run(run))
    assert with_changes(saved, {"workers": 3, "checkpoint_every": 7}, "--init X") == replace(
        saved, workers=3, checkpoint_every=7
    )
