"""The last step of every `prepare`: splits, scenes, annotations, manifest and, last of all, `dataset.json`.

`dataset.json` is what makes a folder a prepared data set, so it is written when everything else lies there. Until then
`.preparing.json` holds the settings of the work that has begun, so that an interrupted run goes on with the same ones.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli import __version__, files
from xmodal_cli.data.annotations import ANNOTATION_FOLDER, CocoFile, merge_classes, write_coco
from xmodal_cli.data.manifest import ManifestRow, write_manifest
from xmodal_cli.data.prepared import DESCRIPTION, FORMAT, RGB, ModalityInfo, PreparedData
from xmodal_cli.data.splits import SCENE_FILE, SPLIT_FOLDER, write_scenes, write_split
from xmodal_cli.datasets.shards import SHARD, Shard, check_shard
from xmodal_cli.errors import SettingsError
from xmodal_cli.modalities import MODALITIES

RAW_DEPTH = "raw_depth"  # depth as the sensor gave it, 0 where it saw nothing
STATE = ".preparing.json"
LOCK = ".preparing.lock"
DISCARDED = "discarded"  # in the state: what is to go before anything new is made


@dataclass(frozen=True)
class Labels:
    """Annotations on their way into a data set.

    Args:
        files: the COCO file of each split.
        image_ids: COCO image id by ID, for each split.
    """

    files: Mapping[str, CocoFile] = field(default_factory=dict)
    image_ids: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Contents:
    """Everything that a prepared data set is made of, apart from the images, which lie there already.

    Args:
        root: its folder.
        name: its name.
        modalities: descriptions by name, `rgb` first.
        rows: the manifest.
        splits: IDs by split.
        scenes: scene by ID, where known.
        labels: annotations to write in place of those there; None keeps what lies there.
        classes: class names to keep where `labels` is None.
        camera: fx, fy, cx, cy, counted from 1.
        provenance: how it was made.
    """

    root: Path
    name: str
    modalities: Mapping[str, ModalityInfo]
    rows: Sequence[ManifestRow]
    splits: Mapping[str, Sequence[str]]
    scenes: Mapping[str, str]
    labels: Labels | None
    classes: Sequence[str]
    camera: Mapping[str, float] | None
    provenance: Mapping[str, Any]


def write_dataset(contents: Contents) -> None:
    """Write the files that turn a folder of images into a prepared data set, `dataset.json` last.

    What processes that were killed left half-written beside these files and the images is removed.
    """
    root = contents.root
    folders = {(root / row.file).parent for row in contents.rows}
    files.remove_parts(root, root / SPLIT_FOLDER, root / ANNOTATION_FOLDER, *folders)
    for split, ids in contents.splits.items():
        write_split(root, split, ids)
    _remove_others(root / SPLIT_FOLDER, {f"{split}.txt" for split in contents.splits})
    if contents.scenes:
        write_scenes(root, contents.scenes)
    else:
        (root / SCENE_FILE).unlink(missing_ok=True)
    classes = list(contents.classes)
    if contents.labels is not None:
        classes = _write_labels(contents, contents.labels)
    write_manifest(root, contents.rows)
    document = {
        "format": FORMAT,
        "name": contents.name,
        "modalities": {name: info.to_dict() for name, info in contents.modalities.items()},
        "classes": classes,
        "splits": list(contents.splits),
        "camera": None if contents.camera is None else dict(contents.camera),
        "provenance": {"made_with": f"xmodal {__version__}", **contents.provenance},
    }
    files.write_json(root / DESCRIPTION, document)
    done = {SHARD, *contents.modalities}
    write_state(root, {name: state for name, state in read_state(root).items() if name not in done})


def modality_info(name: str, source_range: tuple[float, float] | None = None) -> ModalityInfo:
    """The description of an encoded modality as `dataset.json` holds it.

    Example:
        >>> modality_info("depth").unit
        'mm'
        >>> modality_info("raw_depth").encoding
        'depth'
    """
    if name == RAW_DEPTH:
        return replace(modality_info("depth"), folder=RAW_DEPTH)
    entry = MODALITIES[name]
    return ModalityInfo(
        folder=name,
        suffix=".png",
        encoding=name,
        channels=entry.channels,
        dtype=entry.dtype,
        unit=entry.unit,
        range=entry.range,
        flip=entry.flip,
        source_range=source_range if entry.needs_range else None,
    )


def objects_by_class(data: PreparedData, split: str) -> dict[str, int]:
    """Annotated objects of a split, or of several joined by `+`; classes without any are among them."""
    labels = np.concatenate([found.labels for found in data.annotations(split).values()])
    counts = np.bincount(labels, minlength=len(data.classes))
    return {name: int(count) for name, count in zip(data.classes, counts, strict=True)}


def rgb_info(rows: Sequence[ManifestRow]) -> ModalityInfo:
    """The description of the colour images, from their manifest rows."""
    suffixes = {Path(row.file).suffix for row in rows if row.modality == RGB}
    return ModalityInfo(RGB, suffixes.pop() if len(suffixes) == 1 else "", RGB, 3, "uint8")


def open_existing(out: Path) -> PreparedData | None:
    """The data set that is to be added to, None where a new one begins.

    Raises:
        SettingsError: the folder holds something else.
    """
    if (out / DESCRIPTION).exists():
        return PreparedData.open(out)
    if out.exists() and not out.is_dir():
        raise SettingsError(f"'{out}' is a file; a data set is a folder.", "Name another folder with --out.")
    if out.is_dir() and {path.name for path in out.iterdir()} - {LOCK} and not (out / STATE).exists():
        raise SettingsError(
            f"'{out}' is not empty and no prepared data set.", "Name a new or an empty folder with --out."
        )
    return None


def check_unchanged(name: str, now: Mapping[str, Any], before: Mapping[str, Any] | None, overwrite: bool) -> None:
    """Refuse to mix two settings in one modality.

    Raises:
        SettingsError: the modality was made, or begun, with other settings; the difference is shown.
    """
    if before is None or overwrite:
        return
    different = [key for key in now.keys() | before.keys() if now.get(key) != before.get(key)]
    if different:
        shown = "; ".join(f"{key} was {before.get(key)}, now {now.get(key)}" for key in sorted(different))
        raise SettingsError(
            f"This data set's {name} was made with other settings: {shown}.",
            "Pass --overwrite to make it again, or prepare into another folder with --out.",
        )


def check_part(root: Path, shard: Shard | None, old: PreparedData | None, new: Iterable[str] = ()) -> None:
    """Refuse to prepare one part of a data set into the folder of another, or of the whole.

    Args:
        root: the folder.
        shard: what was asked for; None for the whole.
        old: the finished data set that lies there.
        new: modalities that it does not have yet.

    Raises:
        SettingsError: the folder holds something else, finished or begun, or a part would get more modalities.
    """
    state = read_state(root)
    if DISCARDED in state:
        return
    if state and (old is None or RGB in state):
        check_shard(shard, state.get(SHARD))
    elif old is not None:
        check_shard(shard, old.provenance.get(SHARD), new)


def begin(root: Path, settings: Mapping[str, Mapping[str, Any]], shard: Shard | None = None) -> None:
    """Record what work begins, so that it can be gone on with.

    Args:
        root: the data set.
        settings: by modality.
        shard: the part of the data set that is made; None for the whole.
    """
    before = read_state(root)
    for name in before.pop(DISCARDED, {}).get("folders", ()):
        shutil.rmtree(root / name, ignore_errors=True)
    before.pop(SHARD, None)
    begun = {name: dict(entry) for name, entry in settings.items()}
    part = {} if shard is None else {SHARD: shard.to_dict()}
    write_state(root, {**before, **begun, **part})


def discard(root: Path, folders: Iterable[str]) -> None:
    """Let `begin` remove what is to be made anew; from now on the folder is no data set, whenever a run is killed.

    Args:
        root: the data set, or what was begun of one.
        folders: of its images, and of what belongs to them.
    """
    write_state(root, {DISCARDED: {"folders": list(folders)}})
    (root / DESCRIPTION).unlink(missing_ok=True)


def read_state(root: Path) -> dict[str, Any]:
    """Settings by modality of work that began here and did not end, and its shard; empty where there is none."""
    try:
        state = json.loads((root / STATE).read_bytes())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def write_state(root: Path, state: Mapping[str, Any]) -> None:
    """Record the settings of all work that has begun and not ended, by modality."""
    root.mkdir(parents=True, exist_ok=True)
    if state:
        files.write_json(root / STATE, dict(state))
    else:
        (root / STATE).unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Within the block no other process prepares into the same folder; the lock dies with the process.

    Raises:
        SettingsError: another process is at it.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / LOCK).open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(f"Another process is preparing '{root}'.", "Wait for it, or stop it.") from None
        try:
            yield
        finally:
            (root / LOCK).unlink(missing_ok=True)


def _write_labels(contents: Contents, labels: Labels) -> list[str]:
    """Write a COCO file for each split that has labelled images; the classes in order of their category ids."""
    names = {row.id: Path(row.file).relative_to(RGB).as_posix() for row in contents.rows if row.modality == RGB}
    written = set()
    for split, coco in labels.files.items():
        kept = {name: image for name, image in labels.image_ids[split].items() if name in names}
        if kept:
            write_coco(contents.root, split, coco, kept, names)
            written.add(f"{split}.json")
    _remove_others(contents.root / ANNOTATION_FOLDER, written)
    return list(merge_classes(labels.files.values()).values())


def _remove_others(folder: Path, kept: set[str]) -> None:
    """Remove what an earlier run with other splits left in a folder that only `prepare` writes to."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name not in kept and path.suffix in (".txt", ".json"):
            path.unlink()
