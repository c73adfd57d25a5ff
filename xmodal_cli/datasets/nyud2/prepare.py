"""`prepare nyud2`: the labelled file or the authors' archive becomes a prepared data set.

A read from the top: check the settings, open the source, see what an earlier run left, do what is missing in a pool of
processes, write splits, scenes, objects and description. Every file is written whole or not at all, so that the same
command run again goes on where an interrupted one stopped, and ends with the same bytes.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from xmodal_cli import __version__
from xmodal_cli.data.annotations import CocoFile
from xmodal_cli.data.manifest import ManifestRow
from xmodal_cli.data.prepared import RGB, PreparedData
from xmodal_cli.data.workers import resolve_workers, run_jobs
from xmodal_cli.datasets import assembly
from xmodal_cli.datasets.nyud2.camera import CROP_CAMERA, CROP_SIZE_HW
from xmodal_cli.datasets.nyud2.classes import CLASSES, LABEL_IDS
from xmodal_cli.datasets.nyud2.frames import ImageResult, make_file, prepare_block
from xmodal_cli.datasets.nyud2.objects import with_ids
from xmodal_cli.datasets.nyud2.plan import MADE_BY, Plan, make_plan
from xmodal_cli.datasets.nyud2.report import Nyud2Report
from xmodal_cli.datasets.nyud2.settings import KNOWN, Nyud2Settings
from xmodal_cli.datasets.nyud2.splits import number_of
from xmodal_cli.datasets.nyud2.superpixels import FOLDER, add_superpixels
from xmodal_cli.errors import DataError

__all__ = ["Nyud2Report", "Nyud2Settings", "prepare_nyud2"]

Progress = Callable[[int, int], None]

TIMED = 3  # images that a dry run makes, after one that warms caches up
MOST_LISTED = 50  # bad images named in an error
SPLITS_BY = "Gupta's train and val, the official test"


@dataclass
class Results:
    """Results as they come in."""

    rows: list[ManifestRow] = field(default_factory=list)
    good: list[ImageResult] = field(default_factory=list)
    bad: list[ImageResult] = field(default_factory=list)
    made: int = 0

    def add(self, result: ImageResult) -> None:
        """Count one image."""
        (self.good if result.frame.error is None else self.bad).append(result)
        self.rows.extend(result.frame.rows)
        self.made += result.frame.made


def prepare_nyud2(settings: Nyud2Settings, progress: Progress | None = None) -> Nyud2Report:
    """Make a prepared data set of NYU Depth v2, or add modalities to one; run again, it goes on.

    Args:
        settings: what to do.
        progress: called with images done and images in all.

    Returns:
        What was done; with `settings.dry_run`, what would be.

    Raises:
        SettingsError: options that make no sense, or a folder that holds something else.
        DataError: the source is damaged, lacks something, or disagrees with the published splits.
        OSError: the disk is full, or the folder cannot be written.
    """
    start = time.perf_counter()
    plan = make_plan(settings)
    workers = resolve_workers(settings.workers, len(plan.jobs))
    if settings.dry_run:
        return _estimate(plan, workers)
    with assembly.exclusive(settings.out):
        _begin(plan, settings)
        results = _work(plan, workers, progress)
        _refuse_bad(results, plan)
        linked = add_superpixels(settings.out, dict(plan.superpixels), settings.link)
        assembly.write_dataset(_contents(settings, plan, results))
    made = PreparedData.open(settings.out)
    seconds = time.perf_counter() - start
    return _report(plan, made, results.made, linked, workers, seconds)


def _begin(plan: Plan, settings: Nyud2Settings) -> None:
    """Record what this run makes; what comes from another source goes first."""
    root = settings.out
    if settings.overwrite and plan.old is None:
        assembly.discard(root, (RGB, *KNOWN))
    elif settings.overwrite:
        for name in plan.recipe.modalities[1:]:
            shutil.rmtree(root / name, ignore_errors=True)
    assembly.begin(root, plan.recorded, settings.shard)


def _work(plan: Plan, workers: int, progress: Progress | None) -> Results:
    """Make every image that is not finished, a block of neighbours at a time."""
    results = Results()
    jobs = [] if _is_finished(plan) else plan.jobs
    size = plan.source.block
    blocks = [jobs[first : first + size] for first in range(0, len(jobs), size)]
    done = 0
    for block in run_jobs(partial(prepare_block, plan.recipe), blocks, workers):
        for result in block:
            results.add(result)
        done += len(block)
        if progress is not None:
            progress(done, len(jobs))
    for found in (results.good, results.bad):
        found.sort(key=lambda result: result.frame.id)
    return results


def _is_finished(plan: Plan) -> bool:
    """Whether an earlier run made every file and nothing has changed since; then no image need be opened."""
    if plan.old is None or any(job.wanted for job in plan.jobs):
        return False
    rows = plan.old.rows
    for name in plan.recipe.modalities:
        for job in plan.jobs:
            row = rows.get((name, job.id))
            path = plan.recipe.root / f"{name}/{job.id}.png"
            if row is None or not path.is_file() or path.stat().st_size != row.bytes:
                return False
    return True


def _refuse_bad(results: Results, plan: Plan) -> None:
    """Stop if images are bad; what is finished stays for the next run."""
    if not results.bad:
        return
    lines = list(dict.fromkeys(str(result.frame.error) for result in results.bad))
    if len(lines) > MOST_LISTED:
        lines = [*lines[:MOST_LISTED], f"... and {len(lines) - MOST_LISTED} more."]
    count = "1 image is" if len(results.bad) == 1 else f"{len(results.bad)} images are"
    hint = next((result.frame.hint for result in results.bad if result.frame.hint), "Mend the source.")
    raise DataError(
        f"{count} bad, of {len(plan.jobs)}:\n" + "\n".join(lines),
        f"{hint} Then run the same command again: it goes on.",
    )


def _contents(settings: Nyud2Settings, plan: Plan, results: Results) -> assembly.Contents:
    """Join what was made with what the data set held before."""
    old, recipe = plan.old, plan.recipe
    made = {(row.modality, row.id) for row in results.rows}
    kept = [] if old is None else [row for key, row in old.rows.items() if key not in made]
    rows = [*results.rows, *kept]
    infos = {} if old is None else {name: info for name, info in old.modalities.items() if name != RGB}
    infos |= {name: assembly.modality_info(name) for name in recipe.modalities if name != RGB}
    labels = _labels(plan, results) if recipe.objects else None if old is not None else assembly.Labels()
    return assembly.Contents(
        root=settings.out,
        name=settings.name or (old.name if old is not None else settings.out.resolve().name),
        modalities={RGB: assembly.rgb_info(rows), **infos},
        rows=rows,
        splits=plan.splits,
        scenes=plan.scenes,
        labels=labels,
        classes=() if old is None else old.classes,
        camera=CROP_CAMERA.to_dict(),
        provenance=_provenance(plan, results),
    )


def _labels(plan: Plan, results: Results) -> assembly.Labels:
    """A COCO file for each split; image ids are the authors' image numbers, category ids those of the benchmark."""
    height, width = CROP_SIZE_HW
    truths = {result.frame.id: result.truth for result in results.good if result.truth is not None}
    about = {"info": {"description": "NYU Depth v2, 19 classes", "label_ids": LABEL_IDS}}
    categories = dict(enumerate(CLASSES, start=1))
    coco, image_ids = {}, {}
    for split, ids in plan.splits.items():
        numbers = {identifier: number_of(identifier) for identifier in ids}
        images = {
            number: {"id": number, "file_name": f"{identifier}.png", "width": width, "height": height}
            for identifier, number in numbers.items()
        }
        objects = {number: with_ids(truths[each].objects, number) for each, number in numbers.items()}
        coco[split] = CocoFile(plan.recipe.root, images, objects, categories, about)
        image_ids[split] = numbers
    return assembly.Labels(coco, image_ids)


