"""Frames of videos become a prepared data set: the part that `prepare video`, `jhmdb` and `ucf101` share.

The work is one function per video, run in a pool of processes. `videos.csv` and `frames.csv` say which frame of which
video each image is and which one follows it, so that optical flow can be added later without a second copy of anything.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from xmodal_cli import __version__
from xmodal_cli.data.annotations import CocoFile
from xmodal_cli.data.prepared import DESCRIPTION, RGB, PreparedData
from xmodal_cli.data.splits import TRAIN, check_scenes
from xmodal_cli.data.videos import FRAME_FILE, VIDEO_FILE, video_state, write_frames, write_videos
from xmodal_cli.data.workers import resolve_workers, run_jobs
from xmodal_cli.datasets import assembly
from xmodal_cli.datasets.assembly import check_unchanged, open_existing
from xmodal_cli.datasets.shards import SHARD, is_part
from xmodal_cli.datasets.videos.clips import FRAME_SUFFIXES
from xmodal_cli.datasets.videos.frames import (
    PARTS,
    Clip,
    ClipResult,
    choose,
    prepare_clip,
    sizes_of,
)
from xmodal_cli.datasets.videos.plan import VideoPlan, check_work
from xmodal_cli.datasets.videos.report import VideosReport
from xmodal_cli.errors import DataError, SettingsError

Progress = Callable[[int, int], None]

MOST_LISTED = 200  # bad videos named in an error; beyond that only their number helps
REMOVED = (*FRAME_SUFFIXES, ".part")  # endings of what is taken away where it is no longer wanted
TIMED = 3  # videos that a dry run decodes, after one that warms caches up


def prepare_videos(plan: VideoPlan, progress: Progress | None = None) -> VideosReport:
    """Make a prepared data set of frames of videos; run again, it goes on.

    Args:
        plan: which frames of which videos.
        progress: called with videos done and videos in all.

    Returns:
        What was done; of a dry run, what would be.

    Raises:
        SettingsError: options that make no sense, or a folder that holds something else.
        DataError: videos that cannot be decoded or are missing (all named) without `skip_bad`, no frame at all, or a
            scene in two splits.
        OSError: the disk is full, or the folder cannot be written.
    """
    start = time.perf_counter()
    check_work(plan.work)
    _check_scenes(plan)
    old = _existing(plan)
    workers = resolve_workers(plan.work.workers, len(plan.own))
    if plan.work.dry_run:
        return _estimate(plan, workers)
    if old is not None and _is_whole(plan, old):
        return _report(plan, [], old, workers, start)
    with assembly.exclusive(plan.work.out):
        _begin(plan)
        results = _work(plan, workers, progress)
        _refuse_bad(plan, results)
        _finish(plan, results, old)
    return _report(plan, results, PreparedData.open(plan.work.out), workers, start)


def _check_scenes(plan: VideoPlan) -> None:
    """Make sure that no scene is in two splits.

    Raises:
        DataError: one is.
    """
    splits: dict[str, list[str]] = {}
    for clip in plan.clips:
        splits.setdefault(clip.split, []).append(clip.video)
    if shared := check_scenes(splits, {clip.video: clip.scene for clip in plan.clips}):
        raise DataError(
            "\n".join([f"{len(shared)} scenes are in two splits:", *shared[:MOST_LISTED]]),
            "Put all videos of a scene into one list: their frames are almost the same pictures.",
        )


def _existing(plan: VideoPlan) -> PreparedData | None:
    """The finished data set of the same settings, if it is there and may stay.

    Raises:
        SettingsError: the folder holds something else, or was made with other settings.
    """
    work = plan.work
    old = open_existing(work.out)
    known = {} if old is None else old.provenance.get("modalities", {}).get(RGB, {}).get("settings", {})
    if old is not None and known.get("source") != plan.recorded["source"]:
        raise SettingsError(
            f"'{work.out}' is a data set that was not made by `prepare {plan.recorded['source']}`.",
            "Name another folder with --out.",
        )
    begun = assembly.read_state(work.out).get(RGB, known)
    check_unchanged("frames", plan.recorded, begun or None, work.overwrite)
    if not work.overwrite:
        assembly.check_part(work.out, work.shard, old)
    if old is None or known != plan.recorded or not is_part(work.shard, old.provenance.get(SHARD)):
        return None
    others = [name for name in old.modalities if name != RGB]
    if others and not work.overwrite and old.provenance["modalities"][RGB].get("asked") != plan.asked:
        raise SettingsError(
            f"The videos or lists behind '{work.out}' have changed, and it has {', '.join(others)} of the old frames.",
            "Pass --overwrite to make the data set anew, or prepare into another folder with --out.",
        )
    return old


def _is_whole(plan: VideoPlan, old: PreparedData) -> bool:
    """Whether everything wanted is there, and the videos are those it was made of; then none need be opened."""
    if old.provenance["modalities"][RGB].get("asked") != plan.asked:
        return False
    if not all((old.root / name).is_file() for name in (VIDEO_FILE, FRAME_FILE)):
        return False
    sizes = old.provenance["modalities"][RGB].get("video_bytes")
    if sizes != sum(_size(plan, clip) for clip in plan.own):
        return False
    paths = ((old.root / row.file, row.bytes) for row in old.rows.values())
    return all(path.is_file() and path.stat().st_size == size for path, size in paths)


def _size(plan: VideoPlan, clip: Clip) -> int:
    path = plan.work.videos / clip.file
    return video_state(path)[0] if path.exists() else 0


def _begin(plan: VideoPlan) -> None:
    """Record what this run makes; what is to be replaced goes first."""
    root = plan.work.out
    begun = assembly.read_state(root).get(RGB)
    if plan.work.overwrite and (begun not in (None, dict(plan.recorded)) or (root / DESCRIPTION).exists()):
        there = open_existing(root)
        assembly.discard(root, (PARTS, *([RGB] if there is None else there.modalities)))
    assembly.begin(root, {RGB: plan.recorded}, plan.work.shard)


def _work(plan: VideoPlan, workers: int, progress: Progress | None) -> list[ClipResult]:
    """Take the frames of every video that is not finished; results in the order of the videos."""
    results = {}
    for done, result in enumerate(run_jobs(partial(prepare_clip, plan.recipe), plan.own, workers), 1):
        results[result.video] = result
        if progress is not None:
            progress(done, len(plan.own))
    return [results[clip.video] for clip in plan.own]


def _refuse_bad(plan: VideoPlan, results: Sequence[ClipResult]) -> None:
    """Stop if videos are bad and may not be left out, or nothing is left; what is finished stays for the next run."""
    bad = _bad(plan, results)
    if bad and not plan.work.skip_bad:
        lines = list(bad.values())[:MOST_LISTED]
        if len(bad) > MOST_LISTED:
            lines.append(f"... and {len(bad) - MOST_LISTED} more.")
        count = "1 video is" if len(bad) == 1 else f"{len(bad)} videos are"
        total = len(plan.own) + len(plan.missing)
        raise DataError(
            f"{count} bad or missing, of {total}:\n" + "\n".join(lines),
            "Mend or remove them, or pass --skip-bad to leave them out.",
        )
    if not any(result.rows for result in results):
        raise DataError(
            f"The videos in '{plan.work.videos}' give no frame: one counts if it is wanted and another follows.",
            "Look at the videos and, for JHMDB, at the boxes: frames are counted from 1."
            + ("" if plan.work.shard is None else " With fewer shards each has more videos."),
        )


def _bad(plan: VideoPlan, results: Sequence[ClipResult]) -> dict[str, str]:
    """What is wrong with each video that is left out, by ID."""
    found = {result.video: result.error for result in results if result.error is not None}
    return dict(sorted({**plan.missing, **found}.items()))


def _finish(plan: VideoPlan, results: Sequence[ClipResult], old: PreparedData | None) -> None:
    """Write everything beside the images; `dataset.json` is the last but for what is no longer needed."""
    root = plan.work.out
    rows = [row for result in results for row in result.rows]
    others = {} if old is None or plan.work.overwrite else {n: i for n, i in old.modalities.items() if n != RGB}
    kept = [row for (name, _), row in old.rows.items() if name in others] if old is not None else []
    clip_of = {clip.video: clip for clip in plan.clips}
    of_frame = {frame.id: clip_of[frame.video] for result in results for frame in result.frames}
    names = sorted({clip.split for clip in plan.clips}, key=lambda name: (name != TRAIN, name))
    splits = {name: sorted(each for each, clip in of_frame.items() if clip.split == name) for name in names}
    splits = {name: ids for name, ids in splits.items() if ids}
    write_videos(root, [result.about for result in results if result.about is not None and result.rows])
    write_frames(root, [frame for result in results for frame in result.frames])
    assembly.write_dataset(
        assembly.Contents(
            root=root,
            name=plan.work.name or root.resolve().name,
            modalities={RGB: assembly.rgb_info(rows), **others},
            rows=[*rows, *kept],
            splits=splits,
            scenes={identifier: clip.scene for identifier, clip in of_frame.items()},
            labels=_labels(plan, results, splits) if plan.classes else None,
            classes=plan.classes,
            camera=None,
            provenance=_provenance(plan, results, old if others else None),
        )
    )
    _remove_strangers(plan, {row.file for row in rows})
    shutil.rmtree(root / PARTS, ignore_errors=True)


def _remove_strangers(plan: VideoPlan, files: set[str]) -> None:
    """Remove the images of videos that are no longer wanted, from a folder that only `prepare` writes to."""
    root = plan.work.out
    for path in (root / RGB).rglob("*"):
        if path.is_file() and path.relative_to(root).as_posix() not in files and path.suffix in REMOVED:
            path.unlink()


def _labels(plan: VideoPlan, results: Sequence[ClipResult], splits: dict[str, list[str]]) -> assembly.Labels:
    """A COCO file for each split: one box a frame; ids count the frames of the whole data set."""
    frames = {frame.id: frame for result in results for frame in result.frames}
    rows = {row.id: row for result in results for row in result.rows}
    clip_of = {clip.video: clip for clip in plan.clips}
    numbers = {identifier: number for number, identifier in enumerate(sorted(frames), start=1)}
    categories = dict(enumerate(plan.classes, start=1))
    coco, ids = {}, {}
    for split, members in splits.items():
        images, objects = {}, {}
        for identifier in members:
            number, clip, frame = numbers[identifier], clip_of[frames[identifier].video], frames[identifier].frame
            row = rows[identifier]
            name = row.file.removeprefix(f"{RGB}/")
            images[number] = {"id": number, "file_name": name, "width": row.width, "height": row.height}
            objects[number] = [_object(number, plan.classes.index(clip.action) + 1, (clip.boxes_xywh or {})[frame])]
        coco[split] = CocoFile(
            plan.work.videos, images, objects, categories, {"info": {"description": plan.recorded["source"]}}
        )
        ids[split] = {identifier: numbers[identifier] for identifier in members}
    return assembly.Labels(coco, ids)


def _object(number: int, category: int, box_xywh: Sequence[float]) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": number,
        "category_id": category,
        "bbox": list(box_xywh),
        "area": box_xywh[2] * box_xywh[3],
        "iscrowd": 0,
    }


def _provenance(plan: VideoPlan, results: Sequence[ClipResult], old: PreparedData | None) -> dict[str, Any]:
    before = {} if old is None else dict(old.provenance.get("modalities", {}))
    about = {
        "settings": dict(plan.recorded),
        "made_with": f"xmodal {__version__}",
        "asked": plan.asked,
        "video_bytes": sum(_size(plan, clip) for clip in plan.own),
        "videos": sum(bool(result.rows) for result in results),
        **counts(results),
    }
    return {
        "modalities": {**before, RGB: about},
        "splits": {"by": plan.splits_by},
        "left_out": _bad(plan, results),
        **plan.part,
    }


def counts(results: Sequence[ClipResult]) -> dict[str, int]:
    """What was left out or is odd, counted over all videos."""
    return {
        "videos_without_pair": sum(not result.rows and result.error is None for result in results),
        "videos_shorter_than_said": sum(result.short for result in results),
        "frames_without_next": sum(result.without_next for result in results),
        "boxes_without_frame": sum(result.without_frame for result in results),
    }


def _report(
    plan: VideoPlan, results: Sequence[ClipResult], data: PreparedData, workers: int, start: float
) -> VideosReport:
    """Of a run that found everything finished, `results` is empty."""
    about = data.provenance["modalities"][RGB]
    written = sum(result.made for result in results)
    frames = {split: len(data.ids(split)) for split in data.splits}
    boxes = sum(len(found) for found in data.annotations("+".join(data.splits)).values()) if data.classes else None
    return VideosReport(
        root=plan.work.out,
        splits=frames,
        videos=about["videos"],
        boxes=boxes,
        written=written,
        finished=sum(frames.values()) - written,
        left_out=data.provenance.get("left_out", {}),
        counts={name: about[name] for name in counts([])},
        notes=plan.notes,
        workers=workers,
        seconds=time.perf_counter() - start,
        bytes=sum(row.bytes for row in data.rows.values() if row.modality == RGB),
    )


def _estimate(plan: VideoPlan, workers: int) -> VideosReport:
    """Decode a few videos in memory and say what all of them will take."""
    seconds, sizes, bad = [], [], dict(plan.missing)
    frames: dict[str, list[int]] = {}
    for clip in [plan.own[0], *plan.own[:: max(1, len(plan.own) // TIMED)]]:
        start = time.perf_counter()
        try:
            found = sizes_of(plan.recipe, clip)
        except DataError as error:
            bad[clip.video] = error.message
            continue
        seconds.append(time.perf_counter() - start)
        sizes += found
        frames.setdefault(clip.split, []).append(len(found))
    each = float(np.mean([count for counted in frames.values() for count in counted])) if frames else 0.0
    splits: dict[str, int] = {}
    for clip in plan.own:
        wanted = choose(plan.recipe, clip, 10**9) if clip.boxes_xywh is not None else ()
        splits[clip.split] = splits.get(clip.split, 0) + (len(wanted) if wanted else round(each))
    splits = dict(sorted(splits.items(), key=lambda entry: (entry[0] != TRAIN, entry[0])))
    total = sum(splits.values())
    report = VideosReport.empty(plan.work.out, plan.notes, workers)
    return replace(
        report,
        splits=splits,
        videos=len(plan.own),
        written=total,
        left_out=bad,
        seconds=float(np.mean(seconds or [0.0])) * len(plan.own) / workers,
        bytes=int(np.mean(sizes or [0]) * total),
        dry_run=True,
    )
