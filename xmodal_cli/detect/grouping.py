"""Bottom-up object proposals: boxes that may hold an object, found by grouping regions of whatever images there are.

No labels of the image are looked at. Regions are merged into several trees (`grouping_trees`) over channels of any
modalities (`grouping_channels`); each node's box is a candidate; candidates are ranked by a few dozen learned weights
and thinned so that the first ones differ (`ranking`). Settings and weights were chosen on the training split of NYUD2
(`benchmarks/fit_grouping.py`).

Shapes: `(H, W, C)` images, N boxes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import higra
import numpy as np
from numpy.typing import NDArray

from xmodal_cli.detect import grouping_trees as trees
from xmodal_cli.detect import ranking
from xmodal_cli.detect.grouping_channels import channels, working_size
from xmodal_cli.detect.grouping_trees import Candidates
from xmodal_cli.detect.grouping_weights import WEIGHTS
from xmodal_cli.errors import DataError, SettingsError

Floats = NDArray[np.float32]

MOST = 2000  # proposals per image that Fast R-CNN is used with (recipe 4.1)
VIEWS: dict[str, dict[str, float]] = {
    "colour": {"colour": 1.0, "other": 1.0},
    "depth": {"depth": 1.5, "height": 0.3, "angle": 0.5},
    "all": {"colour": 0.7, "other": 0.7, "depth": 1.5, "height": 0.3, "angle": 0.4},
}
TREES = (
    ("colour", "colour", "ward"),
    ("colour", "colour", "ward-near"),
    ("colour", "colour", "average"),
    ("all", "all", "ward"),
    ("all", "all", "ward-near"),
    ("all", "all", "average"),
    ("depth", "depth", "average"),
    ("all", "depth", "ward-near"),
)
WINDOW_SIDES = (1.0, 0.5, 0.25, 0.125)  # of the image's: windows where there are fewer candidates than boxes asked for


@dataclass(frozen=True)
class GroupingSettings:
    """Every number that decides the boxes; the defaults were fitted on the training split of NYUD2.

    Args:
        side_px: longer side that images are shrunk to before anything is done; smaller ones stay.
        smoothing_px: standard deviation of the Gaussian that takes noise away, working pixels.
        regions: small regions that the merging starts from, at most.
        region_px: how many working pixels such a region has at least, on average: small images have fewer regions.
        least_side_px: candidates with a shorter side are dropped, working pixels; 3 in images below 64 pixels.
        pull: how much a pixel's distance counts between regions in `ward-near`.
        views: weight of each group of channels, by the name of the view.
        trees: per tree the view its regions are cut by, the view and the rule they are merged by.
        weights: of what `ranking.measure` finds.
        overlaps: IoU above which a better box suppresses another, one per stage of the choice.
        shares: which share of the boxes each stage ends at; the last is 1.
        considered: candidates that the choice looks at, the best ones.

    Example:
        >>> GroupingSettings.from_dict(GroupingSettings(regions=500).to_dict()).regions
        500
    """

    side_px: int = 280
    smoothing_px: float = 1.0
    regions: int = 1500
    region_px: int = 39  # what 1500 regions have of an image of 280 x 210
    least_side_px: float = 6.0
    pull: float = 0.25
    views: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: VIEWS)
    trees: tuple[tuple[str, str, str], ...] = TREES
    weights: Mapping[str, float] = field(default_factory=lambda: WEIGHTS, repr=False)
    overlaps: tuple[float, ...] = (0.7, 0.9)
    shares: tuple[float, ...] = (0.75, 1.0)
    considered: int = 20_000

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain lists, dicts and numbers, for JSON."""
        return {**asdict(self), "trees": [list(tree) for tree in self.trees], **_lists(self)}

    @classmethod
    def from_dict(cls, described: Mapping[str, Any]) -> GroupingSettings:
        """The settings that `to_dict` wrote; what is left out has its default.

        Raises:
            SettingsError: a name is not a setting.
        """
        known = {each.name for each in fields(cls)}
        if strange := sorted(set(described) - known):
            raise SettingsError(f"Grouping has no setting '{strange[0]}'; it has {', '.join(sorted(known))}.")
        values = dict(described)
        for name in ("overlaps", "shares"):
            if name in values:
                values[name] = tuple(values[name])
        if "trees" in values:
            values["trees"] = tuple(tuple(tree) for tree in values["trees"])
        return cls(**values)


def _lists(settings: GroupingSettings) -> dict[str, list[float]]:
    return {"overlaps": list(settings.overlaps), "shares": list(settings.shares)}


