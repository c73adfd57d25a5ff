"""Making proposals for a data set, by whatever method, and saying how good they are.

A method is a way to get from images to boxes: `bottom-up` groups regions, `rpn` is a network trained on the training
split, `grid` looks at nothing, and a file brings boxes made elsewhere. Whichever it is, the result is stored in one
form with a description that makes the same boxes for a new image (`propose_for`), and recall is reported on every split
that has annotations, beside windows without content. Annotations serve for that report alone: no box depends on them.

Shapes: N boxes of an image.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli import files
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import PROPOSAL_FOLDER, check_free, write_proposals
from xmodal_cli.data.workers import resolve_workers, run_jobs
from xmodal_cli.datasets.proposals.files import READERS, Ends, Order, read_proposal_file
from xmodal_cli.datasets.proposals.importing import fit_to_data, swap_suspicion
from xmodal_cli.detect import motion
from xmodal_cli.detect.proposal_report import ProposalReport, measure_splits
from xmodal_cli.errors import DataError, SettingsError, closest
from xmodal_cli.metrics.recall import grid_windows

if TYPE_CHECKING:
    from xmodal_cli.runs.session import Watchers

BOTTOM_UP, RPN, GRID, FILE = "bottom-up", "rpn", "grid", "file"
METHODS = (BOTTOM_UP, RPN, GRID)  # what --method takes beside a file
MOST = 2000  # boxes per image: what MCG's file held in the paper (recipe 1.6), and its R-CNN's limit
RECALL_FILE, RECALL_PICTURE = "recall.json", "recall.png"
TRIAL_IMAGES = 3  # of a dry run; the first is not timed, since it loads libraries

Boxes = NDArray[np.float32]
Watch = Callable[[int, int], None]


@dataclass(frozen=True)
class ProposalSettings:
    """What `xmodal prepare proposals` is told.

    Args:
        method: `bottom-up`, `rpn`, `grid`, or the path of a file.
        name: name of the result; by default the method, or the file's name without its ending.
        modalities: which images the generator looks at; all by default, and one for `rpn`: rgb if it is there.
        most: boxes per image; by default 2000, and all of a file.
        split: images to make them for: a split or several joined by `+`; all by default.
        workers: processes; None decides.
        overwrite: replace proposals of this name.
        dry_run: try a few images and write nothing.
        identifier: the image of a file that holds the boxes of one.
        order: overrides the order of a file's values.
        origin: overrides what a file calls the first pixel.
        ends: overrides whether a file's second corners belong to the boxes.
        motion_saliency: keep only boxes that hold a good part of the motion that the modality flow shows.
        rpn: settings of the network's training by name, as `RpnSettings` has them.
        runs: the folder of all runs, where the network is trained.
        run: a run of such a training to continue or, if it is finished, to use.
    """

    method: str = BOTTOM_UP
    name: str | None = None
    modalities: tuple[str, ...] = ()
    most: int | None = None
    split: str | None = None
    workers: int | None = None
    overwrite: bool = False
    dry_run: bool = False
    identifier: str | None = None
    order: Order | None = None
    origin: int | None = None
    ends: Ends | None = None
    motion_saliency: bool = False
    rpn: Mapping[str, Any] = field(default_factory=dict)
    runs: Path = Path("runs")
    run: Path | None = None

    @property
    def stored_name(self) -> str:
        """The name of the result."""
        plain = self.method if self.method in METHODS else Path(self.method).stem
        return self.name or plain + "-motion" * self.motion_saliency


@dataclass(frozen=True)
class _Source:
    """Boxes about to be made: a stream in order of ID, and the description (with files) that makes them again."""

    boxes: Iterable[tuple[str, Boxes]]
    description: Mapping[str, Any]
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    attached: tuple[Path, ...] = ()


def prepare_proposals(
    data: PreparedData, settings: ProposalSettings, watch: Watch | None = None, watchers: Watchers | None = None
) -> ProposalReport:
    """Make proposals for a data set, store them, and measure their recall.

    Args:
        data: the data set.
        settings: what to make.
        watch: told (done, total) images.
        watchers: told of a network's training.

    Returns:
        The report, which also lies beside the proposals as recall.json.

    Raises:
        SettingsError: unknown method, modality or split, options that do not belong to the method, or a taken name.
        DataError: a file that cannot be used, or an image that cannot be read.
        Interrupted: a network's training was stopped; it can be resumed.
    """
    check_settings(settings)
    if settings.motion_saliency:
        motion.check_flow(data)
    ids = data.all_ids if settings.split is None else data.ids(settings.split)
    name = settings.stored_name
    check_free(data.root, name, overwrite=settings.overwrite or settings.dry_run)
    chosen = ids[:: max(1, len(ids) // TRIAL_IMAGES)][:TRIAL_IMAGES] if settings.dry_run else ids
    source = _source(data, settings, ids if _is_file(settings.method) else chosen, watchers)
    if settings.motion_saliency:
        source = _of_what_moves(source, data)
    begun = time.monotonic()
    counted = _counted(source.boxes, len(chosen), watch)
    folder = data.root / PROPOSAL_FOLDER / name
    report = ProposalReport(name, source.description["method"], folder, source.counts, notes=source.notes)
    if settings.dry_run:
        return _tried(report, data, counted, len(ids))
    description = {**source.description, "split": settings.split or "+".join(data.splits)}
    stored = write_proposals(
        data.root, name, counted, description, attached=source.attached, overwrite=settings.overwrite
    )
    seconds = None if _is_file(settings.method) else (time.monotonic() - begun) / len(ids)
    report = replace(
        report,
        counts={**stored.description["counts"], **source.counts},
        recall=measure_splits(data, stored),
        seconds_per_image=seconds,
    )
    files.write_json(folder / RECALL_FILE, report.to_dict())
    return report


def propose_for(
    description: Mapping[str, Any], images: Mapping[str, NDArray[Any]], folder: Path | None = None
) -> Boxes:
    """Make proposals for a new image as those of a data set were made.

    Args:
        description: the description of stored proposals (`Proposals.description`): `method` and `settings`.
        images: the new image by modality, `(H, W, C)` each as a data set stores it.
        folder: where the proposals lie (`Proposals.root`), if they may have been moved since.

    Returns:
        `(N, 4)` float32 xyxy, best first.

    Raises:
        SettingsError: they came from a file, or a modality that the method looked at is missing.
        DataError: the weights of the network that made them are gone.

    Example:
        >>> grid = {"method": "grid", "settings": {"most": 1}}
        >>> propose_for(grid, {"rgb": np.zeros((6, 8, 3), np.uint8)}).tolist()
        [[0.0, 0.0, 8.0, 6.0]]
    """
    looked_at = description.get("settings", {}).get("motion")
    if looked_at is None:
        return _propose_for(description, images, folder)
    if looked_at not in images:
        raise SettingsError(
            f"The proposals were chosen by motion; there is no {looked_at} image (only {', '.join(images)}).",
            "Give it too, or make proposals without --motion-saliency.",
        )
    return motion.filtered(_propose_for(description, images, folder), images[looked_at])


def _propose_for(description: Mapping[str, Any], images: Mapping[str, NDArray[Any]], folder: Path | None) -> Boxes:
    """The same before motion is looked at."""
    method, settings = description["method"], description.get("settings", {})
    if method == GRID:
        height, width = next(iter(images.values())).shape[:2]
        return grid_windows((height, width), int(settings["most"]))
    if method not in METHODS:
        raise SettingsError(
            f"The proposals came from '{description.get('source', 'a file')}', which has none for a new image.",
            "Have them made: --proposals bottom-up",
        )
    missing = [name for name in settings.get("modalities", ()) if name not in images]
    if missing:
        raise SettingsError(
            f"The proposals were made from {', '.join(settings['modalities'])}; there is no {', '.join(missing)} image "
            f"(only {', '.join(images)}).",
            "Give the missing image too, or make proposals from what there is: xmodal prepare proposals DATA "
            f"{' '.join(f'--modality {name}' for name in images)} --name NAME",
        )
    seen = {name: images[name] for name in settings.get("modalities", images)}
    if method == RPN:
        from xmodal_cli.detect import rpn

        return rpn.propose_for(description, seen, folder)
    return _bottom_up(seen, settings)


def check_settings(settings: ProposalSettings) -> None:
    """Make sure that the method is known and every option belongs to it.

    Raises:
        SettingsError: it is not, or one does not.
    """
    method = settings.method
    if method not in METHODS and not _is_file(method):
        known = f"Known are {', '.join(METHODS)}, and files ({', '.join(READERS)})."
        raise SettingsError(f"There is no method '{method}'.", closest(method, METHODS) or known)
    if settings.most is not None and settings.most < 1:
        raise SettingsError(f"--most is a number above 0; found {settings.most}.")
    given = {
        "--id": settings.identifier,
        "--box-order": settings.order,
        "--box-origin": settings.origin,
        "--box-ends": settings.ends,
    }
    misplaced = [option for option, value in given.items() if value is not None]
    if misplaced and not _is_file(method):
        raise SettingsError(f"{', '.join(misplaced)} belongs to a file; the method is {method}.", "Leave it out.")
    if settings.modalities and (_is_file(method) or method == GRID):
        raise SettingsError("--modality belongs to bottom-up and rpn: nothing else looks at images.", "Leave it out.")
    _check_rpn(settings)


def _check_rpn(settings: ProposalSettings) -> None:
    """What belongs to a network alone."""
    if settings.method == RPN:
        if len(settings.modalities) > 1:
            raise SettingsError(
                f"A network sees one modality; found {', '.join(settings.modalities)}.", "Name one with --modality."
            )
        if settings.run is not None and settings.dry_run:
            raise SettingsError("A dry run tries a new training; --resume continues one.", "Leave one of them out.")
        return
    options = ["--train-split" if name == "split" else f"--{name.replace('_', '-')}" for name in settings.rpn]
    options += ["--resume"] * (settings.run is not None)
    if options:
        raise SettingsError(
            f"{', '.join(options)} belongs to rpn; the method is {settings.method}.",
            "Add --method rpn, or leave it out.",
        )


def _is_file(method: str) -> bool:
    return method not in METHODS and Path(method).suffix.lower() in READERS


def _source(
    data: PreparedData, settings: ProposalSettings, ids: list[str], watchers: Watchers | None = None
) -> _Source:
    """The stream of boxes of a method; but for a network's training, nothing is computed before it is read."""
    if _is_file(settings.method):
        return _from_file(data, settings, ids)
    most = settings.most or MOST
    if settings.method == GRID:
        boxes = ((name, grid_windows(data.size_hw(name), most)) for name in ids)
        return _Source(boxes, {"method": GRID, "settings": {"most": most}})
    if settings.method == RPN:
        return _rpn(data, settings, ids, most, watchers)
    modalities = settings.modalities or tuple(data.modalities)
    for name in modalities:
        data.modality(name)
    from xmodal_cli.detect.grouping import GroupingSettings

    how = {"modalities": list(modalities), "most": most, "grouping": GroupingSettings().to_dict()}
    job = partial(_bottom_up_stored, data.root, how)
    workers = resolve_workers(settings.workers, len(ids))
    return _Source(_in_order(run_jobs(job, ids, workers), ids), {"method": BOTTOM_UP, "settings": how})


