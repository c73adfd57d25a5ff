"""Where units fire most: the patches of highest response in student and teacher (the paper's Figure 2, g to i).

Three rows a unit: source patches of highest response in the teacher, target patches of highest response of the same
unit in the student, and the source patches at the student's places. Units correspond at transfer points, where the
student is read behind its adapter. A patch is the unit's receptive field around the cell's centre, cut at the image's
border, or the middle of the field where that is larger than most of the image: it has nearly all the weight (Luo et
al., 2016). One patch per image at most, so that no scene fills a row (recipe 8: the paper does not say).

Shapes: N pairs, C units, h x w cells; boxes xyxy in pixels of the network's input, exclusive ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xmodal_cli.errors import SettingsError
from xmodal_cli.models.grid import Grid
from xmodal_cli.pictures import canvas
from xmodal_cli.pictures.canvas import Picture
from xmodal_cli.pictures.contact_sheet import as_picture
from xmodal_cli.pictures.eyes import Eye, View

SHOWN_PATCHES = 8  # of a unit: they fill the width of a page
SHOWN_UNITS = 4
PATCH_SIDE = 112  # pixels of a drawn patch
OUTSIDE: canvas.Colour = (235, 235, 235)  # where a receptive field reaches beyond the image
LARGEST = 0.6  # of the image's short side: a larger field is shown by its middle
PEAKS_SHARE = 0.05  # best images of a unit whose mean response says how choosy it is


@dataclass(frozen=True)
class Peaks:
    """For every pair and unit the strongest response and its place.

    Args:
        values: `(N, C)` float32.
        cells_yx: `(N, C, 2)` int64, row and column of the cell.
    """

    values: NDArray[np.float32]
    cells_yx: NDArray[np.int64]

    def best(self, unit: int, count: int) -> NDArray[np.int64]:
        """The pairs where a unit fires most, strongest first; earlier ones first where they are alike."""
        return np.argsort(-self.values[:, unit], kind="stable")[:count]


@dataclass(frozen=True)
class Responses:
    """What units said of many pairs.

    Args:
        ids: of the pairs.
        own: peaks of the run's network.
        teacher: of the teacher, if its units correspond.
        agreement: `(C,)` correlation of unit and teacher over all cells; NaN where one of them never changes. Without a
            teacher how much stronger a unit's best images are than its usual one.
    """

    ids: tuple[str, ...]
    own: Peaks
    teacher: Peaks | None
    agreement: NDArray[np.float64]


def respond(view: View, watch: Callable[[int, int], None] = lambda done, total: None) -> Responses:
    """Look at all pairs of a view.

    Args:
        view: what looks at what.
        watch: told how many pairs have been seen.
    """
    ids: list[str] = []
    own, teacher = _Gathered(), _Gathered()
    sums = _Agreement()
    for names, maps, taught in view.maps(view.ids):
        ids += names
        own.add(maps)
        if taught is not None:
            teacher.add(taught)
            sums.add(maps, taught)
        watch(len(ids), len(view.ids))
    peaks = own.peaks()
    if view.teacher is None:
        return Responses(tuple(ids), peaks, None, _choosiness(peaks))
    return Responses(tuple(ids), peaks, teacher.peaks(), sums.correlation())


class _Gathered:
    """Peaks of batches, one after another."""

    def __init__(self) -> None:
        self.values: list[NDArray[np.float32]] = []
        self.cells: list[NDArray[np.int64]] = []

    def add(self, maps: Tensor) -> None:
        flat, width = maps.flatten(2), maps.shape[3]
        values, at = flat.max(2)
        self.values.append(values.numpy())
        self.cells.append(torch.stack([at // width, at % width], 2).numpy())

    def peaks(self) -> Peaks:
        return Peaks(np.concatenate(self.values), np.concatenate(self.cells))


class _Agreement:
    """Sums behind each unit's correlation, in double precision."""

    def __init__(self) -> None:
        self.cells = 0
        self.sums: list[Tensor] = [torch.zeros((), dtype=torch.float64)] * 5

    def add(self, one: Tensor, other: Tensor) -> None:
        a, b = one.double(), other.double()
        self.cells += a.numel() // a.shape[1]
        parts = (a, b, a * a, b * b, a * b)
        self.sums = [total + part.sum((0, 2, 3)) for total, part in zip(self.sums, parts, strict=True)]

    def correlation(self) -> NDArray[np.float64]:
        a, b, aa, bb, ab = (total / self.cells for total in self.sums)
        spread = ((aa - a * a).clamp_min(0) * (bb - b * b).clamp_min(0)).sqrt()
        return torch.where(spread > 0, (ab - a * b) / spread, torch.nan).numpy()


