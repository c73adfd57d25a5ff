"""Fit the weights that rank bottom-up proposals, on the training split of a prepared data set.

Every candidate box of every training image is described by numbers (`ranking.measure`); a logistic regression learns
from them how well the box fits its best object. It sees images with all modalities and with few of them, so that one
set of weights serves all. What the weights are worth is measured on a held-out part of the split, whose images take no
part in the printed weights unless `--final` is given: then a second fit takes them in. No other split is opened.

    python benchmarks/fit_grouping.py DATA --final --write xmodal_cli/detect/grouping_weights.py

Shapes: N boxes, F numbers per box.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import box_iou

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect import ranking
from xmodal_cli.detect.grouping import GroupingSettings, find_candidates, propose

# An IoU of 0.4 or less teaches "no", one of 0.9 or more "yes", what lies between in proportion: average recall asks
# for boxes that fit well, and half of a good box is worth something.
NO_IOU, YES_IOU = 0.4, 0.9
DRAWN = 700  # boxes per image and side of NO_IOU that the fit sees, weighted to stand for the rest
RIDGE = 1e-4  # on squared weights of standardised numbers, per box: hardly more than what makes the fit unique
STEPS = 8  # of Newton's method; it has converged by then
HELD_OUT = 0.2
COUNTS = (100, 500, 1000, 2000)
FEW_EVERY = 6  # two of so many images are also shown with each of the smaller sets of modalities
FEW = (("rgb",), ("hha",), ("depth",))
HEADER = '''"""Weights that rank bottom-up proposals, by name of what `ranking.measure` finds.

Fitted by `python benchmarks/fit_grouping.py DATA --final --write xmodal_cli/detect/grouping_weights.py` on {count}
images of the split `{split}` of {name}. Only the order of scores means something, so there is no constant term.
"""

WEIGHTS: dict[str, float] = {{
'''


# By name the numbers of drawn boxes, `(N,)` each; their targets and weights.
Drawn = tuple[list[tuple[str, NDArray[np.float32]]], NDArray[np.float32], NDArray[np.float32]]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", type=Path)
    options.add_argument("--split", default="train")
    options.add_argument("--images", type=int, default=200, help="images to fit and report on, evenly spread")
    options.add_argument("--final", action="store_true", help="fit on the held-out images too after the report")
    options.add_argument("--write", type=Path, help="Python file to write the weights to")
    given = options.parse_args()
    data = PreparedData.open(given.data)
    fitted_on, held_out = data.hold_out(given.split, HELD_OUT)
    fitted_on = spread_over(fitted_on, round(given.images * (1 - HELD_OUT)))
    held_out = spread_over(held_out, round(given.images * HELD_OUT))
    samples = {identifier: sample(data, given.split, identifier) for identifier in fitted_on}
    names = list(dict.fromkeys(name for drawn in samples.values() for part in drawn for name, _ in part[0]))
    weights = fit(names, [part for drawn in samples.values() for part in drawn])
    for modalities in (tuple(data.modalities), *FEW):
        if set(modalities) <= set(data.modalities):
            print(", ".join(modalities), "|", report(data, given.split, held_out, modalities, weights), flush=True)
    if given.final:
        samples.update({identifier: sample(data, given.split, identifier) for identifier in held_out})
        weights = fit(names, [part for drawn in samples.values() for part in drawn])
    print("\n".join(f"{name:20s} {value:9.4f}" for name, value in weights.items()))
    if given.write:
        lines = [f'    "{name}": {value:.4f},\n' for name, value in weights.items()]
        header = HEADER.format(count=len(samples), split=given.split, name=data.name)
        given.write.write_text(header + "".join(lines) + "}\n")


def spread_over(ids: list[str], count: int) -> list[str]:
    """At most so many of the IDs, evenly spread, since neighbours look alike."""
    chosen = np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int)
    return [ids[index] for index in chosen]


def sample(data: PreparedData, split: str, identifier: str) -> list[Drawn]:
    """Boxes drawn from one image, seen with all modalities and, for some images, with few."""
    objects = data.annotations(split)[identifier]
    truth = objects.boxes_xyxy[~objects.crowd]
    number = data.ids(split).index(identifier)
    sets = [tuple(data.modalities)]
    if number % FEW_EVERY < 2:
        sets += [few for few in FEW if set(few) <= set(data.modalities)]
    return [draw(data, identifier, modalities, truth, number) for modalities in sets] if len(truth) else []


def draw(
    data: PreparedData, identifier: str, modalities: Sequence[str], truth: NDArray[np.float32], number: int
) -> Drawn:
    """Some of the candidates of an image: as many near objects as away from them, each weighing what it stands for."""
    images = read(data, identifier, modalities)
    found, seen = find_candidates(images, GroupingSettings())
    measured = ranking.measure(found, seen)
    height, width = next(iter(images.values())).shape[:2]
    small_h, small_w = next(iter(seen.values())).shape[:2]
    boxes = found.boxes * np.array([width / small_w, height / small_h] * 2, np.float32)
    overlap = best_overlap(boxes, truth)
    rng = np.random.default_rng(number)
    rows, weight = [], []
    for side in (np.flatnonzero(overlap >= NO_IOU), np.flatnonzero(overlap < NO_IOU)):
        rows.append(rng.permutation(side)[:DRAWN])
        weight.append(np.full(len(rows[-1]), len(side) / max(1, len(rows[-1])), np.float32))
    chosen = np.concatenate(rows)
    target = np.clip((overlap[chosen] - NO_IOU) / (YES_IOU - NO_IOU), 0, 1).astype(np.float32)
    return [(name, values[chosen]) for name, values in measured.items()], target, np.concatenate(weight)


def fit(names: list[str], drawn: Sequence[Drawn]) -> dict[str, float]:
    """Logistic regression with soft targets by Newton's method; a number that an image lacks counts as its mean."""
    numbers = np.full((sum(len(target) for _, target, _ in drawn), len(names)), np.nan, np.float32)
    start = 0
    for measured, target, _ in drawn:
        for name, values in measured:
            numbers[start : start + len(target), names.index(name)] = values
        start += len(target)
    targets = np.concatenate([each for _, each, _ in drawn]).astype(np.float64)
    weights = np.concatenate([each for _, _, each in drawn]).astype(np.float64)
    mean, spread = np.nanmean(numbers, axis=0), np.nanstd(numbers, axis=0) + 1e-6
    rows = np.nan_to_num((numbers - mean) / spread, nan=0.0).astype(np.float64)
    rows = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    penalty = np.append(np.full(len(names), RIDGE * weights.sum()), 0.0)
    beta = newton(rows, targets, weights, penalty)
    return {name: float(value) for name, value in zip(names, beta[:-1] / spread, strict=True)}


