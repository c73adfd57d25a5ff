"""What `finetune --dry-run` reports, whatever is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xmodal_cli.cli.output import out, table
from xmodal_cli.cli.progress import duration

if TYPE_CHECKING:
    from xmodal_cli.runs.training import Rehearsal


def report_rehearsal(rehearsal: Rehearsal) -> None:
    """What a run would be, in figures."""
    settings = rehearsal.settings.to_dict()
    left_out = ", ".join(f"{count} {reason}" for reason, count in rehearsal.left_out.items() if count)
    rows: list[list[object]] = [
        ["images", f"{rehearsal.images}, {rehearsal.held_out} more held out"],
        ["left out", left_out or "none"],
        ["steps", settings["iterations"]],
        ["time", f"about {duration(rehearsal.seconds)}, {rehearsal.seconds_per_step * 1000:.0f} ms a step"],
        ["memory", f"{rehearsal.memory_bytes / 1e9:.1f} GB"],
    ]
    tables = [table("dry run: nothing was written", ["", ""], rows, left=2)]
    out.result(rehearsal, tables, data=settings["data"], split=settings["split"])
    out.next_step("the same command without --dry-run")
