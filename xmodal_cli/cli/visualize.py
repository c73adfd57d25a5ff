"""`xmodal visualize`: look at what was learned: filters, patches, features, detections, curves, and a report of all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xmodal_cli.cli.app import visualize_app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.options import DEFAULT_RUNS, RunsOption
from xmodal_cli.cli.output import out, table

if TYPE_CHECKING:
    from xmodal_cli.runs.folder import RunFolder

RunArgument = Annotated[Path | None, typer.Argument(help="Run folder. \\[default: the newest]", show_default=False)]
RunsArgument = Annotated[
    list[Path] | None, typer.Argument(help="Run folders. \\[default: the newest]", show_default=False)
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="File to write. \\[default: in RUN/pictures]", show_default=False)
]
BOTH = ("distill", "finetune")


@command(
    visualize_app,
    "filters",
    path="visualize filters",
    examples="xmodal visualize filters\nxmodal visualize filters runs/distill/latest --out filters.png",
)
def filters_command(run: RunArgument = None, out_: OutOption = None, runs: RunsOption = Path(DEFAULT_RUNS)) -> None:
    """Show first-layer filters before and after training, beside the teacher's; print how far they moved."""
    from xmodal_cli.cli.progress import TrainingScreen
    from xmodal_cli.pictures.filters import channel_summary, compare_filters, draw_filters
    from xmodal_cli.pictures.kept import keep_picture, picture_path

    opened = _one(run, runs, BOTH)
    with TrainingScreen() as screen:
        compared = compare_filters(opened, screen.downloading)
    path = keep_picture(picture_path(opened, "filters.png", out_), draw_filters(compared), out.command)
    columns = ["filters", "shape", "relative change", "correlation to now"]
    figures = table(f"first filters, {compared.layer}", columns, channel_summary(compared))
    out.result({**compared.to_dict(), "picture": str(path)}, [figures, str(path)], runs=[opened.path])


@command(
    visualize_app,
    "curves",
    path="visualize curves",
    examples="xmodal visualize curves\nxmodal visualize curves runs/finetune/RUN_A runs/finetune/RUN_B",
)
def curves_command(run: RunsArgument = None, out_: OutOption = None, runs: RunsOption = Path(DEFAULT_RUNS)) -> None:
    """Draw loss, explained variance and mAP of one run or several, finished or not, in one figure."""
    from xmodal_cli.pictures.curves import draw_curves, last_figures, names_of, read_curves
    from xmodal_cli.pictures.kept import keep_picture, picture_path

    opened = _several(run, runs, BOTH)
    found = [read_curves(each) for each in opened]
    path = keep_picture(picture_path(opened[0], "curves.png", out_), draw_curves(found), out.command)
    rows = [[name, *last_figures(each)] for name, each in zip(names_of(opened), found, strict=True)]
    figures = table("last figures", ["run", "steps", "loss", "explained variance", "mAP"], rows)
    results = {"curves": [each.to_dict() for each in found], "picture": str(path)}
    out.result(results, [figures, str(path)], runs=[each.path for each in opened])


def _several(named: list[Path] | None, runs: Path, commands: tuple[str, ...]) -> list[RunFolder]:
    """The runs that were named, else the newest finished one."""
    return [_one(path, runs, commands) for path in named] if named else [_one(None, runs, commands)]


def _one(run: Path | None, runs: Path, commands: tuple[str, ...]) -> RunFolder:
    """The run that was named, else the newest finished one."""
    from xmodal_cli.runs.folder import latest, open_run

    return latest(runs, commands) if run is None else open_run(run)
