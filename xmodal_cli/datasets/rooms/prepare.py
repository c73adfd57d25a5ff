"""`prepare rooms`: a data set that is made on the spot, from a seed and nothing else.

Rooms are furnished, walked through and seen by a colour camera, a Kinect-like depth sensor and a thermal camera; the
result is a prepared data set like any other, with boxes and masks. The same seed gives the same bytes, whatever the
number of processes. `docs/rooms.md` describes what is made and how.
"""

from __future__ import annotations

import csv
import io
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli import __version__, files
from xmodal_cli.data.annotations import CocoFile
from xmodal_cli.data.prepared import RGB, PreparedData
from xmodal_cli.data.workers import resolve_workers, run_jobs
from xmodal_cli.datasets import assembly
from xmodal_cli.datasets.assembly import check_unchanged, open_existing
from xmodal_cli.datasets.reports import as_json, by_split, files_line, work_lines
from xmodal_cli.datasets.rooms.camera import kinect
from xmodal_cli.datasets.rooms.frames import (
    PARTS,
    RoomRecipe,
    RoomResult,
    encode_room_frame,
    prepare_room,
    render_room,
)
from xmodal_cli.datasets.rooms.objects import objects_of
from xmodal_cli.datasets.rooms.pieces import CLASSES
from xmodal_cli.datasets.rooms.sensor import thermal_range
from xmodal_cli.datasets.rooms.settings import (
    ALL_MODALITIES,
    KNOWN,
    RoomsSettings,
    check_settings,
    choose_splits,
    own_rooms,
    own_splits,
    scenes_by_id,
)
from xmodal_cli.datasets.shards import SHARD, is_part
from xmodal_cli.errors import SettingsError
from xmodal_cli.modalities import MODALITIES

Progress = Callable[[int, int], None]

POSES = "poses.csv"
POSE_PARTS = ("x", "y", "z", *(f"r{row}{column}" for row in (1, 2, 3) for column in (1, 2, 3)))
POSE_COLUMNS = (
    "id",
    *POSE_PARTS,
    *(f"next_{part}" for part in POSE_PARTS),
    *(f"gravity_{axis}" for axis in "xyz"),
)
TIMED = 3  # rooms that a dry run renders, after one that warms caches up


@dataclass(frozen=True)
class RoomsReport:
    """What `prepare rooms` did, or would do.

    Args:
        root: the data set.
        modalities: what was made beside rgb.
        splits: frames by split.
        scenes: rooms.
        objects: labelled things by class.
        written: image files written in this run.
        finished: image files that an earlier run had finished.
        holes_percent: share of pixels that the depth sensor did not see.
        workers: processes.
        seconds: wall time; of a dry run, the estimate.
        bytes: size of all image files; of a dry run, the estimate.
        dry_run: whether nothing was written.
    """

    root: Path
    modalities: tuple[str, ...]
    splits: Mapping[str, int]
    scenes: int
    objects: Mapping[str, int]
    written: int
    finished: int
    holes_percent: float | None
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
        lines = [
            ("data set", str(self.root)),
            ("modalities", ", ".join((RGB, *self.modalities))),
            ("frames", f"{sizes} of {self.scenes} rooms"),
        ]
        if not self.dry_run:
            count = sum(self.objects.values())
            lines.append(("labelled things", f"{count} of {len(self.objects)} classes"))
            lines.append(files_line(self.written, self.finished))
        if self.holes_percent is not None:
            lines.append(("raw depth", f"{self.holes_percent:.1f} % holes"))
        return [*lines, *work_lines(self.bytes, self.seconds, self.workers, estimated=self.dry_run)]


def prepare_rooms(settings: RoomsSettings, progress: Progress | None = None) -> RoomsReport:
    """Make a prepared data set of made-up rooms; run again, it goes on.

    Args:
        settings: what to do.
        progress: called with rooms done and rooms in all.

    Returns:
        What was done; with `settings.dry_run`, what would be.

    Raises:
        SettingsError: options that make no sense, or a folder that holds something else.
        OSError: the disk is full, or the folder cannot be written.
    """
    start = time.perf_counter()
    check_settings(settings)
    old = _existing(settings)
    workers = resolve_workers(settings.workers, settings.scenes * settings.frames_per_scene)
    recipe = _recipe(settings, old)
    splits, rooms = own_splits(settings), own_rooms(settings)
    if settings.dry_run:
        return _estimate(settings, recipe, splits, workers)
    if old is not None and _is_whole(old, recipe, splits):
        return _report(settings, recipe, splits, _present(old), (0, len(old.rows)), None, workers, start, old)
    with assembly.exclusive(settings.out):
        _begin(settings, recipe)
        results = []
        for done, result in enumerate(run_jobs(partial(prepare_room, recipe), rooms, workers), 1):
            results.append(result)
            if progress is not None:
                progress(done, len(rooms))
        results.sort(key=lambda result: result.number)
        assembly.write_dataset(_contents(settings, recipe, splits, results, old))
        _write_poses(settings.out, results)
        shutil.rmtree(settings.out / PARTS, ignore_errors=True)
    made = PreparedData.open(settings.out)
    written = sum(result.made for result in results)
    pixels = recipe.size_hw[0] * recipe.size_hw[1] * len(rooms) * settings.frames_per_scene
    holes = 100 * sum(sum(result.holes.values()) for result in results) / pixels
    files_now = (written, sum(len(result.rows) for result in results) - written)
    return _report(settings, recipe, splits, _present(made), files_now, holes, workers, start, made)


