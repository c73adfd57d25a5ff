"""Detections drawn on the image they were found in, and whole scenes with what was found and what is there.

A box has the colour of its class, with class and score on a label; masks lie under it as a tint. In scenes every
modality is a column, and a last one shows the annotated objects; a detection that hits an object of its class (IoU 0.5
or more, each object once, best score first) has a solid box, any other a dashed one.

Shapes: `(H, W, 3)` uint8 RGB pictures; boxes xyxy in pixels, exclusive ends.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from xmodal_cli.data.annotations import Annotations
from xmodal_cli.data.images import write_png
from xmodal_cli.data.masks import decode_mask
from xmodal_cli.data.prepared import RGB, PreparedData
from xmodal_cli.detect.prediction import Prediction
from xmodal_cli.metrics.average_precision import IOU
from xmodal_cli.metrics.detections import Detections
from xmodal_cli.metrics.recall import pairwise_iou
from xmodal_cli.pictures import canvas
from xmodal_cli.pictures.canvas import COLOURS, SMALL, Colour, Picture
from xmodal_cli.pictures.contact_sheet import as_picture

THICKNESS = 2
LABEL_HEIGHT = 14  # pixels of a label's line
TINT = 0.45  # of a mask's colour over the image
DASH = 6  # pixels of a dash, and of the gap after it
CELL_WIDTH = 320  # pixels of an image in a scene: three fit a page


@dataclass(frozen=True)
class Scene:
    """What was found in one pair of a data set, and what is there.

    Args:
        identifier: of the pair.
        found: its detections, best first.
        masks: for each of them `(H, W)` bool, or None.
        objects: what is annotated.
    """

    identifier: str
    found: Detections
    masks: tuple[NDArray[np.bool_] | None, ...]
    objects: Annotations

    @property
    def hits(self) -> NDArray[np.bool_]:
        """Which detections hit an object of their class that no better one has hit."""
        return hits(self.found, self.objects)

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """Plain values, for `--json`."""
        columns = (self.found.labels, self.found.scores, self.found.boxes_xyxy, self.hits)
        return {
            "id": self.identifier,
            "objects": len(self.objects),
            "detections": [
                {
                    "class": classes[label],
                    "score": round(float(score), 4),
                    "box_xyxy": [round(float(corner), 1) for corner in box],
                    "hit": bool(hit),
                }
                for label, score, box, hit in zip(*columns, strict=True)
            ],
        }


def write_detections_picture(prediction: Prediction, path: Path) -> Path:
    """Draw what was found in an image and write it as PNG; the best detection is drawn last, on top.

    Args:
        prediction: what was found.
        path: file to write.

    Returns:
        The path.
    """
    write_png(path, draw_detections(prediction))
    return path


def draw_detections(prediction: Prediction) -> Picture:
    """The image with a box, a class and a score for every detection."""
    picture, found = as_picture(prediction.image).copy(), prediction.detections
    marks = []
    for label, score, box in zip(found.labels.tolist(), found.scores, found.boxes_xyxy, strict=True):
        marks.append(Mark(box, f"{prediction.classes[label]} {score:.2f}", COLOURS[label % len(COLOURS)]))
    draw_marks(picture, marks)
    return picture


@dataclass(frozen=True)
class Mark:
    """One box to draw.

    Args:
        box_xyxy: `(4,)` pixels of the picture, exclusive ends.
        text: of its label.
        colour: of box, label and mask.
        dashed: whether the box is broken.
        mask: `(H, W)` bool of the picture's size, or None.
    """

    box_xyxy: NDArray[np.floating]
    text: str
    colour: Colour
    dashed: bool = False
    mask: NDArray[np.bool_] | None = None


def draw_marks(picture: Picture, marks: Sequence[Mark]) -> None:
    """Draw masks, then boxes, then labels, in place; the first mark lies on top, and its label where it belongs.

    Args:
        picture: `(H, W, 3)` uint8 RGB.
        marks: most important first.
    """
    for mark in reversed(marks):
        if mark.mask is not None:
            tint(picture, mark.mask, mark.colour)
    for mark in reversed(marks):
        _draw_box(picture, mark)
    taken: list[tuple[int, int, int]] = []
    for mark in marks:
        _draw_label(picture, mark, taken)


def _draw_box(picture: Picture, mark: Mark) -> None:
    left, top, right, bottom = (round(float(edge)) for edge in mark.box_xyxy)
    corners = [(left, top), (right - 1, top), (right - 1, bottom - 1), (left, bottom - 1), (left, top)]
    if mark.dashed:
        for begin, end in itertools.pairwise(corners):
            _dash(picture, begin, end, mark.colour)
    else:
        cv2.rectangle(picture, corners[0], corners[2], mark.colour, THICKNESS)


def _draw_label(picture: Picture, mark: Mark, taken: list[tuple[int, int, int]]) -> None:
    """Write a label above its box, or lower where labels lie already; `taken` are those: left, right, lower edge."""
    left, top = (round(float(edge)) for edge in mark.box_xyxy[:2])
    width = canvas.text_width(mark.text, SMALL) + 4
    begin = max(0, min(left, picture.shape[1] - width))
    line = max(top, LABEL_HEIGHT)  # a label above the image's edge would not be seen
    if any(_covers(each, begin, width, line) for each in taken):
        begin += THICKNESS  # inside the box, whose edge stays seen
        while any(_covers(each, begin, width, line) for each in taken):
            line += LABEL_HEIGHT // 2
    if line > picture.shape[0]:
        return
    taken.append((begin, begin + width, line))
    cv2.rectangle(picture, (begin, line - LABEL_HEIGHT), (begin + width, line), mark.colour, -1)
    canvas.write(picture, mark.text, (begin + 2, line - 3), size=SMALL, colour=canvas.ink_on(mark.colour))


def _covers(label: tuple[int, int, int], begin: int, width: int, line: int) -> bool:
    """Whether a label that lies there already would be covered."""
    left, right, low = label
    return begin < right and begin + width > left and abs(line - low) < LABEL_HEIGHT


def _dash(picture: Picture, begin: tuple[int, int], end: tuple[int, int], colour: Colour) -> None:
    """A broken line along one axis."""
    length = max(abs(end[0] - begin[0]), abs(end[1] - begin[1]))
    step = [int(np.sign(b - a)) for a, b in zip(begin, end, strict=True)]
    for at in range(0, length, 2 * DASH):
        last = min(at + DASH, length)
        first_xy = begin[0] + step[0] * at, begin[1] + step[1] * at
        cv2.line(picture, first_xy, (begin[0] + step[0] * last, begin[1] + step[1] * last), colour, THICKNESS)


def tint(picture: Picture, mask: NDArray[np.bool_], colour: Colour) -> None:
    """Lay a colour over the pixels of a mask, in place.

    Args:
        picture: `(H, W, 3)` uint8 RGB.
        mask: `(H, W)` bool.
        colour: of the tint.
    """
    mixed = picture[mask] * (1 - TINT) + np.array(colour) * TINT
    picture[mask] = mixed.round().astype(np.uint8)


def hits(found: Detections, objects: Annotations) -> NDArray[np.bool_]:
    """Which detections of one image hit an object of their class that no better one has hit.

    As the paper's AP counts them: a detection is of the object that it overlaps most, and wrong where that is taken.

    Args:
        found: best first.
        objects: what is there.
    """
    overlaps = pairwise_iou(found.boxes_xyxy, objects.boxes_xyxy)
    taken = np.zeros(len(objects), np.bool_)
    right = np.zeros(len(found), np.bool_)
    for index, label in enumerate(found.labels):
        same = (objects.labels == label) & ~objects.crowd
        if same.any():
            best = int(np.where(same, overlaps[index], -1).argmax())
            right[index] = overlaps[index, best] >= IOU and not taken[best]
            taken[best] |= right[index]
    return right


def scenes_of(
    found: Detections,
    ids: Sequence[str],
    shown: Sequence[str],
    annotations: dict[str, Annotations],
    *,
    least_score: float,
    most: int,
    masks: Sequence[NDArray[np.bool_] | None] | None = None,
) -> list[Scene]:
    """Detections of a split, scene by scene.

    Args:
        found: `images` indexing `ids`.
        ids: of the split.
        shown: the IDs that are shown.
        annotations: by ID.
        least_score: weaker detections are left out.
        most: detections of an image that are kept, best first.
        masks: for each detection, where there are any.
    """
    scenes = []
    for name in shown:
        here = np.flatnonzero((found.images == ids.index(name)) & (found.scores >= least_score))
        best = here[np.argsort(-found.scores[here], kind="stable")][:most]
        kept = tuple(None if masks is None else masks[index] for index in best)
        scenes.append(Scene(name, found[best], kept, annotations[name]))
    return scenes


def draw_scenes(data: PreparedData, scenes: Sequence[Scene], title: str) -> Picture:
    """A row a scene: detections on every modality, and the annotated objects.

    Args:
        data: the prepared data set.
        scenes: at least one.
        title: above them.

    Returns:
        `(H, W, 3)` uint8 RGB.
    """
    modalities = list(data.modalities)
    base = RGB if RGB in data.modalities else modalities[0]
    heads = [canvas.caption(name, CELL_WIDTH) for name in [*modalities, f"annotated, on {base}"]]
    rows = [canvas.beside(heads)]
    for scene in scenes:
        cells = [_found_cell(data, name, scene) for name in modalities]
        row = canvas.beside([*cells, _object_cell(data, base, scene)])
        right = int(scene.hits.sum())
        told = f"{scene.identifier}: {right} of {len(scene.found)} detections hit one of {len(scene.objects)} objects"
        if not scene.objects.labelled:
            told = f"{scene.identifier}: {len(scene.found)} detections shown; not annotated"
        rows += [canvas.caption(told, row.shape[1], colour=canvas.GREY), row]
    head = canvas.caption(title, rows[0].shape[1], size=canvas.TITLE)
    key = canvas.caption("solid: hits an object of its class; dashed: does not", rows[0].shape[1], colour=canvas.GREY)
    return canvas.framed(canvas.below([head, key, *rows], gap=5))


def _cell(data: PreparedData, modality: str, name: str) -> tuple[Picture, float]:
    """An image at the width of a column, and its scale."""
    picture = as_picture(data.read(modality, name))
    scale = CELL_WIDTH / picture.shape[1]
    return canvas.resized(picture, (round(picture.shape[0] * scale), CELL_WIDTH)), scale


def _found_cell(data: PreparedData, modality: str, scene: Scene) -> Picture:
    cell, scale = _cell(data, modality, scene.identifier)
    found, marks = scene.found, []
    for index, right in enumerate(scene.hits):
        label = int(found.labels[index])
        text = f"{data.classes[label]} {found.scores[index]:.2f}"
        colour, mask = COLOURS[label % len(COLOURS)], _scaled(scene.masks[index], cell)
        marks.append(Mark(found.boxes_xyxy[index] * scale, text, colour, not right, mask))
    draw_marks(cell, marks)
    return cell


def _object_cell(data: PreparedData, modality: str, scene: Scene) -> Picture:
    cell, scale = _cell(data, modality, scene.identifier)
    size_hw, objects, marks = data.size_hw(scene.identifier), scene.objects, []
    for index in np.argsort(objects.areas, kind="stable"):  # small ones on top
        label = int(objects.labels[index])
        mask = decode_mask(objects.segmentations[index] if objects.segmentations else None, size_hw)
        colour, text = COLOURS[label % len(COLOURS)], data.classes[label]
        marks.append(Mark(objects.boxes_xyxy[index] * scale, text, colour, False, _scaled(mask, cell)))
    draw_marks(cell, marks)
    return cell


def _scaled(mask: NDArray[np.bool_] | None, cell: Picture) -> NDArray[np.bool_] | None:
    """A mask at the size of a cell."""
    if mask is None:
        return None
    size = cell.shape[1], cell.shape[0]
    return np.asarray(cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0, np.bool_)
