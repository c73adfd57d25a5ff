"""`xmodal export`: a run as files that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xmodal_cli.cli.app import app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.layers import parse_size
from xmodal_cli.cli.options import DEFAULT_RUNS, RunsOption
from xmodal_cli.cli.output import out

if TYPE_CHECKING:
    from xmodal_cli.export.export import Exported

EXAMPLES = """
xmodal export runs/distill/latest
xmodal export runs/distill/latest --adapter --out student
xmodal export runs/distill/latest --format timm
xmodal export runs/finetune/latest --format onnx
"""


@command(app, "export", examples=EXAMPLES)
def export_command(
    run: Annotated[Path, typer.Argument(help="Run folder: of distill, finetune or zero-shot, whatever its task.")],
    format: Annotated[str, typer.Option("--format", help="safetensors, timm or onnx.")] = "safetensors",
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="Where to. \\[default: runs/export/RUN-FORMAT]", show_default=False),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="HEIGHTxWIDTH of an ONNX graph whose images cannot be of any size. \\[default: as the run sees them]",
            show_default=False,
        ),
    ] = None,
    adapter: Annotated[bool, typer.Option("--adapter", help="A student with its adapter to the teacher.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Make and check everything, leave nothing.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    runs: RunsOption = Path(DEFAULT_RUNS),
) -> None:
    """Export a run to formats that other programs read, with the Python that loads it."""
    from xmodal_cli.export.export import export
    from xmodal_cli.runs.folder import open_run

    opened = open_run(run)
    where = folder or runs / "export" / f"{opened.path.name}-{format}"
    size_hw = None if size is None else parse_size(size)
    exported = export(opened, format, where, adapter=adapter, size_hw=size_hw, overwrite=overwrite, dry_run=dry_run)
    _report(exported, opened.path, dry_run=dry_run)


def _report(exported: Exported, run: Path, *, dry_run: bool) -> None:
    """Where everything lies, and how it is loaded."""
    out.result(exported, [str(exported.folder / name) for name in exported.files], runs=[run])
    for note in exported.notes:
        out.warn(note)
    if dry_run:
        out.say("dry run: nothing was written")
        out.next_step("the same command without --dry-run")
        return
    out.say(exported.what)
    for line in exported.load.splitlines():
        out.say(f"    {line}")
    out.next_step(_next(exported))


def _next(exported: Exported) -> str:
    """What one does with it: begin a training with a student's file, else load it."""
    networks = exported.card.get("networks", [])
    if exported.format == "safetensors" and exported.kind == "student":
        network = networks[0]
        return (
            f"xmodal finetune --init {exported.folder / network['file']} --backbone {network['backbone']} "
            f"--modality {network['modality']} --data {exported.card['data']['path']}"
        )
    return f"the Python above, in {exported.folder}"
