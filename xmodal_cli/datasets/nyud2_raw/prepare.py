"""`prepare nyud2-raw`: frames of the raw video of NYU Depth v2 become pairs to transfer on.

The paper's students learn from such pairs: unlabelled frames of the scenes whose labelled images are the training set
(section 4 of the paper). The same command run again goes on where it was stopped.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from xmodal_cli import __version__, files
from xmodal_cli.data.manifest import ManifestRow
from xmodal_cli.data.prepared import RGB, PreparedData
from xmodal_cli.data.workers import resolve_workers, run_jobs
from xmodal_cli.datasets import assembly
from xmodal_cli.datasets.assembly import check_unchanged, open_existing
from xmodal_cli.datasets.nyud2_raw.camera import CROP_HW, CROPPED
from xmodal_cli.datasets.nyud2_raw.frames import PARTS, RawResult, encode_pair, prepare_frame
from xmodal_cli.datasets.nyud2_raw.plan import RawPlan, make_plan
from xmodal_cli.datasets.nyud2_raw.report import RawReport
from xmodal_cli.datasets.nyud2_raw.settings import KNOWN, RawRecipe, RawSettings, check_settings, recorded
from xmodal_cli.errors import DataError, SettingsError

__all__ = ["RawSettings", "prepare_nyud2_raw"]

Progress = Callable[[int, int], None]

FRAMES = "frames.csv"
FRAME_COLUMNS = ("id", "colour", "depth", "gap_ms")
TIMED = 3  # frames that a dry run makes, after one that warms caches up


@dataclass(frozen=True)
class Made:
    """The frames of a data set, as results.

    Args:
        results: of every frame that was wanted, in order.
    """

    results: Sequence[RawResult]

    @property
    def sound(self) -> list[RawResult]:
        """Those of which a pair was made."""
        return [result for result in self.results if result.id is not None]

    @property
    def rows(self) -> list[ManifestRow]:
        """Manifest rows of all pairs."""
        return [row for result in self.sound for row in result.rows]

    @property
    def bad(self) -> dict[str, str]:
        """What is wrong with each frame that was passed over, by ID."""
        return {name: problem for result in self.results for name, problem in result.bad.items()}


def prepare_nyud2_raw(settings: RawSettings, progress: Progress | None = None) -> RawReport:
    """Make a prepared data set of raw video; run again, it goes on.

    Args:
        settings: what to do.
        progress: called with frames done and frames in all.

    Returns:
        What was done; with `settings.dry_run`, what would be.

    Raises:
        SettingsError: options that make no sense, scenes of another split, a folder that holds something else.
        DataError: no frames that may be used, or all of them damaged.
        OSError: the disk is full, or the folder cannot be written.
    """
    start = time.perf_counter()
    check_settings(settings)
    old = _existing(settings)
    recipe = _recipe(settings, old)
    added = () if old is None else set(recipe.modalities) - old.modalities.keys()
    assembly.check_part(settings.out, settings.shard, old, added)
    plan = make_plan(settings)
    workers = resolve_workers(settings.workers, len(plan.jobs))
    if settings.dry_run:
        return _estimate(settings, recipe, plan, workers)
    with assembly.exclusive(settings.out):
        _begin(settings, recipe)
        results = []
        for done, result in enumerate(run_jobs(partial(prepare_frame, recipe), plan.jobs, workers), 1):
            results.append(result)
            if progress is not None:
                progress(done, len(plan.jobs))
        made = Made(sorted(results, key=lambda result: result.first))
        _refuse_nothing(made)
        assembly.write_dataset(_contents(settings, recipe, plan, made))
        _write_frames(settings, made)
        files.remove_parts(*(settings.out / PARTS).iterdir())  # of processes that were killed
    return _report(settings, recipe, plan, made, workers, time.perf_counter() - start)


def _existing(settings: RawSettings) -> PreparedData | None:
    """The data set of the same frames that is there already, finished; None where there is none or it is to go.

    Raises:
        SettingsError: the folder holds something else, or frames of other settings.
    """
    old = open_existing(settings.out)
    known = {} if old is None else old.provenance.get("modalities", {}).get(RGB, {}).get("settings", {})
    if old is not None and known.get("source") != "nyud2-raw":
        raise SettingsError(
            f"'{settings.out}' is a data set that was not made by `prepare nyud2-raw`.", "Name another folder by --out."
        )
    begun = assembly.read_state(settings.out).get(RGB, known)
    check_unchanged("images", recorded(settings), begun or None, settings.overwrite)
    return old if known == recorded(settings) else None


def _recipe(settings: RawSettings, old: PreparedData | None) -> RawRecipe:
    """How frames are made: what is wanted, and what is there already."""
    wanted = dict.fromkeys(settings.modalities)
    if old is not None:
        wanted |= dict.fromkeys(name for name in old.modalities if name in KNOWN)
    return RawRecipe(settings.out, tuple(wanted), settings.fill)


def _begin(settings: RawSettings, recipe: RawRecipe) -> None:
    """Record what this run makes; what is to be replaced goes first."""
    now = recorded(settings)
    if settings.overwrite:
        assembly.discard(settings.out, (PARTS, RGB, *KNOWN))
    assembly.begin(settings.out, dict.fromkeys((RGB, *recipe.modalities), now), settings.shard)


def _refuse_nothing(made: Made) -> None:
    if not made.sound:
        examples = list(made.bad.values())[:TIMED]
        raise DataError("Every frame is damaged:\n" + "\n".join(examples), "Fetch the raw video again.")


def _contents(settings: RawSettings, recipe: RawRecipe, plan: RawPlan, made: Made) -> assembly.Contents:
    scenes = {str(result.id): plan.members[str(result.id).rpartition("/")[0]] for result in made.sound}
    names = sorted({str(member.split) for member in scenes.values()}, key=lambda name: name != "train")
    infos = {RGB: assembly.rgb_info(made.rows), **{name: assembly.modality_info(name) for name in recipe.modalities}}
    return assembly.Contents(
        root=settings.out,
        name=settings.name or settings.out.resolve().name,
        modalities=infos,
        rows=made.rows,
        splits={name: [each for each, member in scenes.items() if member.split == name] for name in names},
        scenes={each: member.scene for each, member in scenes.items()},
        labels=None,
        classes=(),
        camera=CROPPED.to_dict(),
        provenance=_provenance(settings, recipe, plan, made),
    )


def _provenance(settings: RawSettings, recipe: RawRecipe, plan: RawPlan, made: Made) -> dict[str, Any]:
    about = {"settings": recorded(settings), "made_with": f"xmodal {__version__}", "pairs": len(made.sound)}
    medians = [result.median_m for result in made.sound]
    figures = {
        "pixels": len(made.sound) * CROP_HW[0] * CROP_HW[1],
        "filled_pixels": sum(result.missing for result in made.sound),
        "median_depth_m": [min(medians), round(float(np.median(medians)), 4), max(medians)],
    }
    return {
        **plan.shard,
        "modalities": {RGB: about, **dict.fromkeys(recipe.modalities, about | figures)},
        "splits": {"by": "scenes", "scenes_of": settings.pool},
        "left_out": made.bad,
    }


def _write_frames(settings: RawSettings, made: Made) -> None:
    """Write `frames.csv`: which raw files each pair was made of, and the time between them."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FRAME_COLUMNS)
    writer.writerows([result.id, *result.raw_files, f"{1000 * result.gap_s:.3f}"] for result in made.sound)
    files.write_text(settings.out / FRAMES, text.getvalue())


