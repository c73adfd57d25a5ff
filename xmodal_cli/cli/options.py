"""Options that several commands share, each described once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

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
PrecisionOption = Annotated[str, typer.Option("--precision", help="auto, bf16, fp16 or fp32.")]


def given_anew(data: Path | None) -> Path | None:
    """The data set named with `--data`; None where only the environment does, which yields to what a run recorded."""
    return None if data is None or str(data) == os.environ.get(DATA_VARIABLE) else data
