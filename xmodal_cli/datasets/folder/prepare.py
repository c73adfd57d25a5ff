"""`prepare folder`: pairs of images from a rig, or from a published data set, become a prepared data set.

The work is one function per pair, run in a pool of processes; every file is written whole or not at all, so that the
same command run again goes on where an interrupted one stopped.
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

from xmodal_cli import __version__
from xmodal_cli.data import images
from xmodal_cli.data.manifest import ManifestRow
from xmodal_cli.data.prepared import RGB
from xmodal_cli.data.workers import resolve_workers, run_jobs
from xmodal_cli.datasets.assembly import (
    Contents,
    begin,
    exclusive,
    modality_info,
    open_existing,
    rgb_info,
    write_dataset,
)
from xmodal_cli.datasets.folder.plan import Plan, make_plan
from xmodal_cli.datasets.folder.settings import FolderSettings, absolute
from xmodal_cli.datasets.folder.splits import SplitChoice
from xmodal_cli.datasets.frames import FrameResult, Pair, Recipe, prepare_pair, read_target
from xmodal_cli.datasets.reports import as_json, by_split, files_line, work_lines
from xmodal_cli.datasets.shards import SHARD
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.modalities import MODALITIES, encode_frame

__all__ = ["FolderReport", "FolderSettings", "prepare_folder"]

Progress = Callable[[int, int], None]

MOST_LISTED = 200  # bad pairs named in an error; beyond that only their number helps
TIMED = 3  # pairs that a dry run encodes, after one that warms caches up


@dataclass(frozen=True)
class FolderReport:
    """What `prepare folder` did, or would do.

    Args:
        root: the data set.
        modalities: what was made of the target.
        splits: pairs by split.
        written: image files written in this run.
        finished: image files that an earlier run had finished.
        left_out: what was wrong with each pair that was left out, by ID.
        notes: images that were not used, and other things worth a look.
        smooth: whether depth was smoothed.
        range: raw values that became 0 and 255, for thermal.
        filled_percent: share of depth pixels that the sensor did not see.
        median_depth_m: least, middle and largest median depth of an image; None for other targets.
        workers: processes.
        seconds: wall time; of a dry run, the estimate.
        bytes: size of the files of this run; of a dry run, the estimate.
        dry_run: whether nothing was written.
    """

    root: Path
    modalities: tuple[str, ...]
    splits: Mapping[str, int]
    written: int
    finished: int
    left_out: Mapping[str, str]
    notes: tuple[str, ...]
    smooth: bool
    range: tuple[float, float] | None
    filled_percent: float | None
    median_depth_m: tuple[float, float, float] | None
    workers: int
    seconds: float
    bytes: int
    dry_run: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON holds it."""
        return as_json(self)

    def table(self) -> list[tuple[str, str]]:
        """The report as lines of name and value."""
        sizes = by_split(self.splits)
        lines = [("data set", str(self.root)), ("modalities", ", ".join(self.modalities)), ("pairs", sizes)]
        if not self.dry_run:
            lines.append(files_line(self.written, self.finished))
        if self.left_out:
            lines.append(("left out", f"{len(self.left_out)} bad pairs"))
        if self.median_depth_m is not None:
            lines.append(("median depth", "{:.2f} m (images: {:.2f} to {:.2f} m)".format(*self._depth_order())))
        if self.filled_percent is not None:
            lines.append(("filled pixels", f"{self.filled_percent:.2f} %"))
        if self.smooth:
            lines.append(("smoothed", "yes: stored in coarse steps"))
        if self.range is not None:
            lines.append(("range", f"{self.range[0]:.0f} to {self.range[1]:.0f} become 0 to 255"))
        return [*lines, *work_lines(self.bytes, self.seconds, self.workers, estimated=self.dry_run)]

    def _depth_order(self) -> tuple[float, float, float]:
        least, middle, largest = self.median_depth_m or (0.0, 0.0, 0.0)
        return middle, least, largest


@dataclass
class Tally:
    """Results as they come in.

    Args:
        rows: manifest rows of finished pairs.
        bad: results of the pairs that have something wrong, by ID.
        figures: pixels and filled pixels, summed.
        medians: median depth of each image, metres.
        made: files written.
    """

    rows: list[ManifestRow] = field(default_factory=list)
    bad: dict[str, FrameResult] = field(default_factory=dict)
    pixels: int = 0
    filled: int = 0
    medians: list[float] = field(default_factory=list)
    made: int = 0

    def add(self, result: FrameResult) -> None:
        """Count one pair."""
        if result.error is not None:
            self.bad[result.id] = result
            return
        self.rows.extend(result.rows)
        self.pixels += result.pixels
        self.filled += result.filled
        self.made += result.made
        if result.median_m is not None:
            self.medians.append(result.median_m)


