"""Promises of an evaluated run: its files, its figures from a file, fusion, and runs that do not fit a data set."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tiny_detectors import METHOD, settings, tiny_proposals, with_proposals

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import PROPOSAL_FOLDER, open_proposals, write_proposals
from xmodal_cli.detect.branches import load_trained
from xmodal_cli.detect.detection_files import read_detections
from xmodal_cli.detect.finetune import finetune
from xmodal_cli.detect.predict import detect
from xmodal_cli.detect.run_evaluation import (
    DetectionEvaluation,
    classes_won,
    earlier_evaluation,
    evaluate_file,
    evaluate_runs,
)
from xmodal_cli.detect.scoring import evaluation_folder
from xmodal_cli.errors import DataError, SettingsError, XmodalError
from xmodal_cli.metrics.detections import Detections
from xmodal_cli.runs.folder import RunFolder

CPU = torch.device("cpu")
LEARNS: dict[str, Any] = {"iterations": 20, "lr": 0.005, "dropout": 0.0, "regions": 32}  # finds most objects
OTHER = "other"  # proposals that no run learned with


@pytest.fixture(scope="module")
def data(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return with_proposals(tiny_data, tmp_path_factory.mktemp("detection") / "data")


@pytest.fixture(scope="module")
def runs(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """Finished runs by modality; nobody may change them."""
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    for modality, size in (("disparity", 64), ("rgb", 48)):
        chosen = settings(data, modality=modality, size=size, **LEARNS)
        found[modality] = RunFolder(finetune(chosen, runs=folder, name=modality).run, "finetune")
    return found


def evaluated(runs: Sequence[RunFolder], data: PreparedData, root: Path, **more: Any) -> DetectionEvaluation:
    return evaluate_runs(runs, data, device="cpu", root=root, **{"split": "val", **more})


def refused(kind: type[XmodalError], runs: Sequence[RunFolder], data: PreparedData, root: Path, **more: Any) -> str:
    """What is said, hint and all; nothing may be left behind."""
    with pytest.raises(kind) as caught:
        evaluated(runs, data, root / "refused", **more)
    assert not (root / "refused").exists()
    return f"{caught.value} {caught.value.hint}"


def found_in(result: DetectionEvaluation, data: PreparedData, split: str = "val") -> Detections:
    """The detections that an evaluation kept."""
    return read_detections(result.folder / "detections.json", data, split)


def edited(data: PreparedData, folder: Path, edit: Callable[[dict[str, Any]], object]) -> PreparedData:
    """A copy of the data set with another dataset.json."""
    shutil.copytree(data.root, folder / "edited")
    file = folder / "edited" / "dataset.json"
    document = json.loads(file.read_text())
    edit(document)
    file.write_text(json.dumps(document))
    return PreparedData.open(folder / "edited")


def with_card(run: RunFolder, folder: Path, **changes: Any) -> RunFolder:
    """A copy of a run that says something else of itself."""
    shutil.copytree(run.path, folder / "finetune" / "changed")
    copy = RunFolder(folder / "finetune" / "changed", "finetune")
    (copy.path / "card.json").write_text(json.dumps({**copy.card(), **changes}))
    return copy


# What is kept


def test_evaluation_keeps_its_figures_its_detections_and_what_decided_them(
    data: PreparedData, runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    result = evaluated([runs["disparity"]], data, tmp_path)
    assert result.folder.parent == tmp_path / "evaluate"
    assert result.folder.name.startswith("disparity-val-")
    assert {path.name for path in result.folder.iterdir()} == {"config.yaml", "detections.json", "results.json"}
    kept = json.loads((result.folder / "results.json").read_text())
    config = yaml.safe_load((result.folder / "config.yaml").read_text())
    assert config == {key: value for key, value in kept.items() if key != "results"}
    assert config["runs"] == [str(runs["disparity"].path)]
    assert config["proposals"] == {"method": METHOD, "sha256": open_proposals(data, METHOD).content_hash}
    assert config["cutoffs"]["nms"] == 0.3
    assert config["sizes"] == [64]
    assert config["data"]["path"] == str(data.root.resolve())
    assert kept["results"] == result.scores.to_dict()
    assert result.notes == ()
    assert result.seconds_per_image > 0


def test_figures_are_in_percent_and_those_of_a_detector_that_learned(
    data: PreparedData, runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    results = evaluated([runs["disparity"]], data, tmp_path).to_dict()
    assert results["metric"] == "voc"
    assert list(results["AP"]) == list(data.classes)
    known = [ap for ap in results["AP"].values() if ap is not None]
    assert results["mAP"] == pytest.approx(np.mean(known), abs=0.01)
    assert 20 < results["mAP"] <= 100
    assert results["classes_without_objects"] == ["never"]


@pytest.mark.parametrize("metric", ["voc", "coco"])
def test_kept_detections_score_the_very_same_from_their_file(
    metric: str, data: PreparedData, runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    first = evaluated([runs["disparity"]], data, tmp_path, metric=metric)
    again = evaluate_file(first.folder / "detections.json", data, split="val", metric=metric, root=tmp_path)
    assert again.scores.to_dict() == first.scores.to_dict()
    assert again.folder != first.folder
    assert again.runs == ()
    assert (again.folder / "detections.json").read_bytes() == (first.folder / "detections.json").read_bytes()


def test_folder_of_many_fused_runs_has_a_name_that_a_disk_takes(tmp_path: Path) -> None:
    name = "+".join(["squeezenet1_1-disparity-20260101-0123"] * 20)
    evaluation_folder(tmp_path, name, "train+val").mkdir(parents=True)


# Fusion


def test_fusion_of_a_run_with_itself_is_the_run(data: PreparedData, runs: dict[str, RunFolder], tmp_path: Path) -> None:
    alone = evaluated([runs["disparity"]], data, tmp_path)
    twice = evaluated([runs["disparity"]] * 2, data, tmp_path)
    one, other = found_in(alone, data), found_in(twice, data)
    assert np.array_equal(one.labels, other.labels)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=1e-2)
    assert twice.scores.ap == alone.scores.ap
    assert twice.runs == (runs["disparity"].path,) * 2


def test_fused_runs_are_their_branches_side_by_side_each_at_its_own_size(
    data: PreparedData, runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    both = [runs["rgb"], runs["disparity"]]
    result = evaluated(both, data, tmp_path)
    branches = [branch for run in both for branch in load_trained(run).branches]
    cutoffs = load_trained(both[0]).cutoffs
    expected = detect(branches, data, data.ids("val"), open_proposals(data, METHOD), cutoffs, device=CPU)
    found = found_in(result, data)
    assert np.array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    config = yaml.safe_load((result.folder / "config.yaml").read_text())
    assert config["sizes"] == [48, 64]
    assert config["runs"] == [str(run.path) for run in both]
    assert "on rgb + " in result.subject
    assert "on disparity" in result.subject
    assert result.folder.name.startswith("rgb+disparity-val-")


def test_runs_of_other_classes_cannot_be_fused(data: PreparedData, runs: dict[str, RunFolder], tmp_path: Path) -> None:
    stranger = with_card(runs["rgb"], tmp_path, classes=["near", "far", "sofa"])
    said = refused(SettingsError, [runs["disparity"], stranger], data, tmp_path)
    assert "only one of them knows never, sofa" in said
    assert str(stranger.path) in said


def test_runs_whose_classes_stand_in_another_order_cannot_be_fused(
    data: PreparedData, runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    turned = with_card(runs["rgb"], tmp_path, classes=["far", "near", "never"])
    assert "order of their classes" in refused(SettingsError, [runs["disparity"], turned], data, tmp_path)


# Runs and data sets that do not fit


def test_modality_that_the_data_set_lacks_is_named(
    data: PreparedData, runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    bare = edited(data, tmp_path, lambda document: document["modalities"].pop("disparity"))
    said = refused(SettingsError, [runs["disparity"]], bare, tmp_path)
    assert "no modality 'disparity'" in said
    assert str(bare.root) in said


@pytest.mark.parametrize(("key", "value"), [("encoding", "inverse-depth"), ("channels", 1), ("dtype", "uint16")])
def test_modality_that_is_encoded_otherwise_is_refused(
    key: str, value: object, data: PreparedData, runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    other = edited(data, tmp_path, lambda document: document["modalities"]["disparity"].update({key: value}))
    said = refused(DataError, [runs["disparity"]], other, tmp_path)
    before = data.modality("disparity").to_dict()[key]
    assert f"{key} {before}, not {value}" in said


def test_class_that_the_data_set_does_not_know_is_named_and_left_out(
    data: PreparedData, runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    stranger = with_card(runs["disparity"], tmp_path, classes=["near", "sofa", "never"])
    plain, other = (evaluated([run], data, tmp_path) for run in (runs["disparity"], stranger))
    assert any("also knows sofa" in note for note in other.notes)
    assert any("does not know far" in note for note in other.notes)
    assert set(other.scores.ap) == {"near", "never"}
    assert other.scores.mAP == other.scores.ap["near"] == plain.scores.ap["near"]


def test_class_lists_with_nothing_in_common_are_refused(
    data: PreparedData, runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    stranger = with_card(runs["disparity"], tmp_path, classes=["lamp", "sofa", "desk"])
    said = refused(SettingsError, [stranger], data, tmp_path)
    assert "no class in common: lamp, sofa, desk against near, far, never" in said


def test_classes_are_matched_by_name_not_by_number(
    data: PreparedData, runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    turned = edited(data, tmp_path, lambda document: document.update(classes=["never", "far", "near"]))
    there, here = (evaluated([runs["disparity"]], each, tmp_path) for each in (turned, data))
    assert there.scores.ap == here.scores.ap
    assert there.scores.result.detections == here.scores.result.detections


def test_unfinished_run_says_how_to_finish_it(data: PreparedData, runs: dict[str, RunFolder], tmp_path: Path) -> None:
    copy = with_card(runs["disparity"], tmp_path)
    (copy.path / "card.json").unlink()
    assert f"xmodal finetune --resume {copy.path}" in refused(DataError, [copy], data, tmp_path)


def test_unknown_split_proposals_and_metric_are_refused_with_the_closest(
    data: PreparedData, runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    run = [runs["disparity"]]
    assert "no split 'vall'" in refused(SettingsError, run, data, tmp_path, split="vall")
    assert METHOD in refused(SettingsError, run, data, tmp_path, proposals="tinny")
    seen: list[int] = []
    said = refused(SettingsError, run, data, tmp_path, metric="vok", watch=lambda done, total: seen.append(done))
    assert "voc" in said
    assert seen == []  # known before the first image


def test_data_set_without_proposals_says_how_to_make_them(
    tiny_data: PreparedData, runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    said = refused(SettingsError, [runs["disparity"]], tiny_data, tmp_path)
    assert f"xmodal prepare proposals {tiny_data.root}" in said


# Sizes, splits, notes


def test_another_size_is_used_and_kept(data: PreparedData, runs: dict[str, RunFolder], tmp_path: Path) -> None:
    own, larger = (evaluated([runs["disparity"]], data, tmp_path, size=size) for size in (None, 96))
    assert yaml.safe_load((larger.folder / "config.yaml").read_text())["sizes"] == [96]
    assert found_in(own, data).scores.tolist() != found_in(larger, data).scores.tolist()
    for size in (0, -5, 8):
        assert "--size" in refused(SettingsError, [runs["disparity"]], data, tmp_path, size=size)


def test_union_of_splits_is_scored_and_what_was_learned_from_is_said(
    data: PreparedData, runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    result = evaluated([runs["disparity"]], data, tmp_path, split="train+val")
    assert result.scores.images == 28
    assert result.notes == ("disparity learned from 22 of the 28 images scored.",)
    assert json.loads((result.folder / "results.json").read_text())["notes"] == list(result.notes)
    again = evaluate_file(result.folder / "detections.json", data, split="train+val", root=tmp_path)
    assert again.scores.ap == result.scores.ap


def test_other_proposals_than_learned_with_are_said(
    data: PreparedData, runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    shutil.copytree(data.root, tmp_path / "copy")
    copy = PreparedData.open(tmp_path / "copy")
    few = [(name, tiny_proposals(name)[:3]) for name in copy.all_ids]
    write_proposals(copy.root, OTHER, few, {"settings": {}})
    assert evaluated([runs["disparity"]], copy, tmp_path).notes == ()  # the run's own, though there are others
    note = "disparity learned with the proposals tiny, not other."
    named = evaluated([runs["disparity"]], copy, tmp_path, proposals=OTHER)
    assert named.notes == (note,)
    assert sum(named.scores.result.detections.values()) <= 3 * 3 * 6
    shutil.rmtree(copy.root / PROPOSAL_FOLDER / METHOD)
    assert evaluated([runs["disparity"]], copy, tmp_path).notes == (note,)  # the only ones there are


def test_proposals_made_anew_since_the_run_learned_are_said(
    tiny_data: PreparedData, runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    other = with_proposals(tiny_data, tmp_path / "data")
    learned = {**runs["disparity"].card()["data"], "path": str(other.root.resolve())}
    run = with_card(runs["disparity"], tmp_path, data=learned)
    assert evaluated([run], other, tmp_path).notes == ()
    fewer = [(name, tiny_proposals(name)[:9]) for name in other.all_ids]
    write_proposals(other.root, METHOD, fewer, {"settings": {}}, overwrite=True)
    assert evaluated([run], other, tmp_path).notes == (
        "The proposals tiny have been made anew since changed learned with them.",
    )


# Compared with an earlier one


def earlier(
    path: Path,
    ap: dict[str, float | None],
    split: str = "val",
    metric: str = "voc",
    objects: dict[str, int] | None = None,
) -> Path:
    """A hand-made evaluation."""
    path.mkdir(exist_ok=True)
    document = {"split": split, "metric": metric, "results": {"mAP": 40.0, "AP": ap, "objects": objects or {}}}
    (path / "results.json").write_text(json.dumps(document))
    return path


def test_classes_won_are_counted_where_both_have_a_figure(
    data: PreparedData, runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    ours = evaluated([runs["disparity"]], data, tmp_path).scores
    near, far = ours.ap["near"], ours.ap["far"]
    assert near is not None
    assert far is not None
    folder = earlier(tmp_path / "earlier", {"near": near - 12.5, "far": far, "never": 3.0, "sofa": 9.0})
    won = classes_won(ours, earlier_evaluation(folder, "val", "voc"))
    assert (won["won"], won["lost"], won["tied"], won["mAP"]) == (1, 0, 1, 40.0)
    assert won["by_class"] == {"near": 12.5, "far": 0.0}
    earlier(folder, {"near": None, "far": far + 0.1})
    won = classes_won(ours, earlier_evaluation(folder / "results.json", "val", "voc"))
    assert (won["won"], won["lost"], won["tied"]) == (0, 1, 0)


def test_evaluation_of_other_objects_is_no_comparison(
    data: PreparedData, runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    ours = evaluated([runs["disparity"]], data, tmp_path).scores
    near = ours.result.objects["near"]
    for count, differs in ((near, False), (near + 1, True)):
        folder = earlier(tmp_path / "earlier", {"near": 1.0}, objects={"near": count})
        with pytest.raises(DataError, match=f"near {near} against {near + 1}") if differs else nullcontext():
            classes_won(ours, earlier_evaluation(folder, "val", "voc"))


@pytest.mark.parametrize(
    ("split", "metric", "words"), [("train", "voc", "not train by voc"), ("val", "coco", "not val by coco")]
)
def test_evaluation_of_another_split_or_metric_is_no_comparison(
    split: str, metric: str, words: str, tmp_path: Path
) -> None:
    folder = earlier(tmp_path / "earlier", {"near": 1.0})
    with pytest.raises(DataError, match=words):
        earlier_evaluation(folder, split, metric)


OF_A_PROBE = '{"results": {"accuracy": 3}, "split": "val", "metric": "voc"}'


@pytest.mark.parametrize("text", [None, "", "[]", "{}", OF_A_PROBE])
def test_what_is_no_evaluation_of_a_detector_is_refused(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(DataError, match="no evaluation of a detector"):
        earlier_evaluation(tmp_path, "val", "voc")
