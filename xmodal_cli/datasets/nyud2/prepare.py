"""`prepare nyud2`: the labelled file or the authors' archive becomes a prepared data set.

A read from the top: check the settings, open the source, see what an earlier run left, do what is missing in a pool of
processes, write splits, scenes, objects and description. Every file is written whole or not at all, so that the same
command run again goes on where an interrupted one stopped, and ends with the same bytes.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli import __version__, files
from xmodal_cli.data.annotations import CocoFile
from xmodal_cli.data.manifest import ManifestRow
from xmodal_cli.data.prepared import RGB, PreparedData
from xmodal_cli.data.splits import check_scenes
from xmodal_cli.data.workers import resolve_workers, run_jobs
from xmodal_cli.datasets import assembly
from xmodal_cli.datasets.assembly import check_unchanged, open_existing
from xmodal_cli.datasets.downloads.fetched import catalogue_path
from xmodal_cli.datasets.nyud2.archive import open_archive
from xmodal_cli.datasets.nyud2.camera import CROP_CAMERA, CROP_SIZE_HW
from xmodal_cli.datasets.nyud2.classes import CLASSES, LABEL_IDS
from xmodal_cli.datasets.nyud2.frames import ImageJob, ImageRecipe, ImageResult, make_file, prepare_block
from xmodal_cli.datasets.nyud2.labelled import FILE_NAME, open_labelled
from xmodal_cli.datasets.nyud2.objects import with_ids
from xmodal_cli.datasets.nyud2.report import Nyud2Report
from xmodal_cli.datasets.nyud2.settings import KNOWN, Nyud2Settings, check_settings, choose_modalities
from xmodal_cli.datasets.nyud2.source import Source
from xmodal_cli.datasets.nyud2.splits import check_split_file, ids_by_split, number_of
from xmodal_cli.datasets.nyud2.superpixels import FOLDER, add_superpixels, find_superpixels
from xmodal_cli.errors import DataError, DownloadError, SettingsError

__all__ = ["Nyud2Report", "Nyud2Settings", "prepare_nyud2"]

Progress = Callable[[int, int], None]

MADE_BY = "nyud2"
TIMED = 3  # images that a dry run makes, after one that warms caches up
MOST_LISTED = 50  # bad images named in an error
SPLITS_BY = "Gupta's train and val, the official test"


@dataclass(frozen=True)
class Plan:
    """The work, ready to be done.

    Args:
        old: the data set of the same source that is there already; None for a new one.
        source: where the images come from.
        recipe: how they are made.
        jobs: every image and what is still to be made of it.
        splits: IDs by split.
        superpixels: their files by ID; empty where none were asked for.
        recorded: settings by modality, rgb among them.
        notes: what a person should know.
    """

    old: PreparedData | None
    source: Source
    recipe: ImageRecipe
    jobs: Sequence[ImageJob]
    splits: Mapping[str, Sequence[str]]
    superpixels: Mapping[str, Path]
    recorded: Mapping[str, Mapping[str, Any]]
    notes: tuple[str, ...]


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


def make_plan(settings: Nyud2Settings) -> Plan:
    """Check the settings, open the source, compare splits and scenes, see what is there already.

    Raises:
        SettingsError: options that make no sense, or a folder that holds something else.
        DataError: the source or a split file is not what it should be.
    """
    check_settings(settings)
    source = _open(settings)
    modalities = (RGB, *choose_modalities(settings, source.modalities, source.usual))
    notes = list(source.notes)
    if settings.splits is not None:
        notes.append(check_split_file(settings.splits))
    splits = ids_by_split(source.ids)
    notes += _shared_scenes(splits, source.scenes, settings)
    superpixels = {} if settings.superpixels is None else find_superpixels(settings.superpixels, source.ids)
    old = _existing(settings, source)
    modalities = _with_those_there(modalities, settings, old, source)
    recorded = {name: source.identity(name) for name in modalities}
    begun = _begun(settings, old)
    for name, now in recorded.items():
        check_unchanged("images" if name == RGB else name, now, begun.get(name), settings.overwrite)
    recipe = ImageRecipe(settings.out, source, modalities, settings.link, source.has_objects and old is None)
    remade = _remade(settings, modalities, begun, recorded)
    jobs = [_job(recipe, identifier, begun.keys() - remade) for identifier in source.ids]
    return Plan(old, source, recipe, jobs, splits, superpixels, recorded, tuple(notes))


def _open(settings: Nyud2Settings) -> Source:
    """The source that was named, else the labelled file that was downloaded.

    Raises:
        DownloadError: neither was.
        DataError: it is not what it should be.
    """
    if settings.archive is not None:
        return open_archive(settings.archive)
    if settings.labelled is not None:
        return open_labelled(settings.labelled)
    try:
        return open_labelled(catalogue_path(FILE_NAME))
    except DownloadError as error:
        raise DownloadError(
            error.message, f"{error.hint}; or name a file of yours with --labelled, or an archive with --archive."
        ) from None


def _shared_scenes(
    splits: Mapping[str, Sequence[str]], scenes: Mapping[str, str], settings: Nyud2Settings
) -> list[str]:
    """Sentences about scenes in two splits, where that is allowed.

    Raises:
        DataError: there are some, and it is not.
    """
    shared = check_scenes(splits, scenes)
    if shared and not settings.allow_shared_scenes:
        raise DataError(
            "\n".join([f"{len(shared)} scenes are in two splits:", *shared[:MOST_LISTED]]),
            "The published splits share no scene: is the file complete and in its own order? "
            "Pass --allow-shared-scenes to go on.",
        )
    return shared


def _existing(settings: Nyud2Settings, source: Source) -> PreparedData | None:
    """The data set of the same images that is there already; None where a new one begins.

    Raises:
        SettingsError: the folder holds something else.
    """
    old = open_existing(settings.out)
    if old is None:
        return None
    known = old.provenance.get("modalities", {}).get(RGB, {})
    if old.provenance.get("made_by") != MADE_BY:
        raise SettingsError(
            f"'{settings.out}' is a data set that was not made by `prepare nyud2`.", "Name another folder with --out."
        )
    same = known.get("settings") == source.identity(RGB)
    return old if same and old.all_ids == list(source.ids) else None


def _with_those_there(
    modalities: tuple[str, ...], settings: Nyud2Settings, old: PreparedData | None, source: Source
) -> tuple[str, ...]:
    """Of a source that has other images now, everything that the data set has is made for the new ones too."""
    there = open_existing(settings.out) if old is None and not settings.overwrite else None
    names = () if there is None else tuple(there.modalities)
    return tuple(dict.fromkeys((*modalities, *(name for name in names if name in source.modalities))))


def _begun(settings: Nyud2Settings, old: PreparedData | None) -> dict[str, Mapping[str, Any]]:
    """What earlier runs into the same folder made or began: settings by modality."""
    there = old if old is not None else open_existing(settings.out)
    finished = {} if there is None else there.provenance.get("modalities", {})
    known = {name: dict(entry.get("settings", {})) for name, entry in finished.items()}
    return known | assembly.read_state(settings.out)


def _remade(
    settings: Nyud2Settings,
    modalities: Sequence[str],
    begun: Mapping[str, Mapping[str, Any]],
    recorded: Mapping[str, Mapping[str, Any]],
) -> set[str]:
    """What is to be made anew although it is there: with `--overwrite`, what was named; all, from another source."""
    if not settings.overwrite:
        return set()
    return set(modalities) - {RGB} if begun.get(RGB) in (None, recorded[RGB]) else set(begun)


def _job(recipe: ImageRecipe, identifier: str, kept: set[str]) -> ImageJob:
    """The image without what an earlier run finished: files not older than those they are made from."""
    wanted = tuple(
        name
        for name in recipe.modalities
        if name not in kept
        or _modified(recipe.root / f"{name}/{identifier}.png") < recipe.source.modified(name, identifier)
    )
    return ImageJob(identifier, wanted)


def _modified(path: Path) -> int:
    """When a file was last changed, in nanoseconds; -1 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1


