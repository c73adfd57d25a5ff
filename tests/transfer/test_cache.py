"""Promises of the teacher cache: the same training as with a live teacher, found again, never wrong, never half."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_runs import make_tiny_data, settings

from xmodal_cli.data.pairs import collate
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.transforms import Draw, apply
from xmodal_cli.datasets.folder.prepare import FolderSettings, prepare_folder
from xmodal_cli.errors import XmodalError
from xmodal_cli.models.grid import Grid
from xmodal_cli.runs.session import Watchers
from xmodal_cli.transfer import cache as feature_cache
from xmodal_cli.transfer import distill as steps
from xmodal_cli.transfer.build import Plan, build
from xmodal_cli.transfer.distill import distill

HALF = 2e-3  # relative rounding error of half precision, with room for sums


def losses(run: Path) -> list[float]:
    """The losses that a run logged."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["phase"] == "train"]


def filled(plan: Plan) -> feature_cache.FeatureCache:
    return feature_cache.open_or_fill(steps._cache_plan(plan), plan.teacher, plan.data, plan.settings.source)


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("size", ["64x80", "48x64"])
def test_cached_and_live_runs_learn_alike(size: str, flip: bool, tiny_data: PreparedData, tmp_path: Path) -> None:
    """With whole images, also where the networks see another shape than the image has."""
    common = settings(tiny_data, iterations=12, size=size, flip=flip)
    live = distill(common, runs=tmp_path / "live")
    cached = distill(replace(common, cache="on"), runs=tmp_path / "cached")
    assert losses(cached.run) == pytest.approx(losses(live.run), rel=HALF)
    assert cached.explained_variance == pytest.approx(live.explained_variance, abs=0.02)


def test_batches_from_the_cache_are_the_teachers_answers_in_half_precision(tiny_data: PreparedData) -> None:
    plan = build(settings(tiny_data, cache="on"))
    cached = steps._training_samples(plan, filled(plan))
    live = steps._training_samples(plan, None)
    flips = set()
    for key in [(epoch, index) for epoch in range(2) for index in range(6)]:
        sample = cached[key]
        flips.add(sample["draw"].flipped)
        answer = plan.teacher.features(collate([live[key]])["rgb"])[0][0]
        torch.testing.assert_close(sample["teacher/0"].float(), answer, rtol=HALF, atol=1e-4)
        assert torch.equal(sample["disparity"], live[key]["disparity"])
    assert flips == {True, False}


def test_flipped_map_is_the_teachers_answer_to_the_mirrored_image_not_the_mirrored_answer(
    tiny_data: PreparedData,
) -> None:
    plan = build(settings(tiny_data, cache="on"))
    cache = filled(plan)
    straight, flipped = (torch.from_numpy(np.array(cache.read(0, 0, flipped=flag))).float() for flag in (False, True))
    image = collate([steps._training_samples(replace(plan, settings=replace(plan.settings, flip=False)), None)[0, 0]])
    answer = plan.teacher.features(image["rgb"].flip(-1))[0][0]
    torch.testing.assert_close(flipped, answer, rtol=HALF, atol=1e-4)
    assert (flipped - straight.flip(-1)).abs().max() > 10 * HALF * answer.abs().max()


def test_cut_map_is_the_slice_at_the_windows_place() -> None:
    whole = np.arange(2 * 9 * 12, dtype=np.float16).reshape(2, 9, 12)
    window = Draw(0, 0, 1, 1, (64, 96), offset_yx=(32, 48))
    cut = feature_cache.cut_map(whole, window, Grid((16.0, 16.0), (8.0, 8.0), (4, 6)))
    np.testing.assert_array_equal(cut, whole[:, 2:6, 3:9])


def test_cut_map_resembles_what_the_teacher_says_of_the_window(tiny_data: PreparedData) -> None:
    """Windows lie where the map was cut, mirrored ones too: right maps are far nearer than those of other windows."""
    plan = build(settings(tiny_data, cache="on", crop=0.3))
    cached, live = steps._training_samples(plan, filled(plan)), steps._training_samples(plan, None)
    right, wrong, seen = 0.0, 0.0, set()
    for key in [(epoch, index) for epoch in range(3) for index in range(8)]:
        sample, other = cached[key], cached[key[0] + 10, key[1]]
        seen.add((sample["draw"].flipped, sample["draw"].offset_yx))
        image = tiny_data.read("rgb", sample["id"])
        pixels = torch.from_numpy(apply(image, sample["draw"])).permute(2, 0, 1)
        answer = plan.teacher.features(pixels[None])[0][0]
        right += float((sample["teacher/0"].float() - answer).square().mean())
        wrong += float((other["teacher/0"].float() - answer).square().mean()) if other["draw"] != sample["draw"] else 0
    assert len(seen) > 4
    assert right < 0.5 * wrong
    assert len(live) == len(cached)


def test_crops_train_from_a_whole_image_cache(tiny_data: PreparedData, tmp_path: Path) -> None:
    result = distill(settings(tiny_data, cache="on", crop=0.5), runs=tmp_path)
    assert result.finished


def test_second_run_finds_the_cache_and_fills_nothing(tiny_data: PreparedData, tmp_path: Path) -> None:
    chosen = settings(tiny_data, cache="on")
    calls: list[int] = []
    distill(chosen, runs=tmp_path, watchers=Watchers(filling=lambda done, total: calls.append(done)))
    assert calls[-1] == 2 * 20
    stored = {path: path.stat().st_mtime_ns for path in feature_cache.root().rglob("*.npy")}
    again = Watchers(filling=lambda done, total: pytest.fail("filled again"))
    distill(replace(chosen, lr=1e-4), runs=tmp_path, watchers=again)
    assert stored == {path: path.stat().st_mtime_ns for path in feature_cache.root().rglob("*.npy")}


