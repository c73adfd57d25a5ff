"""`check`: opens everything in a prepared data set and says what is wrong with it, before a training run finds out.

Errors are what training would stumble over or what would make its figures worthless. Warnings are what is probably a
slip (a unit, a camera, a split) but may be meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli.data.annotations import Annotations, read_coco
from xmodal_cli.data.duplicates import near_pairs
from xmodal_cli.data.inspection import Figures, PairInspection, combine, inspect_pair
from xmodal_cli.data.manifest import ManifestRow
from xmodal_cli.data.prepared import RGB, ModalityInfo, PreparedData
from xmodal_cli.data.splits import check_scenes
from xmodal_cli.data.workers import resolve_workers, run_jobs
from xmodal_cli.errors import DataError

Progress = Callable[[int, int], None]

# Annotators round to whole pixels at either side of the border.
BORDER_PX = 1.0
# Share of a channel's pixels at an end of its range beyond which it says little. In HHA of NYU Depth no channel has
# more than 7 %; depth that is ten times too large puts 95 % of the height channel there.
SATURATED = 0.5
# Half of what a depth camera sees in a room lies between these, in metres (NYU Depth: 2.6, one image: 0.96 to 6.2).
NEAR_M = 0.3
FAR_M = 15.0
HHA_CHANNELS = ("disparity (255: nearer than 1.22 m)", "height (255: higher than 2.55 m)", "angle")
EXAMPLES = 3  # names shown in a warning


@dataclass(frozen=True)
class CheckReport:
    """What is wrong with a prepared data set, and what is in it.

    Args:
        root: the data set.
        errors: what must be mended, one sentence each.
        warnings: what should be looked at, one sentence each.
        splits: pairs by split.
        objects: annotated objects by split.
        figures: measured values by modality.
    """

    root: Path
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    splits: Mapping[str, int]
    objects: Mapping[str, int]
    figures: Mapping[str, Figures]

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.errors

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON holds it; figures are shares and means instead of sums."""
        figures = {}
        for name, found in self.figures.items():
            kept = {
                key: value for key, value in asdict(found).items() if key in ("files", "lowest", "highest", "bytes")
            }
            figures[name] = kept | {
                "sizes": dict(found.sizes),
                "mean": [round(total / found.pixels, 4) for total in found.total],
                "at_floor_percent": [round(100 * count / found.pixels, 3) for count in found.at_floor],
                "at_ceiling_percent": [round(100 * count / found.pixels, 3) for count in found.at_ceiling],
                "median": float(np.median(found.medians)),
            }
        return {
            "root": str(self.root),
            "ok": self.ok,
            "errors": list(self.errors),
            "warnings": list(self.warnings),
            "splits": dict(self.splits),
            "objects": dict(self.objects),
            "figures": figures,
        }

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Column names, and a line for each modality."""
        columns = ["modality", "files", "width x height", "values", "means", "% at ends", "MB"]
        return columns, [_line(name, found) for name, found in self.figures.items()]


def check(data: PreparedData, progress: Progress | None = None, workers: int | None = None) -> CheckReport:
    """Open every file of a prepared data set, and compare, measure and judge it.

    Args:
        data: the data set.
        progress: called with pairs done and pairs in all.
        workers: processes; None decides.

    Returns:
        Errors, warnings and figures.

    Raises:
        DataError: splits, manifest or annotations cannot be read at all.
    """
    ids = data.all_ids
    errors = [*_split_errors(data), *_unmatched(data, ids)]
    jobs = [_rows(data, identifier) for identifier in ids]
    jobs = [rows for rows in jobs if rows]
    inspections = []
    look = partial(inspect_pair, data.root, dict(data.modalities))
    for done, found in enumerate(run_jobs(look, jobs, resolve_workers(workers, len(jobs))), start=1):
        inspections.append(found)
        if progress is not None:
            progress(done, len(jobs))
    inspections.sort(key=lambda inspection: inspection.id)
    errors += [error for inspection in inspections for error in inspection.errors]
    figures = _figures(data, inspections)
    annotations, problems = _annotations(data)
    errors += problems
    return CheckReport(
        root=data.root,
        errors=tuple(errors),
        warnings=(*_unlisted(data), *_value_warnings(data, figures), *_near_duplicates(data, inspections)),
        splits={split: len(data.ids(split)) for split in data.splits},
        objects={split: sum(len(found) for found in of_split.values()) for split, of_split in annotations.items()},
        figures=figures,
    )


def _split_errors(data: PreparedData) -> list[str]:
    """IDs and scenes that are in two splits."""
    first: dict[str, str] = {}
    errors = []
    for split in data.splits:
        for identifier in data.ids(split):
            if identifier in first:
                errors.append(f"'{identifier}' is in the splits {first[identifier]} and {split}.")
            first.setdefault(identifier, split)
    return errors + check_scenes({split: data.ids(split) for split in data.splits}, data.scenes)


def _unmatched(data: PreparedData, ids: Sequence[str]) -> list[str]:
    """IDs of splits that lack a modality."""
    return [
        f"'{identifier}' has no {modality} image: the manifest does not list one."
        for identifier in ids
        for modality in data.modalities
        if (modality, identifier) not in data.rows
    ]


def _unlisted(data: PreparedData) -> list[str]:
    """Files in the folders of the modalities that the manifest does not list."""
    listed = {row.file for row in data.rows.values()}
    found = []
    for info in data.modalities.values():
        files = (path for path in (data.root / info.folder).rglob("*") if path.is_file())
        strangers = sorted({path.relative_to(data.root).as_posix() for path in files} - listed)
        if strangers:
            found.append(f"{len(strangers)} files in {info.folder}/ are not in the manifest: {_some(strangers)}.")
    return found


def _rows(data: PreparedData, identifier: str) -> list[ManifestRow]:
    rows = (data.rows.get((modality, identifier)) for modality in data.modalities)
    return [row for row in rows if row is not None]


def _figures(data: PreparedData, inspections: Sequence[PairInspection]) -> dict[str, Figures]:
    """Figures of each modality, over the files that have its channels."""
    figures = {}
    for name, info in data.modalities.items():
        parts = [i.figures[name] for i in inspections if name in i.figures]
        parts = [part for part in parts if len(part.total) == info.channels]
        if parts:
            figures[name] = combine(parts)
    return figures


def _annotations(data: PreparedData) -> tuple[dict[str, dict[str, Annotations]], list[str]]:
    """The annotations of each split that has a file, and what is wrong with them."""
    found: dict[str, dict[str, Annotations]] = {}
    errors: list[str] = []
    for split in data.splits:
        path = data.annotation_file(split)
        if path is None:
            continue
        try:
            found[split] = data.annotations(split)
            errors += _wrong_sizes(data, split, path)
        except DataError as error:
            errors.append(error.message)
            continue
        for identifier, objects in found[split].items():
            errors += _boxes_outside(data, identifier, objects)
    return found, errors


def _wrong_sizes(data: PreparedData, split: str, path: Path) -> list[str]:
    """Images whose size in the annotation file is not their size."""
    by_name = {
        Path(data.rows[RGB, i].file).relative_to(RGB).as_posix(): i for i in data.ids(split) if (RGB, i) in data.rows
    }
    errors = []
    for entry in read_coco(path).images.values():
        identifier = by_name.get(str(entry["file_name"]))
        if identifier is None:
            errors.append(f"'{path}' lists '{entry['file_name']}', which is not in the split {split}.")
            continue
        height, width = data.size_hw(identifier)
        stated = (entry.get("width", width), entry.get("height", height))
        if stated != (width, height):
            errors.append(
                f"'{path}' says that '{identifier}' has {stated[0]} x {stated[1]} pixels; it has {width} x {height}."
            )
    return errors


def _boxes_outside(data: PreparedData, identifier: str, objects: Annotations) -> list[str]:
    """Boxes that reach out of their image or enclose nothing."""
    if not len(objects) or (RGB, identifier) not in data.rows:
        return []
    height, width = data.size_hw(identifier)
    boxes = objects.boxes_xyxy
    outside = (boxes < -BORDER_PX).any(1) | (boxes[:, 2] > width + BORDER_PX) | (boxes[:, 3] > height + BORDER_PX)
    empty = (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])
    return [
        f"Annotation {objects.annotation_ids[index]} of '{identifier}' has the box {boxes[index].tolist()} "
        f"(x1, y1, x2, y2), which {'encloses nothing' if empty[index] else f'is not inside {width} x {height} pixels'}."
        for index in np.flatnonzero(outside | empty)
    ]


def _value_warnings(data: PreparedData, figures: Mapping[str, Figures]) -> list[str]:
    """Saturated channels, images of one value, and depth that is no room's."""
    warnings = []
    for name, found in figures.items():
        saturated = _saturated(name, data.modalities[name], found) if name != RGB else []
        if saturated:
            warnings.append(
                f"{name} is saturated: {'; '.join(saturated)}. A depth unit that is ten times off does that: compare "
                "--depth-unit with the data."
            )
        elif found.flat:
            warnings.append(f"{len(found.flat)} {name} images have the same value everywhere: {_some(found.flat)}.")
    return warnings + _depth_warnings(data, figures)