def _of_what_moves(source: _Source, data: PreparedData) -> _Source:
    """The same boxes but for those that hold too little motion."""
    counts = dict(source.counts)
    settings = {**source.description["settings"], "motion": motion.FLOW}
    boxes = motion.with_motion(data, source.boxes, counts)
    return replace(source, boxes=boxes, counts=counts, description={**source.description, "settings": settings})


def _rpn(
    data: PreparedData, settings: ProposalSettings, ids: list[str], most: int, watchers: Watchers | None
) -> _Source:
    """Proposals of a network: trained on the training split, then applied to `ids`."""
    from xmodal_cli.detect import rpn
    from xmodal_cli.runs.session import NOBODY

    made = rpn.propose_data(
        data,
        ids,
        modality=settings.modalities[0] if settings.modalities else None,
        most=most,
        given=settings.rpn,
        folder=data.root / PROPOSAL_FOLDER / settings.stored_name,
        runs=settings.runs,
        run=settings.run,
        dry_run=settings.dry_run,
        watchers=watchers or NOBODY,
    )
    how = {"modalities": [made.settings["network"]["modality"]], "most": most, **made.settings}
    attached = () if made.weights is None else (made.weights,)
    return _Source(made.boxes, {"method": RPN, "settings": how}, notes=made.notes, attached=attached)


