"""`xmodal download`: words to files in the cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xmodal_cli.cli.app import app, prepare_app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.options import option
from xmodal_cli.cli.output import out, table
from xmodal_cli.cli.progress import TrainingScreen, finished_files_kept
from xmodal_cli.errors import SettingsError

if TYPE_CHECKING:
    from xmodal_cli.datasets.downloads.fetch import DownloadReport, DownloadSettings, Outcome

EXAMPLES = """
xmodal download --list
xmodal download nyud2 vgg16 --dry-run
xmodal download nyud2 vgg16
xmodal download nyud2-authors --from ~/Downloads
xmodal download 'kitchens_*.zip' --remove-archives
Then: xmodal datasets
"""
WHAT, WORK = "What", "Work"


@command(app, "download", examples=EXAMPLES)
def download_command(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Data sets, single files, quoted patterns of files, or networks whose weights are wanted."),
    ] = None,
    listing: Annotated[bool, option("List all files: sizes, hashes, terms.", WHAT, "--list")] = False,
    from_folder: Annotated[
        Path | None, option("Folder of files fetched by hand; no server is asked.", WHAT, "--from")
    ] = None,
    unpack: Annotated[bool, option("Unpack archives. [default: unpack]", WORK, "--unpack/--no-unpack")] = True,
    remove_archives: Annotated[
        bool, option("Remove each archive once it is unpacked.", WORK, "--remove-archives")
    ] = False,
    check: Annotated[bool, option("Read and hash again what is here.", WORK, "--check")] = False,
    dry_run: Annotated[bool, option("Sizes and free space; nothing is fetched.", WORK, "--dry-run")] = False,
) -> None:
    """Fetch published data sets and weights, check their hashes and unpack them; run again, it goes on."""
    from xmodal_cli.datasets.downloads.fetch import DownloadSettings

    if listing:
        _list(names or [])
        return
    if not names:
        raise SettingsError("Nothing was named.", "xmodal download --list")
    settings = DownloadSettings(tuple(names), from_folder, unpack, remove_archives, check, dry_run)
    _show(_carry_out(settings), settings)


def _carry_out(settings: DownloadSettings) -> DownloadReport:
    from xmodal_cli.datasets.downloads.fetch import Watch, download

    with finished_files_kept(), TrainingScreen() as screen:
        return download(settings, Watch(screen.downloading, screen.unpacking, _finished))


def _finished(outcome: Outcome) -> None:
    checked = f"checked: {', '.join(outcome.checked)}" if outcome.checked else "its hash is pinned from now on"
    if outcome.state in ("fetched", "taken"):
        out.say(f"{outcome.name}: {outcome.state}, {checked}")


def _show(report: DownloadReport, settings: DownloadSettings) -> None:
    from xmodal_cli.datasets.downloads.fetch import size

    title = "dry run: nothing was fetched" if report.dry_run else "here"
    places = [f"in {folder}" for folder in report.folders]
    out.result(report, [table(title, ["file", "state", "size"], report.table(), left=3), *places])
    if report.dry_run:
        out.say(f"to fetch: {report.still_to_come}; free: {size(report.free_bytes)}")
        out.next_step("the same command without --dry-run")
        return
    out.next_step(_next_step(settings.names))


def _next_step(names: tuple[str, ...]) -> str:
    """The command that reads what was fetched, where there is one."""
    from xmodal_cli.datasets.downloads.catalogue import SETS

    known = {each.name for each in prepare_app.registered_commands}
    reader = next((SETS[name] for name in names if name in SETS and SETS[name].prepare in known), None)
    if reader is None:
        return "xmodal datasets"
    return f"xmodal prepare {reader.prepare} {f'--out data/{reader.prepare}' if reader.found else '--help'}"


def _list(names: list[str]) -> None:
    from xmodal_cli.datasets.downloads.catalogue import FILES, named, set_of, unknown
    from xmodal_cli.datasets.downloads.fetch import size

    chosen = [file for name in names for file in named(name) or ()] or list(FILES.values())
    for name in names:
        if not named(name):
            raise unknown(name)
    rows = [
        (set_of(file).name, file.name, size(file.bytes), file.hash or ("md5 beside it" if file.sidecar else "none"))
        for file in chosen
    ]
    documents = [
        {
            "set": set_of(file).name,
            "name": file.name,
            "bytes": file.size or None,
            "about_bytes": file.bytes or None,
            "hash": file.hash or None,
            "urls": list(file.urls),
            "elsewhere": file.elsewhere or None,
            "what": file.what,
            "source": file.source,
            "licence": set_of(file).licence,
        }
        for file in chosen
    ]
    out.result(documents, [table(f"{len(chosen)} files", ["name", "file", "size", "hash"], rows, left=4)])
    out.say("Networks are named as in `xmodal models`; their weights come from torchvision and the Hugging Face hub.")
    out.next_step("xmodal download NAME --dry-run")
