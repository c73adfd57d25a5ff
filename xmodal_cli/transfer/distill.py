"""A transfer: what it learns from, the task, and what it leaves.

`distill` begins a run, `resume` continues one; the frame around both is `runs/training.py`. `rehearse` builds
everything, runs two steps and writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from xmodal_cli.data.memory import fits_in_memory
from xmodal_cli.data.pairs import Pairs, collate
from xmodal_cli.data.transforms import Augmentation, generator
from xmodal_cli.runs import processes
from xmodal_cli.runs.device import memory_bytes
from xmodal_cli.runs.folder import RunFolder
from xmodal_cli.runs.session import NOBODY, Watchers
from xmodal_cli.runs.training import Rehearsal, Training, TrainingResult, seconds_per_step
from xmodal_cli.transfer import cache as feature_cache
from xmodal_cli.transfer import normalise
from xmodal_cli.transfer.build import Plan, adapted_student, build
from xmodal_cli.transfer.card import save_student
from xmodal_cli.transfer.normalise import FeatureStatistics, FeatureSums
from xmodal_cli.transfer.region_samples import BOXES
from xmodal_cli.transfer.settings import DistillSettings
from xmodal_cli.transfer.student import STUDENT
from xmodal_cli.transfer.task import TransferTask

COMMAND = "distill"
STATISTICS = "teacher_statistics.safetensors"
EVALUATION_BATCH = 16  # images at once when measuring the teacher and watching held-out pairs
MOST_MEASURED = 2000  # pairs that the teacher's statistics are measured on


@dataclass(frozen=True)
class DistillResult(TrainingResult):
    """What a transfer gave: its metrics are those of the last evaluation on held-out pairs."""

    @property
    def explained_variance(self) -> float | None:
        """Of the last transfer point; None when nothing was held out."""
        return self.metrics.get("explained_variance")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {**super().to_dict(), "explained_variance": self.explained_variance}


def distill(
    settings: DistillSettings,
    *,
    runs: Path = Path("runs"),
    name: str | None = None,
    overwrite: bool = False,
    watchers: Watchers = NOBODY,
) -> DistillResult:
    """Transfer supervision from a teacher to a student over the pairs of a data set: one new run.

    Args:
        settings: what is transferred, how, and how long.
        runs, name, overwrite, watchers: as `Training.begin`.

    Raises:
        XmodalError: settings, data, weights or the training itself are at fault; see each subclass.
    """
    found = TRAINING.begin(settings, runs=runs, name=name, overwrite=overwrite, watchers=watchers)
    return DistillResult(**vars(found))


def resume(path: Path, *, changes: Mapping[str, Any] | None = None, watchers: Watchers = NOBODY) -> DistillResult:
    """Continue a run with its own settings, as `Training.resume`; a finished one is left alone."""
    return DistillResult(**vars(TRAINING.resume(path, changes=changes, watchers=watchers)))


def rehearse(settings: DistillSettings) -> Rehearsal:
    """Build everything, train two steps on a teacher that looks at its first pairs, write nothing."""
    plan = build(settings)
    first = plan.samples.fit[: plan.settings.batch_size]
    few = replace(plan, samples=replace(plan.samples, fit=first, held_out=[]))  # nobody watches: they need not be read
    task = _task(few, _measure(few, None), NOBODY)
    live = replace(few, settings=replace(few.settings, cache="off"))
    seconds = seconds_per_step(task, _training_samples(live, None), collate, plan.settings.fit_settings())
    return Rehearsal(
        plan.settings,
        len(plan.samples.fit),
        len(plan.samples.held_out),
        {},
        seconds,
        memory_bytes(plan.teacher.device),
        _cache_plan(plan).bytes if plan.settings.cache == "on" else 0,
    )


def _name(plan: Plan) -> str:
    return f"{plan.settings.student.replace('/', '-')}-{plan.settings.modality}"


def _facts(plan: Plan) -> dict[str, Any]:
    return {
        "data": {"name": plan.data.name, "hash": plan.data_hash(), "pairs": len(plan.samples.fit)},
        "teacher_weights_sha256": plan.teacher.weights_hash,
    }


def _changed(plan: Plan, run: RunFolder) -> str | None:
    """A run goes on only with the images and the teacher that it began with."""
    began = run.config()
    if began["data"]["hash"] != plan.data_hash():
        return (
            f"The data set {plan.data.root} has changed since the run {run.path} began: its images, or the proposals "
            "in it, are not the same."
        )
    if began["teacher_weights_sha256"] != plan.teacher.weights_hash:
        return (
            f"The teacher's weights, {plan.settings.teacher_run or plan.settings.teacher_weights}, are not those that "
            f"{run.path} began with."
        )
    return None


def _prepare(plan: Plan, run: RunFolder, watchers: Watchers) -> tuple[TransferTask, Dataset[dict[str, Any]]]:
    """Measure the teacher, build the task."""
    cache = _open_cache(plan, watchers) if plan.settings.cache == "on" else None
    task = _task(plan, _statistics(plan, run.path / STATISTICS, cache), watchers)
    return task, _training_samples(plan, cache)


def _save(plan: Plan, run: RunFolder, task: TransferTask, figures: Mapping[str, Any]) -> None:
    save_student(run, plan, task.module, [divisor.flatten() for divisor in task.divisors], figures)


def _decided(plan: Plan) -> str:
    settings = plan.settings
    regions = "" if plan.regions_hw is None else f"; {settings.regions_per_image} regions of {settings.proposals}"
    return (
        f"{len(plan.samples.fit)} pairs, {len(plan.samples.held_out)} held out{regions}; {settings.iterations} steps "
        f"of {settings.batch_size} at {settings.size}; {settings.precision} on {settings.device}, threads "
        f"{settings.threads}, workers {settings.workers}; teacher {'cached' if settings.cache == 'on' else 'live'}"
    )


def _task(plan: Plan, statistics: list[FeatureStatistics], watchers: Watchers) -> TransferTask:
    """The task of a plan, once the teacher has been measured."""
    settings = plan.settings
    rectify = [settings.adapter and each.non_negative and settings.loss != "logistic" for each in statistics]
    for point, relu in zip(plan.points, rectify, strict=True):
        adapter = f"adapter 1x1 {'+ ReLU' if relu else 'without ReLU: the target has two signs'}"
        watchers.say(f"transfer {point}, {adapter if settings.adapter else 'no adapter'}")
    for note in plan.notes:
        watchers.say(note)
    divisors = [each.divisor(settings.normalise) for each in statistics]
    module = adapted_student(plan, rectify, divisors)
    watched = _held_out(plan)
    return TransferTask(module, plan.teacher, divisors, settings.loss, settings.source, settings.modality, watched)


def _training_samples(plan: Plan, cache: feature_cache.FeatureCache | None) -> Dataset[dict[str, Any]]:
    """What the loop draws from: both images of a pair, or the target image with the teacher's stored features."""
    settings, ids = plan.settings, plan.samples.fit
    lattice = whole_image_lattice(plan) if cache is not None and settings.crop < 1 else None
    modalities = (settings.modality,) if cache is not None else (settings.source, settings.modality)
    pairs = Pairs(
        plan.data,
        ids,
        modalities,
        augmentation=Augmentation(plan.size_hw, settings.crop, settings.flip, lattice),
        size_hw=plan.size_hw,
        seed=settings.seed,
        in_memory=settings.workers == 0 and fits_in_memory(plan.data, ids, modalities),
        strangers={settings.modality: _strangers(len(ids), settings.seed)} if settings.shuffle_pairs else None,
    )
    return plan.in_batch(pairs) if cache is None else feature_cache.CachedPairs(pairs, cache, plan.teacher_grids)


