"""The contact sheet of a prepared data set: a few pairs of every split side by side, one modality a column.

One look at it finds what no check can: images that belong to different scenes, a sensor that is mirrored or shifted,
boxes that lie beside their objects. Boxes are drawn in every modality, so that a shift between sensors shows.

Shapes: `(H, W, 3)` uint8 RGB pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from xmodal_cli.data.annotations import Annotations
from xmodal_cli.data.images import write_png
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.errors import DataError
from xmodal_cli.pictures import canvas
from xmodal_cli.pictures.canvas import COLOURS, SMALL, Picture

PAIRS = 8  # rows of a sheet: it still fits a screen
CELL_WIDTH = 280  # pixels: four columns fit a screen
CAPTION_HEIGHT = 18
GAP = 4
# Depth is shown from its 1st to its 99th percentile in each image, so that one far pixel does not darken the rest.
SHOWN_PERCENTILES = (1, 99)


def write_contact_sheet(data: PreparedData, path: Path, count: int = PAIRS) -> Path:
    """Draw the contact sheet of a data set and write it as PNG.

    Args:
        data: the data set.
        path: file to write.
        count: pairs shown.

    Returns:
        The path.
    """
    write_png(path, draw_contact_sheet(data, count))
    return path


def draw_contact_sheet(data: PreparedData, count: int = PAIRS) -> Picture:
    """Draw a few pairs of every split, one row a pair, one column a modality.

    Args:
        data: the data set; files that cannot be read leave an empty cell.
        count: pairs shown, at least one of each split.

    Returns:
        `(H, W, 3)` uint8 RGB.
    """
    chosen = choose_pairs(data, count)
    annotations = {split: _annotations(data, split) for split in data.splits}
    names = list(data.modalities)
    rows = [_captions([_heading(data, name) for name in names])]
    for split, identifier in chosen:
        objects = annotations[split].get(identifier)
        about = f"{split}  {identifier}" + ("" if objects is None else f"  {len(objects)} objects")
        rows.append(_captions([about] + [""] * (len(names) - 1)))
        rows.append(_beside([_cell(data, name, identifier, objects) for name in names]))
    return np.vstack(rows)


def choose_pairs(data: PreparedData, count: int) -> list[tuple[str, str]]:
    """Pairs to show: evenly spread over each split, more of larger splits, at least one of each.

    Returns:
        Split and ID of each.
    """
    total = sum(len(data.ids(split)) for split in data.splits)
    chosen = []
    for split in data.splits:
        ids = data.ids(split)
        share = max(1, round(count * len(ids) / total))
        picked = np.unique(np.linspace(0, len(ids) - 1, min(share, len(ids))).round().astype(int))
        chosen += [(split, ids[index]) for index in picked]
    return chosen


def as_picture(image: NDArray[Any]) -> Picture:
    """A stored image as something to look at: colour as it is, 8-bit grey as grey, 16-bit values in colours.

    Args:
        image: `(H, W, C)` uint8 or uint16.

    Returns:
        `(H, W, 3)` uint8 RGB.

    Example:
        >>> as_picture(np.full((2, 2, 1), 7, np.uint8))[0, 0].tolist()
        [7, 7, 7]
    """
    if image.dtype == np.uint8:
        return np.ascontiguousarray(np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[:, :, :3])
    values = image[:, :, 0].astype(np.float32)
    low, high = np.percentile(values, SHOWN_PERCENTILES)
    shown = np.clip((values - low) * (255.0 / max(float(high - low), 1.0)), 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(shown, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB), np.uint8)


def draw_boxes(picture: Picture, objects: Annotations, classes: Sequence[str], scale: float) -> None:
    """Draw the boxes of annotated objects into a picture, with their class names.

    Args:
        picture: `(H, W, 3)` uint8 RGB, changed in place.
        objects: boxes in pixels of the original image.
        classes: class names.
        scale: size of the picture by size of the image.
    """
    for box, label in zip(objects.boxes_xyxy, objects.labels, strict=True):
        x1, y1, x2, y2 = (round(float(edge) * scale) for edge in box)
        colour = COLOURS[int(label) % len(COLOURS)]
        cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), colour, 1)
        for offset, ink in ((1, canvas.INK), (0, colour)):  # a shadow, so that letters are seen on anything
            at_xy = x1 + 3 + offset, y1 + 11 + offset
            canvas.write(picture, classes[int(label)], at_xy, size=SMALL, colour=ink, bold=True)


def _cell(data: PreparedData, modality: str, identifier: str, objects: Annotations | None) -> Picture:
    """One image, scaled to the width of a column."""
    try:
        picture = as_picture(data.read(modality, identifier))
    except DataError:
        return canvas.blank(CELL_WIDTH * 3 // 4, CELL_WIDTH)
    height, width = picture.shape[:2]
    scale = CELL_WIDTH / width
    cell = canvas.resized(picture, (round(height * scale), CELL_WIDTH))
    if objects is not None:
        draw_boxes(cell, objects, data.classes, scale)
    return cell


def _beside(cells: Sequence[Picture]) -> Picture:
    """Cells in a row, each followed by a gap, the lower ones filled up."""
    height = max(cell.shape[0] for cell in cells) + GAP
    row = canvas.blank(height, len(cells) * (CELL_WIDTH + GAP))
    for column, cell in enumerate(cells):
        left = column * (CELL_WIDTH + GAP)
        row[: cell.shape[0], left : left + CELL_WIDTH] = cell
    return row


def _captions(texts: Sequence[str]) -> Picture:
    """A line of text above the columns; a text may run on over empty ones."""
    strip = canvas.blank(CAPTION_HEIGHT, len(texts) * (CELL_WIDTH + GAP))
    for column, text in enumerate(texts):
        left = column * (CELL_WIDTH + GAP)
        room = strip.shape[1] - left if not any(texts[column + 1 :]) else CELL_WIDTH
        canvas.write(strip, canvas.shortened(text, room - 4), (left + 2, CAPTION_HEIGHT - 5))
    return strip


def _heading(data: PreparedData, name: str) -> str:
    info = data.modalities[name]
    unit = f", {info.unit}" if info.unit else ""
    return f"{name} ({info.channels} x {info.dtype}{unit})"


def _annotations(data: PreparedData, split: str) -> dict[str, Annotations]:
    """The annotations of a split; none where the file is damaged, which `check` reports."""
    try:
        return {name: found for name, found in data.annotations(split).items() if found.labelled}
    except DataError:
        return {}