def newton(
    rows: NDArray[np.float64], target: NDArray[np.float64], weight: NDArray[np.float64], penalty: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Minimise the weighted cross-entropy plus half of penalty times beta squared; steps are halved until they help."""

    def cost(at: NDArray[np.float64]) -> float:
        logit = rows @ at
        return float(weight @ (np.logaddexp(0.0, logit) - target * logit) + 0.5 * penalty @ at**2)

    mean = np.average(target, weights=weight)
    beta = np.append(np.zeros(rows.shape[1] - 1), np.log(mean / (1 - mean)))
    for _ in range(STEPS):
        chance = 1.0 / (1.0 + np.exp(-np.clip(rows @ beta, -50, 50)))
        curvature = (rows * (weight * chance * (1 - chance))[:, None]).T @ rows + np.diag(penalty)
        step = np.linalg.solve(curvature, rows.T @ (weight * (target - chance)) - penalty * beta)
        size, now = 1.0, cost(beta)
        while size > 1e-4 and cost(beta + size * step) > now:
            size /= 2
        beta = beta + size * step
    return beta


def report(
    data: PreparedData, split: str, ids: Sequence[str], modalities: Sequence[str], weights: dict[str, float]
) -> str:
    """Recall and average recall on some images, as a line of text."""
    settings = replace(GroupingSettings(), weights=weights)
    annotations = data.annotations(split)
    best = []
    for identifier in ids:
        objects = annotations[identifier]
        boxes = propose(read(data, identifier, modalities), settings)
        truth = objects.boxes_xyxy[~objects.crowd]
        best.append(np.stack([best_overlap(truth, boxes[:count]) for count in COUNTS], axis=1))
    overlap = np.concatenate(best)
    parts = []
    for column, count in enumerate(COUNTS):
        recalls = [(overlap[:, column] >= limit - 1e-9).mean() for limit in np.arange(0.5, 0.96, 0.05)]
        parts.append(f"{count}: {recalls[0]:.3f} {recalls[4]:.3f} AR {np.mean(recalls):.3f}")
    return " | ".join(parts)


def best_overlap(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest IoU of each box with any of the others, 0 where there are none."""
    if len(others) == 0 or len(boxes) == 0:
        return np.zeros(len(boxes), np.float32)
    overlap: NDArray[np.float32] = box_iou(torch.from_numpy(boxes), torch.from_numpy(others)).max(dim=1).values.numpy()
    return overlap


def read(data: PreparedData, identifier: str, modalities: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The images of one pair, by modality."""
    return {modality: data.read(modality, identifier) for modality in modalities}


if __name__ == "__main__":
    main()
