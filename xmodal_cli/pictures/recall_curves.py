"""Recall curves of proposals: by number of boxes and by IoU, beside windows that never looked at the image.

One row a split. On the left recall at IoU 0.5 and 0.7 as boxes are added, on a logarithmic axis; on the right recall
with 500 and 2000 boxes as IoU gets stricter. Windows without content are dashed in the same colour, so that what the
method adds is the gap between two lines.

Shapes: `(H, W, 3)` uint8 RGB pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from xmodal_cli.data.images import write_png
from xmodal_cli.detect.proposal_report import SplitRecall
from xmodal_cli.metrics.recall import CURVE_IOUS, IOUS, RecallReport
from xmodal_cli.pictures.axes import Axis, Line, Points, draw_panel, finished
from xmodal_cli.pictures.canvas import BLUE, ORANGE, Picture

LINE_COUNTS = (2000, 500)  # boxes of the curves by IoU
COUNT_AXIS = Axis("boxes per image", 1, 2000, (1, 10, 100, 500, 2000), logarithmic=True)
IOU_AXIS = Axis("IoU", 0.5, 1.0, (0.5, 0.6, 0.7, 0.8, 0.9, 1.0))
RECALL_AXIS = Axis("recall", 0.0, 1.0, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))


def write_recall_curves(recall: Mapping[str, SplitRecall], name: str, path: Path) -> Path:
    """Draw the recall of proposals and write it as PNG.

    Args:
        recall: by split, at least one.
        name: what the proposals are called.
        path: file to write.

    Returns:
        The path.
    """
    write_png(path, draw_recall_curves(recall, name))
    return path


def draw_recall_curves(recall: Mapping[str, SplitRecall], name: str) -> Picture:
    """Draw the recall of proposals, one row a split.

    Args:
        recall: by split, at least one.
        name: what the proposals are called.

    Returns:
        `(H, W, 3)` uint8 RGB.
    """
    rows = [[_by_count(found, name, split), _by_iou(found, name, split)] for split, found in recall.items()]
    return finished(rows)


def _by_count(found: SplitRecall, name: str, split: str) -> Picture:
    lines = [
        Line(f"{who}, IoU {iou}", _along_counts(report, iou), colour, dashed)
        for iou, colour in zip(IOUS, (BLUE, ORANGE), strict=True)
        for who, report, dashed in ((name, found.proposals, False), ("windows", found.grid, True))
    ]
    title = f"{split}: {found.proposals.objects} objects in {found.proposals.images} images"
    return draw_panel(title, COUNT_AXIS, RECALL_AXIS, lines)


def _by_iou(found: SplitRecall, name: str, split: str) -> Picture:
    lines = [
        Line(f"{who}, {count} boxes", (CURVE_IOUS, report.recall[report.counts.index(count)]), colour, dashed)
        for count, colour in zip(LINE_COUNTS, (BLUE, ORANGE), strict=True)
        for who, report, dashed in ((name, found.proposals, False), ("windows", found.grid, True))
    ]
    return draw_panel(f"{split}: recall as IoU gets stricter", IOU_AXIS, RECALL_AXIS, lines, "upper right")


def _along_counts(report: RecallReport, iou: float) -> Points:
    return np.array(report.counts, np.float64), np.array([report.at(count, iou) for count in report.counts])
