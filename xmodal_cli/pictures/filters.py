"""First-layer filters as mosaics, before and after a training, beside the teacher's (the paper's Figure 2, a to f).

Filters of three channels are shown as colour and channel by channel, others channel by channel; each filter is
stretched from its own smallest to its own largest value over all its channels (recipe 8: the paper does not say how,
this is the common choice). Channels are in the order of the stored image, whatever order a network wants. What the eye
cannot judge is measured: how far the weights moved, relative to their start, and how alike they still are.

Shapes: O filters, I channels, k x k window; `(H, W, 3)` uint8 RGB pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.models.backbones import Backbone
from xmodal_cli.models.stem import stem_name
from xmodal_cli.pictures import canvas
from xmodal_cli.pictures.canvas import Picture
from xmodal_cli.pictures.subjects import open_subject, silent, start_of, teacher_of
from xmodal_cli.runs.folder import RunFolder
from xmodal_cli.web.fetch import Watcher

Weights = NDArray[np.float32]

COLOUR = 3  # channels that can be shown as colour
MOSAIC_WIDTH = 340  # pixels: three mosaics fit a page
WIDER = 1.5  # columns to rows of a mosaic, as the paper's 12 x 8
CHANNEL_NAMES = {"rgb": ("red", "green", "blue"), "hha": ("disparity", "height", "angle")}


@dataclass(frozen=True)
class Filters:
    """The first filters of a network.

    Args:
        title: a few words for the network.
        weights: `(O, I, k, k)`, channels in the order of the stored image.
        channels: a name for each of the I channels.
    """

    title: str
    weights: Weights
    channels: tuple[str, ...]


@dataclass(frozen=True)
class FilterComparison:
    """A run's first filters and those that they are compared with.

    Args:
        layer: path of the convolution.
        start, now: of the run's network before and after.
        teacher: of the network that taught; None where there was none.
    """

    layer: str
    start: Filters
    now: Filters
    teacher: Filters | None = None

    @property
    def relative_change(self) -> float | None:
        """How far the weights moved: `||w - w0|| / ||w0||`."""
        return relative_change(self.now.weights, self.start.weights)

    @property
    def correlation_to_start(self) -> float | None:
        """How alike the weights and their start are."""
        return correlation(self.now.weights, self.start.weights)

    @property
    def correlation_to_teacher(self) -> float | None:
        """How alike the weights and the teacher's are; None where their shapes differ."""
        return None if self.teacher is None else correlation(self.now.weights, self.teacher.weights)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {
            "layer": self.layer,
            "filters": list(self.now.weights.shape),
            "channels": list(self.now.channels),
            "start": self.start.title,
            "relative_change": self.relative_change,
            "correlation_to_start": self.correlation_to_start,
            "correlation_to_teacher": self.correlation_to_teacher,
        }


def compare_filters(run: RunFolder, downloading: Watcher = silent) -> FilterComparison:
    """The first filters of a finished run, before and after, and the teacher's.

    Args:
        run: of `distill` or `finetune`.
        downloading: told of a download, if published weights must be fetched again.

    Raises:
        XmodalError: the run is not finished or of another kind, or what it began with is gone.
    """
    subject = open_subject(run)
    word, start = start_of(subject, downloading)
    teacher = teacher_of(subject, downloading)
    return FilterComparison(
        stem_name(subject.network.module, subject.network.in_channels),
        filters_of(start, f"start: {word}", subject.modality),
        filters_of(subject.network, f"{subject.who} after training ({subject.modality})", subject.modality),
        teacher and filters_of(teacher[1], f"teacher ({teacher[0]})", teacher[0]),
    )


def filters_of(network: Backbone, title: str, modality: str) -> Filters:
    """The filters of a network's first convolution.

    Args:
        network: any that begins with a convolution.
        title: a few words for it.
        modality: what it sees, which names its channels.
    """
    path = stem_name(network.module, network.in_channels)
    weights = network.module.state_dict()[f"{path}.weight"].float().cpu().numpy()
    stored = weights[:, ::-1] if network.input.order == "bgr" else weights
    numbered = tuple(f"channel {number + 1}" for number in range(stored.shape[1]))
    names = CHANNEL_NAMES.get(modality, ())
    return Filters(title, np.ascontiguousarray(stored), names if len(names) == len(numbered) else numbered)


def relative_change(now: Weights, start: Weights) -> float | None:
    """`||w - w0|| / ||w0||`; None where shapes differ or the start is all zero.

    Example:
        >>> relative_change(np.full(4, 3.0, np.float32), np.full(4, 2.0, np.float32))
        0.5
    """
    length = float(np.linalg.norm(start))
    if now.shape != start.shape or length == 0:
        return None
    return float(np.linalg.norm(now.astype(np.float64) - start)) / length


