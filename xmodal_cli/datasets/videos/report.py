"""What a `prepare` of videos did, or would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodal_cli.datasets.reports import as_json, by_split, files_line, work_lines

# What `counts` counts, in words.
COUNTED = {
    "videos_without_pair": "videos left out: no wanted frame that another follows",
    "videos_shorter_than_said": "videos shorter than their header says",
    "frames_without_next": "annotated frames left out: none follows",
    "boxes_without_frame": "annotated frames that the video lacks",
}


@dataclass(frozen=True)
class VideosReport:
    """What was made of a folder of videos.

    Args:
        root: the data set.
        splits: frames by split.
        videos: that frames were taken from.
        boxes: annotated; None where the data set has none.
        written: image files written in this run.
        finished: image files that an earlier run had finished.
        left_out: what was wrong with each video that was left out, by ID.
        counts: frames and videos that were left out or are odd.
        notes: other things worth a look.
        workers: processes.
        seconds: wall time; of a dry run, the estimate.
        bytes: size of all image files; of a dry run, the estimate.
        dry_run: whether nothing was written.
    """

    root: Path
    splits: Mapping[str, int]
    videos: int
    boxes: int | None
    written: int
    finished: int
    left_out: Mapping[str, str]
    counts: Mapping[str, int]
    notes: tuple[str, ...]
    workers: int
    seconds: float
    bytes: int
    dry_run: bool = False

    @classmethod
    def empty(cls, root: Path, notes: tuple[str, ...], workers: int) -> VideosReport:
        """A report of nothing yet."""
        return cls(root, {}, 0, None, 0, 0, {}, {}, notes, workers, 0.0, 0)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON holds it."""
        return as_json(self)

    def table(self) -> list[tuple[str, str]]:
        """The report as lines of name and value."""
        sizes = by_split(self.splits)
        lines = [("data set", str(self.root)), ("frames", f"{sizes} of {self.videos} videos")]
        if self.boxes is not None:
            lines.append(("boxes", str(self.boxes)))
        if not self.dry_run:
            lines.append(files_line(self.written, self.finished))
        if self.left_out:
            lines.append(("left out", f"{len(self.left_out)} bad or missing videos"))
        lines += [(COUNTED[name], str(count)) for name, count in self.counts.items() if count]
        return [*lines, *work_lines(self.bytes, self.seconds, self.workers, estimated=self.dry_run)]
