"""Promises of settings: every `auto` becomes a value once, problems are found before anything is written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tiny_runs import TRAIN, settings

from xmodal_cli.data.memory import fits_in_memory
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.errors import SettingsError
from xmodal_cli.runs.device import resolve_device, resolve_precision
from xmodal_cli.transfer.build import build
from xmodal_cli.transfer.resolve import parse_size, resolve
from xmodal_cli.transfer.settings import PRESETS, DistillSettings


def resolved(data: PreparedData, **changes: Any) -> DistillSettings:
    return resolve(settings(data, **changes), data)[0]


def test_every_auto_becomes_a_value(tiny_data: PreparedData) -> None:
    found = resolve(DistillSettings(str(tiny_data.root), modality="disparity"), tiny_data)[0].to_dict()
    left = {name: value for name, value in found.items() if value in (None, "auto")}
    assert left == {
        "teacher_run": None,
        "teacher_detector": None,
        "proposals": None,
    }


def test_resolving_twice_changes_nothing(tiny_data: PreparedData) -> None:
    once = resolved(tiny_data)
    assert resolve(once, tiny_data)[0] == once


def test_held_out_pairs_are_a_tenth_of_the_split_and_never_trained_on(tiny_data: PreparedData) -> None:
    _, samples = resolve(settings(tiny_data), tiny_data)
    assert len(samples.held_out) == 2
    assert not set(samples.fit) & set(samples.held_out)
    assert sorted(samples.fit + samples.held_out) == sorted(TRAIN)


def test_fewer_pairs_are_drawn_by_the_seed_and_fewer_lie_within_more(tiny_data: PreparedData) -> None:
    def drawn(**changes: Any) -> set[str]:
        return set(resolve(settings(tiny_data, **changes), tiny_data)[1].fit)

    everything, few, more = drawn(), drawn(pairs=4), drawn(pairs=9)
    assert (len(few), len(more)) == (4, 9)
    assert few < more < everything == drawn(pairs=len(everything))
    assert few != drawn(pairs=4, seed=1)
    assert resolved(tiny_data, pairs=4, iterations=None, epochs=10.0).iterations == 10 * 4 // 4


def test_pairs_that_are_not_there_are_refused_and_counted(tiny_data: PreparedData) -> None:
    with pytest.raises(SettingsError, match=r"--pairs 23: split 'train' .* has 20 to learn from, and 2 more"):
        resolved(tiny_data, pairs=23)
    with pytest.raises(SettingsError, match="--pairs must be at least 1, not 0"):
        resolved(tiny_data, pairs=0)


def test_iterations_follow_from_epochs_and_win_over_them(tiny_data: PreparedData) -> None:
    assert resolved(tiny_data, iterations=None, epochs=10.0).iterations == 10 * 20 // 4
    found = resolved(tiny_data, iterations=30, epochs=99.0)
    assert (found.iterations, found.epochs) == (30, 6.0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"crop": 1.0}, "on"),
        ({"crop": 0.5}, "off"),
        ({"crop": 1.0, "shuffle_pairs": True}, "off"),
        ({"crop": 0.5, "cache": "on"}, "on"),
    ],
)
def test_cache_is_chosen_where_it_costs_nothing(
    changes: dict[str, Any], expected: str, tiny_data: PreparedData
) -> None:
    assert resolved(tiny_data, **{"cache": "auto", **changes}).cache == expected


@pytest.mark.parametrize(
    ("text", "image_hw", "expected"),
    [
        ("auto", (425, 560), (224, 296)),
        ("auto", (560, 425), (296, 224)),
        ("auto", (480, 640), (224, 296)),
        ("100", (100, 200), (100, 200)),
        ("50x70", (9, 9), (50, 70)),
    ],
)
def test_sizes_keep_the_images_shape(text: str, image_hw: tuple[int, int], expected: tuple[int, int]) -> None:
    assert parse_size(text, image_hw) == expected


@pytest.mark.parametrize("text", ["", "big", "0", "4x4", "-3", "224x", "2.5", "224x224x3"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_size(text, (100, 100))


def test_same_modality_for_teacher_and_student_is_refused(tiny_data: PreparedData) -> None:
    with pytest.raises(SettingsError, match="would see what the teacher sees"):
        resolved(tiny_data, modality="rgb")


@pytest.mark.parametrize(
    "changes",
    [
        {"crop": 0.0},
        {"crop": 1.5},
        {"iterations": 0},
        {"iterations": None, "epochs": 0.0},
        {"warmup": -1},
        {"threads": -1},
    ],
)
def test_numbers_out_of_range_are_refused(changes: dict[str, Any], tiny_data: PreparedData) -> None:
    with pytest.raises(SettingsError):
        resolved(tiny_data, **changes)


def test_named_device_and_precision_are_taken_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    cpu = resolve_device("auto")
    assert cpu.type == "cpu"
    with pytest.raises(SettingsError, match="no CUDA device"):
        resolve_device("cuda:0")
    assert resolve_precision("auto", cpu) in ("bf16", "fp32")
    with pytest.raises(SettingsError, match="needs a GPU"):
        resolve_precision("fp16", cpu)


def test_layer_named_twice_is_refused(tiny_data: PreparedData) -> None:
    with pytest.raises(SettingsError, match="named twice"):
        build(settings(tiny_data, transfer=("features.5", "features.5=2")))


def test_default_point_is_the_last_map_of_both_networks(tiny_data: PreparedData) -> None:
    plan = build(settings(tiny_data, transfer=(), student="alexnet"))
    assert [(point.teacher, point.student) for point in plan.points] == [("features", "pool5")]


def test_random_teacher_is_not_the_students_own_start(tiny_data: PreparedData) -> None:
    plan = build(settings(tiny_data))
    teacher = plan.teacher.tapped.kept_state()
    assert any(
        tensor.shape == teacher[name].shape and not bool((tensor == teacher[name]).all())
        for name, tensor in plan.tapped.kept_state().items()
        if name.endswith("weight")
    )


def test_images_are_kept_in_memory_only_where_there_is_plenty(
    tiny_data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fits_in_memory(tiny_data, TRAIN, ("rgb", "disparity"))
    monkeypatch.setattr("xmodal_cli.data.memory.free_memory_bytes", lambda: 100_000)
    assert not fits_in_memory(tiny_data, TRAIN, ("rgb", "disparity"))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_hold_settings_that_exist(name: str, tiny_data: PreparedData) -> None:
    found = replace(settings(tiny_data), **PRESETS[name])
    assert resolve(found, tiny_data)[0].iterations


@pytest.mark.parametrize(
    ("detector", "size"),
    [
        ("ssdlite320_mobilenet_v3_large", "320x320"),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", "320x424"),
        ("fasterrcnn_mobilenet_v3_large_fpn", "400x536"),  # it looks at 800
    ],
)
def test_size_auto_is_what_the_detector_sees_that_teaches_all_it_reads(
    tiny_data: PreparedData, detector: str, size: str
) -> None:
    taught = {"teacher": None, "teacher_detector": detector, "teacher_weights": "random", "size": "auto"}
    assert resolved(tiny_data, **taught, transfer=()).size == size
    assert resolved(tiny_data, **taught, transfer=("features.13:features.5",)).size == "224x296"
    assert resolved(tiny_data, **{**taught, "size": "64"}, transfer=()).size == "64x88"
