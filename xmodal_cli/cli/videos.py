"""`xmodal prepare video`, `prepare jhmdb` and `prepare ucf101`: options to settings, one call, a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from xmodal_cli.cli.app import prepare_app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.options import ShardOption, option, worker_count
from xmodal_cli.cli.output import out, table
from xmodal_cli.cli.prepared import show_prepared
from xmodal_cli.cli.progress import counting, finished_files_kept
from xmodal_cli.errors import SettingsError

if TYPE_CHECKING:
    from xmodal_cli.datasets.videos.flow import FlowReport, FlowSettings
    from xmodal_cli.datasets.videos.plan import WorkSettings
    from xmodal_cli.datasets.videos.report import VideosReport

    Progress = Callable[[int, int], None]

VIDEO_EXAMPLES = """
xmodal prepare video --videos videos --out data/video
xmodal prepare video --videos videos --frames-per-video 20 --val-fraction 0.2 --out data/video
xmodal prepare video --videos videos --skip-bad --workers 8 --out data/video
xmodal prepare video --videos videos --actions --modality flow --out data/actions
xmodal prepare video --videos videos --modality flow --out data/video
xmodal prepare video --videos videos --modality flow --shard 2/8 --out parts/2
xmodal prepare video --videos videos --out data/video --dry-run
Then: xmodal prepare check data/video
"""
JHMDB_EXAMPLES = """
xmodal prepare jhmdb --out data/jhmdb
xmodal prepare jhmdb --videos jhmdb --out data/jhmdb
xmodal prepare jhmdb --videos jhmdb/clips --boxes jhmdb/boxes.csv \
--lists jhmdb/splits --split 2 --out data/jhmdb-2
xmodal prepare jhmdb --videos jhmdb --modality flow --flow dis --out data/jhmdb
Then: xmodal prepare check data/jhmdb
"""
UCF101_EXAMPLES = """
xmodal prepare ucf101 --out data/ucf101
xmodal prepare ucf101 --videos UCF-101 --lists ucfTrainTestlist --out data/ucf101
xmodal prepare ucf101 --videos UCF-101 --lists ucfTrainTestlist --split 2 --test --out data/ucf101-2
xmodal prepare ucf101 --videos UCF-101 --lists ucfTrainTestlist --modality flow --out data/ucf101
Then: xmodal prepare check data/ucf101
"""
VIDEOS, FLOW, LABELS, WORK = "Videos", "Optical flow", "Splits and labels", "Work"

OutOption = Annotated[Path, option("Data set to make.", VIDEOS, "--out")]
NameOption = Annotated[str | None, option("Name of the data set. [default: the folder's]", VIDEOS, "--name")]
ModalityOption = Annotated[
    list[str] | None, option("flow (the paper's 8 bits) or flow_kitti (16 bits); repeatable.", FLOW, "--modality")
]
FlowOption = Annotated[
    str | None, option("dis or farneback (OpenCV), or raft (a network). [default: dis]", FLOW, "--flow")
]
WeightsOption = Annotated[
    Path | None, option("RAFT's weights, torchvision's or its authors'. [default: fetched]", FLOW, "--flow-weights")
]
DeviceOption = Annotated[str, option("What RAFT computes on: auto, cpu, cuda. [default: auto]", FLOW, "--device")]
SkipOption = Annotated[bool, option("Leave bad and missing videos out and count them.", WORK, "--skip-bad")]
OverwriteOption = Annotated[
    bool, option("Make the data set anew if it is there with other settings.", WORK, "--overwrite")
]
WorkersOption = Annotated[str, option("Processes: a number, or auto. [default: auto]", WORK, "--workers")]
DryOption = Annotated[bool, option("Decode a few videos, estimate time and size, write nothing.", WORK, "--dry-run")]


@command(prepare_app, "video", path="prepare video", examples=VIDEO_EXAMPLES)
def video_command(
    videos: Annotated[Path, option("Folder of videos; folders below it count too.", VIDEOS, "--videos")],
    out_folder: OutOption,
    frames_per_video: Annotated[str, option("How many, evenly spread, or all. [default: 5]", VIDEOS)] = "5",
    name: NameOption = None,
    modality: ModalityOption = None,
    flow: FlowOption = None,
    flow_weights: WeightsOption = None,
    device: DeviceOption = "auto",
    val_fraction: Annotated[float | None, option("Share of the videos for the split val.", LABELS)] = None,
    actions: Annotated[
        bool, option("Folders are named after actions: DIR/ACTION/VIDEO, the class of each video.", LABELS, "--actions")
    ] = False,
    skip_bad: SkipOption = False,
    overwrite: OverwriteOption = False,
    workers: WorkersOption = "auto",
    shard: ShardOption = None,
    dry_run: DryOption = False,
) -> None:
    """Take frames from a folder of videos; every frame kept has a next one, for optical flow. Run again, it goes on."""
    from xmodal_cli.datasets.videos.video import VideoSettings, prepare_video

    _run(locals(), lambda work, progress: prepare_video(VideoSettings(work, val_fraction, actions), progress))


@command(prepare_app, "jhmdb", path="prepare jhmdb", examples=JHMDB_EXAMPLES)
def jhmdb_command(
    out_folder: OutOption,
    videos: Annotated[
        Path | None,
        option("Folder of the clips, in folders named after their action. [default: the downloaded]", VIDEOS),
    ] = None,
    boxes: Annotated[
        Path | None, option("jhmdb_annot.mat, or CSV. [default: looked for in and beside --videos]", LABELS)
    ] = None,
    lists: Annotated[
        Path | None,
        option("Folder of ACTION_test_splitK.txt, or CSV. [default: looked for in and beside --videos]", LABELS),
    ] = None,
    split: Annotated[int, option("Which of the three: 1, 2 or 3. [default: 1]", LABELS)] = 1,
    frames_per_video: Annotated[
        str, option("Annotated frames of each clip, evenly spread, or all. [default: all]", VIDEOS)
    ] = "all",
    name: NameOption = None,
    modality: ModalityOption = None,
    flow: FlowOption = None,
    flow_weights: WeightsOption = None,
    device: DeviceOption = "auto",
    skip_bad: SkipOption = False,
    overwrite: OverwriteOption = False,
    workers: WorkersOption = "auto",
    shard: ShardOption = None,
    dry_run: DryOption = False,
) -> None:
    """Prepare the JHMDB clips: 21 actions, a box in every frame, one of three splits. Run again, it goes on."""
    from xmodal_cli.datasets.videos.jhmdb import JhmdbSettings, downloaded, prepare_jhmdb

    if videos is None:
        here = downloaded()
        videos, boxes, lists = here.videos, boxes or here.boxes, lists or here.lists
    _run(locals(), lambda work, progress: prepare_jhmdb(JhmdbSettings(work, boxes, lists, split), progress))


@command(prepare_app, "ucf101", path="prepare ucf101", examples=UCF101_EXAMPLES)
def ucf101_command(
    out_folder: OutOption,
    videos: Annotated[
        Path | None,
        option("Folder of the videos, as in the archive: UCF-101. [default: the downloaded]", VIDEOS),
    ] = None,
    lists: Annotated[
        Path | None, option("Folder of trainlist01.txt. [default: looked for in and beside --videos]", LABELS)
    ] = None,
    split: Annotated[int, option("Which of the three lists: 1, 2 or 3. [default: 1]", LABELS)] = 1,
    test: Annotated[bool, option("Take the videos of the test list too, as split test.", LABELS, "--test")] = False,
    frames_per_video: Annotated[str, option("How many, evenly spread, or all. [default: 5]", VIDEOS)] = "5",
    name: NameOption = None,
    modality: ModalityOption = None,
    flow: FlowOption = None,
    flow_weights: WeightsOption = None,
    device: DeviceOption = "auto",
    skip_bad: SkipOption = False,
    overwrite: OverwriteOption = False,
    workers: WorkersOption = "auto",
    shard: ShardOption = None,
    dry_run: DryOption = False,
) -> None:
    """Prepare frames of UCF101's train list, five of each video as in the paper. Run again, it goes on."""
    from xmodal_cli.datasets.videos.ucf101 import Ucf101Settings, downloaded, prepare_ucf101

    if videos is None:
        here = downloaded()
        videos, lists = here.videos, lists or here.lists
    _run(locals(), lambda work, progress: prepare_ucf101(Ucf101Settings(work, lists, split, test), progress))