def test_cache_half_filled_by_a_killed_process_is_continued_to_the_same_values(tiny_data: PreparedData) -> None:
    plan = build(settings(tiny_data, cache="on"))
    whole = [np.array(maps) for maps in filled(plan).maps]
    shutil.rmtree(feature_cache.root())

    class Killed(BaseException):
        pass

    def kill(done: int, total: int) -> None:
        raise Killed

    wanted = steps._cache_plan(plan)
    with pytest.raises(Killed):
        feature_cache.open_or_fill(wanted, plan.teacher, plan.data, "rgb", kill)
    assert [entry["complete"] for entry in feature_cache.entries()] == [False]
    (feature_cache.root() / wanted.key / ".filled.json.1.part").touch()
    for before, after in zip(whole, filled(plan).maps, strict=True):
        np.testing.assert_array_equal(before, after)
    assert not list(feature_cache.root().rglob("*.part"))


def key_of(data: PreparedData, **changes: object) -> str:
    return steps._cache_plan(build(settings(data, cache="on", **changes))).key


def test_key_changes_with_whatever_changes_the_values(tiny_data: PreparedData) -> None:
    keys = [
        key_of(tiny_data),
        key_of(tiny_data, seed=1),  # other random weights
        key_of(tiny_data, transfer=("features.3:features.5",)),
        key_of(tiny_data, size="64x64"),
        key_of(tiny_data, flip=False),
        key_of(tiny_data, crop=0.5),
        key_of(tiny_data, precision="bf16"),
        key_of(tiny_data, split="val"),
    ]
    assert len(set(keys)) == len(keys)


def test_key_does_not_change_with_what_does_not_matter(tiny_data: PreparedData) -> None:
    assert key_of(tiny_data) == key_of(
        tiny_data, lr=0.5, iterations=99, student="alexnet", transfer=("features.5:features.5",)
    )


def test_key_changes_when_one_image_changes(tmp_path: Path) -> None:
    names = [f"hall/{number:02d}" for number in range(4)] + ["attic/00"]
    before = key_of(make_tiny_data(tmp_path / "a", tmp_path / "data-a", names=names))
    same = key_of(make_tiny_data(tmp_path / "b", tmp_path / "b/data-a", names=names))
    assert same == before
    image = tmp_path / "a" / "rgb" / f"{names[0]}.png"
    pixels = cv2.imread(str(image))
    pixels[0, 0, 0] ^= 1
    cv2.imwrite(str(image), pixels)
    prepare_folder(
        FolderSettings(
            out=tmp_path / "c" / "data-a",
            modalities=("disparity",),
            rgb=str(tmp_path / "a" / "rgb"),
            target=str(tmp_path / "a" / "depth"),
            depth_unit=0.001,
            annotations={split: tmp_path / "a" / f"{split}.json" for split in ("train", "val")},
            workers=1,
        )
    )
    assert key_of(PreparedData.open(tmp_path / "c" / "data-a")) != before


def test_disk_without_room_is_refused_before_anything_is_computed(
    tiny_data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**5, 10**5))
    with pytest.raises(XmodalError, match="needs") as caught:
        distill(settings(tiny_data, cache="on"), runs=tmp_path)
    assert caught.value.exit_code == 1
    for way in ("--cache off", "XMODAL_CACHE", "xmodal cache prune"):
        assert way in str(caught.value.hint)
    assert not list(feature_cache.root().rglob("*.npy"))


def test_features_beyond_half_precision_are_refused_not_stored_as_infinity(tiny_data: PreparedData) -> None:
    plan = build(settings(tiny_data, cache="on"))
    for parameter in plan.teacher.tapped.parameters():
        parameter.data *= 1e4
    with pytest.raises(XmodalError, match="half precision"):
        filled(plan)


def test_planned_size_is_the_size_on_disk(tiny_data: PreparedData) -> None:
    plan = build(settings(tiny_data, cache="on", transfer=("features.5:features.5", "features.7:features.7")))
    cache = filled(plan)
    stored = sum(maps.nbytes for maps in cache.maps)
    assert stored == cache.plan.bytes
    entry = feature_cache.entries()[0]
    assert entry["complete"]
    assert stored <= entry["bytes"] <= stored + 50_000


def test_shuffled_pairs_stay_shuffled_with_a_cache(tiny_data: PreparedData) -> None:
    plan = build(settings(tiny_data, cache="on", shuffle_pairs=True, flip=False))
    own = build(settings(tiny_data, cache="on", flip=False))
    shuffled, paired = steps._training_samples(plan, filled(plan)), steps._training_samples(own, filled(own))
    for index in range(5):
        assert torch.equal(shuffled[0, index]["teacher/0"], paired[0, index]["teacher/0"])
        assert not torch.equal(shuffled[0, index]["disparity"], paired[0, index]["disparity"])


def test_a_cache_in_use_is_shared_and_not_removed(tiny_data: PreparedData) -> None:
    plan = build(settings(tiny_data, cache="on"))
    first, second = filled(plan), filled(plan)  # neither waits for the other
    assert not feature_cache.remove(first.path)
    assert second.read(0, 0, flipped=False).shape == first.read(0, 0, flipped=False).shape
    path = first.path
    del first, second
    assert feature_cache.remove(path)
    assert not path.exists()