def _report(
    settings: RawSettings, recipe: RawRecipe, plan: RawPlan, made: Made, workers: int, seconds: float
) -> RawReport:
    sizes: dict[str, int] = {}
    for result in made.sound:
        split = str(plan.members[str(result.id).rpartition("/")[0]].split)
        sizes[split] = sizes.get(split, 0) + 1
    pixels = len(made.sound) * CROP_HW[0] * CROP_HW[1]
    medians = [result.median_m for result in made.sound]
    written = sum(result.made for result in made.sound)
    return RawReport(
        root=settings.out,
        modalities=recipe.modalities,
        splits=dict(sorted(sizes.items(), key=lambda item: item[0] != "train")),
        scenes=len(plan.scenes),
        wanted=len(plan.jobs),
        bad=made.bad,
        bad_names=plan.bad_names,
        unmatched=plan.unmatched,
        other_splits=plan.other_splits,
        unknown=plan.unknown,
        written=written,
        finished=len(made.rows) - written,
        holes_percent=100 * sum(result.missing for result in made.sound) / pixels if pixels else None,
        median_depth_m=float(np.median(medians)) if medians else None,
        workers=workers,
        seconds=seconds,
        bytes=sum(row.bytes for row in made.rows),
    )


def _estimate(settings: RawSettings, recipe: RawRecipe, plan: RawPlan, workers: int) -> RawReport:
    """Make a few frames in memory and say what all of them will take."""
    seconds, sizes, results = [], [], []
    for job in [plan.jobs[0], *plan.jobs[:: max(1, len(plan.jobs) // TIMED)]][: TIMED + 1]:
        start = time.perf_counter()
        try:
            encoded, missing, median_m = encode_pair(recipe, job.candidates[0])
        except DataError as error:
            results.append(RawResult(job.first, bad={job.first: error.message}))
            continue
        seconds.append(time.perf_counter() - start)
        sizes.append(sum(len(content) for content in encoded.values()))
        results.append(RawResult(job.first, job.first, missing=missing, median_m=median_m))
    count = len(plan.jobs)
    report = _report(settings, recipe, plan, Made(results), workers, min(seconds, default=0.0) * count / workers)
    splits: dict[str, int] = {}
    for job in plan.jobs:
        split = str(plan.members[job.folder].split)
        splits[split] = splits.get(split, 0) + 1
    size = int(np.mean(sizes) * count) if sizes else 0
    written = count * (1 + len(recipe.modalities))
    return replace(report, splits=splits, written=written, finished=0, bytes=size, dry_run=True)