def prepare_folder(settings: FolderSettings, progress: Progress | None = None) -> FolderReport:
    """Make a prepared data set of two folders of images, or add a modality to one.

    Args:
        settings: what to do.
        progress: called with pairs done and pairs in all, now and then.

    Returns:
        What was done; with `settings.dry_run`, what would be.

    Raises:
        SettingsError: options that are missing, contradict each other or the data set that is added to.
        DataError: no pairs, or bad ones (all named) without `settings.skip_bad`.
        OSError: the disk is full, or a folder cannot be written.
    """
    start = time.perf_counter()
    plan = make_plan(settings)
    workers = resolve_workers(settings.workers, len(plan.pairs))
    if settings.dry_run:
        return _estimate(plan, workers)
    with exclusive(settings.out):
        if open_existing(settings.out) != plan.old:
            raise SettingsError(f"Another process has changed '{settings.out}'.", "Run the same command again.")
        _begin(plan, settings)
        tally = _work(plan, workers, progress)
        _refuse_bad(tally, plan, settings)
        choice = plan.choice.only(set(plan.choice.ids) - tally.bad.keys())
        write_dataset(_contents(settings, plan, choice, tally))
    return _report(plan, choice, tally, workers, time.perf_counter() - start)


def _work(plan: Plan, workers: int, progress: Progress | None) -> Tally:
    """Prepare every pair that is not finished."""
    tally = Tally()
    pairs = [] if _is_finished(plan) else plan.pairs
    for done, result in enumerate(run_jobs(partial(prepare_pair, plan.recipe), pairs, workers), start=1):
        tally.add(result)
        if progress is not None:
            progress(done, len(pairs))
    return tally


def _begin(plan: Plan, settings: FolderSettings) -> None:
    """Record what this run is making, so that it can be gone on with; what is to be replaced goes first."""
    root = plan.recipe.root
    if plan.recipe.overwrite:
        for name in plan.recipe.modalities:
            if (root / name).is_dir():
                shutil.rmtree(root / name)
    begin(root, plan.recorded, settings.shard)


def _is_finished(plan: Plan) -> bool:
    """Whether an earlier run made every file and nothing has changed since; then no image need be opened."""
    if plan.old is None:
        return False
    rows = plan.old.rows
    names = (RGB, *plan.recipe.modalities)
    for pair in plan.pairs:
        if pair.wanted or any((name, pair.id) not in rows for name in names):
            return False
        if any(_size(plan.recipe.root / rows[name, pair.id].file) != rows[name, pair.id].bytes for name in names):
            return False
        if _size(pair.rgb) != rows[RGB, pair.id].bytes:
            return False
    return True


