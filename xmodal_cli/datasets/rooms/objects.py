"""The labelled things in a frame: boxes and masks of what can be seen of them, as COCO's instance entries.

Shapes: `H x W` pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xmodal_cli.datasets.rooms.trace import Model, Trace

LEAST_SHARE = 0.003  # of the image's pixels that a thing must show: 60 of 160 x 120
LEAST_VISIBLE = 0.3  # of what a thing would show with nothing before it
LEAST_INSIDE = 0.25  # of a thing's volume that must lie within the picture


def objects_of(found: Trace, model: Model) -> list[dict[str, Any]]:
    """The things that show enough of themselves, from left to right of the room's own list.

    Args:
        found: what every pixel sees.
        model: the room.

    Returns:
        COCO entries with `category_id`, `bbox` (x, y, width, height of the visible part), `area`, `iscrowd` and
        `segmentation` (RLE); without ids.
    """
    from faster_coco_eval.core import mask

    counts = np.bincount(found.thing.ravel() + 1, minlength=len(model.groups) + 1)[1:]
    least = LEAST_SHARE * found.thing.size
    entries = []
    for number, (label, _) in enumerate(model.groups):
        if label < 0 or counts[number] < least or found.inside[number] < LEAST_INSIDE:
            continue
        if counts[number] < LEAST_VISIBLE * found.alone_px[number]:
            continue
        visible = found.thing == number
        rle = mask.encode(np.asfortranarray(visible.view(np.uint8)))
        rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
        left, top = int(columns[0]), int(rows[0])
        entries.append(
            {
                "category_id": label + 1,
                "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
                "area": int(counts[number]),
                "iscrowd": 0,
                "segmentation": {"size": list(found.thing.shape), "counts": rle["counts"].decode("ascii")},
            }
        )
    return entries