def _run(options: Mapping[str, Any], prepare: Callable[[WorkSettings, Progress], VideosReport]) -> None:
    """Do the work and show its report; an interruption says how to go on.

    Args:
        options: of the command, by name; those that all three share are read here.
        prepare: the work.
    """
    work = _work(options)
    flow = _flow(work, options)
    made = None
    with finished_files_kept():
        with counting("videos prepared") as progress:
            report = prepare(work, progress)
        if flow is not None:
            with counting("videos with flow") as progress:
                made = _make_flow(report, work, flow, progress)
    for note in report.notes:
        out.warn(note)
    for problem in report.left_out.values():
        out.warn(f"left out: {problem}")
    if made is None:
        show_prepared(report)
    else:
        tables = [table("optical flow", ["", ""], made.table(), left=2)]
        show_prepared(report, tables=tables, document={**report.to_dict(), "flow": made.to_dict()})


def _work(options: Mapping[str, Any]) -> WorkSettings:
    """What all three commands are asked to do.

    Raises:
        SettingsError: options that make no sense.
    """
    from xmodal_cli.datasets.shards import Shard
    from xmodal_cli.datasets.videos.plan import WorkSettings

    return WorkSettings(
        videos=options["videos"],
        out=options["out_folder"],
        per_video=_count(options["frames_per_video"]),
        name=options["name"],
        skip_bad=options["skip_bad"],
        overwrite=options["overwrite"],
        workers=worker_count(options["workers"]),
        dry_run=options["dry_run"],
        shard=Shard.parse(options["shard"]),
    )


def _flow(work: WorkSettings, options: Mapping[str, Any]) -> FlowSettings | None:
    """How flow is made; None where none is wanted.

    Raises:
        SettingsError: options that make no sense.
    """
    from xmodal_cli.datasets.videos.flow import FlowSettings, check_flow

    if not options["modality"]:
        if options["flow"] is not None or options["flow_weights"] is not None:
            raise SettingsError("--flow and --flow-weights say how flow is made.", "Add --modality flow.")
        return None
    settings = FlowSettings(
        modalities=tuple(dict.fromkeys(options["modality"])),
        method=options["flow"] or "dis",
        weights=options["flow_weights"],
        device=options["device"],
        overwrite=work.overwrite,
        workers=work.workers,
        videos=work.videos,
    )
    check_flow(settings)
    return settings


def _make_flow(report: VideosReport, work: WorkSettings, flow: FlowSettings, progress: Progress) -> FlowReport:
    from xmodal_cli.data.prepared import PreparedData
    from xmodal_cli.datasets.videos.flow import add_flow
    from xmodal_cli.datasets.videos.flow_trial import try_flow

    if report.dry_run:
        return try_flow(work.videos, flow, sum(report.splits.values()), report.workers)
    return add_flow(PreparedData.open(work.out), flow, progress)


def _count(text: str) -> int | None:
    """Frames of each video; None for all.

    Raises:
        SettingsError: it is something else.
    """
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise SettingsError(f"--frames-per-video takes all or a number above 0; found '{text}'.")
    return int(text)
