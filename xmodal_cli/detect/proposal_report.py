"""What making proposals gave: counts, recall on every annotated split beside windows without content, time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import Proposals
from xmodal_cli.metrics.recall import RecallReport, measure_grid, measure_recall

Boxes = NDArray[np.float32]


@dataclass(frozen=True)
class SplitRecall:
    """Recall on one split: of the proposals, and of as many windows without content."""

    proposals: RecallReport
    grid: RecallReport

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"proposals": self.proposals.to_dict(), "grid": self.grid.to_dict()}


@dataclass(frozen=True)
class ProposalReport:
    """What was made.

    Args:
        name: name of the proposals.
        method: how they were made.
        folder: where they lie, or would lie.
        counts: images, boxes, and what an import left out.
        recall: recall by split, for splits with annotated objects.
        seconds_per_image: wall time for one image, of all processes together; None for a file.
        seconds_total: estimate of a dry run for all images.
        notes: what a person should know.
        dry_run: whether nothing was written.
    """

    name: str
    method: str
    folder: Path
    counts: Mapping[str, int]
    recall: Mapping[str, SplitRecall] = field(default_factory=dict)
    seconds_per_image: float | None = None
    seconds_total: float | None = None
    notes: tuple[str, ...] = ()
    dry_run: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {
            "name": self.name,
            "method": self.method,
            "folder": str(self.folder),
            "counts": dict(self.counts),
            "recall": {split: found.to_dict() for split, found in self.recall.items()},
            "seconds_per_image": self.seconds_per_image,
            "seconds_total": self.seconds_total,
            "notes": list(self.notes),
            "dry_run": self.dry_run,
        }


def measure_splits(data: PreparedData, boxes: Proposals | Mapping[str, Boxes]) -> dict[str, SplitRecall]:
    """Recall of proposals on every split that has annotated objects, over the images that have proposals.

    Args:
        data: the data set.
        boxes: proposals by ID.

    Returns:
        By split; crowds are left out.
    """
    measured = {}
    for split in data.splits:
        found = {name: each for name, each in data.annotations(split).items() if each.labelled and name in boxes}
        objects = {name: each.boxes_xyxy[~each.crowd] for name, each in found.items()}
        if any(map(len, objects.values())):
            measured[split] = SplitRecall(
                measure_recall((boxes[name], each) for name, each in objects.items()),
                measure_grid((data.size_hw(name), each) for name, each in objects.items()),
            )
    return measured
