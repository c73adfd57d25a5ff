"""`xmodal prepare proposals`: boxes for every image, made here or read from a file, and how many objects they cover."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import RenderableType
from rich.markup import escape

from xmodal_cli.cli.app import prepare_app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.options import DEFAULT_RUNS, option, worker_count
from xmodal_cli.cli.output import out, table
from xmodal_cli.cli.progress import TrainingScreen, counting, duration
from xmodal_cli.errors import Interrupted

if TYPE_CHECKING:
    from xmodal_cli.data.prepared import PreparedData
    from xmodal_cli.detect.proposal_report import ProposalReport
    from xmodal_cli.detect.propose import ProposalSettings

EXAMPLES = """
xmodal prepare proposals data/nyud2 --method bottom-up
xmodal prepare proposals data/nyud2 --method bottom-up --modality rgb --name bottom-up-rgb
xmodal prepare proposals data/nyud2 --method nyud2_mcg_boxes.mat --name mcg
xmodal prepare proposals data/nyud2 --method rpn --init imagenet
xmodal prepare proposals data/nyud2 --method grid
xmodal prepare proposals data/jhmdb --modality rgb --modality flow --motion-saliency
Then: xmodal finetune --data data/nyud2 --modality hha
"""
MAKE, WORK, NETWORK, IMPORT = "What to make", "Work", "RPN", "Files made elsewhere"


@command(prepare_app, "proposals", path="prepare proposals", examples=EXAMPLES)
def proposals_command(
    data: Annotated[Path, typer.Argument(help="Prepared data set.")],
    method: Annotated[
        str,
        option("bottom-up, rpn, grid (a control), or a .mat, .npz, .json or .pkl file. [default: bottom-up]", MAKE),
    ] = "bottom-up",
    name: Annotated[str | None, option("Name of the result. [default: the method, or the file's name]", MAKE)] = None,
    modality: Annotated[
        list[str] | None,
        option("What the generator looks at; repeatable. [default: all there are; rpn: rgb]", MAKE),
    ] = None,
    most: Annotated[int | None, option("Boxes per image. [default: 2000; all of a file]", MAKE)] = None,
    motion_saliency: Annotated[
        bool,
        option("Keep only boxes that hold 30 % of the motion that the modality flow shows.", MAKE, "--motion-saliency"),
    ] = False,
    split: Annotated[str | None, option("Images to make them for: train, train+val, ... [default: all]", MAKE)] = None,
    backbone: Annotated[
        str | None, option("Network; `xmodal models` lists them. [default: squeezenet1_1]", NETWORK)
    ] = None,
    init: Annotated[
        str | None, option("random, imagenet, a run's folder, or a file of weights. [default: random]", NETWORK)
    ] = None,
    weights: Annotated[str | None, option("File of ImageNet weights, instead of a download.", NETWORK)] = None,
    train_split: Annotated[
        str | None, option("Whose annotated boxes the network learns from. [default: train]", NETWORK)
    ] = None,
    iterations: Annotated[int | None, option("Steps of two images. [default: 1200]", NETWORK)] = None,
    seed: Annotated[int | None, option("Of every random draw. [default: 0]", NETWORK)] = None,
    device: Annotated[str | None, option("auto, cpu, cuda or cuda:N. [default: auto]", NETWORK)] = None,
    runs: Annotated[Path, option(f"Folder of all runs. [default: {DEFAULT_RUNS}]", NETWORK)] = Path(DEFAULT_RUNS),
    resume: Annotated[
        Path | None, option("Continue this run of an RPN, or use its network if it is finished.", NETWORK)
    ] = None,
    order: Annotated[
        Literal["xyxy", "yxyx", "xywh"] | None,
        option("Order of a box's four values. [default: the layout's]", IMPORT, "--box-order"),
    ] = None,
    origin: Annotated[
        int | None,
        typer.Option(
            "--box-origin",
            min=0,
            max=1,
            help=escape("What the first pixel is called, 0 or 1. [default: the layout's]"),
            rich_help_panel=IMPORT,
            show_default=False,
        ),
    ] = None,
    ends: Annotated[
        Literal["inclusive", "exclusive"] | None,
        option("Whether the second corner belongs to the box. [default: the layout's]", IMPORT, "--box-ends"),
    ] = None,
    identifier: Annotated[
        str | None, option("The image of a file that holds the boxes of one.", IMPORT, "--id")
    ] = None,
    workers: Annotated[str, option("Processes: a number, or auto. [default: auto]", WORK)] = "auto",
    overwrite: Annotated[bool, option("Replace proposals of this name.", WORK, "--overwrite")] = False,
    dry_run: Annotated[bool, option("Try a few images, estimate the time, write nothing.", WORK, "--dry-run")] = False,
) -> None:
    """Make proposals, class-agnostic boxes that may hold an object, and report how many objects they cover."""
    from xmodal_cli.data.prepared import PreparedData
    from xmodal_cli.detect.propose import ProposalSettings

    network = {
        "backbone": backbone,
        "init": init,
        "weights": weights,
        "split": train_split,
        "iterations": iterations,
        "seed": seed,
        "device": device,
    }
    settings = ProposalSettings(
        method=method,
        name=name,
        modalities=tuple(dict.fromkeys(modality or ())),
        most=most,
        split=split,
        workers=worker_count(workers),
        overwrite=overwrite,
        dry_run=dry_run,
        identifier=identifier,
        order=order,
        origin=origin,
        ends=ends,
        motion_saliency=motion_saliency,
        rpn={option: value for option, value in network.items() if value is not None},
        runs=runs,
        run=resume,
    )
    prepared = PreparedData.open(data)
    _show(_prepare(prepared, settings), prepared)


def _prepare(data: PreparedData, settings: ProposalSettings) -> ProposalReport:
    """Run the work; an interruption says what is left."""
    from xmodal_cli.detect.propose import RPN, prepare_proposals

    try:
        if settings.method != RPN:
            with counting("images") as watch:
                return prepare_proposals(data, settings, watch)
        from xmodal_cli.runs.session import Watchers

        with TrainingScreen("proposals") as screen:
            watchers = Watchers(out.say, screen.downloading, screen.filling, screen.training, out.detail)
            return prepare_proposals(data, settings, screen.filling, watchers)
    except KeyboardInterrupt:
        raise Interrupted("Interrupted; nothing was written.", "Run the same command again.") from None


def _show(report: ProposalReport, data: PreparedData) -> None:
    """Figures and recall as data, notes as talk, curves as a picture beside the proposals."""
    from xmodal_cli.detect.propose import RECALL_PICTURE
    from xmodal_cli.metrics.recall import recall_table

    for note in report.notes:
        out.warn(note)
    title = "dry run: nothing was written" if report.dry_run else f"proposals {report.name}"
    tables: list[RenderableType] = [table(title, ["", ""], _figures(report), left=2)]
    for split, found in report.recall.items():
        columns, rows = recall_table(found.proposals, found.grid)
        about = f"{found.proposals.objects} objects in {found.proposals.images} images"
        tables.append(table(f"recall on {split}, {about}; grid: as many windows without content", columns, rows))
    results = report.to_dict()
    if report.recall and not report.dry_run:
        from xmodal_cli.pictures.recall_curves import write_recall_curves

        drawn = write_recall_curves(report.recall, report.name, report.folder / RECALL_PICTURE)
        results["picture"] = str(drawn)
        tables.append(f"curves: {drawn}")
    out.result(results, tables, data=data.root)
    if report.dry_run:
        out.next_step("the same command without --dry-run")
        return
    target = next((name for name in data.modalities if name != "rgb"), "rgb")
    out.next_step(f"xmodal finetune --data {data.root} --modality {target} --proposals {report.name}")


def _figures(report: ProposalReport) -> list[list[object]]:
    rows: list[list[object]] = [["made by", report.method]]
    rows += [[key.replace("_", " "), count] for key, count in report.counts.items()]
    if report.seconds_per_image is not None:
        rows.append(["time per image", f"{report.seconds_per_image:.2f} s"])
    if report.seconds_total is not None:
        rows.append(["time in one process", duration(report.seconds_total)])
    if not report.dry_run:
        rows.append(["folder", report.folder])
    return rows