def propose(
    images: Mapping[str, NDArray[Any]], settings: GroupingSettings = GroupingSettings(), *, most: int = MOST
) -> Floats:
    """Boxes that may hold an object, the likeliest first.

    Args:
        images: `(H, W, C)` as stored, by modality name (`PreparedData.read`): any of rgb, hha, depth (millimetres, 0
            where not seen), disparity, thermal, flow, gray or others, at least one, all of one size.
        settings: every number that decides.
        most: boxes wanted.

    Returns:
        `(N, 4)` float32 xyxy pixels with exclusive ends, N <= most, inside the image, no two equal; where the image
        offers too few candidates, windows of a grid come after them. The same images always give the same boxes.

    Raises:
        DataError: there is no image, or sizes differ.

    Example:
        >>> image = np.zeros((60, 80, 3), np.uint8)
        >>> image[20:40, 30:60] = 200
        >>> best = propose({"rgb": image}, most=100)[0]
        >>> bool(np.abs(best - [30, 20, 60, 40]).max() <= 1)
        True
    """
    full_hw = _common_size(images)
    found, seen = find_candidates(images, settings)
    boxes = _full_size(found.boxes, working_size(full_hw, settings.side_px), full_hw)
    if len(boxes):
        counts = [round(share * most) for share in settings.shares]
        scores = ranking.score(ranking.measure(found, seen), settings.weights)
        boxes = boxes[ranking.diversify(boxes, scores, settings.overlaps, counts, settings.considered)]
    if len(boxes) < most:
        boxes = np.concatenate([boxes, _windows(full_hw)])
        _, first = np.unique(boxes, axis=0, return_index=True)
        boxes = boxes[np.sort(first)]
    return boxes[:most]


def find_candidates(
    images: Mapping[str, NDArray[Any]], settings: GroupingSettings
) -> tuple[Candidates, dict[str, Floats]]:
    """All candidates of an image, no two with the same box, and the channels they were found in.

    Args:
        images: as for `propose`.
        settings: what to look for.

    Returns:
        Candidates in working pixels; `(h, w, C)` channels by group.
    """
    seen = channels(images, settings.side_px, settings.smoothing_px)
    size_hw = next(iter(seen.values())).shape[:2]
    parts = [_nothing()]
    if min(size_hw) > 1:
        parts += _grow_trees(seen, (size_hw[0], size_hw[1]), settings)
    found = trees.join(parts)
    # An object in a small image spans fewer pixels; a side of 3 still has an inside.
    least = settings.least_side_px if max(size_hw) >= 64 else min(3.0, settings.least_side_px)
    found = found.take((found.boxes[:, 2:] - found.boxes[:, :2]).min(axis=1) >= least)
    return found.take(_longest_lived(found)), seen


def _grow_trees(seen: Mapping[str, Floats], size_hw: tuple[int, int], settings: GroupingSettings) -> list[Candidates]:
    """The candidates of every tree whose views have channels here, less those that would equal an earlier one."""
    grid = higra.get_4_adjacency_graph(size_hw)
    most = min(settings.regions, max(2, size_hw[0] * size_hw[1] // settings.region_px))
    features = {view: trees.weighted(seen, weights) for view, weights in settings.views.items()}
    regions: dict[tuple[str, ...], trees.Regions] = {}
    grown, parts = set(), []
    for number, (cut_by, merged_by, linkage) in enumerate(settings.trees):
        cut, merged = features[cut_by], features[merged_by]
        groups = tuple(tuple(g for g in seen if settings.views[view].get(g)) for view in (cut_by, merged_by))
        if cut is None or merged is None or (groups, linkage) in grown:
            continue
        grown.add((groups, linkage))
        if groups[0] not in regions:
            regions[groups[0]] = trees.small_regions(grid, trees.contrasts(grid, cut), size_hw, most)
        leaves = regions[groups[0]]
        if len(leaves.count) > 1:
            parts.append(trees.candidates(trees.merge(leaves, merged, linkage, settings.pull), leaves, number))
    return parts


def _longest_lived(found: Candidates) -> NDArray[np.int64]:
    """Of candidates with the same box the one whose region lived longest, as indices in the order of boxes."""
    order = np.lexsort((found.death - found.birth, *found.boxes.T[::-1]))
    ordered = found.boxes[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return order[first]


def _nothing() -> Candidates:
    none = np.zeros(0, np.float32)
    return Candidates(np.zeros((0, 4), np.float32), none, none, none, np.zeros(0, np.int64))


def _full_size(boxes: Floats, size_hw: tuple[int, int], full_hw: tuple[int, int]) -> Floats:
    """Boxes of the working size as boxes of the image."""
    scale = np.array([full_hw[1] / size_hw[1], full_hw[0] / size_hw[0]] * 2, np.float64)
    return np.clip(boxes * scale, 0.0, np.array([full_hw[1], full_hw[0]] * 2)).astype(np.float32)


def _windows(full_hw: tuple[int, int]) -> Floats:
    """Windows of a grid, large ones first: the whole image, then halves, quarters, ..., overlapping by half."""
    windows = []
    for side in WINDOW_SIDES:
        start = np.arange(0.0, 1.0 - side + 1e-9, side / 2)
        top, left = (each.ravel() for each in np.meshgrid(start, start, indexing="ij"))
        windows.append(np.stack([left, top, left + side, top + side], axis=1))
    return np.asarray(np.concatenate(windows) * np.array([full_hw[1], full_hw[0]] * 2), np.float32)


def _common_size(images: Mapping[str, NDArray[Any]]) -> tuple[int, int]:
    """Height and width that all images have.

    Raises:
        DataError: there is none, or they differ.
    """
    sizes = {name: image.shape[:2] for name, image in images.items()}
    if len(set(sizes.values())) != 1 or min(next(iter(sizes.values()))) < 1:
        found = ", ".join(f"{name} {height} x {width}" for name, (height, width) in sizes.items()) or "none"
        raise DataError(f"Proposals need images of one size, at least one; found {found}.")
    height, width = next(iter(sizes.values()))
    return height, width
