"""Options that several commands share, each described once."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from xmodal_cli.errors import SettingsError

DATA_VARIABLE = "XMODAL_DATA"
DEFAULT_DATA = "data/nyud2"
DEFAULT_RUNS = "runs"

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data", envvar=DATA_VARIABLE, help=f"Prepared data set. \\[default: {DEFAULT_DATA}]", show_default=False
    ),
]
RunsOption = Annotated[Path, typer.Option("--runs", help="Folder of all runs.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        help="I/N: prepare part I of N, on another machine for each; join them with prepare merge.",
        show_default=False,
        rich_help_panel="Work",
    ),
]
PrecisionOption = Annotated[str, typer.Option("--precision", help="auto, bf16, fp16 or fp32.")]


def option(text: str, panel: str, *names: str) -> Any:
    """An option whose help says its default itself, in brackets; None means not given."""
    return typer.Option(*names, help=escape(text), rich_help_panel=panel, show_default=False)


def worker_count(text: str) -> int | None:
    """The number of processes that `--workers` asks for; None for `auto`.

    Raises:
        SettingsError: it is something else.
    """
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise SettingsError(f"--workers takes auto or a number above 0; found '{text}'.")
    return int(text)


def given_anew(data: Path | None) -> Path | None:
    """The data set named with `--data`; None where only the environment does, which yields to what a run recorded."""
    return None if data is None or str(data) == os.environ.get(DATA_VARIABLE) else data


def read_size_hw(text: str) -> tuple[int, int]:
    """Read HEIGHTxWIDTH.

    Raises:
        SettingsError: the text has another form.

    Example:
        >>> read_size_hw("425x560")
        (425, 560)
    """
    match = re.fullmatch(r"(\d+)x(\d+)", text.strip())
    if match is None or not int(match[1]) or not int(match[2]):
        raise SettingsError(f"{text!r} is no image size.", "Write --size HEIGHTxWIDTH, e.g. --size 425x560.")
    return int(match[1]), int(match[2])
