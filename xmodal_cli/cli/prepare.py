"""`xmodal prepare folder` and `xmodal prepare check`: options to settings, one call, a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import RenderableType

from xmodal_cli.cli.app import prepare_app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.options import ShardOption, option, worker_count
from xmodal_cli.cli.output import out, table
from xmodal_cli.cli.prepared import show_prepared
from xmodal_cli.cli.progress import counting, finished_files_kept
from xmodal_cli.errors import DataError, SettingsError

if TYPE_CHECKING:
    from xmodal_cli.data.check import CheckReport
    from xmodal_cli.datasets.folder.prepare import FolderReport, FolderSettings

FOLDER_EXAMPLES = """
xmodal prepare folder --rgb rig/rgb --target rig/depth --modality disparity --depth-unit 0.001 --out data/rig
xmodal prepare folder --rgb 'rig/*.color.jpg' --target 'rig/*.depth.png' --modality hha \
--depth-unit 0.001 --camera 585,585,320,240 --pixel-origin 0 --out data/rig
xmodal prepare folder --rgb rig/rgb --target rig/thermal --modality thermal \
--val-fraction 0.2 --scenes rig/scenes.csv --out data/rig
xmodal prepare folder --target rig/depth --modality depth --depth-unit 0.001 --out data/rig
Then: xmodal prepare check data/rig
"""
CHECK_EXAMPLES = """
xmodal prepare check data/rig
xmodal prepare check data/rig --sheet sheet.png --pairs 20
xmodal prepare check data/rig --json
Then: xmodal distill --data data/rig --modality hha
"""
SHEET = "contact_sheet.png"
BAD_DATA = DataError.exit_code


PAIRS, DEPTH, SPLITS, WORK = "Pairs", "Depth and thermal values", "Splits and labels", "Work"


@command(prepare_app, "folder", path="prepare folder", examples=FOLDER_EXAMPLES)
def folder_command(
    out_folder: Annotated[Path, option("Data set to make, or to add a modality to.", PAIRS, "--out")],
    modalities: Annotated[
        list[str], option("hha, disparity, depth, thermal or gray; repeatable.", PAIRS, "--modality")
    ],
    rgb: Annotated[
        str | None,
        option("Folder of colour images, or a quoted pattern: what * matches is the ID. Needed once.", PAIRS),
    ] = None,
    target: Annotated[str | None, option("Likewise, the other sensor's images.", PAIRS)] = None,
    link: Annotated[
        Literal["hard", "sym", "copy"], option("How colour images get in: hard, sym or copy. [default: hard]", PAIRS)
    ] = "hard",
    name: Annotated[str | None, option("Name of the data set. [default: the folder's]", PAIRS)] = None,
    depth_unit: Annotated[
        float | None, option("Metres per step: 0.001 for millimetres. [default: the file holds metres]", DEPTH)
    ] = None,
    depth_offset: Annotated[float, option("Metres at value 0. [default: 0]", DEPTH)] = 0.0,
    camera: Annotated[str | None, option("fx,fy,cx,cy in pixels; HHA needs it.", DEPTH)] = None,
    pixel_origin: Annotated[
        int, option("What the first pixel is called: 1 (MATLAB), 0 (OpenCV, ROS). [default: 1]", DEPTH)
    ] = 1,
    value_range: Annotated[
        str | None,
        option("LOW,HIGH: raw thermal values that become 0 and 255. [default: measured on train]", DEPTH, "--range"),
    ] = None,
    missing: Annotated[
        str | None,
        option("Raw depth whose zeros the sensor did not see. [default: zeros of the target]", DEPTH),
    ] = None,
    smooth: Annotated[
        Literal["auto", "on", "off"], option("Smooth coarse depth: auto (8-bit), on, off. [default: auto]", DEPTH)
    ] = "auto",
    annotations: Annotated[
        list[str] | None,
        option("SPLIT=FILE, COCO instances: its images are that split, all others train; repeatable.", SPLITS),
    ] = None,
    split_file: Annotated[
        list[str] | None, option("SPLIT=FILE with one ID per line; others are left out; repeatable.", SPLITS)
    ] = None,
    val_fraction: Annotated[float | None, option("Share of the pairs, by scene, for the split val.", SPLITS)] = None,
    scenes: Annotated[Path | None, option("CSV file ID,scene: a scene stays in one split.", SPLITS)] = None,
    skip_bad: Annotated[bool, option("Leave bad pairs out and count them.", WORK, "--skip-bad")] = False,
    overwrite: Annotated[
        bool, option("Make modalities again that are there with other settings.", WORK, "--overwrite")
    ] = False,
    workers: Annotated[str, option("Processes: a number, or auto. [default: auto]", WORK)] = "auto",
    shard: ShardOption = None,
    dry_run: Annotated[
        bool, option("Look at everything, estimate time and size, write nothing.", WORK, "--dry-run")
    ] = False,
) -> None:
    """Turn pairs of images into a prepared data set, or add a modality to one; run again, it goes on."""
    from xmodal_cli.datasets.folder.settings import FolderSettings
    from xmodal_cli.datasets.shards import Shard
    from xmodal_cli.modalities.geometry import Camera

    settings = FolderSettings(
        out=out_folder,
        modalities=tuple(dict.fromkeys(modalities)),
        rgb=rgb,
        target=target,
        depth_unit=depth_unit,
        depth_offset=depth_offset,
        camera=None if camera is None else Camera.parse(camera, origin=pixel_origin),
        value_range=_range(value_range),
        missing=missing,
        annotations=_named_files(annotations, "--annotations"),
        split_files=_named_files(split_file, "--split-file"),
        val_fraction=val_fraction,
        scenes=scenes,
        link=link,
        smooth=smooth,
        skip_bad=skip_bad,
        overwrite=overwrite,
        workers=worker_count(workers),
        dry_run=dry_run,
        name=name,
        shard=Shard.parse(shard),
    )
    _show(_prepare(settings))


@command(prepare_app, "check", path="prepare check", examples=CHECK_EXAMPLES)
def check_command(
    data: Annotated[Path, typer.Argument(help="Prepared data set.")],
    sheet: Annotated[
        Path | None, typer.Option(help=f"Where to draw the contact sheet. \\[default: DATA/{SHEET}]")
    ] = None,
    pairs: Annotated[int, typer.Option(help="Pairs on the contact sheet.", min=1)] = 8,
    workers: Annotated[str, typer.Option(help="Processes: a number, or auto.")] = "auto",
) -> None:
    """Open everything in a prepared data set, say what is wrong with it, and draw a contact sheet."""
    from xmodal_cli.data.check import check
    from xmodal_cli.data.prepared import PreparedData
    from xmodal_cli.pictures.contact_sheet import write_contact_sheet

    prepared = PreparedData.open(data)
    with counting("pairs checked") as progress:
        report = check(prepared, progress, worker_count(workers))
    drawn = write_contact_sheet(prepared, sheet or data / SHEET, pairs)
    _show_check(report, drawn)
    if not report.ok:
        raise typer.Exit(BAD_DATA)
    target = next((name for name in prepared.modalities if name != "rgb"), None)
    out.next_step(_next_step(data, target, labelled=bool(prepared.classes)))


def _next_step(data: Path, target: str | None, *, labelled: bool) -> str:
    """What a checked data set is good for: a transfer if it has a second modality, else a detector on colour."""
    if target is not None:
        return f"xmodal distill --data {data} --modality {target}"
    if labelled:
        return f"xmodal finetune --data {data} --modality rgb"
    return f"xmodal prepare folder --target DIR --modality NAME --out {data}"


def _prepare(settings: FolderSettings) -> FolderReport:
    """Run the work; an interruption says how to go on."""
    from xmodal_cli.datasets.folder.prepare import prepare_folder

    with finished_files_kept(), counting("pairs prepared") as progress:
        return prepare_folder(settings, progress)


def _show(report: FolderReport) -> None:
    for note in report.notes:
        out.warn(note)
    for problem in report.left_out.values():
        out.warn(f"left out: {problem}")
    show_prepared(report)


def _show_check(report: CheckReport, sheet: Path) -> None:
    """Errors and warnings as talk, figures and the sheet's path as data."""
    for warning in report.warnings:
        out.warn(warning)
    for error in report.errors:
        if not out.as_json:
            out.error(DataError(error))
    columns, lines = report.table()
    splits = [[split, count, report.objects.get(split, "-")] for split, count in report.splits.items()]
    tables: list[RenderableType] = [
        table("images", columns, lines),
        table("splits", ["split", "pairs", "objects"], splits),
        f"contact sheet: {sheet}",
    ]
    out.result({**report.to_dict(), "contact_sheet": str(sheet)}, tables, data=report.root)


def _named_files(given: Sequence[str] | None, option: str) -> dict[str, Path]:
    """Options `NAME=FILE` as a dict.

    Raises:
        SettingsError: one is not of that form, or a name comes twice.
    """
    named: dict[str, Path] = {}
    for text in given or ():
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            raise SettingsError(f"{option} takes NAME=FILE; found '{text}'.", f"Try {option} train={text}")
        if name in named:
            raise SettingsError(f"{option} names the split '{name}' twice: '{named[name]}' and '{file}'.")
        named[name] = Path(file)
    return named


def _range(text: str | None) -> tuple[float, float] | None:
    """Two numbers `LOW,HIGH`.

    Raises:
        SettingsError: it is something else.
    """
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"--range takes LOW,HIGH; found '{text}'.", "Try --range 18000,19000.") from None
    return low, high
