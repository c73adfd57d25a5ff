"""`xmodal prepare video`, `prepare jhmdb` and `prepare ucf101`: options to settings, one call, a report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from xmodal_cli.cli.app import prepare_app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.options import option, worker_count
from xmodal_cli.cli.output import out, table
from xmodal_cli.cli.progress import counting, finished_files_kept
from xmodal_cli.errors import SettingsError

if TYPE_CHECKING:
    from xmodal_cli.datasets.videos.plan import WorkSettings
    from xmodal_cli.datasets.videos.report import VideosReport

VIDEO_EXAMPLES = """
xmodal prepare video --videos videos --out data/video
xmodal prepare video --videos videos --frames-per-video 20 --val-fraction 0.2 --out data/video
xmodal prepare video --videos videos --skip-bad --workers 8 --out data/video
xmodal prepare video --videos videos --out data/video --dry-run
Then: xmodal prepare check data/video
"""
JHMDB_EXAMPLES = """
xmodal prepare jhmdb --videos jhmdb --out data/jhmdb
xmodal prepare jhmdb --videos jhmdb/clips --boxes jhmdb/boxes.csv \
--lists jhmdb/splits --split 2 --out data/jhmdb-2
Then: xmodal prepare check data/jhmdb
"""
UCF101_EXAMPLES = """
xmodal prepare ucf101 --videos UCF-101 --lists ucfTrainTestlist --out data/ucf101
xmodal prepare ucf101 --videos UCF-101 --lists ucfTrainTestlist --split 2 --test --out data/ucf101-2
Then: xmodal prepare check data/ucf101
"""
VIDEOS, LABELS, WORK = "Videos", "Splits and labels", "Work"

VideosOption = Annotated[Path, option("Folder of videos; folders below it count too.", VIDEOS, "--videos")]
OutOption = Annotated[Path, option("Data set to make.", VIDEOS, "--out")]
NameOption = Annotated[str | None, option("Name of the data set. [default: the folder's]", VIDEOS, "--name")]
SkipOption = Annotated[bool, option("Leave bad and missing videos out and count them.", WORK, "--skip-bad")]
OverwriteOption = Annotated[
    bool, option("Make the data set anew if it is there with other settings.", WORK, "--overwrite")
]
WorkersOption = Annotated[str, option("Processes: a number, or auto. [default: auto]", WORK, "--workers")]
DryOption = Annotated[bool, option("Decode a few videos, estimate time and size, write nothing.", WORK, "--dry-run")]


@command(prepare_app, "video", path="prepare video", examples=VIDEO_EXAMPLES)
def video_command(
    videos: VideosOption,
    out_folder: OutOption,
    frames_per_video: Annotated[str, option("How many, evenly spread, or all. [default: 5]", VIDEOS)] = "5",
    name: NameOption = None,
    val_fraction: Annotated[float | None, option("Share of the videos for the split val.", LABELS)] = None,
    skip_bad: SkipOption = False,
    overwrite: OverwriteOption = False,
    workers: WorkersOption = "auto",
    dry_run: DryOption = False,
) -> None:
    """Take frames from a folder of videos; every frame kept has a next one, for optical flow. Run again, it goes on."""
    from xmodal_cli.datasets.videos.plan import WorkSettings
    from xmodal_cli.datasets.videos.video import VideoSettings, prepare_video

    work = WorkSettings(
        videos, out_folder, _count(frames_per_video), name, skip_bad, overwrite, worker_count(workers), dry_run
    )
    _run(lambda progress: prepare_video(VideoSettings(work, val_fraction), progress), work)


@command(prepare_app, "jhmdb", path="prepare jhmdb", examples=JHMDB_EXAMPLES)
def jhmdb_command(
    videos: Annotated[Path, option("Folder of the clips, in folders named after their action.", VIDEOS, "--videos")],
    out_folder: OutOption,
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
    skip_bad: SkipOption = False,
    overwrite: OverwriteOption = False,
    workers: WorkersOption = "auto",
    dry_run: DryOption = False,
) -> None:
    """Prepare the JHMDB clips: 21 actions, a box in every frame, one of three splits. Run again, it goes on."""
    from xmodal_cli.datasets.videos.jhmdb import JhmdbSettings, prepare_jhmdb
    from xmodal_cli.datasets.videos.plan import WorkSettings

    work = WorkSettings(
        videos, out_folder, _count(frames_per_video), name, skip_bad, overwrite, worker_count(workers), dry_run
    )
    _run(lambda progress: prepare_jhmdb(JhmdbSettings(work, boxes, lists, split), progress), work)


@command(prepare_app, "ucf101", path="prepare ucf101", examples=UCF101_EXAMPLES)
def ucf101_command(
    videos: Annotated[Path, option("Folder of the videos, as in the archive: UCF-101.", VIDEOS, "--videos")],
    out_folder: OutOption,
    lists: Annotated[
        Path | None, option("Folder of trainlist01.txt. [default: looked for in and beside --videos]", LABELS)
    ] = None,
    split: Annotated[int, option("Which of the three lists: 1, 2 or 3. [default: 1]", LABELS)] = 1,
    test: Annotated[bool, option("Take the videos of the test list too, as split test.", LABELS, "--test")] = False,
    frames_per_video: Annotated[str, option("How many, evenly spread, or all. [default: 5]", VIDEOS)] = "5",
    name: NameOption = None,
    skip_bad: SkipOption = False,
    overwrite: OverwriteOption = False,
    workers: WorkersOption = "auto",
    dry_run: DryOption = False,
) -> None:
    """Prepare frames of UCF101's train list, five of each video as in the paper. Run again, it goes on."""
    from xmodal_cli.datasets.videos.plan import WorkSettings
    from xmodal_cli.datasets.videos.ucf101 import Ucf101Settings, prepare_ucf101

    work = WorkSettings(
        videos, out_folder, _count(frames_per_video), name, skip_bad, overwrite, worker_count(workers), dry_run
    )
    _run(lambda progress: prepare_ucf101(Ucf101Settings(work, lists, split, test), progress), work)


def _run(prepare: Callable[[Callable[[int, int], None]], VideosReport], work: WorkSettings) -> None:
    """Do the work and show its report; an interruption says how to go on."""
    with finished_files_kept(), counting("videos prepared") as progress:
        report = prepare(progress)
    for note in report.notes:
        out.warn(note)
    for problem in report.left_out.values():
        out.warn(f"left out: {problem}")
    title = "dry run: nothing was written" if report.dry_run else "prepared"
    out.result(report, [table(title, ["", ""], [list(line) for line in report.table()], left=2)], data=report.root)
    out.next_step("the same command without --dry-run" if report.dry_run else f"xmodal prepare check {work.out}")


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
