"""Rows of a table that a study makes: measured figures by seed, the paper's beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAP = "mAP"  # the figure of most tables


@dataclass(frozen=True)
class Figure:
    """One figure of a row.

    Args:
        by_seed: measured, percent: of several data sets the mean.
        paper: the paper's, percent; None where it has none.
        by_data: measured, by the name of the data set's folder and by seed, where there are several.
    """

    by_seed: Mapping[int, float]
    paper: float | None = None
    by_data: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    @property
    def mean(self) -> float | None:
        """Mean over the seeds that are there."""
        return sum(self.by_seed.values()) / len(self.by_seed) if self.by_seed else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        by_seed = {str(seed): value for seed, value in self.by_seed.items()}
        by_data = {"by_data": {name: dict(each) for name, each in self.by_data.items()}} if self.by_data else {}
        return {"mean": self.mean, "by_seed": by_seed, "paper": self.paper, **by_data}


@dataclass(frozen=True)
class Row:
    """A row of a table, made anew.

    Args:
        id: its name in the paper's table, or one of ours.
        title: what it is.
        figures: by name, the main one first.

    Example:
        >>> Row("1C", "transferred", {"mAP": Figure({0: 8.0, 1: 9.0}, 29.7)}).main.mean
        8.5
    """

    id: str
    title: str
    figures: Mapping[str, Figure]

    @property
    def main(self) -> Figure:
        """The figure that the table is about."""
        return next(iter(self.figures.values()))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        figures = {name: each.to_dict() for name, each in self.figures.items()}
        return {"id": self.id, "title": self.title, "figures": figures}
