"""What `--dry-run` of a training reports, whatever is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from xmodal_cli.cli.output import out, table
from xmodal_cli.cli.progress import duration

if TYPE_CHECKING:
    from xmodal_cli.runs.training import Rehearsal


def report_rehearsal(rehearsal: Rehearsal, what: str = "images", more: Mapping[str, str] | None = None) -> None:
    """What a run would be, in figures.

    Args:
        rehearsal: its figures.
        what: it learns from.
        more: further lines.
    """
    settings = rehearsal.settings.to_dict()
    left_out = ", ".join(f"{count} {reason}" for reason, count in rehearsal.left_out.items() if count)
    rows: list[list[object]] = [
        [what, f"{rehearsal.images}, {rehearsal.held_out} more held out"],
        ["steps", settings["iterations"]],
        ["time", f"about {duration(rehearsal.seconds)}, {rehearsal.seconds_per_step * 1000:.0f} ms a step"],
        ["memory", f"{rehearsal.memory_bytes / 1e9:.1f} GB"],
    ]
    if rehearsal.left_out:
        rows.insert(1, ["left out", left_out or "none"])
    rows += [[name, told] for name, told in (more or {}).items()]
    tables = [table("dry run: nothing was written", ["", ""], rows, left=2)]
    out.result(rehearsal, tables, data=settings["data"], split=settings["split"])
    out.next_step("the same command without --dry-run")