def rooms_are_there(settings: RoomsSettings) -> bool:
    """Whether `prepare_rooms` would find everything finished.

    Raises:
        SettingsError: as `prepare_rooms`.
    """
    check_settings(settings)
    old = _existing(settings)
    return old is not None and _is_whole(old, _recipe(settings, old), own_splits(settings))


def _recorded(settings: RoomsSettings) -> dict[str, Any]:
    """The settings that decide what the images are."""
    return {
        "source": "rooms",
        "seed": settings.seed,
        "scenes": settings.scenes,
        "frames_per_scene": settings.frames_per_scene,
        "size": [settings.size_hw[1], settings.size_hw[0]],
    }


def _existing(settings: RoomsSettings) -> PreparedData | None:
    """The data set of the same rooms that is there already, finished; None where there is none or it is to go.

    Raises:
        SettingsError: the folder holds something else, or rooms of other settings.
    """
    old = open_existing(settings.out)
    if not settings.overwrite:
        assembly.check_part(settings.out, settings.shard, old)
    known = {} if old is None else old.provenance.get("modalities", {}).get(RGB, {}).get("settings", {})
    if old is not None and known.get("source") != "rooms":
        raise SettingsError(
            f"'{settings.out}' is a data set that was not made by `prepare rooms`.", "Name another folder with --out."
        )
    begun = assembly.read_state(settings.out).get(RGB, known)
    check_unchanged("images", _recorded(settings), begun or None, settings.overwrite)
    same = old is not None and is_part(settings.shard, old.provenance.get(SHARD))
    return old if same and known == _recorded(settings) else None


def _recipe(settings: RoomsSettings, old: PreparedData | None) -> RoomRecipe:
    wanted = dict.fromkeys(settings.modalities or ALL_MODALITIES)
    if old is not None:
        wanted |= dict.fromkeys(name for name in old.modalities if name in KNOWN)
    return RoomRecipe(settings.out, settings.seed, settings.frames_per_scene, settings.size_hw, tuple(wanted))


def _is_whole(old: PreparedData, recipe: RoomRecipe, splits: Mapping[str, Sequence[str]]) -> bool:
    """Whether everything wanted is there, with the sizes that the manifest says."""
    if not {RGB, *recipe.modalities} <= set(old.modalities) or not (old.root / POSES).exists():
        return False
    if {split: list(ids) for split, ids in splits.items()} != {split: old.ids(split) for split in old.splits}:
        return False
    paths = ((old.root / row.file, row.bytes) for row in old.rows.values())
    return all(path.is_file() and path.stat().st_size == size for path, size in paths)


def _begin(settings: RoomsSettings, recipe: RoomRecipe) -> None:
    """Record what this run makes; what is to be replaced goes first."""
    root, recorded = settings.out, _recorded(settings)
    before = assembly.read_state(root).get(RGB)
    if settings.overwrite and (before not in (None, recorded) or (root / "dataset.json").exists()):
        assembly.discard(root, (PARTS, RGB, *KNOWN))
    assembly.begin(root, dict.fromkeys((RGB, *recipe.modalities), recorded), settings.shard)


def _contents(
    settings: RoomsSettings,
    recipe: RoomRecipe,
    splits: Mapping[str, Sequence[str]],
    results: Sequence[RoomResult],
    old: PreparedData | None,
) -> assembly.Contents:
    rows = [row for result in results for row in result.rows]
    others = {} if old is None else {name: info for name, info in old.modalities.items() if name not in KNOWN}
    others.pop(RGB, None)
    kept = [] if old is None else [row for (name, _), row in old.rows.items() if name in others]
    infos = {
        RGB: assembly.rgb_info(rows),
        **{name: assembly.modality_info(name, thermal_range()) for name in recipe.modalities},
        **others,
    }
    return assembly.Contents(
        root=settings.out,
        name=settings.name or settings.out.resolve().name,
        modalities=infos,
        rows=[*rows, *kept],
        splits=splits,
        scenes=scenes_by_id(settings, own_rooms(settings)),
        labels=_labels(settings, splits, results),
        classes=CLASSES,
        camera=kinect(settings.size_hw[1], settings.size_hw[0]).to_dict(),
        provenance=_provenance(settings, recipe, results, old),
    )


