"""What the reports of all `prepare` say in the same words: images by split, files written, size and time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol


class Report(Protocol):
    """A dataclass that says what was made of a data set."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def root(self) -> Path:
        """The data set."""


def as_json(report: Report) -> dict[str, Any]:
    """A report as JSON holds it."""
    return {**asdict(report), "root": str(report.root)}


def by_split(counts: Mapping[str, int]) -> str:
    """Numbers by split.

    Example:
        >>> by_split({"train": 381, "val": 414})
        'train 381, val 414'
    """
    return ", ".join(f"{split} {count}" for split, count in counts.items())


def files_line(written: int, finished: int) -> tuple[str, str]:
    """The line on image files.

    Args:
        written: in this run.
        finished: by an earlier one.

    Example:
        >>> files_line(3, 0)
        ('files written', '3 (0 were finished before)')
    """
    return "files written", f"{written} ({finished} were finished before)"


def work_lines(size_bytes: int, seconds: float, workers: int, *, estimated: bool) -> list[tuple[str, str]]:
    """The last lines: how large the files are, and how long it took.

    Args:
        size_bytes: of the files.
        seconds: wall time.
        workers: processes.
        estimated: whether both are what a dry run expects.

    Example:
        >>> work_lines(1_500_000, 2.0, 1, estimated=False)
        [('size', '1.5 MB'), ('time', '2.0 s with 1 process')]
    """
    estimate = " (estimate)" if estimated else ""
    processes = f"{workers} process{'es' * (workers > 1)}"
    return [("size", f"{size_bytes / 1e6:.1f} MB{estimate}"), ("time", f"{seconds:.1f} s with {processes}{estimate}")]