def _saturated(name: str, info: ModalityInfo, found: Figures) -> list[str]:
    """The channels of which most pixels are at an end of the range, in words; equal channels are named once."""
    if info.dtype != "uint8":
        return []
    shares: dict[str, list[str]] = {}
    for channel, (low, high) in enumerate(zip(found.at_floor, found.at_ceiling, strict=True)):
        count, value = max((low, info.range[0]), (high, info.range[1]))
        if count > SATURATED * found.pixels:
            meaning = HHA_CHANNELS[channel] if name == "hha" else f"channel {channel}"
            shares.setdefault(f"{count / found.pixels:.0%} is {value:.0f}", []).append(meaning)
    return [f"{share} in {' and '.join(channels)}" for share, channels in shares.items()]


def _depth_warnings(data: PreparedData, figures: Mapping[str, Figures]) -> list[str]:
    """Median depths that are no room's, measured in the depth images or, without any, recorded when they were read."""
    medians = {}
    for name, entry in data.provenance.get("modalities", {}).items():
        if "median_depth_m" in entry:
            medians[name] = float(entry["median_depth_m"][1])
    if "depth" in figures and data.modalities["depth"].unit == "mm":
        medians["depth"] = float(np.median(figures["depth"].medians)) / 1000.0
    return [
        f"The depth behind {name} is unlikely: its median is {median:.3g} m. Compare --depth-unit with the data."
        for name, median in medians.items()
        if not NEAR_M <= median <= FAR_M
    ]