def _bottom_up(images: Mapping[str, NDArray[Any]], how: Mapping[str, Any]) -> Boxes:
    from xmodal_cli.detect.grouping import GroupingSettings, propose

    return propose(images, GroupingSettings.from_dict(how["grouping"]), most=int(how["most"]))


def _bottom_up_stored(root: Path, how: Mapping[str, Any], identifier: str) -> tuple[str, Boxes]:
    """The job of a worker process: read one image in all its modalities, and group."""
    data = _opened(root)
    return identifier, _bottom_up({name: data.read(name, identifier) for name in how["modalities"]}, how)


@lru_cache(maxsize=1)
def _opened(root: Path) -> PreparedData:
    return PreparedData.open(root)


def _in_order(results: Iterator[tuple[str, Boxes]], ids: list[str]) -> Iterator[tuple[str, Boxes]]:
    """Results of workers in the order of the IDs, so that the same boxes make the same file."""
    waiting: dict[str, Boxes] = {}
    for identifier in ids:
        while identifier not in waiting:
            name, boxes = next(results)
            waiting[name] = boxes
        yield identifier, waiting.pop(identifier)


def _from_file(data: PreparedData, settings: ProposalSettings, ids: list[str]) -> _Source:
    path = Path(settings.method)
    read = read_proposal_file(
        path, identifier=settings.identifier, order=settings.order, origin=settings.origin, ends=settings.ends
    )
    fitted = fit_to_data(read, data, ids, settings.most)
    if not fitted.boxes_xyxy:
        raise DataError(f"'{path}' has no proposals for the split '{settings.split}'.", "Leave out --split.")
    suspicion = swap_suspicion(read, data)
    how = {
        "layout": read.layout,
        "order": read.convention.order,
        "origin": read.convention.origin,
        "ends": read.convention.ends,
        "most": settings.most,
    }
    description = {
        "method": FILE,
        "source": str(path),
        "source_sha256": files.sha256(path),
        "settings": how,
        "import": dict(fitted.counts),
    }
    notes = (*fitted.notes, *([suspicion] if suspicion else []))
    return _Source(fitted.boxes_xyxy.items(), description, fitted.counts, notes)


def _counted(boxes: Iterable[tuple[str, Boxes]], total: int, watch: Watch | None) -> Iterator[tuple[str, Boxes]]:
    for done, each in enumerate(boxes, start=1):
        yield each
        if watch:
            watch(done, total)


def _tried(
    report: ProposalReport, data: PreparedData, source: Iterable[tuple[str, Boxes]], total: int
) -> ProposalReport:
    """The report of a dry run: of a file everything, of a generator what a few images tell."""
    boxes, moments = {}, []
    for identifier, found in source:
        boxes[identifier] = found
        moments.append(time.monotonic())
    counts = {**report.counts, "images": len(boxes), "boxes": sum(map(len, boxes.values()))}
    if report.method == FILE:
        return replace(report, counts=counts, recall=measure_splits(data, boxes), dry_run=True)
    each = (moments[-1] - moments[0]) / (len(moments) - 1) if len(moments) > 1 else None
    whole = None if each is None else each * total
    return replace(report, counts=counts, seconds_per_image=each, seconds_total=whole, dry_run=True)
