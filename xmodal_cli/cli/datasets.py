"""`xmodal datasets`: which published data sets there are, and which are here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xmodal_cli.cli.app import app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.output import out, table

if TYPE_CHECKING:
    from xmodal_cli.datasets.downloads.entries import PublishedFile, PublishedSet

EXAMPLES = """
xmodal datasets
xmodal datasets nyud2
xmodal datasets --json
Then: xmodal download nyud2
"""


@command(app, "datasets", examples=EXAMPLES)
def datasets_command(
    name: Annotated[str | None, typer.Argument(help="One of them, with its terms and files.")] = None,
) -> None:
    """List the published data sets that can be downloaded, and what of them is here."""
    from xmodal_cli.datasets.downloads.catalogue import SETS, unknown

    if name is not None:
        if name not in SETS:
            raise unknown(name)
        _show_one(SETS[name])
        return
    from xmodal_cli.datasets.downloads.fetched import data_root

    documents = [_state(each) for each in SETS.values()]
    rows = [(each.name, _size(each), _here(each), each.title) for each in SETS.values()]
    columns = ["name", "size", "here", "what"]
    out.result(documents, [table(f"published data sets; {data_root()}", columns, rows, left=4)])
    out.next_step("xmodal datasets NAME")


def _show_one(chosen: PublishedSet) -> None:
    from xmodal_cli.datasets.downloads.fetch import size

    rows = [(file.name, size(file.bytes), "yes" if _place(file) else "no", file.what) for file in chosen.files]
    facts = [("page", chosen.page), ("terms", chosen.licence), ("in all", _size(chosen))]
    elsewhere = dict.fromkeys(file.elsewhere for file in chosen.files if file.elsewhere)
    facts += [("also at", place) for place in elsewhere if len(elsewhere) <= 3]
    shown = [table(chosen.title, ["", ""], facts, left=2), table("", ["file", "size", "here", "what"], rows, left=4)]
    folders = dict.fromkeys(place.parent for file in chosen.files if (place := _place(file)) is not None)
    out.result(_state(chosen), [*shown, *(f"here: {folder}" for folder in folders)])
    out.next_step(f"xmodal download {chosen.name}")


def _size(chosen: PublishedSet) -> str:
    from xmodal_cli.datasets.downloads.fetch import size

    return size(chosen.bytes) if chosen.is_known else f"over {size(chosen.bytes)}"


def _here(chosen: PublishedSet) -> str:
    return f"{sum(bool(_place(file)) for file in chosen.files)} of {len(chosen.files)}"


def _place(file: PublishedFile) -> Path | None:
    """Where a file is, or what it held; None where it is not here."""
    from xmodal_cli.datasets.downloads.fetched import folder_of, is_here, is_unpacked, place_of

    return (folder_of(file) if is_unpacked(file) else place_of(file)) if is_here(file) else None


def _state(chosen: PublishedSet) -> dict[str, Any]:
    from xmodal_cli.datasets.downloads.fetched import folder_of, is_fetched, is_unpacked, place_of

    here = {
        file.name: {
            "path": str(place_of(file)) if is_fetched(file) else None,
            "unpacked": str(folder_of(file)) if is_unpacked(file) else None,
        }
        for file in chosen.files
    }
    return {**chosen.to_dict(), "here": here}
