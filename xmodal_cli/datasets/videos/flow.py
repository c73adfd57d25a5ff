"""Optical flow as a modality of a data set that was made of videos (paper, section 4.2).

Flow is estimated between each image's frame and the one that follows it, both decoded from the video, and written in
the encodings asked for. OpenCV's estimators work in a pool of processes, a video at a time; RAFT, a network, works in
this process, many pairs at once. Every image is written whole, so that the same command run again goes on.

Shapes: frames are `(H, W, 3)` uint8 R, G, B; flow is `(H, W, 2)` float32 pixels.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli import __version__, files
from xmodal_cli.data import images
from xmodal_cli.data.manifest import ManifestRow
from xmodal_cli.data.prepared import RGB, PreparedData
from xmodal_cli.data.splits import SCENE_FILE
from xmodal_cli.data.videos import FrameRow, frames_by_video, read_frames, read_videos, video_folder, video_path
from xmodal_cli.data.workers import resolve_workers, run_jobs
from xmodal_cli.datasets import assembly
from xmodal_cli.datasets.reports import files_line, work_lines
from xmodal_cli.datasets.videos.clips import FramePair, frame_pairs
from xmodal_cli.errors import DataError, SettingsError, closest
from xmodal_cli.modalities import MODALITIES, Frame, encode_frame
from xmodal_cli.modalities.flow_estimators import ESTIMATORS, check_frames

RAFT = "raft"
METHODS = (*ESTIMATORS, RAFT)
FLOW_MODALITIES = tuple(name for name, entry in MODALITIES.items() if entry.source == "flow")
OF = "of"  # hash of the images that flow was made of; flow of other frames is made anew
FAR_PX = 7.9  # beyond it the paper's 8-bit encoding saturates
MOST_LISTED = 200  # bad videos named in an error

Progress = Callable[[int, int], None]
Flow = NDArray[np.float32]


@dataclass(frozen=True)
class FlowSettings:
    """How flow is made.

    Args:
        modalities: `flow`, `flow_kitti` or both.
        method: `dis`, `farneback` or `raft`.
        weights: of RAFT; None fetches torchvision's.
        device: that RAFT computes on.
        overwrite: make flow again that is there with other settings.
        workers: processes; None decides.
        videos: where the videos lie now; None takes the folder that the data set records.
    """

    modalities: tuple[str, ...] = ("flow",)
    method: str = "dis"
    weights: Path | None = None
    device: str = "auto"
    overwrite: bool = False
    workers: int | None = None
    videos: Path | None = None

    def recorded(self) -> dict[str, Any]:
        """The settings that decide what the images are, as they are recorded and compared."""
        about: dict[str, Any] = {"flow": self.method}
        if self.method == RAFT:
            from xmodal_cli.models.raft import published

            about["weights"] = published().tag if self.weights is None else f"file:{files.sha256(self.weights)}"
        return about


@dataclass(frozen=True)
class FlowReport:
    """What was made.

    Args:
        modalities: the encodings.
        method: the estimator.
        images: that have flow.
        written: image files written in this run.
        finished: image files that an earlier run had finished.
        frames_per_second: pairs estimated, encoded and written a second, of all processes together; None of none.
        far_percent: share of the pixels of this run that moved farther than the 8-bit encoding tells; None of none.
        workers: processes.
        seconds: wall time.
        bytes: size of all flow images.
        dry_run: whether nothing was written; figures are then what a few frames tell.
    """

    modalities: tuple[str, ...]
    method: str
    images: int
    written: int
    finished: int
    frames_per_second: float | None
    far_percent: float | None
    workers: int
    seconds: float
    bytes: int
    dry_run: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON holds it."""
        return asdict(self)

    def table(self) -> list[tuple[str, str]]:
        """The report as lines of name and value."""
        lines = [("flow", f"{', '.join(self.modalities)} of {self.images} images, by {self.method}")]
        if not self.dry_run:
            lines.append(files_line(self.written, self.finished))
        if self.frames_per_second is not None:
            lines.append(("speed", f"{self.frames_per_second:.1f} frames/s"))
        if self.far_percent is not None:
            lines.append((f"moved beyond {FAR_PX} px", f"{self.far_percent:.2f} % of the pixels"))
        return [*lines, *work_lines(self.bytes, self.seconds, self.workers, estimated=self.dry_run)]


@dataclass(frozen=True)
class FlowRecipe:
    """What to make of every video.

    Args:
        root: the data set.
        modalities: the encodings.
        method: the estimator.
    """

    root: Path
    modalities: tuple[str, ...]
    method: str


@dataclass(frozen=True)
class FlowJob:
    """One video.

    Args:
        path: the file.
        rows: its images.
        wanted: those whose flow is not there yet.
    """

    path: Path
    rows: tuple[FrameRow, ...]
    wanted: tuple[FrameRow, ...]


