"""`xmodal prepare nyud2`: options to settings, one call, a report; proposals come in afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from xmodal_cli.cli.app import prepare_app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.options import ShardOption, option, worker_count
from xmodal_cli.cli.output import out, table
from xmodal_cli.cli.prepared import show_prepared
from xmodal_cli.cli.progress import counting, finished_files_kept
from xmodal_cli.errors import DataError, SettingsError

if TYPE_CHECKING:
    from xmodal_cli.datasets.nyud2.prepare import Nyud2Report, Nyud2Settings
    from xmodal_cli.detect.proposal_report import ProposalReport

EXAMPLES = """
xmodal prepare nyud2 --out data/nyud2
xmodal prepare nyud2 --labelled nyu_depth_v2_labeled.mat --out data/nyud2
xmodal prepare nyud2 --labelled nyu_depth_v2_labeled.mat --splits splits.mat --modality hha --modality disparity \
--out data/nyud2
xmodal prepare nyud2 --archive nyud2_data --superpixels nyud2_sp --proposals nyud2_mcg_boxes.mat --out data/nyud2
xmodal prepare nyud2 --labelled nyu_depth_v2_labeled.mat --out data/nyud2 --dry-run
xmodal prepare nyud2 --labelled nyu_depth_v2_labeled.mat --shard 1/3 --out parts/1
Then: xmodal prepare check data/nyud2
"""
SOURCE, MORE, WORK = "Source", "What belongs to it", "Work"
PROPOSALS = "mcg"  # name of imported proposals in the data set


@command(prepare_app, "nyud2", path="prepare nyud2", examples=EXAMPLES)
def nyud2_command(
    out_folder: Annotated[Path, option("Data set to make, or to add a modality to.", SOURCE, "--out")],
    labelled: Annotated[Path | None, option("nyu_depth_v2_labeled.mat. [default: the downloaded one]", SOURCE)] = None,
    archive: Annotated[Path | None, option("Folder of the authors' archive, unpacked.", SOURCE)] = None,
    modalities: Annotated[
        list[str] | None,
        option(
            "hha, depth, raw_depth, disparity or gray; repeatable. [default: hha, depth and raw_depth]",
            SOURCE,
            "--modality",
        ),
    ] = None,
    link: Annotated[
        Literal["hard", "sym", "copy"],
        option("How files of the archive get in: hard, sym or copy. [default: hard]", SOURCE),
    ] = "hard",
    name: Annotated[str | None, option("Name of the data set. [default: the folder's]", SOURCE)] = None,
    splits: Annotated[
        Path | None, option("splits.mat or nyusplits.mat, to be compared with the built-in lists.", MORE)
    ] = None,
    superpixels: Annotated[Path | None, option("Folder of the authors' superpixels.", MORE)] = None,
    proposals: Annotated[
        Path | None, option(f"nyud2_mcg_boxes.mat; becomes the proposals '{PROPOSALS}'.", MORE)
    ] = None,
    allow_shared_scenes: Annotated[
        bool, option("Go on although a scene is in two splits.", MORE, "--allow-shared-scenes")
    ] = False,
    overwrite: Annotated[
        bool, option("Make anew what is there, also from another source.", WORK, "--overwrite")
    ] = False,
    workers: Annotated[str, option("Processes: a number, or auto. [default: auto]", WORK)] = "auto",
    shard: ShardOption = None,
    dry_run: Annotated[
        bool, option("Look at everything, estimate time and size, write nothing.", WORK, "--dry-run")
    ] = False,
) -> None:
    """Turn NYU Depth v2 into a prepared data set, with boxes, masks, splits and scenes; run again, it goes on."""
    from xmodal_cli.datasets.nyud2.settings import Nyud2Settings
    from xmodal_cli.datasets.shards import Shard

    settings = Nyud2Settings(
        out=out_folder,
        labelled=labelled,
        archive=archive,
        modalities=tuple(dict.fromkeys(modalities or ())),
        splits=splits,
        superpixels=superpixels,
        allow_shared_scenes=allow_shared_scenes,
        link=link,
        overwrite=overwrite,
        workers=worker_count(workers),
        dry_run=dry_run,
        name=name,
        shard=Shard.parse(shard),
    )
    if proposals is not None and shard is not None:
        raise SettingsError(
            "--proposals are of all images; --shard prepares a part of them.",
            f"Join the parts first, then: xmodal prepare proposals DATA --method {proposals} --name {PROPOSALS}",
        )
    if proposals is not None and not proposals.is_file():
        raise DataError(f"There is no file '{proposals}'.", "Check the path of --proposals.")
    report = _prepare(settings)
    imported = None if proposals is None or dry_run else _import(proposals, out_folder, overwrite)
    _show(report, imported)


def _prepare(settings: Nyud2Settings) -> Nyud2Report:
    """Run the work; an interruption says how to go on."""
    from xmodal_cli.datasets.nyud2.prepare import prepare_nyud2

    with finished_files_kept(), counting("images prepared") as progress:
        return prepare_nyud2(settings, progress)


def _import(file: Path, root: Path, overwrite: bool) -> ProposalReport | None:
    """Import proposals, unless an earlier run did."""
    from xmodal_cli.data.prepared import PreparedData
    from xmodal_cli.data.proposals import PROPOSAL_FOLDER
    from xmodal_cli.detect.propose import ProposalSettings, prepare_proposals

    if (root / PROPOSAL_FOLDER / PROPOSALS).exists() and not overwrite:
        out.say(f"proposals '{PROPOSALS}' are there already; --overwrite replaces them")
        return None
    with finished_files_kept(), counting("images with proposals") as progress:
        settings = ProposalSettings(method=str(file), name=PROPOSALS, overwrite=overwrite)
        return prepare_proposals(PreparedData.open(root), settings, progress)


def _show(report: Nyud2Report, imported: ProposalReport | None) -> None:
    for note in (*report.notes, *(imported.notes if imported is not None else ())):
        out.warn(note)
    document, lines = report.to_dict(), []
    if imported is not None:
        document["proposals"] = imported.to_dict()
        lines = [("proposals", f"{imported.counts['kept']} boxes of {imported.counts['images']} images")]
    columns, objects = report.object_table()
    tables = [table("objects", ["class", *columns[1:]], objects)] if objects else []
    show_prepared(report, lines=lines, tables=tables, document=document)