def _strangers(count: int, seed: int) -> list[int]:
    """For each pair another one: a random cycle through all of them, so that nobody meets itself."""
    order = generator(seed, "strangers").permutation(count)
    partner = np.empty(count, dtype=int)
    partner[order] = np.roll(order, 1)
    return [int(index) for index in partner]


def _held_out(plan: Plan) -> list[dict[str, Any]]:
    """Batches of held-out pairs, whole images, kept decoded: they are looked at many times."""
    settings = plan.settings
    pairs = Pairs(plan.data, plan.samples.held_out, (settings.source, settings.modality), size_hw=plan.size_hw)
    seen = plan.in_batch(pairs)
    return [collate([seen[0, index] for index in batch]) for batch in _in_batches(len(pairs))]


def whole_image_lattice(plan: Plan) -> tuple[tuple[int, int], int]:
    """The size at which a cached teacher sees whole images, and the step in pixels at which windows can be cut of them.

    Windows of random size cannot be cut from stored maps, only windows of the training size at places on the teacher's
    stride; the whole image is made so large that they have the share of it that `crop` names as the smallest.
    """
    step = int(max(max(grid.stride_yx) for grid in plan.teacher_grids))
    grow = plan.settings.crop**-0.5
    height, width = (size + max(1, round(size * (grow - 1) / step)) * step for size in plan.size_hw)
    return (height, width), step


