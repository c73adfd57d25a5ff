"""Hierarchies of regions over an image, and the boxes of their nodes as candidates for objects.

Pixels become some hundred to thousand small regions by a watershed; neighbours merge two by two until one region is
left, by several rules and channels, since no one rule finds all objects (selective search, Uijlings et al., IJCV 2013).
A node gives its own box, and one joined with its uncle (the sibling of its parent): an object whose parts met their
surroundings before they met each other is found that way (after the pairs of neighbours of MCG, Arbelaez et al., CVPR
2014). Higra builds the trees and carries boxes and areas up them, so that nothing here loops over regions.

Shapes: h x w is the working size, C channels, R regions, M nodes, N candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import higra
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Candidates:
    """Boxes that may hold an object, with what their regions tell about them.

    Args:
        boxes: `(N, 4)` float32, working pixels, exclusive ends.
        area: `(N,)` float32, of the region inside the box, pixels.
        birth: `(N,)` float32, logarithm of how many regions were left when the region was complete.
        death: `(N,)` float32, the same when it merged into a larger one.
        kind: `(N,)` int64, twice the number of the tree, plus one for a box joined with its uncle's.
    """

    boxes: Floats
    area: Floats
    birth: Floats
    death: Floats
    kind: NDArray[np.int64]

    def __len__(self) -> int:
        """How many candidates there are."""
        return len(self.boxes)

    def take(self, chosen: NDArray[Any]) -> Candidates:
        """Some of the candidates, by index or mask."""
        return Candidates(
            self.boxes[chosen], self.area[chosen], self.birth[chosen], self.death[chosen], self.kind[chosen]
        )


@dataclass(frozen=True)
class Regions:
    """Small regions of an image, and which of them touch.

    Args:
        graph: Higra's region adjacency graph.
        label: `(h * w,)` int64, the vertex of every pixel.
        count: `(R,)` float64, pixels of every region.
        boxes: `(R, 4)` float64.
        centres: `(R, 2)` float64, mean x and y.
        shared: edge lengths between neighbours, pixels.
    """

    graph: Any
    label: NDArray[np.int64]
    count: Doubles
    boxes: Doubles
    centres: Doubles
    shared: Doubles


def weighted(channels: Mapping[str, Floats], weights: Mapping[str, float]) -> Doubles | None:
    """The channels of a view side by side, `(h * w, C)` float64; None where the view has no channel here."""
    parts = [image * weights[group] for group, image in channels.items() if weights.get(group)]
    if not parts:
        return None
    stacked = np.concatenate(parts, axis=2).astype(np.float64)
    return stacked.reshape(-1, stacked.shape[2])


def contrasts(grid: Any, features: Doubles) -> Doubles:
    """Distance between the features of neighbouring pixels, one per edge of the grid."""
    source, target = grid.edge_list()
    apart = features[source]
    apart -= features[target]
    distance: Doubles = np.sqrt(np.einsum("ec,ec->e", apart, apart))
    return distance


def small_regions(grid: Any, contrast: Doubles, size_hw: tuple[int, int], most: int) -> Regions:
    """Cut an image into at most so many regions: its watersheds, the smallest merged away.

    Args:
        grid: Higra's graph of 4-neighbours.
        contrast: one value per edge of it.
        size_hw: working size.
        most: regions.
    """
    tree, altitudes = higra.watershed_hierarchy_by_area(grid, contrast)
    cut = higra.labelisation_horizontal_cut_from_num_regions(tree, altitudes, most)
    graph = higra.make_region_adjacency_graph_from_labelisation(grid, cut)
    label = np.asarray(higra.get_attribute(graph, "vertex_map"), np.int64).ravel()
    y, x = np.divmod(np.arange(size_hw[0] * size_hw[1]), size_hw[1])
    count = np.bincount(label).astype(np.float64)
    order = np.argsort(label, kind="stable")
    starts = np.concatenate([[0], np.cumsum(count[:-1])]).astype(np.int64)
    low = [np.minimum.reduceat(at[order], starts) for at in (x, y)]
    high = [np.maximum.reduceat(at[order], starts) + 1 for at in (x, y)]
    centres = np.stack([np.bincount(label, at) for at in (x, y)], axis=1) / count[:, None]
    shared = np.asarray(higra.rag_accumulate_on_edges(graph, higra.Accumulators.counter, contrast), np.float64)
    return Regions(graph, label, count, np.stack([*low, *high], axis=1).astype(np.float64), centres, shared)


def merge(regions: Regions, features: Doubles, linkage: str, pull: float) -> Any:
    """Merge regions two by two into a tree.

    Args:
        regions: the leaves.
        features: `(h * w, C)` of the pixels.
        linkage: `ward` (least growth of variance), `ward-near` (the same with positions, so that regions stay compact)
            or `average` (mean distance of the regions along their common border).
        pull: of `ward-near`, how much a pixel's distance counts.

    Returns:
        Higra's tree.
    """
    sums = [np.bincount(regions.label, features[:, c]) for c in range(features.shape[1])]
    means = np.stack(sums, axis=1) / regions.count[:, None]
    if linkage == "average":
        source, target = regions.graph.edge_list()
        apart = np.linalg.norm(means[source] - means[target], axis=1)
        return higra.binary_partition_tree_average_linkage(regions.graph, apart, regions.shared)[0]
    if linkage == "ward-near":
        means = np.concatenate([means, regions.centres * pull], axis=1)
    return higra.binary_partition_tree_ward_linkage(regions.graph, means, regions.count)[0]


def candidates(tree: Any, regions: Regions, number: int) -> Candidates:
    """The boxes of a tree's nodes, and of nodes joined with their uncles.

    Args:
        tree: of `merge`; nodes are numbered in the order they appeared.
        regions: its leaves.
        number: the tree's number, for `kind`.
    """
    inward = np.array([1.0, 1.0, -1.0, -1.0])
    boxes = higra.accumulate_sequential(tree, np.ascontiguousarray(regions.boxes * inward), higra.Accumulators.min)
    boxes = boxes.reshape(-1, 4) * inward
    area = np.asarray(higra.accumulate_sequential(tree, regions.count, higra.Accumulators.sum))
    parents = np.asarray(tree.parents())
    root = len(parents) - 1
    left = np.log(np.minimum(tree.num_leaves(), root + 1 - np.arange(root + 1)))  # regions left when a node appears
    own = _of_kind(2 * number, boxes, area, left, left[parents])
    node = np.flatnonzero(parents[parents] != parents)  # neither the root nor its children: those have an uncle
    if len(node) == 0:
        return own
    uncle = np.asarray(higra.attribute_sibling(tree))[parents[node]]
    joined = np.concatenate(
        [np.minimum(boxes[node, :2], boxes[uncle, :2]), np.maximum(boxes[node, 2:], boxes[uncle, 2:])], axis=1
    )
    complete = left[np.maximum(node, uncle)]
    pairs = _of_kind(2 * number + 1, joined, area[node] + area[uncle], complete, left[parents[parents[node]]])
    return join([own, pairs])


def join(parts: Sequence[Candidates]) -> Candidates:
    """Several sets of candidates as one."""
    return Candidates(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.area for part in parts]),
        np.concatenate([part.birth for part in parts]),
        np.concatenate([part.death for part in parts]),
        np.concatenate([part.kind for part in parts]),
    )


def _of_kind(kind: int, boxes: Doubles, area: Doubles, birth: Doubles, death: Doubles) -> Candidates:
    """Candidates that share a kind."""
    single = np.float32
    kinds = np.full(len(boxes), kind, np.int64)
    return Candidates(boxes.astype(single), area.astype(single), birth.astype(single), death.astype(single), kinds)
