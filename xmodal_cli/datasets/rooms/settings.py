"""What `prepare rooms` is told, what makes sense of it, and which rooms become which split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xmodal_cli.data.splits import TRAIN, divide
from xmodal_cli.datasets.assembly import RAW_DEPTH
from xmodal_cli.datasets.rooms.frames import scene_name
from xmodal_cli.datasets.shards import Shard
from xmodal_cli.errors import SettingsError, closest
from xmodal_cli.modalities import MODALITIES

ALL_MODALITIES = ("hha", "disparity", "depth", RAW_DEPTH, "thermal", "flow", "flow_kitti")
KNOWN = (*MODALITIES, RAW_DEPTH)
SMALLEST_SIDE_PX = 48  # below it things are a few pixels
LARGEST_SIDE_PX = 4096
MOST_SCENES = 10_000  # numbers have four digits


@dataclass(frozen=True)
class RoomsSettings:
    """The options of `prepare rooms`.

    Args:
        out: the prepared data set to make.
        scenes: how many rooms.
        frames_per_scene: how many frames of each.
        size_hw: of all images, pixels.
        seed: of everything.
        val_fraction: share of the frames, by room, that becomes the split val; 0 for none.
        splits: rooms of each split by its name, in the order of the rooms; `scenes` is their sum, and no share counts.
        modalities: what to make beside rgb; empty for all.
        overwrite: make a data set anew that is there with other settings.
        shard: the part of the rooms that is made here; None for all.
        workers: processes; None decides.
        dry_run: render a few rooms, estimate time and size, write nothing.
        name: of the data set; None takes the folder's.
    """

    out: Path
    scenes: int
    frames_per_scene: int = 4
    size_hw: tuple[int, int] = (240, 320)
    seed: int = 0
    val_fraction: float = 0.2
    splits: Mapping[str, int] = field(default_factory=dict)
    modalities: tuple[str, ...] = ()
    overwrite: bool = False
    shard: Shard | None = None
    workers: int | None = None
    dry_run: bool = False
    name: str | None = None


def check_settings(settings: RoomsSettings) -> None:
    """Check the options; all problems are reported at once.

    Raises:
        SettingsError: one or more make no sense.
    """
    problems = []
    height, width = settings.size_hw
    if not 1 <= settings.scenes <= MOST_SCENES:
        problems.append(f"--scenes is 1 to {MOST_SCENES}; found {settings.scenes}.")
    if not 1 <= settings.frames_per_scene <= 1000:
        problems.append(f"--frames-per-scene is 1 to 1000; found {settings.frames_per_scene}.")
    if min(settings.size_hw) < SMALLEST_SIDE_PX or max(settings.size_hw) > LARGEST_SIDE_PX:
        problems.append(f"--size is {SMALLEST_SIDE_PX} to {LARGEST_SIDE_PX} pixels a side; found {width}x{height}.")
    if settings.splits and (min(settings.splits.values()) < 1 or sum(settings.splits.values()) != settings.scenes):
        found = ", ".join(f"{split} {count}" for split, count in settings.splits.items())
        problems.append(f"--split counts are above 0 and add up to the {settings.scenes} rooms; found {found}.")
    if settings.seed < 0:
        problems.append(f"--seed is 0 or above; found {settings.seed}.")
    if not 0 <= settings.val_fraction < 1:
        problems.append(f"--val-fraction is 0 or above, and below 1; found {settings.val_fraction:g}.")
    for name in settings.modalities:
        if name not in KNOWN:
            near = closest(name, KNOWN)
            problems.append(f"There is no modality '{name}'; there are {', '.join(KNOWN)}. {near}".strip())
    if problems:
        raise SettingsError("\n".join(problems), "See `xmodal prepare rooms --help` for examples.")


def choose_splits(settings: RoomsSettings) -> dict[str, list[str]]:
    """IDs by split: whole rooms, chosen by a hash of their names.

    Example:
        >>> splits = choose_splits(RoomsSettings(Path("out"), scenes=5, frames_per_scene=2))
        >>> {split: len(ids) for split, ids in splits.items()}
        {'train': 8, 'val': 2}
    """
    scenes = scenes_by_id(settings)
    if settings.splits:
        rooms = [name for name, count in settings.splits.items() for _ in range(count)]
        return {
            split: sorted(each for each, scene in scenes.items() if rooms[int(scene.rpartition("_")[2])] == split)
            for split in settings.splits
        }
    if settings.val_fraction == 0 or settings.scenes == 1:
        return {TRAIN: sorted(scenes)}
    train, val = divide(scenes, settings.val_fraction, scenes)
    return {TRAIN: train, "val": val}


def scenes_by_id(settings: RoomsSettings, rooms: Iterable[int] | None = None) -> dict[str, str]:
    """Room by ID, of all rooms or some."""
    chosen, frames = range(settings.scenes) if rooms is None else rooms, range(settings.frames_per_scene)
    return {f"{scene_name(room)}/{frame:03d}": scene_name(room) for room in chosen for frame in frames}


def own_rooms(settings: RoomsSettings) -> list[int]:
    """The numbers of the rooms that are made here: all, or those of a part; rooms stay whole.

    Example:
        >>> own_rooms(RoomsSettings(Path("out"), scenes=5, shard=Shard(2, 2)))
        [1, 3]
    """
    names = {scene_name(room): room for room in range(settings.scenes)}
    return list(names.values()) if settings.shard is None else [names[name] for name in settings.shard.own(names)]


def own_splits(settings: RoomsSettings) -> dict[str, list[str]]:
    """IDs by split of the rooms that are made here; a split without any is left out."""
    own = scenes_by_id(settings, own_rooms(settings))
    kept = {split: [name for name in ids if name in own] for split, ids in choose_splits(settings).items()}
    return {split: ids for split, ids in kept.items() if ids}