def _provenance(plan: Plan, results: Results) -> dict[str, Any]:
    """How the data set was made, modality by modality; what earlier runs recorded stays."""
    before = {} if plan.old is None else dict(plan.old.provenance)
    known = before.get("modalities", {})
    made = {
        name: {
            **known.get(name, {}),
            "settings": dict(entry),
            "made_with": f"xmodal {__version__}",
            "pairs": len(plan.jobs),
        }
        for name, entry in plan.recorded.items()
        if plan.old is None or name not in plan.old.modalities or any(name in job.wanted for job in plan.jobs)
    }
    modalities = {**known, **made}
    modalities[RGB] = {**modalities[RGB], **_counts(plan, results)}
    about = {"made_by": MADE_BY, "modalities": modalities, "splits": {"by": SPLITS_BY}, "left_out": {}}
    return {**before, **about, **plan.shard}


def _counts(plan: Plan, results: Results) -> dict[str, int]:
    """What belongs to the images, counted where it was read in this run."""
    counts = {}
    if plan.recipe.objects:
        truths = [result.truth for result in results.good if result.truth is not None]
        counts["instances_without_a_class"] = sum(truth.dropped for truth in truths)
        counts["boxes_unlike_the_masks"] = sum(truth.differing for truth in truths)
    if plan.superpixels:
        counts[FOLDER] = len(plan.superpixels)
    return counts


def _report(
    plan: Plan, made: PreparedData | None, written: int, superpixels: int, workers: int, seconds: float
) -> Nyud2Report:
    counts = {} if made is None else made.provenance["modalities"][RGB]
    objects: dict[str, dict[str, int]] = {}
    if made is not None:
        labelled = {split for split in made.splits if made.annotation_file(split) is not None}
        objects = {split: assembly.objects_by_class(made, split) if split in labelled else {} for split in made.splits}
    names = set(plan.recipe.modalities)
    size = 0 if made is None else sum(row.bytes for row in made.rows.values() if row.modality in names)
    return Nyud2Report(
        root=plan.recipe.root,
        source=plan.source.kind,
        modalities=plan.recipe.modalities,
        splits={split: len(ids) for split, ids in plan.splits.items()},
        scenes=len(set(plan.scenes.values())),
        objects=objects,
        instances_without_a_class=int(counts.get("instances_without_a_class", 0)),
        boxes_unlike_the_masks=int(counts.get("boxes_unlike_the_masks", 0)),
        superpixels=superpixels,
        written=written,
        finished=len(plan.jobs) * len(plan.recipe.modalities) - written,
        notes=plan.notes,
        workers=workers,
        seconds=seconds,
        bytes=size,
    )


def _estimate(plan: Plan, workers: int) -> Nyud2Report:
    """Make a few images in memory and say what all of them will take."""
    ids, names = [job.id for job in plan.jobs], plan.recipe.modalities
    seconds, sizes = [], []
    for identifier in [ids[0], *ids[:: max(1, len(ids) // TIMED)]]:
        start = time.perf_counter()
        with plan.source.reading([identifier]) as reader:
            sizes.append(sum(len(make_file(reader, identifier, name).content) for name in names))
            if plan.recipe.objects:
                reader.ground_truth(identifier)
        seconds.append(time.perf_counter() - start)
    wanted = sum(len(job.wanted) for job in plan.jobs)
    todo = wanted / len(names)
    report = _report(plan, None, wanted, len(plan.superpixels), workers, min(seconds) * todo / workers)
    return replace(report, bytes=int(np.mean(sizes) * todo), dry_run=True)
