"""What every `prepare` shows when it is done: its report, and the next step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.table import Table

from xmodal_cli.cli.output import out, table


class Report(Protocol):
    """What was made of a data set, or would be."""

    @property
    def root(self) -> Path:
        """The data set."""

    @property
    def dry_run(self) -> bool:
        """Whether nothing was written."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""

    def table(self) -> list[tuple[str, str]]:
        """As lines of name and value."""


def show_prepared(
    report: Report,
    *,
    lines: Sequence[tuple[str, str]] = (),
    tables: Sequence[Table] = (),
    document: Mapping[str, Any] | None = None,
) -> None:
    """Show a report and say what comes next.

    Args:
        report: what was done.
        lines: more of its table.
        tables: that follow it.
        document: for `--json` in place of the report alone.
    """
    title = "dry run: nothing was written" if report.dry_run else "prepared"
    shown = table(title, ["", ""], [*report.table(), *lines], left=2)
    out.result(document or report, [shown, *tables], data=report.root)
    out.next_step("the same command without --dry-run" if report.dry_run else f"xmodal prepare check {report.root}")