def _choosiness(peaks: Peaks) -> NDArray[np.float64]:
    """Mean of a unit's best peaks minus its median one, in standard deviations; NaN where it never changes."""
    ordered = np.sort(peaks.values.astype(np.float64), axis=0)
    few = max(1, round(len(ordered) * PEAKS_SHARE))
    spread = ordered.std(0)
    gap = ordered[-few:].mean(0) - np.median(ordered, axis=0)
    return np.where(spread > 0, gap / np.where(spread > 0, spread, 1), np.nan)


def choose_units(responses: Responses, units: Sequence[int] | None, count: int = SHOWN_UNITS) -> list[int]:
    """The units that are shown: those named, else those that agree best with the teacher (or are choosiest).

    Args:
        responses: of all units.
        units: as named, from 0; None chooses.
        count: how many are chosen.

    Raises:
        SettingsError: there is no such unit.
    """
    known = responses.own.values.shape[1]
    wrong = [unit for unit in units or () if not 0 <= unit < known]
    if wrong:
        raise SettingsError(
            f"There is no unit {wrong[0]}: the layer has {known}, 0 to {known - 1}.", "Use --units 0,1,2"
        )
    if units:
        return list(units)
    ranked = np.argsort(-np.nan_to_num(responses.agreement, nan=-np.inf), kind="stable")
    return [int(unit) for unit in ranked[:count]]


def field_box(grid: Grid, cell_yx: Sequence[int]) -> tuple[float, float, float, float]:
    """The receptive field of a cell: `x1, y1, x2, y2` in pixels of the network's input, exclusive ends, unclipped.

    Example:
        >>> field_box(Grid((4.0, 4.0), (3.0, 3.0), (55, 55), (11.0, 11.0)), (0, 1))
        (2.0, -2.0, 13.0, 9.0)
    """
    (top, bottom), (left, right) = (
        (centre - (seen - 1) / 2, centre + (seen + 1) / 2)
        for centre, seen in (
            (first + stride * cell, field)
            for first, stride, cell, field in zip(
                grid.first_centre_yx, grid.stride_yx, cell_yx, grid.field_hw, strict=True
            )
        )
    )
    return left, top, right, bottom


def shown_box(box_xyxy: Sequence[float], seen_hw: tuple[int, int]) -> tuple[float, float, float, float]:
    """The part of a receptive field that is shown: all of it, or its middle if it is larger than most of the image.

    Example:
        >>> shown_box((0.0, 0.0, 11.0, 11.0), (100, 200)), shown_box((-50.0, 0.0, 150.0, 200.0), (100, 200))
        ((0.0, 0.0, 11.0, 11.0), (20.0, 70.0, 80.0, 130.0))
    """
    most = LARGEST * min(seen_hw)
    x1, y1, x2, y2 = box_xyxy
    cut_x, cut_y = max(0.0, x2 - x1 - most) / 2, max(0.0, y2 - y1 - most) / 2
    return x1 + cut_x, y1 + cut_y, x2 - cut_x, y2 - cut_y


