"""What reaches the terminal: data on stdout, talk on stderr, and one JSON document when `--json` asks for it.

A command talks through the one `out` object of this module. `out.result` is called once, at the end: it prints tables
for a person, or the document `{command, runs, data, split, results}` for a program. Everything else is talk.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from xmodal_cli.errors import XmodalError


class Output:
    """The terminal of one command: knows whether a person or a program listens, and how much to say."""

    def __init__(self) -> None:
        self.arguments: list[str] = []  # the words after `xmodal`, for commands that start processes of their own
        self.configure("xmodal")

    def configure(self, command: str, *, as_json: bool = False, quiet: bool = False, verbose: bool = False) -> None:
        """Begin a command: its name, and what its `--json`, `--quiet` and `--verbose` say."""
        self.command = command
        self.as_json = as_json
        self.quiet = quiet
        self.verbose = verbose
        self.silent = os.environ.get("RANK", "0") != "0"  # of several processes, only the first one talks
        self.stdout = Console(soft_wrap=False, highlight=False, quiet=self.silent)
        self.stderr = Console(stderr=True, highlight=False, quiet=self.silent)

    @property
    def live(self) -> bool:
        """Whether moving bars make sense: a person watches a terminal and did not ask for quiet."""
        return self.stderr.is_terminal and not (self.as_json or self.quiet or self.silent)

    def say(self, text: str) -> None:
        """A line of talk, unless quiet."""
        if not self.quiet:
            self.stderr.print(text, markup=False, soft_wrap=True)

    def detail(self, text: str) -> None:
        """A line of talk that only `--verbose` shows."""
        if self.verbose and not self.quiet:
            self.stderr.print(text, style="dim", markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """A warning: said even when quiet."""
        self.stderr.print(f"[yellow]warning:[/yellow] {escape(text)}", soft_wrap=True)

    def next_step(self, line: str) -> None:
        """The one next step after success, built from the user's own paths."""
        if not self.quiet:
            self.stderr.print(f"[dim]Next:[/dim] {escape(line)}", soft_wrap=True)

    def result(
        self,
        results: Any,
        tables: Sequence[RenderableType] = (),
        *,
        runs: Sequence[str | Path] = (),
        data: str | Path | None = None,
        split: str | None = None,
    ) -> None:
        """The outcome of the command, said once: tables for a person, one JSON document for a program.

        Args:
            results: anything JSON can hold, or an object with `to_dict`.
            tables: what a person sees instead, on stdout; a text, as a table's title, is one line, never wrapped.
            runs: run folders that the results belong to.
            data: the prepared data set.
            split: the split evaluated.
        """
        if self.as_json and not self.silent:
            document = {
                "command": self.command,
                "runs": [str(run) for run in runs],
                "data": None if data is None else str(data),
                "split": split,
                "results": results.to_dict() if hasattr(results, "to_dict") else results,
            }
            print_json(document)
            return
        for table in tables:
            if isinstance(table, str):  # a line with a path, which must survive copying, whatever its length
                self.stdout.print(table, markup=False, soft_wrap=True)
            elif isinstance(table, Table) and table.title:
                title, table.title = table.title, None
                self.stdout.print(title, markup=False, highlight=False, soft_wrap=True, style="italic")
                self.stdout.print(table)
            else:
                self.stdout.print(table)

    def error(self, error: XmodalError) -> None:
        """A failure: a red line and its hint on stderr, or `{"error": ...}` on stdout for a program."""
        if self.as_json and not self.silent:
            print_json({"error": error.to_dict()})
            return
        self.stderr.print(f"[red]error:[/red] {escape(error.message)}", soft_wrap=True)
        if error.hint:
            self.stderr.print(f"[cyan]hint:[/cyan] {escape(error.hint)}", soft_wrap=True)


def print_json(document: Mapping[str, Any]) -> None:
    """Write one JSON document to stdout; non-finite numbers become null, as strict JSON demands."""
    text = json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False, default=str)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _finite(value: Any) -> Any:
    """The same document with NaN and infinities replaced by None and tuples by lists."""
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, left: int = 1) -> Table:
    """A plain table: the first `left` columns aligned left, numbers right.

    Example:
        >>> table("layers", ["layer", "channels"], [["conv1", 96]]).row_count
        1
    """
    drawn = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for index, column in enumerate(columns):
        drawn.add_column(column, justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        drawn.add_row(*(escape(str(cell)) for cell in row))
    return drawn


out = Output()
