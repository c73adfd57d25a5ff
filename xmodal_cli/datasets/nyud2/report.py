"""What `prepare nyud2` did, beside what is published about the data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodal_cli.datasets.nyud2.splits import IMAGE_COUNT, PUBLISHED_SIZES
from xmodal_cli.datasets.reports import as_json, files_line, work_lines


@dataclass(frozen=True)
class Nyud2Report:
    """What `prepare nyud2` did, or would do.

    Args:
        root: the data set.
        source: `labelled` or `archive`.
        modalities: what was made, rgb first.
        splits: images by split.
        scenes: how many rooms; 0 where they are not known.
        objects: objects by split and class; empty where there is no ground truth, and in a dry run.
        instances_without_a_class: instances of which no class had half.
        boxes_unlike_the_masks: boxes of the archive's cache that its segmentations do not have.
        superpixels: files of superpixels linked in this run.
        written: image files written in this run.
        finished: image files that an earlier run had finished.
        notes: what is unlike the published data, and other things worth a look.
        workers: processes.
        seconds: wall time; of a dry run, the estimate.
        bytes: size of the image files; of a dry run, the estimate.
        dry_run: whether nothing was written.
    """

    root: Path
    source: str
    modalities: tuple[str, ...]
    splits: Mapping[str, int]
    scenes: int
    objects: Mapping[str, Mapping[str, int]]
    instances_without_a_class: int
    boxes_unlike_the_masks: int
    superpixels: int
    written: int
    finished: int
    notes: tuple[str, ...]
    workers: int
    seconds: float
    bytes: int
    dry_run: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether there are as many images in every split as were published."""
        return dict(self.splits) == PUBLISHED_SIZES

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON holds it."""
        return {**as_json(self), "published": {"images": IMAGE_COUNT, **PUBLISHED_SIZES}}

    def table(self) -> list[tuple[str, str]]:
        """The report as lines of name and value."""
        lines = [("data set", str(self.root)), ("modalities", ", ".join(self.modalities))]
        lines.append(("images", f"{sum(self.splits.values())} of {IMAGE_COUNT} published"))
        lines += [(split, f"{self.splits.get(split, 0)} of {count}") for split, count in PUBLISHED_SIZES.items()]
        if self.scenes:
            lines.append(("scenes", str(self.scenes)))
        if self.instances_without_a_class:
            lines.append(("instances without a class", str(self.instances_without_a_class)))
        if self.boxes_unlike_the_masks:
            lines.append(("boxes unlike the masks", str(self.boxes_unlike_the_masks)))
        if self.superpixels:
            lines.append(("superpixels", str(self.superpixels)))
        if not self.dry_run:
            lines.append(files_line(self.written, self.finished))
        return [*lines, *work_lines(self.bytes, self.seconds, self.workers, estimated=self.dry_run)]

    def object_table(self) -> tuple[list[str], list[list[str]]]:
        """Column names, and a line for each class; no lines where there is no ground truth."""
        counted = {split: counts for split, counts in self.objects.items() if counts}
        classes = next(iter(counted.values()), {})
        rows = [[name, *(str(counts[name]) for counts in counted.values())] for name in classes]
        if rows:
            rows.append(["all", *(str(sum(counts.values())) for counts in counted.values())])
        return ["objects", *counted], rows