def _begin(plan: Plan, settings: Nyud2Settings) -> None:
    """Record what this run makes; what comes from another source goes first."""
    root = settings.out
    state = assembly.read_state(root)
    if settings.overwrite:
        replaced = KNOWN if plan.old is None else plan.recipe.modalities[1:]
        for name in (*replaced, *((RGB,) if plan.old is None else ())):
            shutil.rmtree(root / name, ignore_errors=True)
        state = {} if plan.old is None else state
    files.remove_parts(*(root / name for name in (*plan.recipe.modalities, FOLDER)))
    assembly.write_state(root, {**state, **{name: dict(entry) for name, entry in plan.recorded.items()}})


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
        scenes=plan.source.scenes,
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
    made = {
        name: {"settings": dict(entry), "made_with": f"xmodal {__version__}", "pairs": len(plan.jobs)}
        for name, entry in plan.recorded.items()
        if plan.old is None or name not in plan.old.modalities or any(name in job.wanted for job in plan.jobs)
    }
    document = {
        **before,
        "made_by": MADE_BY,
        "modalities": {**before.get("modalities", {}), **made},
        "splits": {"by": SPLITS_BY},
        "left_out": {},
    }
    if plan.recipe.objects:
        truths = [result.truth for result in results.good if result.truth is not None]
        document["ground_truth"] = {
            "instances_without_a_class": sum(truth.dropped for truth in truths),
            "boxes_unlike_the_masks": sum(truth.differing for truth in truths),
        }
    if plan.superpixels:
        document[FOLDER] = len(plan.superpixels)
    return document


def _report(
    plan: Plan, made: PreparedData | None, written: int, superpixels: int, workers: int, seconds: float
) -> Nyud2Report:
    truth = {} if made is None else made.provenance.get("ground_truth", {})
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
        scenes=len(set(plan.source.scenes.values())),
        objects=objects,
        instances_without_a_class=int(truth.get("instances_without_a_class", 0)),
        boxes_unlike_the_masks=int(truth.get("boxes_unlike_the_masks", 0)),
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
    ids, names = list(plan.source.ids), plan.recipe.modalities
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
