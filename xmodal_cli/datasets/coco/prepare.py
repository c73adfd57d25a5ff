"""`prepare coco`: colour images with boxes and masks in COCO's format become a prepared data set of one modality, rgb.

It is what the paper's zero-shot experiment trains its colour detector on (section 4.3, Table 5), and the door for any
labelled data: whatever can be written as COCO instances comes in here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from xmodal_cli import __version__
from xmodal_cli.data import images
from xmodal_cli.data.manifest import ManifestRow
from xmodal_cli.data.prepared import RGB
from xmodal_cli.data.workers import resolve_workers, run_jobs
from xmodal_cli.datasets import assembly
from xmodal_cli.datasets.coco.plan import CocoPlan, counted, make_plan
from xmodal_cli.datasets.coco.settings import CocoSettings, recorded
from xmodal_cli.datasets.frames import FrameResult, Link, add_rgb
from xmodal_cli.datasets.reports import as_json, by_split, work_lines
from xmodal_cli.errors import DataError

Progress = Callable[[int, int], None]

MOST_LISTED = 200  # bad images named in an error
TIMED = 4  # images that a dry run reads


@dataclass(frozen=True)
class CocoReport:
    """What `prepare coco` did, or would do.

    Args:
        root: the data set.
        splits: images by split.
        objects: annotated objects by class.
        classes: name in the data set by category of the source.
        dropped: images without objects of the classes that were dropped, by split.
        missing: images that the annotations list and that have no file.
        left_out: what was wrong with images and objects that were left out, by ID.
        notes: what was left out or mended.
        workers: processes.
        seconds: wall time; of a dry run, the estimate.
        bytes: size of the images.
        dry_run: whether nothing was written.
    """

    root: Path
    splits: Mapping[str, int]
    objects: Mapping[str, int]
    classes: Mapping[str, str]
    dropped: Mapping[str, int]
    missing: int
    left_out: Mapping[str, str]
    notes: tuple[str, ...]
    workers: int
    seconds: float
    bytes: int
    dry_run: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON holds it."""
        return as_json(self)

    def table(self) -> list[tuple[str, str]]:
        """The report as lines of name and value."""
        lines = [
            ("data set", str(self.root)),
            ("images", by_split(self.splits)),
            ("objects", f"{sum(self.objects.values())} of {len(self.objects)} classes"),
        ]
        renamed = [f"{source} as {name}" for source, name in self.classes.items() if source != name]
        if renamed:
            lines.append(("renamed", ", ".join(renamed)))
        dropped = [f"{split} {count}" for split, count in self.dropped.items() if count]
        if dropped:
            lines.append(("without objects", f"{', '.join(dropped)} dropped"))
        if self.missing or self.left_out:
            bad = len(self.left_out)
            lines.append(("left out", f"{self.missing} images without a file, {bad} bad images or objects"))
        return [*lines, *work_lines(self.bytes, self.seconds, self.workers, estimated=self.dry_run)]


@dataclass(frozen=True)
class LabelledImage:
    """One image on its way into the data set.

    Args:
        id: its ID.
        file: where it lies.
        size: width and height in pixels that the annotations say; None where they do not.
    """

    id: str
    file: Path
    size: tuple[int, int] | None


def prepare_coco(settings: CocoSettings, progress: Progress | None = None) -> CocoReport:
    """Make a prepared data set of COCO instances and the images they are of; run again, it goes on.

    Args:
        settings: what to do.
        progress: called with images done and images in all.

    Returns:
        What was done; with `settings.dry_run`, what would be.

    Raises:
        SettingsError: options that make no sense, unknown classes, or a folder that holds something else.
        DataError: annotations or images that are bad or missing, all named, without `settings.skip_bad`.
        OSError: the disk is full, or the folder cannot be written.
    """
    start = time.perf_counter()
    plan = make_plan(settings)
    known = _finished(plan)
    jobs = [LabelledImage(name, plan.files[name], plan.sizes[name]) for name in plan.ids if name not in known]
    workers = resolve_workers(settings.workers, len(jobs))
    if settings.dry_run:
        return _report(settings, plan, plan.splits, {}, workers, _estimate(jobs, workers))
    with assembly.exclusive(settings.out):
        _begin(settings)
        rows, bad = list(known.values()), {}
        work = partial(prepare_image, settings.out, settings.link)
        for done, result in enumerate(run_jobs(work, jobs, workers), start=1):
            rows.extend(result.rows)
            if result.error is not None:
                bad[result.id] = result.error
            if progress is not None:
                progress(done, len(jobs))
        _refuse_bad(settings, bad, len(plan.ids))
        splits = {split: [name for name in ids if name not in bad] for split, ids in plan.splits.items()}
        splits = {split: ids for split, ids in splits.items() if ids}
        assembly.write_dataset(_contents(settings, plan, splits, rows, bad))
    return _report(settings, plan, splits, bad, workers, time.perf_counter() - start)


