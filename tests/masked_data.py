"""The tiny data set with masks, a detector on it, and masks on that, each made in a second or two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny_detectors import with_proposals

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.mask_settings import MaskSettings

OPTIONS: dict[str, Any] = {
    "iterations": 4,
    "batch_size": 2,
    "boxes": 3,
    "precision": "fp32",
    "device": "cpu",
    "threads": 1,
    "workers": 0,
    "checkpoint_every": 100,
    "features": "fc7+features.2+features.4",
}


def with_masks(tiny_data: PreparedData, out: Path) -> PreparedData:
    """A copy of the tiny data set that has proposals, and the upper left triangle of every box as its object's mask."""
    data = with_proposals(tiny_data, out)
    for split in data.splits:
        path = data.annotation_file(split)
        assert path is not None
        document = json.loads(path.read_text())
        for entry in document["annotations"]:
            x, y, width, height = entry["bbox"]
            entry["segmentation"] = [[x, y, x + width, y, x, y + height]]
            entry["area"] = width * height / 2
        path.write_text(json.dumps(document))
    return PreparedData.open(out)


def mask_settings(data: PreparedData, detector: Path, **changes: Any) -> MaskSettings:
    """Settings of tiny masks."""
    return MaskSettings.from_dict({"data": str(data.root), "init": str(detector), **OPTIONS, **changes})