def _near_duplicates(data: PreparedData, inspections: Iterable[PairInspection]) -> list[str]:
    """Colour images of different splits that are almost the same picture."""
    hashes = {i.id: i.picture_hash for i in inspections if i.picture_hash is not None}
    near = sorted(near_pairs(hashes, [data.ids(split) for split in data.splits]), key=lambda pair: (pair[2], pair))
    if not near:
        return []
    shown = ", ".join(f"'{first}' and '{second}'" for first, second, _ in near[:EXAMPLES])
    return [
        f"{len(near)} pairs of images in different splits look almost the same: {shown}{', ...' * (len(near) > 3)}."
    ]


def _line(name: str, found: Figures) -> list[str]:
    sizes = sorted(found.sizes, key=lambda size: -found.sizes[size])
    ends = ", ".join(
        f"{100 * (a + b) / found.pixels:.0f}" for a, b in zip(found.at_floor, found.at_ceiling, strict=True)
    )
    return [
        name,
        str(found.files),
        sizes[0] + (f" and {len(sizes) - 1} more" if len(sizes) > 1 else ""),
        f"{found.lowest:g} to {found.highest:g}",
        ", ".join(f"{total / found.pixels:.0f}" for total in found.total),
        ends,
        f"{found.bytes / 1e6:.1f}",
    ]


def _some(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:EXAMPLES]) + (", ..." if len(names) > EXAMPLES else "")