@dataclass
class FlowResult:
    """What became of one video.

    Args:
        rows: manifest rows of its flow.
        made: pairs whose flow was estimated.
        pixels: of these pairs.
        far: pixels that moved farther than 7.9 px.
        error: what is wrong; None where nothing is.
        hint: how to mend it.
    """

    rows: list[ManifestRow] = field(default_factory=list)
    made: int = 0
    pixels: int = 0
    far: int = 0
    error: str | None = None
    hint: str | None = None


def check_flow(settings: FlowSettings) -> None:
    """Make sure that the options make sense.

    Raises:
        SettingsError: they do not; all problems are named.
    """
    problems = []
    for name in settings.modalities:
        if name not in FLOW_MODALITIES:
            known = ", ".join(FLOW_MODALITIES)
            problems.append(f"Of videos --modality makes {known}; found '{name}'. {closest(name, FLOW_MODALITIES)}")
    if settings.method not in METHODS:
        problems.append(f"--flow is {', '.join(METHODS)}; found '{settings.method}'.")
    if settings.weights is not None and settings.method != RAFT:
        problems.append(f"--flow-weights are RAFT's; --flow is {settings.method}.")
    if settings.weights is not None and not settings.weights.is_file():
        problems.append(f"There is no file of weights at '{settings.weights}'.")
    if problems:
        raise SettingsError("\n".join(line.strip() for line in problems), "See --help for examples.")


def add_flow(data: PreparedData, settings: FlowSettings, progress: Progress | None = None) -> FlowReport:
    """Add optical flow to a data set that was made of videos; run again, it goes on.

    Args:
        data: the data set.
        settings: how.
        progress: called with videos done and videos in all.

    Raises:
        SettingsError: options that make no sense, or flow that is there with other settings.
        DataError: the data set was not made of videos, or videos are gone, changed or damaged (all named).
        DownloadError: RAFT's weights cannot be fetched.
        OSError: the disk is full, or the folder cannot be written.
    """
    start = time.perf_counter()
    check_flow(settings)
    with assembly.exclusive(data.root):
        _begin(data, settings)
        jobs = _jobs(data, settings)
        workers = 1 if settings.method == RAFT else resolve_workers(settings.workers, len(jobs))
        results = []
        for done, result in enumerate(_work(data, settings, jobs, workers), start=1):
            results.append(result)
            if progress is not None:
                progress(done, len(jobs))
        _refuse_bad(results)
        rows = sorted((row for result in results for row in result.rows), key=lambda row: (row.modality, row.id))
        _finish(data, settings, rows)
    return _report(settings, results, rows, workers, time.perf_counter() - start)


def _begin(data: PreparedData, settings: FlowSettings) -> None:
    """Record what this run makes; what was made with other settings goes first, if it may."""
    state = assembly.read_state(data.root)
    about = {**settings.recorded(), OF: data.data_hash([RGB])}
    for name in settings.modalities:
        begun = state.get(name, _finished(data, name))
        assembly.check_unchanged(name, about, None if begun is None else {**begun, OF: about[OF]}, settings.overwrite)
        if begun != about:
            shutil.rmtree(data.root / name, ignore_errors=True)
    assembly.write_state(data.root, {**state, **dict.fromkeys(settings.modalities, about)})


def _finished(data: PreparedData, name: str) -> dict[str, Any] | None:
    """How flow that is there was made, and of which images; None where there is none."""
    entry = data.provenance["modalities"].get(name)
    return None if entry is None else {OF: entry.get(OF), **entry["settings"]}


def _jobs(data: PreparedData, settings: FlowSettings) -> list[FlowJob]:
    """Every video with the images that have no flow yet; a video with none of those is not looked at."""
    videos, folder = read_videos(data.root), None
    jobs = []
    for video, rows in frames_by_video(read_frames(data.root), data.all_ids).items():
        wanted = [
            row for row in rows if not all(_is_there(_path(data.root, name, row.id)) for name in settings.modalities)
        ]
        if wanted:
            folder = folder or video_folder(data, settings.videos)
        path = video_path(folder, videos[video]) if folder and wanted else Path(videos[video].file)
        jobs.append(FlowJob(path, tuple(rows), tuple(wanted)))
    return jobs


def _work(data: PreparedData, settings: FlowSettings, jobs: Sequence[FlowJob], workers: int) -> Iterator[FlowResult]:
    recipe = FlowRecipe(data.root, settings.modalities, settings.method)
    if settings.method != RAFT:
        yield from run_jobs(partial(flow_of_video, recipe), jobs, workers)
        return
    network = None
    for job in jobs:
        if job.wanted and network is None:
            from xmodal_cli.models.raft import load_raft
            from xmodal_cli.runs.device import resolve_device

            network = load_raft(settings.weights, resolve_device(settings.device))
        yield flow_of_video(recipe, job, network)


