"""What `prepare nyud2-raw` tells when it is done: what was made, what was left out, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodal_cli.data.prepared import RGB
from xmodal_cli.datasets.reports import as_json, by_split, files_line, work_lines


@dataclass(frozen=True)
class RawReport:
    """What `prepare nyud2-raw` did, or would do.

    Args:
        root: the data set.
        modalities: what was made beside rgb.
        splits: pairs by split.
        scenes: scenes that pairs are of.
        wanted: frames that were asked for, by the settings and the length of the scenes.
        bad: what is wrong with each damaged frame that was passed over, by ID.
        bad_names: files that look like frames but have no time stamp that can be read.
        unmatched: depth frames without a colour frame near enough in time.
        other_splits: scene folders that belong to splits that may not be used.
        unknown: scene folders that no split is known of, and why.
        written: image files written in this run.
        finished: image files that an earlier run had finished.
        holes_percent: share of pixels that the depth sensor did not see.
        median_depth_m: middle one of the images' median depths.
        workers: processes.
        seconds: wall time; of a dry run, the estimate.
        bytes: size of all image files; of a dry run, the estimate.
        dry_run: whether nothing was written.
    """

    root: Path
    modalities: tuple[str, ...]
    splits: Mapping[str, int]
    scenes: int
    wanted: int
    bad: Mapping[str, str]
    bad_names: tuple[str, ...]
    unmatched: int
    other_splits: tuple[str, ...]
    unknown: Mapping[str, str]
    written: int
    finished: int
    holes_percent: float | None
    median_depth_m: float | None
    workers: int
    seconds: float
    bytes: int
    dry_run: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON holds it."""
        return as_json(self)

    def table(self) -> list[tuple[str, str]]:
        """The report as lines of name and value."""
        sizes = by_split(self.splits)
        lines = [
            ("data set", str(self.root)),
            ("modalities", ", ".join((RGB, *self.modalities))),
            ("pairs", f"{sizes} of {self.scenes} scenes ({self.wanted} wanted)"),
        ]
        if self.other_splits:
            lines.append(("other splits", f"{len(self.other_splits)} scene folders not used"))
        if self.unknown:
            lines.append(("unknown split", f"{len(self.unknown)} scene folders not used"))
        if self.bad or self.bad_names:
            lines.append(("damaged", f"{len(self.bad)} frames, {len(self.bad_names)} names without a time stamp"))
        if self.unmatched:
            lines.append(("without colour", f"{self.unmatched} depth frames"))
        if not self.dry_run:
            lines.append(files_line(self.written, self.finished))
        if self.holes_percent is not None and self.median_depth_m is not None:
            lines.append(("depth", f"median {self.median_depth_m:.2f} m, {self.holes_percent:.1f} % holes filled"))
        return [*lines, *work_lines(self.bytes, self.seconds, self.workers, estimated=self.dry_run)]
