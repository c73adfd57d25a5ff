"""Promises of settings: plain values in and out, of their kind or refused by name, resumed only as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_detectors import settings

from xmodal_cli.detect.settings import PRESETS, FinetuneSettings
from xmodal_cli.errors import SettingsError
from xmodal_cli.runs.training_settings import absolute, from_file, preset_values, resolved_training, with_changes

ASKED = FinetuneSettings(data="x", head=(16, 12))


def test_settings_survive_their_plain_values() -> None:
    assert FinetuneSettings.from_dict(ASKED.to_dict()) == ASKED
    assert ASKED.to_dict()["head"] == [16, 12]


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("lr", "fast", "a number"),
        ("iterations", 2.5, "a whole number"),
        ("iterations", True, "a whole number"),
        ("regions", None, "a whole number"),
        ("flip", 1, "true or false"),
        ("pooling", 3, "text"),
        ("head", "wide", "a list of whole numbers"),
        ("head", ["16", "12"], "a list of whole numbers"),
        ("head", [16.5, 12], "a list of whole numbers"),
        ("head", 16, "a list of whole numbers"),
        ("head", True, "a list of whole numbers"),
        ("head", {"fc6": 16}, "a list of whole numbers"),
    ],
)
def test_values_of_the_wrong_kind_are_refused_by_name_and_kind(name: str, value: Any, kind: str) -> None:
    with pytest.raises(SettingsError, match=name) as caught:
        FinetuneSettings.from_dict({"data": "x", name: value})
    assert kind in str(caught.value)


def test_several_wrong_values_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        FinetuneSettings.from_dict({"data": "x", "lr": "fast", "regions": "many"})
    assert "lr" in str(caught.value)
    assert "regions" in str(caught.value)


def test_unknown_names_are_refused_with_the_closest() -> None:
    with pytest.raises(SettingsError, match="poling") as caught:
        FinetuneSettings.from_dict({"data": "x", "poling": "max"})
    assert "'pooling'" in str(caught.value.hint)


def test_numbers_may_be_written_as_people_write_them() -> None:
    found = FinetuneSettings.from_dict({"data": "x", "lr": "1e-4", "foreground": 1, "warmup": None})
    assert (found.lr, found.foreground, found.warmup) == (1e-4, 1.0, None)


def test_every_preset_is_made_of_known_settings() -> None:
    for name in PRESETS:
        assert FinetuneSettings.from_dict({"data": "x", **preset_values(PRESETS, name)})
    assert preset_values(PRESETS, None) == {}
    with pytest.raises(SettingsError, match="papr") as caught:
        preset_values(PRESETS, "papr")
    assert "paper" in str(caught.value.hint)


def test_preset_values_are_a_copy() -> None:
    preset_values(PRESETS, "paper")["lr"] = 7.0
    assert PRESETS["paper"]["lr"] == 1e-3


def test_a_runs_config_is_a_file_of_settings(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("command: finetune\nsettings: {lr: 0.5, head: [3, 4]}\n")
    assert from_file(tmp_path / "config.yaml") == {"lr": 0.5, "head": [3, 4]}


def test_resolved_settings_have_no_auto_and_no_gap_in_their_shared_part() -> None:
    found = resolved_training(ASKED, 1200, in_memory=True)
    assert (found.iterations, found.warmup, found.evaluate_every) == (1200, 60, 100)
    assert found.device in ("cpu", "cuda")
    assert found.precision in ("fp32", "bf16", "fp16")
    assert found.threads is not None
    assert found.workers is not None
    given = resolved_training(settings(Path("x"), warmup=0, evaluate_every=7, workers=3), 9, in_memory=True)
    assert (given.warmup, given.evaluate_every, given.workers) == (0, 7, 3)


def test_all_problems_of_the_shared_part_are_named_at_once() -> None:
    wrong = settings(Path("x"), lr=-1, optimiser="adm", batch_size=0, schedule="cosin")
    with pytest.raises(SettingsError) as caught:
        resolved_training(wrong, 0, in_memory=True)
    for option in ("--lr", "--optimiser", "--batch-size", "--schedule", "--iterations"):
        assert option in str(caught.value)
    assert "adamw" in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("lr", float("nan")), ("lr", float("inf")), ("momentum", float("nan"))])
def test_numbers_that_are_none_are_refused(name: str, value: float) -> None:
    with pytest.raises(SettingsError, match=f"--{name}"):
        resolved_training(settings(Path("x"), **{name: value}), 4, in_memory=True)


def test_changes_that_matter_are_refused_with_both_values_and_others_are_taken(tmp_path: Path) -> None:
    saved = FinetuneSettings(data=str(tmp_path), lr=0.001, regions=64, threads=1)
    assert with_changes(saved, {"workers": 3, "evaluate_every": 5}, "X").workers == 3
    with pytest.raises(SettingsError, match=r"lr was 0\.001, now 0\.5; regions was 64, now 32") as caught:
        with_changes(saved, {"lr": 0.5, "regions": 32}, "--init RUN")
    assert "--init RUN" in str(caught.value.hint)


def test_the_same_path_written_otherwise_is_no_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved = FinetuneSettings(data=str(tmp_path / "data"), init=str(tmp_path / "net.pth"))
    assert with_changes(saved, {"data": "data", "init": "./net.pth"}, "X") == saved


def test_words_that_are_no_files_stay_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [absolute(word) for word in ("random", "imagenet")] == ["random", "imagenet"]
    assert absolute("net.pth") == str(tmp_path / "net.pth")
