"""`xmodal prepare merge`: the parts that several machines prepared become one data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from xmodal_cli.cli.app import prepare_app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.output import out, table
from xmodal_cli.cli.progress import counting, finished_files_kept

EXAMPLES = """
xmodal prepare merge parts/1 parts/2 --out data/rig
Then: xmodal prepare check data/rig
"""


@command(prepare_app, "merge", path="prepare merge", examples=EXAMPLES)
def merge_command(
    parts: Annotated[list[Path], typer.Argument(help="All folders that --shard 1/N to N/N made, in any order.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Data set to make.")],
    name: Annotated[str | None, typer.Option(help="Name of the data set. \\[default: the folder's]")] = None,
    link: Annotated[Literal["hard", "sym", "copy"], typer.Option(help="How files get in: hard, sym or copy.")] = "hard",
) -> None:
    """Join the parts of a data set that were prepared with --shard; run again, it goes on."""
    from xmodal_cli.datasets.merge.merge import merge

    with finished_files_kept(), counting("files linked") as progress:
        report = merge(parts, out_folder, name=name, link=link, progress=progress)
    out.result(report, [table("merged", ["", ""], [list(line) for line in report.table()], left=2)], data=report.root)
    out.next_step(f"xmodal prepare check {out_folder}")