def correlation(one: Weights, other: Weights) -> float | None:
    """Pearson's correlation of all weights; None where shapes differ or one of them is constant.

    Example:
        >>> round(correlation(np.float32([1, 2, 3]), np.float32([-2, -4, -6])), 6)
        -1.0
    """
    if one.shape != other.shape or one.std() == 0 or other.std() == 0:
        return None
    return float(np.corrcoef(one.ravel().astype(np.float64), other.ravel())[0, 1])


def draw_filters(compared: FilterComparison) -> Picture:
    """Mosaics side by side: start, now, teacher; below each other colour and every channel.

    Returns:
        `(H, W, 3)` uint8 RGB.
    """
    shown = [each for each in (compared.start, compared.now, compared.teacher) if each is not None]
    figures = [
        "",
        f"relative change {_figure(compared.relative_change)}, correlation {_figure(compared.correlation_to_start)}",
        "" if compared.teacher is None else f"correlation to the run's {_figure(compared.correlation_to_teacher)}",
    ]
    columns = [_column(each, line) for each, line in zip(shown, figures, strict=False)]
    return canvas.framed(canvas.beside(columns, gap=24))


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _column(filters: Filters, line: str) -> Picture:
    """All mosaics of one network under its title."""
    stretched = stretch(filters.weights)
    parts: list[tuple[str, Weights]] = []
    if len(filters.channels) == COLOUR:
        parts.append((f"{len(stretched)} filters, {' '.join(filters.channels)} as red green blue", stretched))
    for number, name in enumerate(filters.channels):
        parts.append((name, stretched[:, number : number + 1]))
    mosaics = [mosaic(each) for _, each in parts]
    cells = [
        canvas.below([canvas.caption(name, each.shape[1], colour=canvas.GREY), each], gap=0)
        for (name, _), each in zip(parts, mosaics, strict=True)
    ]
    width = max(cell.shape[1] for cell in cells)
    head = [canvas.caption(filters.title, width, size=canvas.TITLE), canvas.caption(line, width)]
    return canvas.below([*head, *cells], gap=4)


def stretch(weights: Weights) -> Weights:
    """Each filter from its smallest to its largest value, as 0 to 1; a constant one is 0.5.

    Example:
        >>> stretch(np.float32([[[[-2, 0, 2]]], [[[1, 1, 1]]]])).tolist()
        [[[[0.0, 0.5, 1.0]]], [[[0.5, 0.5, 0.5]]]]
    """
    low = weights.min(axis=(1, 2, 3), keepdims=True)
    span = weights.max(axis=(1, 2, 3), keepdims=True) - low
    return np.where(span > 0, (weights - low) / np.where(span > 0, span, 1), 0.5).astype(np.float32)


def mosaic(stretched: Weights) -> Picture:
    """Filters in rows, each weight a square of pixels, one pixel of paper between filters.

    Args:
        stretched: `(O, 1, k, k)` or `(O, 3, k, k)`, 0 to 1.
    """
    count, _, height, width = stretched.shape
    columns = columns_of(count)
    times = max(1, MOSAIC_WIDTH // (columns * width))
    tiles = (stretched.transpose(0, 2, 3, 1) * 255).round().astype(np.uint8)
    tiles = np.repeat(tiles, COLOUR // tiles.shape[3], axis=3)  # (O, k, k, 3)
    rows = []
    for first in range(0, count, columns):
        row = [canvas.enlarged(tile, times) for tile in tiles[first : first + columns]]
        row += [canvas.blank(height * times, width * times)] * (columns - len(row))
        rows.append(canvas.beside(row, gap=2))
    return canvas.below(rows, gap=2)


def columns_of(count: int) -> int:
    """Columns of a mosaic: full rows where a number near the wished shape divides the count.

    Example:
        >>> columns_of(96), columns_of(64), columns_of(7)
        (12, 8, 3)
    """
    wished = (count * WIDER) ** 0.5
    near = [number for number in range(1, count + 1) if count % number == 0 and 0.6 < number / wished < 1.5]
    return min(near, key=lambda number: abs(number - wished)) if near else max(1, round(wished))


def channel_summary(compared: FilterComparison) -> Sequence[Sequence[object]]:
    """Rows of a table: network, shape of its filters, relative change and correlation to the run's filters now."""
    now = compared.now.weights
    rows: list[list[object]] = []
    for each in (compared.now, compared.start, compared.teacher):
        if each is not None:
            moved = relative_change(now, each.weights) if each is compared.start else None
            alike = None if each is compared.now else correlation(now, each.weights)
            shape = " x ".join(map(str, each.weights.shape))
            rows.append([each.title, shape, *("" if value is None else f"{value:.3f}" for value in (moved, alike))])
    return rows
