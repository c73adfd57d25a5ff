"""`xmodal cache`: what teacher features lie on disk, and removing them."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Annotated

import typer

from xmodal_cli.cli.app import cache_app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.output import out, table

DAY_S = 86_400


@command(cache_app, "list", path="cache list", examples="xmodal cache list\nxmodal cache list --json")
def list_command() -> None:
    """List the teacher caches on disk: where, how large, of what."""
    from xmodal_cli.transfer.cache import entries, root

    found = entries()
    rows = [
        [
            Path(entry["path"]).name,
            f"{entry['bytes'] / 1e6:.0f} MB",
            f"{entry['data']}, {entry['count']} pairs",
            f"{entry['teacher']} {', '.join(entry['layers'])}",
            "complete" if entry["complete"] else "unfinished",
            datetime.datetime.fromtimestamp(entry["used"]).isoformat(sep=" ", timespec="minutes"),
        ]
        for entry in found
    ]
    columns = ["folder", "size", "data", "teacher", "state", "last used"]
    out.result(found, [table(f"teacher caches in {root()}", columns, rows, left=6)])


@command(
    cache_app,
    "prune",
    path="cache prune",
    examples="xmodal cache prune --older-than 30\nxmodal cache prune --all\nxmodal cache prune --all --dry-run",
)
def prune_command(
    older_than: Annotated[
        float | None, typer.Option("--older-than", help="Remove those unused for so many days.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove all of them.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Remove teacher caches; runs and data sets are never touched, and a cache can always be computed again."""
    from xmodal_cli.errors import SettingsError
    from xmodal_cli.transfer.cache import entries, remove

    if not everything and older_than is None:
        raise SettingsError("Nothing was chosen.", "Say --older-than DAYS or --all.")
    limit = time.time() - (older_than or 0) * DAY_S
    chosen = [entry for entry in entries() if everything or entry["used"] < limit]
    gone = chosen if dry_run else [entry for entry in chosen if remove(Path(entry["path"]))]
    size = sum(entry["bytes"] for entry in gone)
    verb = "would remove" if dry_run else "removed"
    in_use = len(chosen) - len(gone)
    out.result({"removed": gone, "in_use": in_use, "bytes": size, "dry_run": dry_run})
    what = "1 cache" if len(gone) == 1 else f"{len(gone)} caches"
    out.say(f"{verb} {what}, {size / 1e6:.0f} MB{f'; {in_use} in use were left' if in_use else ''}")