def _labels(
    settings: RoomsSettings, splits: Mapping[str, Sequence[str]], results: Sequence[RoomResult]
) -> assembly.Labels:
    """A COCO file for each split; ids count frames and objects in order of the rooms; a part counts its own objects."""
    objects = {name: entries for result in results for name, entries in result.objects.items()}
    numbers = {name: index for index, name in enumerate(sorted(scenes_by_id(settings)), start=1) if name in objects}
    firsts = dict(zip(numbers, np.cumsum([1] + [len(objects[name]) for name in numbers]).tolist(), strict=False))
    categories = dict(enumerate(CLASSES, start=1))
    height, width = settings.size_hw
    coco, ids = {}, {}
    for split, names in splits.items():
        images = {
            numbers[n]: {"id": numbers[n], "file_name": f"{n}.jpg", "width": width, "height": height} for n in names
        }
        entries = {
            numbers[n]: [{"id": firsts[n] + i, "image_id": numbers[n], **entry} for i, entry in enumerate(objects[n])]
            for n in names
        }
        coco[split] = CocoFile(settings.out, images, entries, categories, {"info": {"description": "xmodal rooms"}})
        ids[split] = {name: numbers[name] for name in names}
    return assembly.Labels(coco, ids)


def _provenance(
    settings: RoomsSettings, recipe: RoomRecipe, results: Sequence[RoomResult], old: PreparedData | None
) -> dict[str, Any]:
    medians = [median for result in results for median in result.medians_m.values()]
    holes = sum(sum(result.holes.values()) for result in results)
    about = {"settings": _recorded(settings), "made_with": f"xmodal {__version__}", "pairs": len(medians)}
    figures = {
        "pixels": len(medians) * recipe.size_hw[0] * recipe.size_hw[1],
        "filled_pixels": holes,
        "median_depth_m": [float(np.min(medians)), round(float(np.median(medians)), 4), float(np.max(medians))],
    }
    sensed = {name for name in recipe.modalities if name in MODALITIES and MODALITIES[name].source == "depth"} - {
        "depth"
    }
    before = {} if old is None else dict(old.provenance.get("modalities", {}))
    made = {name: about | (figures if name in sensed else {}) for name in (RGB, *recipe.modalities)}
    return {
        "modalities": before | made,
        "splits": {"by": "rooms", "val_fraction": settings.val_fraction, "rooms": dict(settings.splits)},
        "left_out": {},
        **_shard(settings),
    }


def _shard(settings: RoomsSettings) -> dict[str, Any]:
    """What the provenance says of a part; empty for all rooms."""
    if settings.shard is None:
        return {}
    splits = choose_splits(settings)
    whole = settings.shard.record(scenes_by_id(settings), splits)
    return {SHARD: {**whole, "splits": list(splits), "counted": ["annotations"]}}


def _write_poses(root: Path, results: Sequence[RoomResult]) -> None:
    """Write `poses.csv`: where each frame's camera is, where it is at the next frame, and gravity."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(POSE_COLUMNS)
    for result in results:
        writer.writerows([name, *map(repr, numbers)] for name, numbers in sorted(result.poses.items()))
    files.write_text(root / POSES, text.getvalue())


def _present(data: PreparedData) -> dict[str, int]:
    """Labelled things of all splits by class, of the classes that there are."""
    counts = assembly.objects_by_class(data, "+".join(data.splits))
    return {name: count for name, count in counts.items() if count}


def _report(
    settings: RoomsSettings,
    recipe: RoomRecipe,
    splits: Mapping[str, Sequence[str]],
    objects: Mapping[str, int],
    written_finished: tuple[int, int],
    holes_percent: float | None,
    workers: int,
    start: float,
    data: PreparedData | None,
) -> RoomsReport:
    return RoomsReport(
        root=settings.out,
        modalities=recipe.modalities,
        splits={split: len(ids) for split, ids in splits.items()},
        scenes=len(own_rooms(settings)),
        objects=objects,
        written=written_finished[0],
        finished=written_finished[1],
        holes_percent=holes_percent,
        workers=workers,
        seconds=time.perf_counter() - start,
        bytes=0 if data is None else sum(row.bytes for row in data.rows.values()),
        dry_run=settings.dry_run,
    )


def _estimate(
    settings: RoomsSettings, recipe: RoomRecipe, splits: Mapping[str, Sequence[str]], workers: int
) -> RoomsReport:
    """Render a few rooms in memory and say what all of them will take."""
    seconds, sizes, holes = [], [], []
    rooms = own_rooms(settings)
    for number in [rooms[0], *rooms[:: max(1, len(rooms) // TIMED)]][: TIMED + 1]:
        start = time.perf_counter()
        for frame in render_room(recipe, number):
            encoded, hole_px = encode_room_frame(recipe, frame)
            objects_of(frame.found, frame.model)
            sizes.append(sum(len(content) for content in encoded.values()))
            holes.append(hole_px)
        seconds.append(time.perf_counter() - start)
    frames = len(rooms) * settings.frames_per_scene
    percent = 100 * float(np.mean(holes)) / (recipe.size_hw[0] * recipe.size_hw[1])
    planned = (frames * (1 + len(recipe.modalities)), 0)
    report = _report(settings, recipe, splits, {}, planned, percent, workers, 0.0, None)
    return replace(report, seconds=min(seconds) * len(rooms) / workers, bytes=int(np.mean(sizes)) * frames)
