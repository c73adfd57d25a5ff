"""Promises of zero-shot detectors: a copy of the teacher changes nothing, both kinds of transfer, what does not fit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_detectors
import tiny_runs
import torch
from safetensors.torch import load_file, save_file
from tiny_detectors import with_proposals

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.branches import Trained, load_trained
from xmodal_cli.detect.finetune import finetune
from xmodal_cli.detect.join import join, join_runs, open_detector, size_notes
from xmodal_cli.detect.prediction import predict_images
from xmodal_cli.detect.run_evaluation import evaluate_runs
from xmodal_cli.detect.unadapted import show_unadapted
from xmodal_cli.detect.zero_shot import Scoring, zero_shot
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.models.detector_files import read_detector
from xmodal_cli.pictures.subjects import open_subject, start_of, teacher_of
from xmodal_cli.runs.folder import RunFolder, open_run
from xmodal_cli.transfer.adapted import load_adapted
from xmodal_cli.transfer.distill import distill
from xmodal_cli.transfer.student import load_student

LEARNS: dict[str, Any] = {"iterations": 20, "lr": 0.005, "regions": 32}


@pytest.fixture(scope="module")
def data(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return with_proposals(tiny_data, tmp_path_factory.mktemp("zero") / "data")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def detector(data: PreparedData, runs: Path) -> Trained:
    """A detector on RGB that finds something; nobody may change it."""
    chosen = tiny_detectors.settings(data, modality="rgb", **LEARNS)
    return load_trained(open_run(finetune(chosen, runs=runs, name="rgb").run))


def taught(data: PreparedData, detector: Trained, runs: Path, name: str, **changes: Any) -> RunFolder:
    """A student that the detector taught."""
    given = {
        "teacher": None,
        "teacher_weights": None,
        "teacher_run": str(detector.run.path),
        "transfer": ("auto",),
        "size": "64x85",  # as the detector sees the images
        **changes,
    }
    return open_run(distill(tiny_runs.settings(data, **given), runs=runs, name=name).run)


@pytest.fixture(scope="module")
def student(data: PreparedData, detector: Trained, runs: Path) -> RunFolder:
    """A student of another network than its teacher's; nobody may change it."""
    return taught(data, detector, runs, "student", student="resnet18", iterations=30)


@pytest.fixture(scope="module", params=["adapter", "no adapter"])
def copied(
    request: pytest.FixtureRequest, data: PreparedData, detector: Trained, runs: Path, tmp_path_factory: Any
) -> RunFolder:
    """A student that is an exact copy of its teacher and, by its card, sees RGB: what a perfect transfer would give."""
    adapter = request.param == "adapter"
    name = request.param.replace(" ", "-")
    trained = taught(data, detector, runs, f"copied-{name}", init="teacher", adapter=adapter, normalise="channel")
    path = tmp_path_factory.mktemp("copies") / "distill" / name
    shutil.copytree(trained.path, path)
    card = json.loads((path / "card.json").read_text())
    card |= {"modality": "rgb", "encoding": data.modality("rgb").to_dict()}
    card["student"]["input"] = card["teacher"]["input"]
    (path / "card.json").write_text(json.dumps(card))
    learned = load_file(detector.run.path / "detector.safetensors")
    save_file({key: learned[key] for key in load_file(path / "student.safetensors")}, path / "student.safetensors")
    state = load_file(path / "adapter.safetensors")
    state["0.weight"] = torch.diag(1 / state["0.divisor"])[:, :, None, None].contiguous()
    state["0.bias"].zero_()
    save_file(state, path / "adapter.safetensors")
    return RunFolder(path, "distill")


def test_exact_copy_of_the_teacher_gives_the_detectors_own_detections(
    data: PreparedData, detector: Trained, copied: RunFolder, tmp_path: Path
) -> None:
    joined = join_runs(detector, copied, runs=tmp_path, name="copy")
    image = data.path("rgb", data.ids("val")[0])
    here, there = (
        next(predict_images(each, [image], proposals="grid", device="cpu")).detections
        for each in (detector, load_trained(joined))
    )
    assert len(here) > 5
    assert np.array_equal(here.labels, there.labels)
    np.testing.assert_allclose(here.scores, there.scores, rtol=1e-5)
    np.testing.assert_allclose(here.boxes_xyxy, there.boxes_xyxy, atol=1e-3)


def test_student_taught_without_an_adapter_goes_in_as_it_is(
    data: PreparedData, detector: Trained, runs: Path, tmp_path: Path
) -> None:
    plain = taught(data, detector, tmp_path, "plain", adapter=False)
    assert plain.card()["transfer"][0]["adapter"] is False
    run = join_runs(detector, plain, runs=tmp_path)
    joined, own = (load_file(path / "detector.safetensors") for path in (run.path, detector.run.path))
    assert joined.keys() == own.keys()
    student = load_file(plain.path / "student.safetensors")
    assert all(torch.equal(joined[key], student.get(key, own[key])) for key in own)
    assert any(not torch.equal(joined[key], own[key]) for key in own)


