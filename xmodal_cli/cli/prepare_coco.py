"""`xmodal prepare coco`: options to settings, one call, a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from xmodal_cli.cli.app import prepare_app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.options import ShardOption, option, worker_count
from xmodal_cli.cli.output import out, table
from xmodal_cli.cli.prepared import show_prepared
from xmodal_cli.cli.progress import counting, finished_files_kept
from xmodal_cli.errors import SettingsError

if TYPE_CHECKING:
    from xmodal_cli.datasets.coco.prepare import CocoReport
    from xmodal_cli.datasets.coco.settings import CocoSettings

EXAMPLES = """
xmodal prepare coco --classes nyud2-shared --out data/coco
xmodal prepare coco --annotations coco/annotations/instances_train2017.json \
--annotations coco/annotations/instances_val2017.json --images coco --classes nyud2-shared --out data/coco
xmodal prepare coco --annotations boxes.json --images photos --out data/photos
xmodal prepare coco --annotations train=a.json --annotations val=b.json --images train=left --images val=right \
--classes person,car --map car=vehicle --limit 1000 --out data/street
xmodal prepare coco --annotations boxes.json --images photos --shard 2/8 --out parts/2
Then: xmodal prepare check data/coco
"""
SOURCE, OBJECTS, WORK = "Images and annotations", "Classes and objects", "Work"


@command(prepare_app, "coco", path="prepare coco", examples=EXAMPLES)
def coco_command(
    out_folder: Annotated[Path, option("Data set to make.", SOURCE, "--out")],
    annotations: Annotated[
        list[str] | None,
        option(
            "[SPLIT=]FILE, COCO instances; repeatable. instances_val2017.json is the split val. "
            "[default: what `xmodal download coco2017` fetched]",
            SOURCE,
        ),
    ] = None,
    images: Annotated[
        list[str] | None,
        option("Folder that the images lie in or below; or SPLIT=DIR for each split. [default: likewise]", SOURCE),
    ] = None,
    link: Annotated[
        Literal["hard", "sym", "copy"], option("How images get in: hard, sym or copy. [default: hard]", SOURCE)
    ] = "hard",
    name: Annotated[str | None, option("Name of the data set. [default: the folder's]", SOURCE)] = None,
    classes: Annotated[
        str | None,
        option(
            "Categories to keep, by commas; nyud2-shared are the seven of the paper's zero-shot experiment. "
            "[default: all]",
            OBJECTS,
        ),
    ] = None,
    mapping: Annotated[
        list[str] | None, option("CATEGORY=NAME in the data set; several may share one; repeatable.", OBJECTS, "--map")
    ] = None,
    empty: Annotated[
        Literal["auto", "keep", "drop"],
        option("Images that show none of the classes: auto drops them from train only. [default: auto]", OBJECTS),
    ] = "auto",
    limit: Annotated[int | None, option("Images of each split, evenly chosen. [default: all]", OBJECTS)] = None,
    skip_bad: Annotated[
        bool, option("Leave out bad and missing images and bad objects, and count them.", WORK, "--skip-bad")
    ] = False,
    overwrite: Annotated[
        bool, option("Make a data set anew that is there with other settings.", WORK, "--overwrite")
    ] = False,
    shard: ShardOption = None,
    workers: Annotated[str, option("Processes: a number, or auto. [default: auto]", WORK)] = "auto",
    dry_run: Annotated[bool, option("Look at everything, write nothing.", WORK, "--dry-run")] = False,
) -> None:
    """Turn COCO instances and their images into a prepared data set of colour images; run again, it goes on."""
    from xmodal_cli.datasets.coco.published import downloaded
    from xmodal_cli.datasets.coco.settings import CocoSettings
    from xmodal_cli.datasets.shards import Shard

    if annotations or images:
        sources = _annotations(annotations or ()), dict(_named(images or (), "--images"))
    else:
        sources = downloaded()
    settings = CocoSettings(
        out=out_folder,
        annotations=sources[0],
        images=sources[1],
        classes=tuple(word.strip() for word in (classes or "").split(",") if word.strip()),
        renamed=_renamed(mapping or ()),
        empty=empty,
        limit=limit,
        link=link,
        skip_bad=skip_bad,
        overwrite=overwrite,
        shard=Shard.parse(shard),
        workers=worker_count(workers),
        dry_run=dry_run,
        name=name,
    )
    _show(_prepare(settings))


def _prepare(settings: CocoSettings) -> CocoReport:
    """Run the work; an interruption says how to go on."""
    from xmodal_cli.datasets.coco.prepare import prepare_coco

    with finished_files_kept(), counting("images prepared") as progress:
        return prepare_coco(settings, progress)


def _show(report: CocoReport) -> None:
    for note in report.notes:
        out.warn(note)
    for name, problem in report.left_out.items():
        out.warn(f"left out: {name}: {problem}")
    show_prepared(report, tables=[table("objects", ["class", "count"], list(report.objects.items()))])


def _annotations(given: Sequence[str]) -> dict[str, Path]:
    """`[SPLIT=]FILE` as files by split.

    Raises:
        SettingsError: a split comes twice, or a file's name does not say its split.
    """
    from xmodal_cli.datasets.coco.settings import split_named

    named: dict[str, Path] = {}
    for split, file in _named(given, "--annotations"):
        known = split or split_named(Path(file), alone=len(given) == 1)
        if known in named:
            raise SettingsError(
                f"--annotations has two files for the split '{known}': '{named[known]}' and '{file}'.",
                f"Name them: --annotations OTHER={file}",
            )
        named[known] = Path(file)
    return named


def _named(given: Sequence[str], option: str) -> list[tuple[str, str]]:
    """`NAME=VALUE` or `VALUE` as pairs; "" where there is no name. A path with = in it is named with ./ in front."""
    pairs: list[tuple[str, str]] = []
    for text in given:
        name, equals, value = text.partition("=")
        pair = (name, value) if equals and "/" not in name else ("", text)
        if not pair[1] or any(pair[0] == other for other, _ in pairs if option == "--images"):
            raise SettingsError(f"{option} takes [SPLIT=]PATH, each split once; found '{text}'.")
        pairs.append(pair)
    return pairs


def _renamed(given: Sequence[str]) -> dict[str, str]:
    """`CATEGORY=NAME` as names by category.

    Raises:
        SettingsError: one is something else.
    """
    renamed: dict[str, str] = {}
    for text in given:
        source, _, name = (part.strip() for part in text.partition("="))
        if not source or not name or source in renamed:
            raise SettingsError(
                f"--map takes CATEGORY=NAME, each category once; found '{text}'.", "Try --map tv=television."
            )
        renamed[source] = name
    return renamed
