"""Rows of a table that a study makes: measured figures by seed, the paper's beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """A row of a table, made anew.

    Args:
        id: its name in the paper's table.
        title: what it is.
        mAP: measured, percent, by seed: of several data sets the mean.
        paper: the paper's mAP, percent.
        explained_variance, probe: of the student behind it, percent by seed, where measured.
        by_data: mAP by the name of the data set's folder and by seed, where there are several.
    """

    id: str
    title: str
    mAP: Mapping[int, float]
    paper: float | None
    explained_variance: Mapping[int, float] = field(default_factory=dict)
    probe: Mapping[int, float] = field(default_factory=dict)
    by_data: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    @property
    def mean(self) -> float | None:
        """Mean over the seeds that are there."""
        return sum(self.mAP.values()) / len(self.mAP) if self.mAP else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        kinds = {"mAP_by_seed": self.mAP, "explained_variance": self.explained_variance, "probe": self.probe}
        found = {name: _by_seed(figures) for name, figures in kinds.items() if figures}
        of_data = {name: _by_seed(figures) for name, figures in self.by_data.items()}
        several = {"mAP_by_data": of_data} if of_data else {}
        return {"id": self.id, "title": self.title, "mAP": self.mean, "paper": self.paper, **found, **several}


def _by_seed(figures: Mapping[int, float]) -> dict[str, float]:
    return {str(seed): value for seed, value in figures.items()}
