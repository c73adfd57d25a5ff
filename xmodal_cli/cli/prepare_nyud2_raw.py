"""`xmodal prepare nyud2-raw`: options to settings, one call, a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from xmodal_cli.cli.app import prepare_app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.options import ShardOption, option, worker_count
from xmodal_cli.cli.output import out
from xmodal_cli.cli.prepared import show_prepared
from xmodal_cli.cli.progress import counting, finished_files_kept

if TYPE_CHECKING:
    from xmodal_cli.datasets.nyud2_raw.report import RawReport
    from xmodal_cli.datasets.nyud2_raw.settings import RawSettings

EXAMPLES = """
xmodal prepare nyud2-raw --scenes data/nyud2 --preset 5k --out data/nyud2-raw
xmodal prepare nyud2-raw --raw raw --labelled nyu_depth_v2_labeled.mat --preset 5k --out data/nyud2-raw
xmodal prepare nyud2-raw --raw raw --scenes data/nyud2 --preset 10k --out data/nyud2-raw-trainval
xmodal prepare nyud2-raw --raw kitchens_part1.zip --raw offices_part1.zip --scenes data/nyud2/scenes.csv \
--frames-per-scene 40 --modality hha --modality depth --out data/nyud2-raw
xmodal prepare nyud2-raw --raw raw --scenes train_scenes.txt --frames-per-scene 40 --fill colourise \
--out data/nyud2-raw --dry-run
Then: xmodal prepare check data/nyud2-raw
"""
FRAMES, SCENES, IMAGES, WORK = "Frames", "Scenes", "Images", "Work"
MOST_SHOWN = 20  # damaged frames that are named on the screen; --json and dataset.json name all


@command(prepare_app, "nyud2-raw", path="prepare nyud2-raw", examples=EXAMPLES)
def nyud2_raw_command(
    out_folder: Annotated[Path, option("Data set to make.", FRAMES, "--out")],
    raw: Annotated[
        list[Path] | None,
        option("Folder with scene folders, or a published zip part; repeatable. [default: the downloaded]", FRAMES),
    ] = None,
    preset: Annotated[
        str | None, option("5k: 5000 pairs of train scenes; 10k: 10000 of train and val scenes.", FRAMES)
    ] = None,
    frames_per_scene: Annotated[int | None, option("Frames of each scene, evenly over its length.", FRAMES)] = None,
    max_gap: Annotated[float, option("Most seconds between colour and depth of a pair. [default: 0.1]", FRAMES)] = 0.1,
    labelled: Annotated[
        Path | None, option("nyu_depth_v2_labeled.mat: its scenes say what is train, val and test.", SCENES)
    ] = None,
    scenes: Annotated[
        Path | None,
        option("Or a data set of `prepare nyud2`, its scenes.csv, a CSV scene,split, or one scene per line.", SCENES),
    ] = None,
    split: Annotated[
        str | None,
        option("Whose scenes: train (for numbers on val) or trainval (for test). [default: the preset's]", SCENES),
    ] = None,
    scene: Annotated[list[str] | None, option("Only this scene; repeatable.", SCENES)] = None,
    modalities: Annotated[
        list[str] | None,
        option("hha, disparity, depth, raw_depth or gray; repeatable. [default: hha]", IMAGES, "--modality"),
    ] = None,
    fill: Annotated[
        Literal["nearest", "colourise"],
        option("Holes: nearest, or colourise as the authors' labelled images, slower. [default: nearest]", IMAGES),
    ] = "nearest",
    name: Annotated[str | None, option("Name of the data set. [default: the folder's]", IMAGES)] = None,
    overwrite: Annotated[
        bool, option("Make a data set anew that is there with other settings.", WORK, "--overwrite")
    ] = False,
    workers: Annotated[str, option("Processes: a number, or auto. [default: auto]", WORK)] = "auto",
    shard: ShardOption = None,
    dry_run: Annotated[
        bool, option("Look at everything, estimate time and size, write nothing.", WORK, "--dry-run")
    ] = False,
) -> None:
    """Turn raw video of NYU Depth v2 into pairs: synchronised, registered, filled, encoded; run again, it goes on."""
    from xmodal_cli.datasets.nyud2_raw.settings import RawSettings
    from xmodal_cli.datasets.nyud2_raw.sources import downloaded
    from xmodal_cli.datasets.shards import Shard

    settings = RawSettings(
        out=out_folder,
        raw=tuple(raw or downloaded()),
        modalities=tuple(dict.fromkeys(modalities or ("hha",))),
        labelled=labelled,
        scenes=scenes,
        split=split,
        only=tuple(dict.fromkeys(scene or ())),
        preset=preset,
        frames_per_scene=frames_per_scene,
        most_gap_s=max_gap,
        fill=fill,
        overwrite=overwrite,
        workers=worker_count(workers),
        shard=Shard.parse(shard),
        dry_run=dry_run,
        name=name,
    )
    _show(_prepare(settings))


def _prepare(settings: RawSettings) -> RawReport:
    """Run the work; an interruption says how to go on."""
    from xmodal_cli.datasets.nyud2_raw.prepare import prepare_nyud2_raw

    with finished_files_kept(), counting("frames made") as progress:
        return prepare_nyud2_raw(settings, progress)


def _show(report: RawReport) -> None:
    damaged = [*report.bad.values(), *(f"'{name}' has no time stamp that can be read." for name in report.bad_names)]
    for problem in damaged[:MOST_SHOWN]:
        out.warn(f"passed over: {problem}")
    if len(damaged) > MOST_SHOWN:
        out.warn(f"... and {len(damaged) - MOST_SHOWN} more; --json names all.")
    for folder, reason in list(report.unknown.items())[:MOST_SHOWN]:
        out.warn(f"not used: '{folder}': {reason}.")
    made = sum(report.splits.values())
    if made < report.wanted:
        out.warn(f"{made} of {report.wanted} pairs: damaged frames had no sound neighbour.")
    show_prepared(report)