def prepare_image(root: Path, link: Link, image: LabelledImage) -> FrameResult:
    """Bring one image into the data set, byte for byte; what is wrong with it comes back in the result.

    Args:
        root: the data set.
        link: how the file gets in.
        image: the file and its size.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    try:
        content = images.read_bytes(image.file)
        height, width = images.decode_rgb(content, image.file).shape[:2]
        if image.size is not None and image.size != (width, height):
            raise DataError(
                f"'{image.file}' has {width} x {height} pixels; its annotations are of {image.size[0]} x "
                f"{image.size[1]}: another image of that name?"
            )
        row = add_rgb(root, image.id, image.file, content, (height, width), link, overwrite=True)
    except DataError as error:
        return FrameResult(image.id, error=error.message, hint=error.hint)
    return FrameResult(image.id, (row,), made=1)


def _finished(plan: CocoPlan) -> dict[str, ManifestRow]:
    """Rows of the images that an earlier run finished and that have not changed since."""
    if plan.old is None:
        return {}
    rows = {name: plan.old.rows[RGB, name] for name in plan.ids if (RGB, name) in plan.old.rows}
    return {
        name: row
        for name, row in rows.items()
        if {_bytes(plan.old.root / row.file), _bytes(plan.files[name])} == {row.bytes}
    }


def _begin(settings: CocoSettings) -> None:
    """Record what this run makes; what is to be replaced goes first."""
    if settings.overwrite:
        there = assembly.open_existing(settings.out)
        assembly.discard(settings.out, [RGB] if there is None else list(there.modalities))
    assembly.begin(settings.out, {RGB: recorded(settings)}, settings.shard)


def _refuse_bad(settings: CocoSettings, bad: Mapping[str, str], count: int) -> None:
    if not bad or (settings.skip_bad and len(bad) < count):
        return
    lines = [bad[name] for name in sorted(bad)[:MOST_LISTED]]
    if len(bad) > MOST_LISTED:
        lines.append(f"... and {len(bad) - MOST_LISTED} more.")
    raise DataError(
        f"{len(bad)} of {count} images are bad:\n" + "\n".join(lines),
        "Mend or remove them. Or pass --skip-bad to leave them out.",
    )


def _contents(
    settings: CocoSettings,
    plan: CocoPlan,
    splits: Mapping[str, Sequence[str]],
    rows: Sequence[ManifestRow],
    bad: Mapping[str, str],
) -> assembly.Contents:
    ids = {name for names in splits.values() for name in names}
    others = _others(plan, ids)
    kept = [] if plan.old is None else [row for (name, _), row in plan.old.rows.items() if name in others]
    files = {split: coco for split, coco in plan.labels.files.items() if split in splits}
    rgb = {"settings": recorded(settings), "link": settings.link, "made_with": f"xmodal {__version__}"}
    before = {} if plan.old is None else dict(plan.old.provenance.get("modalities", {}))
    return assembly.Contents(
        root=settings.out,
        name=settings.name or settings.out.resolve().name,
        modalities={RGB: assembly.rgb_info(rows), **others},
        rows=[*rows, *kept],
        splits=splits,
        scenes={},
        labels=assembly.Labels(files, plan.labels.image_ids),
        classes=(),
        camera=None,
        provenance={
            "modalities": {name: entry for name, entry in before.items() if name in others} | {RGB: rgb},
            "splits": {"by": "annotations"},
            "classes": dict(plan.classes),
            "without_objects": dict(plan.dropped),
            "missing": list(plan.missing),
            "left_out": {**bad, **plan.bad},
            **plan.shard,
        },
    )


def _others(plan: CocoPlan, ids: set[str]) -> dict[str, Any]:
    """Modalities that other commands have added, where every image still has them."""
    if plan.old is None or set(plan.old.all_ids) != ids:
        return {}
    return {name: info for name, info in plan.old.modalities.items() if name != RGB}


def _estimate(jobs: Sequence[LabelledImage], workers: int) -> float:
    """Read a few images and say how long all of them will take, in seconds."""
    seconds = []
    for image in jobs[:: max(1, len(jobs) // TIMED)]:
        start = time.perf_counter()
        try:
            images.read_rgb(image.file)
        except DataError:
            continue
        seconds.append(time.perf_counter() - start)
    return min(seconds, default=0.0) * len(jobs) / workers


def _report(
    settings: CocoSettings,
    plan: CocoPlan,
    splits: Mapping[str, Sequence[str]],
    bad: Mapping[str, str],
    workers: int,
    seconds: float,
) -> CocoReport:
    ids = [name for names in splits.values() for name in names]
    return CocoReport(
        root=settings.out,
        splits={split: len(names) for split, names in splits.items()},
        objects=counted(plan.labels, ids),
        classes=plan.classes,
        dropped=plan.dropped,
        missing=len(plan.missing),
        left_out={**plan.bad, **bad},
        notes=plan.notes,
        workers=workers,
        seconds=seconds,
        bytes=sum(_bytes(plan.files[name]) for name in ids),
        dry_run=settings.dry_run,
    )


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