def _size(path: Path) -> int:
    """Bytes of a file, -1 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _refuse_bad(tally: Tally, plan: Plan, settings: FolderSettings) -> None:
    """Stop if pairs are bad and may not be left out; what is finished stays for the next run."""
    if not tally.bad or (settings.skip_bad and len(tally.bad) < len(plan.pairs)):
        return
    bad = [tally.bad[identifier] for identifier in sorted(tally.bad)]
    lines = [str(result.error) for result in bad[:MOST_LISTED]]
    if len(bad) > MOST_LISTED:
        lines.append(f"... and {len(bad) - MOST_LISTED} more.")
    hints = {result.hint for result in bad if result.hint}
    mend = hints.pop() if len(hints) == 1 else "Mend or remove them."
    hint = mend if "--skip-bad" in mend else f"{mend} Or pass --skip-bad to leave them out."
    count = "1 pair is" if len(bad) == 1 else f"{len(bad)} pairs are"
    raise DataError(f"{count} bad, of {len(plan.pairs)}:\n" + "\n".join(lines), hint)


def _contents(settings: FolderSettings, plan: Plan, choice: SplitChoice, tally: Tally) -> Contents:
    """Join what was made with what the data set held before."""
    old, recipe = plan.old, plan.recipe
    ids = set(choice.ids)
    made = {(row.modality, row.id) for row in tally.rows}
    kept = [] if old is None else [row for key, row in old.rows.items() if key not in made and row.id in ids]
    rows = [*tally.rows, *kept]
    infos = {} if old is None else dict(old.modalities)
    infos |= {name: modality_info(name, recipe.range) for name in recipe.modalities}
    camera = recipe.camera.to_dict() if recipe.camera is not None else None
    return Contents(
        root=settings.out,
        name=settings.name or (old.name if old is not None else settings.out.resolve().name),
        modalities={RGB: rgb_info(rows), **{name: info for name, info in infos.items() if name != RGB}},
        rows=rows,
        splits=choice.splits,
        scenes=choice.scenes,
        labels=choice.labels,
        classes=() if old is None else old.classes,
        camera=camera,
        provenance=_provenance(settings, plan, choice, tally),
    )


def _provenance(settings: FolderSettings, plan: Plan, choice: SplitChoice, tally: Tally) -> dict[str, Any]:
    """How the data set was made, modality by modality; what earlier runs recorded stays."""
    before = {} if plan.old is None else plan.old.provenance
    modalities = dict(before.get("modalities", {}))
    if settings.rgb is not None:
        modalities[RGB] = {
            "settings": {"source": absolute(settings.rgb), "link": settings.link},
            "made_with": f"xmodal {__version__}",
        }
    for name in plan.recipe.modalities if tally.rows else ():
        modalities[name] = {
            "settings": dict(plan.recorded[name]),
            "made_with": f"xmodal {__version__}",
            "pairs": len(choice.ids),
            **_figures(tally),
        }
    splits: Mapping[str, Any] = {"by": choice.by, "val_fraction": settings.val_fraction}
    return {
        **{key: value for key, value in before.items() if key != SHARD},  # what other commands recorded stays
        **plan.shard,
        "modalities": modalities,
        "splits": {key: value for key, value in splits.items() if value is not None},
        "left_out": {name: str(result.error) for name, result in sorted(tally.bad.items())},
    }


def _figures(tally: Tally) -> dict[str, Any]:
    """What is worth knowing about a depth target, for `check` and for the curious."""
    if not tally.medians:
        return {}
    spread = _three(tally.medians)
    return {"pixels": tally.pixels, "filled_pixels": tally.filled, "median_depth_m": [round(m, 4) for m in spread]}


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    """Least, middle and largest."""
    return float(np.min(values)), float(np.median(values)), float(np.max(values))


def _report(plan: Plan, choice: SplitChoice, tally: Tally, workers: int, seconds: float) -> FolderReport:
    planned = len(choice.ids) * len(plan.recipe.modalities)
    return FolderReport(
        root=plan.recipe.root,
        modalities=plan.recipe.modalities,
        splits={split: len(ids) for split, ids in choice.splits.items()},
        written=tally.made,
        finished=planned - tally.made,
        left_out={name: str(result.error) for name, result in sorted(tally.bad.items())},
        notes=plan.notes,
        smooth=plan.recipe.smooth and plan.recipe.source == "depth",
        range=plan.recipe.range,
        filled_percent=100.0 * tally.filled / tally.pixels if tally.medians else None,
        median_depth_m=_three(tally.medians) if tally.medians else None,
        workers=workers,
        seconds=seconds,
        bytes=sum(row.bytes for row in tally.rows if row.modality != RGB),
    )


def _estimate(plan: Plan, workers: int) -> FolderReport:
    """Encode a few pairs in memory and say what all of them will take."""
    tally = Tally()
    sizes, seconds = [], []
    for pair in [plan.pairs[0], *plan.pairs[:: max(1, len(plan.pairs) // TIMED)]]:
        start = time.perf_counter()
        try:
            sizes.append(_dry(plan.recipe, pair, tally))
        except DataError as error:
            tally.bad[pair.id] = FrameResult(pair.id, error=error.message)
            continue
        seconds.append(time.perf_counter() - start)
    todo = sum(len(pair.wanted) for pair in plan.pairs) / max(1, len(plan.recipe.modalities))
    report = _report(plan, plan.choice, tally, workers, min(seconds, default=0.0) * todo / workers)
    linked = 0 if plan.recipe.link != "copy" else sum(pair.rgb.stat().st_size for pair in plan.pairs)
    wanted = sum(len(pair.wanted) for pair in plan.pairs)
    size = int(np.mean(sizes) * todo) + linked if sizes else 0
    return replace(report, written=wanted, finished=report.finished - wanted, bytes=size, dry_run=True)


def _dry(recipe: Recipe, pair: Pair, tally: Tally) -> int:
    """Encode one pair in memory; the bytes that its files would have."""
    height, width = images.read_rgb(pair.rgb).shape[:2]
    target = read_target(recipe, pair, (height, width))
    tally.add(FrameResult(pair.id, pixels=height * width, filled=target.filled, median_m=target.median_m))
    encoded = [images.encode_png(encode_frame(name, target.frame)) for name in recipe.modalities if name in MODALITIES]
    return sum(len(content) for content in encoded)