def test_adapter_stays_in_the_path_with_the_normalisation_undone(detector: Trained, student: RunFolder) -> None:
    joined = join(detector, student)
    adapter, state = joined.detector.joint, load_file(student.path / "adapter.safetensors")
    assert adapter is not None
    assert adapter.adapter is not None
    assert not torch.allclose(state["0.divisor"], torch.ones(()))
    torch.testing.assert_close(adapter.adapter.bias, state["0.bias"] * state["0.divisor"])


def test_map_under_the_detector_is_what_the_transfer_predicts_of_its_teacher(
    data: PreparedData, detector: Trained, student: RunFolder
) -> None:
    joined = join(detector, student)
    loaded, size_hw = load_student(student), (64, 85)
    teacher = read_detector(detector.run.path, detector.card["branches"][0], 3)[1]
    adapted, divisor = load_adapted(student, loaded.card, loaded.backbone, teacher, 0, size_hw)
    image = torch.randint(0, 255, (1, 3, *size_hw))
    with torch.no_grad():
        wanted = adapted(image)[0] * divisor[:, None, None]
        given = joined.detector.maps(joined.detector.input.normalise(image))
    torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-5)


def test_joined_run_is_scored_and_fused_as_any_other(
    data: PreparedData, detector: Trained, student: RunFolder, tmp_path: Path
) -> None:
    scoring, seen = Scoring(data, "val", fuse=True, device="cpu"), []
    result = zero_shot(
        detector, student, scoring, runs=tmp_path, name="joined", watch=lambda *state: seen.append(state)
    )
    assert [done for done, _ in seen] == list(range(1, len(data.ids("val")) + 1)), "one pass for all three rows"
    assert [row[0] for row in result.rows()] == ["near", "far", "never", "mean"]
    assert result.columns() == ["class", "detector", "zero-shot disparity", "fused"]
    alone = replace(result, scores={"zero_shot": result.scores["zero_shot"]})
    for each in (result, alone):
        assert {len(row) for row in each.rows()} == {len(each.columns())}
    both = evaluate_runs([detector.run, open_run(result.run)], data, split="val", device="cpu", root=tmp_path)
    assert both.scores.ap == result.scores["fused"].scores.ap
    assert (tmp_path / "zero-shot" / "latest").resolve() == result.run.resolve()
    card = open_run(result.run).card()
    assert card["detector"]["run"] == str(detector.run.path)
    assert card["student"]["point"]["adapter"] is True


