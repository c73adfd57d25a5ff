"""The paper's own figures, to stand beside ours: Tables 1 to 7 of Gupta, Hoffman and Malik, CVPR 2016.

They lie in `paper_results.yaml` beside this file, each row with an id and with what was trained on what. The paper
prints AP by class for Table 5 alone: seven classes, test split, detectors that saw no label of NYUD2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

import yaml

from xmodal_cli.errors import SettingsError, closest

RESULTS = "paper_results.yaml"


@dataclass(frozen=True)
class PaperRow:
    """A row of one of the paper's tables.

    Args:
        table: `table1` to `table7`.
        id: its name in the table, `1C`; a layer in Table 4; else a name of ours.
        mAP: mean AP in percent; None in Tables 2 and 3, whose AP of regions is in `about`.
        ap: AP by class in percent, empty where the paper prints none.
        about: the rest: what was trained on what, other figures.
    """

    table: str
    id: str
    mAP: float | None
    ap: Mapping[str, float] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PaperTable:
    """One of the paper's tables.

    Args:
        name: `table1` to `table7`.
        title: what it shows.
        eval_split: the split scored.
        rows: its rows by id, in the paper's order.
        about: the rest: data set, metric, split trained on.
    """

    name: str
    title: str
    eval_split: str
    rows: Mapping[str, PaperRow]
    about: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, row: str) -> PaperRow:
        """A row by its id.

        Raises:
            SettingsError: there is no such row.
        """
        if row not in self.rows:
            near = closest(row, self.rows) or f"There are: {', '.join(self.rows)}."
            raise SettingsError(f"The paper's {self.name} has no row {row!r}.", near)
        return self.rows[row]


def paper_table(name: str) -> PaperTable:
    """One of the paper's tables.

    Args:
        name: `table1` to `table7`.

    Raises:
        SettingsError: there is no such table.

    Example:
        >>> table = paper_table("table1")
        >>> table.eval_split, table["1C"].mAP, table["1C"].about["teacher"]
        ('val', 29.7, 'AlexNet')
        >>> [row.mAP for row in paper_table("table4").rows.values()]
        [24.4, 28.4, 30.6, 29.9, 30.5, 29.7, 27.7, 31.3]
        >>> paper_table("table5")["D"].ap["bed"]
        59.4
    """
    tables = _tables()
    if name not in tables:
        near = closest(name, tables) or f"There are: {', '.join(tables)}."
        raise SettingsError(f"The paper has no {name!r}.", near)
    return tables[name]


def paper_row(name: str) -> PaperRow:
    """A row of one of the paper's tables.

    Args:
        name: `table1/1C`.

    Raises:
        SettingsError: there is no such table or row.

    Example:
        >>> paper_row("table1/1C").mAP
        29.7
    """
    table, _, row = name.partition("/")
    return paper_table(table)[row]


def paper_figure(name: str) -> float:
    """A figure of the paper's text.

    Raises:
        SettingsError: there is no such figure.

    Example:
        >>> paper_figure("hha_better_than_disparity_categories")
        14.0
    """
    figures = _document()["text_numbers"]
    if name not in figures:
        near = closest(name, figures) or f"There are: {', '.join(figures)}."
        raise SettingsError(f"The paper's text has no figure {name!r}.", near)
    return float(figures[name])


@cache
def _document() -> Mapping[str, Any]:
    text = (resources.files("xmodal_cli.metrics") / RESULTS).read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.safe_load(text)
    return MappingProxyType(document)


@cache
def _tables() -> Mapping[str, PaperTable]:
    names = [name for name in _document() if name.startswith("table")]
    return MappingProxyType({name: _table(name, dict(_document()[name])) for name in names})


def _table(name: str, entry: dict[str, Any]) -> PaperTable:
    rows = [_row(name, dict(row)) for row in entry.pop("rows")]
    return PaperTable(
        name, entry.pop("title"), entry.pop("eval_split"), MappingProxyType({row.id: row for row in rows}), entry
    )


def _row(table: str, entry: dict[str, Any]) -> PaperRow:
    return PaperRow(table, entry.pop("id"), entry.pop("mAP", None), entry.pop("AP", {}), entry)
