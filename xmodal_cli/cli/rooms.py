"""`xmodal prepare rooms`: options to settings, one call, a report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from xmodal_cli.cli.app import prepare_app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.options import ShardOption, option, worker_count
from xmodal_cli.cli.prepared import show_prepared
from xmodal_cli.cli.progress import counting, finished_files_kept
from xmodal_cli.errors import SettingsError

if TYPE_CHECKING:
    from xmodal_cli.datasets.rooms.prepare import RoomsReport
    from xmodal_cli.datasets.rooms.settings import RoomsSettings

EXAMPLES = """
xmodal prepare rooms --out data/rooms --scenes 100
xmodal prepare rooms --out data/rooms --scenes 500 --frames-per-scene 4 --size 160x120 --seed 1
xmodal prepare rooms --out data/rooms --scenes 50 --modality hha --modality thermal --val-fraction 0.4
xmodal prepare rooms --out data/rooms --split train=80 --split val=20
xmodal prepare rooms --out data/rooms --scenes 2000 --dry-run
Then: xmodal prepare check data/rooms
"""
ROOMS, WORK = "Rooms", "Work"
SIZE = re.compile(r"(\d+)x(\d+)")


@command(prepare_app, "rooms", path="prepare rooms", examples=EXAMPLES)
def rooms_command(
    out_folder: Annotated[Path, option("Data set to make.", ROOMS, "--out")],
    scenes: Annotated[int | None, option("How many rooms; needed without --split.", ROOMS)] = None,
    frames_per_scene: Annotated[int, option("Frames of each room, along a walk through it. [default: 4]", ROOMS)] = 4,
    size: Annotated[str, option("Width x height of all images, pixels. [default: 320x240]", ROOMS)] = "320x240",
    seed: Annotated[int, option("The same seed gives the same bytes. [default: 0]", ROOMS)] = 0,
    val_fraction: Annotated[
        float, option("Share of the rooms for the split val; 0 for none. [default: 0.2]", ROOMS)
    ] = 0.2,
    split: Annotated[
        list[str] | None,
        option("NAME=ROOMS: a split of that name and size, instead of train and val; repeatable.", ROOMS),
    ] = None,
    modalities: Annotated[
        list[str] | None,
        option(
            "hha, disparity, depth, raw_depth, thermal, flow, flow_kitti or gray; repeatable. [default: all but gray]",
            ROOMS,
            "--modality",
        ),
    ] = None,
    name: Annotated[str | None, option("Name of the data set. [default: the folder's]", ROOMS)] = None,
    overwrite: Annotated[
        bool, option("Make rooms anew that are there with other settings.", WORK, "--overwrite")
    ] = False,
    shard: ShardOption = None,
    workers: Annotated[str, option("Processes: a number, or auto. [default: auto]", WORK)] = "auto",
    dry_run: Annotated[bool, option("Render a few, estimate time and size, write nothing.", WORK, "--dry-run")] = False,
) -> None:
    """Make a data set of made-up rooms: colour, depth, heat, motion, boxes and masks; run again, it goes on."""
    from xmodal_cli.datasets.rooms.settings import RoomsSettings
    from xmodal_cli.datasets.shards import Shard

    splits = _splits(split or ())
    if scenes is None and not splits:
        raise SettingsError("How many rooms? Found neither --scenes nor --split.", "Try --scenes 100.")
    settings = RoomsSettings(
        out=out_folder,
        scenes=sum(splits.values()) if scenes is None else scenes,
        splits=splits,
        frames_per_scene=frames_per_scene,
        size_hw=_size(size),
        seed=seed,
        val_fraction=val_fraction,
        modalities=tuple(dict.fromkeys(modalities or ())),
        overwrite=overwrite,
        shard=Shard.parse(shard),
        workers=worker_count(workers),
        dry_run=dry_run,
        name=name,
    )
    show_prepared(_prepare(settings))


def _prepare(settings: RoomsSettings) -> RoomsReport:
    """Run the work; an interruption says how to go on."""
    from xmodal_cli.datasets.rooms.prepare import prepare_rooms

    with finished_files_kept(), counting("rooms made") as progress:
        return prepare_rooms(settings, progress)


def _splits(given: Sequence[str]) -> dict[str, int]:
    """`NAME=ROOMS` as rooms by split.

    Raises:
        SettingsError: one is something else.
    """
    splits: dict[str, int] = {}
    for text in given:
        name, _, count = text.partition("=")
        if not name or not count.isdecimal() or name in splits:
            raise SettingsError(f"--split takes NAME=ROOMS, each name once; found '{text}'.", "Try --split train=80.")
        splits[name] = int(count)
    return splits


def _size(text: str) -> tuple[int, int]:
    """Height and width of `WxH`.

    Raises:
        SettingsError: it is something else.
    """
    found = SIZE.fullmatch(text)
    if found is None:
        raise SettingsError(f"--size takes WIDTHxHEIGHT in pixels; found '{text}'.", "Try --size 320x240.")
    return int(found[2]), int(found[1])
