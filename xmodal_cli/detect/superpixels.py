"""Superpixels, imported from `superpixels/ID.png` or cut here, and masks of boxes laid on them (recipe 5.1, 5.4).

The paper took superpixels of an RGB-D contour detector. Here the same region trees cut them that give proposals: the
watersheds of colour, depth and surface, the smallest merged away.

Shapes: `(H, W)` int32 label images, P superpixels, N masks of one image, S x S places of a box.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import cv2
import higra
import numpy as np
from numpy.typing import NDArray

from xmodal_cli.data import images as image_files
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect import grouping_trees as trees
from xmodal_cli.detect.grouping import GroupingSettings
from xmodal_cli.detect.grouping_channels import channels, working_size
from xmodal_cli.errors import DataError

FOLDER = "superpixels"
COUNT = 2000  # superpixels of an image, about
SIDE_PX = 280  # longer side of the image that they are cut in; more finds objects no better, five times slower
SMOOTHING_PX = 1.0
VIEWS = ("all", "depth", "colour")  # which channels count how much; the first whose channels are there
LEAST_PX = 1e-6  # side of a box that is divided by
THRESHOLD = 0.4  # mean probability from which on a superpixel is part of a region (recipe 5.1)

Labels = NDArray[np.int32]


def superpixels(images: Mapping[str, NDArray[Any]], *, count: int = COUNT, side_px: int = SIDE_PX) -> Labels:
    """Cut an image into small regions that respect its edges.

    Args:
        images: `(H, W, C)` as stored, by modality name, at least one, all of one size.
        count: of regions, about; equal contrasts are cut together.
        side_px: longer side of the image that is cut; larger images are shrunk before.

    Returns:
        `(H, W)` int32, numbered from 0 without gaps.

    Example:
        >>> image = np.zeros((60, 80, 3), np.uint8)
        >>> image[20:40, 30:60] = 200
        >>> labels = superpixels({"rgb": image}, count=50)
        >>> inside = np.unique(labels[22:38, 32:58])
        >>> bool(np.isin(inside, labels[:18]).any())
        False
    """
    full_hw = next(iter(images.values())).shape[:2]
    size_hw = working_size(full_hw, side_px)
    seen = channels(images, side_px, SMOOTHING_PX)
    views = GroupingSettings().views
    weighted = [trees.weighted(seen, views[view]) for view in VIEWS]
    features = next((each for each in weighted if each is not None), None)
    if features is None or min(size_hw) < 2:
        return np.zeros(full_hw, np.int32)
    grid = higra.get_4_adjacency_graph(size_hw)
    labels = trees.small_regions(grid, trees.contrasts(grid, features), size_hw, count).label.reshape(size_hw)
    whole = cv2.resize(labels.astype(np.int32), (full_hw[1], full_hw[0]), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(np.unique(whole, return_inverse=True)[1].reshape(full_hw), np.int32)


def imported(data: PreparedData, name: str) -> Labels | None:
    """The superpixels that a data set has of an image, None where it has none.

    Args:
        data: the prepared data set.
        name: the image's ID.

    Raises:
        DataError: the file is damaged or of another size.
    """
    path = data.root / FOLDER / f"{name}.png"
    if not path.is_file():
        return None
    stored, size_hw = image_files.read_raw(path), data.size_hw(name)
    if stored.shape != size_hw:
        raise DataError(
            f"'{path}' holds {image_files.describe(stored)}; expected one channel of {size_hw[0]} x {size_hw[1]} "
            "pixels, the number of its superpixel in each.",
            "Write superpixels as 16-bit PNG files with one channel.",
        )
    return np.asarray(np.unique(stored, return_inverse=True)[1].reshape(size_hw), np.int32)


def superpixels_of(data: PreparedData, name: str) -> Labels:
    """The superpixels of an image of a data set: its own where it has them, else cut from all of its modalities."""
    own = imported(data, name)
    return own if own is not None else superpixels({each: data.read(each, name) for each in data.modalities})


def paste(
    probabilities: NDArray[np.float32],
    box_xyxy: NDArray[np.floating],
    size_hw: tuple[int, int],
    *,
    centred: bool = True,
) -> tuple[slice, slice, NDArray[np.float32]]:
    """A mask of a box on the pixels of its image: the rows and columns it covers, and the probability at each.

    Pixels whose centre lies in the box read the place that their centre lies in; nothing is said of others.

    Args:
        probabilities: `(S, S)`.
        box_xyxy: `(4,)` pixels, exclusive ends.
        size_hw: of the image.
        centred: as said. The original rounds the corners up and reads the place of a pixel's first corner instead
            (recipe 5.4), which moves a mask by up to a pixel and a half, down and to the right.

    Example:
        >>> rows, columns, values = paste(np.ones((50, 50), np.float32), np.array([1.6, 0.0, 4.0, 9.0]), (5, 8))
        >>> rows, columns, values.shape
        (slice(0, 5, None), slice(2, 4, None), (5, 2))
    """
    left, top, right, bottom = box_xyxy.astype(np.float64) if centred else np.ceil(box_xyxy)
    within, places = 0.5 if centred else 0.0, probabilities.shape[0]  # where in a pixel
    picked = []
    for low, high, limit in ((top, bottom, size_hw[0]), (left, right, size_hw[1])):
        first, last = max(math.ceil(low - within), 0), min(math.ceil(high - within), limit)
        pixels = np.arange(first, max(first, last))
        cells = np.floor((pixels + within - low) * (places / max(high - low, LEAST_PX))).astype(np.int64)
        picked.append((slice(first, first + len(pixels)), np.minimum(cells, places - 1)))
    (rows, down), (columns, across) = picked
    return rows, columns, probabilities[down[:, None], across[None, :]]


def on_superpixels(
    probabilities: NDArray[np.float32],
    boxes_xyxy: NDArray[np.float32],
    labels: Labels,
    threshold: float = THRESHOLD,
    *,
    centred: bool = True,
) -> NDArray[np.uint8]:
    """Whole superpixels whose mean probability reaches a threshold; outside its box a mask is 0.

    Args:
        probabilities: `(N, S, S)`.
        boxes_xyxy: `(N, 4)`.
        labels: `(H, W)`, from 0 without gaps.
        threshold: of the mean.
        centred: as in `paste`.

    Returns:
        `(N, W * H)` 0 or 1, pixels column by column, as masks are encoded.
    """
    size_hw = labels.shape[0], labels.shape[1]
    sizes = np.bincount(labels.ravel())
    chosen = np.zeros((len(boxes_xyxy), len(sizes)), np.uint8)
    for number, (each, box) in enumerate(zip(probabilities, boxes_xyxy, strict=True)):
        rows, columns, values = paste(each, box, size_hw, centred=centred)
        sums = np.bincount(labels[rows, columns].ravel(), values.ravel(), minlength=len(sizes))
        chosen[number] = (sums >= threshold * sizes) & (sums > 0)
    return chosen[:, labels.T.ravel()]


def on_pixels(
    probabilities: NDArray[np.float32],
    boxes_xyxy: NDArray[np.float32],
    size_hw: tuple[int, int],
    threshold: float,
    *,
    centred: bool = True,
) -> NDArray[np.uint8]:
    """The same without superpixels: every pixel by its own probability; `(N, W * H)`."""
    masks = np.zeros((len(boxes_xyxy), size_hw[1], size_hw[0]), np.uint8)
    for mask, each, box in zip(masks, probabilities, boxes_xyxy, strict=True):
        rows, columns, values = paste(each, box, size_hw, centred=centred)
        mask[columns, rows] = (values >= threshold).T
    return masks.reshape(len(masks), -1)
