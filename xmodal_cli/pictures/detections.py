"""Detections drawn on the image they were found in: a box, its class and its score, a colour for each class.

Shapes: `(H, W, 3)` uint8 RGB pictures.
"""

from __future__ import annotations

from pathlib import Path

import cv2

from xmodal_cli.data.images import write_png
from xmodal_cli.detect.prediction import Prediction
from xmodal_cli.pictures.contact_sheet import COLOURS, FONT, FONT_SCALE, Picture, as_picture

THICKNESS = 2
LABEL_HEIGHT = 14  # pixels of a label's line
DARK = (20, 20, 20)


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
    picture = as_picture(prediction.image).copy()
    found = prediction.detections
    for index in reversed(range(len(found))):
        label = int(found.labels[index])
        text = f"{prediction.classes[label]} {found.scores[index]:.2f}"
        _draw_one(
            picture, [round(float(corner)) for corner in found.boxes_xyxy[index]], text, COLOURS[label % len(COLOURS)]
        )
    return picture


def _draw_one(picture: Picture, box_xyxy: list[int], text: str, colour: tuple[int, int, int]) -> None:
    left, top, right, bottom = box_xyxy
    cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), colour, THICKNESS)
    (width, _), _ = cv2.getTextSize(text, FONT, FONT_SCALE, 1)
    line = max(top, LABEL_HEIGHT)  # a label above the image's edge would not be seen
    cv2.rectangle(picture, (left, line - LABEL_HEIGHT), (left + width + 4, line), colour, -1)
    cv2.putText(picture, text, (left + 2, line - 4), FONT, FONT_SCALE, DARK, 1, cv2.LINE_AA)