def _cache_plan(plan: Plan) -> feature_cache.CachePlan:
    """What a cache of this plan would hold."""
    settings = plan.settings
    whole_hw = plan.size_hw if settings.crop == 1 else whole_image_lattice(plan)[0]
    return feature_cache.plan(plan.teacher, plan.data, plan.samples.fit, settings.source, whole_hw, flip=settings.flip)


def _open_cache(plan: Plan, watchers: Watchers) -> feature_cache.FeatureCache:
    """The teacher's features of all training pairs, computed now if they are not on disk."""
    wanted = _cache_plan(plan)
    folder = feature_cache.root() / wanted.key
    watchers.say(f"teacher cache: {wanted.images} images, {wanted.bytes / 1e6:.0f} MB in {folder}")
    return feature_cache.open_or_fill(wanted, plan.teacher, plan.data, plan.settings.source, watchers.filling)


def _statistics(plan: Plan, path: Path, cache: feature_cache.FeatureCache | None) -> list[FeatureStatistics]:
    """The teacher's statistics on the training pairs: measured once, then kept in the run."""
    if processes.first_decides(path.is_file):  # asked once: a slower process would find what the first one just wrote
        return normalise.load(path, len(plan.points))
    measured = _measure(plan, cache)
    if processes.is_first():
        normalise.save(path, measured)
    processes.wait_for_all()
    return measured


def _measure(plan: Plan, cache: feature_cache.FeatureCache | None) -> list[FeatureStatistics]:
    """Look at whole training images with the teacher, or read what it said of them."""
    sums = [FeatureSums() for _ in plan.points]
    if cache is not None:
        for each, maps in zip(sums, cache.maps, strict=True):
            for batch in _in_batches(min(maps.shape[1], MOST_MEASURED)):
                each.add(torch.from_numpy(np.array(maps[0, batch.start : batch.stop])))  # a copy: the file is read-only
    else:
        images = Pairs(plan.data, plan.samples.fit, (plan.settings.source,), size_hw=plan.size_hw)
        whole = plan.in_batch(images)
        for batch in _in_batches(min(len(images), MOST_MEASURED)):
            seen = collate([whole[0, index] for index in batch])
            features = plan.teacher.features(seen[plan.settings.source], seen.get(BOXES))
            for each, given in zip(sums, features, strict=True):
                each.add(given)
    return [each.statistics() for each in sums]


def _in_batches(count: int) -> list[range]:
    """The indices below a count, some at a time."""
    return [range(first, min(first + EVALUATION_BATCH, count)) for first in range(0, count, EVALUATION_BATCH)]


TRAINING = Training(
    command=COMMAND,
    settings=DistillSettings,
    build=build,
    name=_name,
    facts=_facts,
    changed=_changed,
    decided=_decided,
    prepare=_prepare,
    collate=collate,
    save=_save,
    anew=lambda run: f"--init {run.path}/{STUDENT}",
)
saved_settings = TRAINING.saved_settings