def cut_patch(image: NDArray[Any], box_xyxy: Sequence[float], seen_hw: tuple[int, int]) -> Picture:
    """A receptive field as a square picture; what lies outside the image is plain.

    Args:
        image: `(H, W, C)` as stored, at its own size.
        box_xyxy: in pixels of the image as the network saw it.
        seen_hw: its size there.
    """
    picture = as_picture(image)
    scale_y, scale_x = (own / seen for own, seen in zip(picture.shape[:2], seen_hw, strict=True))
    x1, y1, x2, y2 = box_xyxy
    left, right = (min(max(round(x * scale_x), 0), picture.shape[1]) for x in (x1, x2))
    top, bottom = (min(max(round(y * scale_y), 0), picture.shape[0]) for y in (y1, y2))
    patch = canvas.blank(PATCH_SIDE, PATCH_SIDE, OUTSIDE)
    per_pixel = PATCH_SIDE / max((x2 - x1) * scale_x, (y2 - y1) * scale_y)
    height, width = (max(1, round(side * per_pixel)) for side in (bottom - top, right - left))
    if right > left and bottom > top:
        y, x = round((top - y1 * scale_y) * per_pixel), round((left - x1 * scale_x) * per_pixel)
        y, x = min(max(y, 0), PATCH_SIDE - 1), min(max(x, 0), PATCH_SIDE - 1)
        inside = canvas.resized(picture[top:bottom, left:right], (height, width))[: PATCH_SIDE - y, : PATCH_SIDE - x]
        patch[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return patch


def draw_patches(view: View, responses: Responses, units: Sequence[int], count: int = SHOWN_PATCHES) -> Picture:
    """The patches of some units, a block of rows each.

    Args:
        view: what looked at what.
        responses: what it said.
        units: which ones are shown.
        count: patches in a row.

    Returns:
        `(H, W, 3)` uint8 RGB.
    """
    blocks = [_block(view, responses, unit, count) for unit in units]
    field = " x ".join(f"{side:g}" for side in view.own.grid.field_hw)
    point = view.own.layer if view.teacher is None else f"{view.teacher.layer}:{view.own.layer}"
    height, width = view.size_hw
    middle = ", their middle shown" if max(view.own.grid.field_hw) > LARGEST * min(view.size_hw) else ""
    title = f"{view.subject.run.path.name}, {point}: fields of {field} px in images of {height} x {width}{middle}"
    head = canvas.caption(title, blocks[0].shape[1], size=canvas.TITLE)
    return canvas.framed(canvas.below([head, *blocks], gap=14))


def _block(view: View, responses: Responses, unit: int, count: int) -> Picture:
    """One unit: the rows of Figure 2 g, h and i."""
    rows: list[Picture] = []
    if view.teacher is not None and responses.teacher is not None:
        rows += _row(view, responses, responses.teacher, view.teacher, view.teacher.modality, unit, count)
    rows += _row(view, responses, responses.own, view.own, view.own.modality, unit, count)
    if view.source != view.own.modality:
        rows += _row(view, responses, responses.own, view.own, view.source, unit, count)
    what = "correlation with the teacher" if view.teacher else "best images above the usual one, in deviations,"
    head = canvas.caption(f"unit {unit}, {what} {responses.agreement[unit]:.2f}", rows[1].shape[1], bold=True)
    return canvas.below([head, *rows], gap=2)


def _row(
    view: View, responses: Responses, peaks: Peaks, eye: Eye, modality: str, unit: int, count: int
) -> list[Picture]:
    """A line of text, and the patches of one network's highest responses in one modality."""
    patches, scores = [], []
    for index in peaks.best(unit, count):
        image = view.data.read(modality, responses.ids[index])
        box = shown_box(field_box(eye.grid, peaks.cells_yx[index, unit]), view.size_hw)
        patches.append(cut_patch(image, box, view.size_hw))
        scores.append(float(peaks.values[index, unit]))
    told = f"highest in the {eye.title}, {scores[0]:.2f} to {scores[-1]:.2f}"
    if modality != eye.modality:
        told = f"{modality} at the same places"
    row = canvas.beside(patches, gap=4)
    return [canvas.caption(told, row.shape[1], colour=canvas.GREY), row]


def patch_table(
    view: View, responses: Responses, units: Sequence[int], count: int = SHOWN_PATCHES
) -> list[dict[str, Any]]:
    """The patches that `draw_patches` shows, as plain values: ID, response and box of each."""
    eyes = [("own", view.own, responses.own)]
    if view.teacher is not None and responses.teacher is not None:
        eyes.append(("teacher", view.teacher, responses.teacher))
    found = []
    for unit in units:
        entry: dict[str, Any] = {"unit": unit, "agreement": float(responses.agreement[unit])}
        for name, eye, peaks in eyes:
            entry[name] = [
                {
                    "id": responses.ids[index],
                    "response": float(peaks.values[index, unit]),
                    "box_xyxy": [round(edge, 1) for edge in field_box(eye.grid, peaks.cells_yx[index, unit])],
                }
                for index in peaks.best(unit, count)
            ]
        found.append(entry)
    return found