def test_command_joins_scores_and_fuses(
    data: PreparedData, detector: Trained, student: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"zero-shot --detector {detector.run.path} --student {student.path} --runs {tmp_path} --device cpu --json"
    assert xmodal([*words.split(), "--data", str(data.root), "--fuse"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert {"zero_shot", "detector", "fused"} <= results.keys()
    assert xmodal([*words.split(), "--join-only", "--run-name", "only"]) == 0
    assert open_run(tmp_path / "zero-shot" / "only").finished
    assert xmodal([*words.split(), "--modality", "rgb"]) == SettingsError.exit_code
    assert "sees disparity, and --modality rgb is asked for" in capsys.readouterr().out


def test_transfer_for_a_detector_ends_with_the_command_that_joins_it(
    data: PreparedData, detector: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--teacher-run", str(detector.run.path), "--modality", "disparity", "--data", str(data.root)]
    asked += ["--runs", str(tmp_path), "--student", "squeezenet1_1", "--size", "64x85", "--iterations", "1"]
    asked += ["--batch-size", "2", "--device", "cpu"]
    assert xmodal(["distill", *asked, "--run-name", "all", "--transfer", "auto"]) == 0
    wanted = f"Next: xmodal zero-shot --detector {detector.run.path} --student {tmp_path / 'distill' / 'all'}"
    assert wanted in capsys.readouterr().err
    assert xmodal(["distill", *asked, "--run-name", "other", "--transfer", "features.3"]) == 0
    assert "xmodal evaluate" in capsys.readouterr().err


def test_classes_that_a_run_was_made_with_are_used_until_others_are_given(
    data: PreparedData, detector: Trained, student: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str) -> Any:
        code = xmodal([*words, "--runs", str(tmp_path), "--device", "cpu", "--json"])
        document = json.loads(capsys.readouterr().out)
        return document["results"] if code == 0 else document["error"]

    zero = ["zero-shot", "--detector", str(detector.run.path), "--student", str(student.path), "--join-only"]
    assert "has no class 'nea'" in said(*zero, "--class", "nea=far")["message"]
    run = said(*zero, "--class", "near=far", "--class", "far=near")["run"]
    by_name, swapped = ["--class", "near=near"], {"near": "far", "far": "near", "never": "never"}
    own, other = (said("evaluate", run, *more)["detections"] for more in ([], by_name))
    assert own == {swapped[name]: count for name, count in other.items()}
    look = ["visualize", "detections", run, "--least-score", "0"]
    own, other = (said(*look, *more)["scenes"][0]["detections"] for more in ([], by_name))
    assert [each["class"] for each in own] == [swapped[each["class"]] for each in other]
    image = str(data.path("disparity", data.ids("val")[0]))
    new = ["--least-score", "0", "--no-pictures", "--proposals", "grid"]
    own, other = (said("predict", each, image, *new)[0]["detections"] for each in (run, said(*zero)["run"]))
    assert [each["class"] for each in own] == [swapped[each["class"]] for each in other]


def test_pictures_of_a_joined_detector_begin_where_its_student_did(
    data: PreparedData, detector: Trained, student: RunFolder, tmp_path: Path
) -> None:
    joined = open_subject(join_runs(detector, student, runs=tmp_path, name="joined"))
    own = open_subject(student)
    for found, wanted in (start_of(joined), start_of(own)), (teacher_of(joined), teacher_of(own)):
        assert found is not None
        assert wanted is not None
        assert found[0] == wanted[0]
        state = wanted[1].module.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in found[1].module.state_dict().items())
    shown = open_subject(show_unadapted(detector, data, "disparity", runs=tmp_path))
    assert teacher_of(shown) is None
    with pytest.raises(SettingsError, match="nothing was trained"):
        start_of(shown)


def refused(detector: Trained, student: RunFolder, tmp_path: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        join_runs(detector, student, runs=tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    return f"{caught.value} {caught.value.hint}"


def test_student_of_another_teacher_is_refused(data: PreparedData, detector: Trained, tmp_path: Path) -> None:
    stranger = open_run(distill(tiny_runs.settings(data), runs=tmp_path, name="stranger").run)
    said = refused(detector, stranger, tmp_path)
    assert "taught by other weights" in said
    assert f"--teacher-run {detector.run.path} --student squeezenet1_1 --modality disparity" in said
    other = open_run(distill(tiny_runs.settings(data, teacher="alexnet", transfer=()), runs=tmp_path, name="o").run)
    assert "was taught by alexnet, and the detector" in refused(detector, other, tmp_path)


def test_layer_that_the_detector_does_not_read_is_refused(
    data: PreparedData, detector: Trained, tmp_path: Path
) -> None:
    lower = taught(data, detector, tmp_path, "lower", transfer=("features.3",))
    said = refused(detector, lower, tmp_path)
    assert "reads features.5 of squeezenet1_1" in said
    assert "taught features.3:features.3" in said


def test_runs_that_are_no_detector_or_no_student_are_refused(
    detector: Trained, student: RunFolder, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="is no detector"):
        open_detector(student.path)
    assert "leaves no student" in refused(detector, detector.run, tmp_path)
    joined = join_runs(detector, student, runs=tmp_path, name="joined")
    assert "is a student already" in refused(load_trained(joined), student, tmp_path)


def test_channels_that_differ_need_an_adapter(data: PreparedData, detector: Trained, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"has 64 channels, and features.5 of squeezenet1_1 128"):
        taught(data, detector, tmp_path, "narrow", student="resnet18", transfer=("features.5:layer1",), adapter=False)


def test_what_cannot_be_scored_is_refused_before_a_run_is_made(
    data: PreparedData, detector: Trained, student: RunFolder, tmp_path: Path
) -> None:
    strange = replace(data, classes=("lamp", "sofa", "desk"))
    other = replace(data, modalities={"rgb": data.modality("rgb")})
    for scoring, told in (
        (Scoring(strange, "val"), "no class in common"),
        (Scoring(data, "val", proposals="tinny"), "has no proposals 'tinny'"),
        (Scoring(other, "val"), "disparity"),
        (Scoring(data, "val", size=10), "--size must be at least"),
        (Scoring(data, "val", device="tpu"), "tpu"),
        (Scoring(data, "val", precision="fp8"), "fp8"),
    ):
        with pytest.raises(SettingsError, match=told):
            zero_shot(detector, student, scoring, runs=tmp_path)
        assert not any(tmp_path.iterdir())


def test_name_that_is_taken_is_not_said_to_be_resumable(
    data: PreparedData, detector: Trained, student: RunFolder, tmp_path: Path
) -> None:
    first = zero_shot(detector, student, None, runs=tmp_path, name="taken").run
    with pytest.raises(SettingsError, match="not empty") as error:
        zero_shot(detector, student, None, runs=tmp_path, name="taken")
    assert error.value.hint == "Give it another --run-name, or replace it with --overwrite."
    (first / "card.json").unlink()
    with pytest.raises(DataError, match="not finished") as error_of_half:
        open_run(first).card()
    assert error_of_half.value.hint == "Make it again, with --overwrite."


def test_transfer_auto_wants_a_detector(data: PreparedData, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no detector teaches"):
        distill(tiny_runs.settings(data, transfer=("auto",)), runs=tmp_path)


def test_sizes_that_differ_are_said(data: PreparedData, detector: Trained, student: RunFolder, tmp_path: Path) -> None:
    assert size_notes(detector, student) == []
    small = taught(data, detector, tmp_path, "small", size="48x64")
    assert "--size 64" in size_notes(detector, small)[0]
    assert "--size 64` would teach it what the detector sees" in (small.path / "log.txt").read_text()
    assert "would teach" not in (student.path / "log.txt").read_text()