def flow_of_video(recipe: FlowRecipe, job: FlowJob, network: Any = None) -> FlowResult:
    """Make the flow of one video; errors of its data come back in the result.

    Args:
        recipe: what to make.
        job: of which frames.
        network: RAFT; None for OpenCV's estimators.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    result = FlowResult()
    try:
        for row, flow_px in _estimated(recipe, job, network):
            result.made += 1
            result.pixels += flow_px.shape[0] * flow_px.shape[1]
            result.far += int(np.count_nonzero(np.abs(flow_px).max(axis=2) > FAR_PX))
            for name in recipe.modalities:
                path = _path(recipe.root, name, row.id)
                path.parent.mkdir(parents=True, exist_ok=True)
                files.write_bytes(path, images.encode_png(encode_frame(name, Frame(flow_px))))
        result.rows = [_row(recipe.root, name, row.id) for row in job.rows for name in recipe.modalities]
    except DataError as error:
        return FlowResult(error=f"'{job.path}': {error.message}", hint=error.hint)
    return result


def _estimated(recipe: FlowRecipe, job: FlowJob, network: Any) -> Iterator[tuple[FrameRow, Flow]]:
    """The flow of every image wanted."""
    if not job.wanted:
        return
    pairs = frame_pairs(job.path, job.wanted)
    if network is None:
        for pair in pairs:
            yield pair.row, ESTIMATORS[recipe.method](pair.image, pair.following)
        return
    from xmodal_cli.models import raft

    for batch in _batches(pairs, raft.BATCH):
        flows = raft.estimate(network, [(pair.image, pair.following) for pair in batch])
        yield from zip([pair.row for pair in batch], flows, strict=True)


def _batches(pairs: Iterator[FramePair], most: int) -> Iterator[list[FramePair]]:
    """Pairs of one size, not too many at once."""
    for _, same in groupby(pairs, key=lambda pair: pair.image.shape):
        batch: list[FramePair] = []
        for pair in same:
            check_frames(pair.image, pair.following)
            batch.append(pair)
            if len(batch) == most:
                yield batch
                batch = []
        if batch:
            yield batch


def _path(root: Path, modality: str, identifier: str) -> Path:
    return root / modality / f"{identifier}.png"


def _is_there(path: Path) -> bool:
    """Whether an image was written; a file without content is what a power failure leaves of one."""
    return path.is_file() and path.stat().st_size > 0


def _row(root: Path, modality: str, identifier: str) -> ManifestRow:
    path = _path(root, modality, identifier)
    content = images.read_bytes(path)
    height, width = images.decode_raw(content, path).shape[:2]
    digest = hashlib.sha256(content).hexdigest()
    return ManifestRow(identifier, modality, f"{modality}/{identifier}.png", height, width, len(content), digest)


def _refuse_bad(results: Sequence[FlowResult]) -> None:
    bad = [result for result in results if result.error is not None]
    if not bad:
        return
    lines = [str(result.error) for result in bad[:MOST_LISTED]]
    if len(bad) > MOST_LISTED:
        lines.append(f"... and {len(bad) - MOST_LISTED} more.")
    raise DataError(
        f"{len(bad)} of {len(results)} videos give no flow:\n" + "\n".join(lines),
        bad[0].hint or "Mend or remove them, and prepare the data set again with --overwrite.",
    )


def _finish(data: PreparedData, settings: FlowSettings, rows: Sequence[ManifestRow]) -> None:
    """Write the data set's files with the new modalities; what it held stays."""
    made = {
        "settings": settings.recorded(),
        OF: data.data_hash([RGB]),
        "made_with": f"xmodal {__version__}",
        "images": len(data.all_ids),
    }
    others = {name: info for name, info in data.modalities.items() if name not in settings.modalities}
    before = data.provenance
    scenes = data.scenes if (data.root / SCENE_FILE).exists() else {}
    assembly.write_dataset(
        assembly.Contents(
            root=data.root,
            name=data.name,
            modalities={**others, **{name: assembly.modality_info(name) for name in settings.modalities}},
            rows=[*(row for row in data.rows.values() if row.modality in others), *rows],
            splits={split: data.ids(split) for split in data.splits},
            scenes=scenes,
            labels=None,
            classes=data.classes,
            camera=data.camera,
            provenance={**before, "modalities": {**before["modalities"], **dict.fromkeys(settings.modalities, made)}},
        )
    )


def _report(
    settings: FlowSettings, results: Sequence[FlowResult], rows: Sequence[ManifestRow], workers: int, seconds: float
) -> FlowReport:
    made, pixels = sum(result.made for result in results), sum(result.pixels for result in results)
    written = made * len(settings.modalities)
    return FlowReport(
        modalities=settings.modalities,
        method=settings.method,
        images=len(rows) // len(settings.modalities),
        written=written,
        finished=len(rows) - written,
        frames_per_second=made / seconds if made else None,
        far_percent=100.0 * sum(result.far for result in results) / pixels if pixels else None,
        workers=workers,
        seconds=seconds,
        bytes=sum(row.bytes for row in rows),
    )
