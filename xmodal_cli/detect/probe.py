"""The region probe: how well do frozen features name annotated boxes? One fixed protocol, so that figures compare.

The images of two splits are seen whole, at 224 px short side; the last transferred map is RoI-aligned to 3x3 on every
annotated box; a small classifier is trained on one split's boxes and scored on the other's. It takes minutes on a CPU
and ranks representations as finetuned detectors do, without their cost.

Shapes: N boxes, C channels of the map, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from xmodal_cli.data.pairs import Pairs
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.transforms import short_side_to
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.metrics.results import ProbeResult, SeedScore
from xmodal_cli.models.backbones import Backbone
from xmodal_cli.models.layers import Tapped, grid
from xmodal_cli.models.regions import RegionPool
from xmodal_cli.runs.device import autocast

SHORT_SIDE = 224  # px; NYUD2's 425 x 560 becomes 224 x 296 with the long side a multiple of 8
GRID = 3  # RoIAlign output cells per side
HIDDEN, DROPOUT = 256, 0.5
LEARNING_RATE, WEIGHT_DECAY, EPOCHS, BATCH = 1e-3, 1e-2, 15, 64
SEEDS = 3
IMAGES_AT_ONCE = 16

Watcher = Callable[[int, int], None]  # (images seen, images in all)


@dataclass(frozen=True)
class RegionFeatures:
    """Features of annotated boxes.

    Args:
        values: `(N, D)` float32.
        labels: `(N,)` int64, index into the data set's classes.
        images: `(N,)` int64, number of the image that each box is on.
    """

    values: Tensor
    labels: Tensor
    images: Tensor


@dataclass(frozen=True)
class Boxes:
    """Annotated objects of one image: `boxes_xyxy` (N, 4) float32 pixels with exclusive ends, `labels` (N,) int64."""

    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]


def probe(
    backbone: Backbone,
    layer: str,
    data: PreparedData,
    modality: str,
    *,
    split: str,
    train_split: str = "train",
    device: torch.device | None = None,
    precision: str = "fp32",
    watch: Watcher = lambda done, total: None,
) -> ProbeResult:
    """Probe one layer of a network on annotated boxes.

    Args:
        backbone: the network and how it wants its input.
        layer: the layer to probe.
        data: a prepared data set with annotations for both splits.
        modality: what the network sees.
        split: the split that is scored.
        train_split: the split that the classifier learns from.
        device: where features are computed; the CPU by default.
        precision: of the feature computation.
        watch: told how many images have been seen.

    Raises:
        SettingsError: the two splits share images.
        DataError: a split has no annotated boxes.
    """
    _check_apart(data, split, train_split)
    extract = _Extractor(backbone, layer, data, modality, device or torch.device("cpu"), precision, watch)
    learned, scored = extract(train_split), extract(split)
    return score(learned, scored, data.classes)


def probe_geometry(data: PreparedData, *, split: str, train_split: str = "train") -> ProbeResult:
    """The control without any image: the classifier sees each box's place, size and shape, and nothing else.

    Args and errors as in `probe`.
    """
    _check_apart(data, split, train_split)
    return score(_geometry(data, train_split), _geometry(data, split), data.classes)


def _check_apart(data: PreparedData, split: str, train_split: str) -> None:
    """What was learned from cannot be scored."""
    shared = set(data.ids(split)) & set(data.ids(train_split))
    if shared:
        raise SettingsError(
            f"The probe learns from split {train_split!r}, which has {len(shared)} images of split {split!r}: they "
            "cannot be scored.",
            "Use --train-split train --split val.",
        )


def score(learned: RegionFeatures, scored: RegionFeatures, classes: tuple[str, ...], seeds: int = SEEDS) -> ProbeResult:
    """Train the classifier on one set of regions and score it on another, once per seed.

    Args:
        learned: regions to learn from; their mean and spread standardise both sets.
        scored: regions to score.
        classes: names that labels index.
        seeds: how many classifiers are trained.
    """
    mean, std = learned.values.mean(0), learned.values.std(0).clamp_min(1e-5)
    inputs, tests = (learned.values - mean) / std, (scored.values - mean) / std
    scores, hits = [], []
    for seed in range(seeds):
        right = _classify(inputs, learned.labels, tests, len(classes), seed) == scored.labels
        per_class = {
            name: float(right[scored.labels == number].float().mean()) * 100
            for number, name in enumerate(classes)
            if (scored.labels == number).any()
        }
        scores.append(SeedScore(seed, float(right.float().mean()) * 100, float(np.mean(list(per_class.values())))))
        hits.append(right)
    missing = tuple(name for number, name in enumerate(classes) if not (scored.labels == number).any())
    return ProbeResult(
        tuple(scores), missing, len(inputs), torch.stack(hits).float().mean(0).numpy(), scored.images.numpy()
    )


def _classify(inputs: Tensor, labels: Tensor, tests: Tensor, classes: int, seed: int) -> Tensor:
    """The labels that one classifier, trained from one seed, gives to the test regions: `(N,)`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Sequential(
            nn.Linear(inputs.shape[1], HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, classes)
        )
        optimiser = torch.optim.AdamW(head.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        for _ in range(EPOCHS):
            for batch in torch.split(torch.randperm(len(inputs)), BATCH):
                optimiser.zero_grad()
                F.cross_entropy(head(inputs[batch]), labels[batch]).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        head.eval()
        with torch.no_grad():
            found: Tensor = head(tests).argmax(1)
        return found


class _Extractor:
    """Computes region features of a split with one network."""

    def __init__(
        self,
        backbone: Backbone,
        layer: str,
        data: PreparedData,
        modality: str,
        device: torch.device,
        precision: str,
        watch: Watcher,
    ) -> None:
        self.backbone, self.layer, self.data, self.modality = backbone, layer, data, modality
        self.device, self.precision, self.watch = device, precision, watch
        self.tapped = Tapped(backbone, [layer]).to(device)
        self.tapped.to(memory_format=torch.channels_last).eval()

    def __call__(self, split: str) -> RegionFeatures:
        """Region features of every annotated box of a split, images in order of their IDs."""
        boxes = annotated_boxes(self.data, split)
        names = list(boxes)
        values = []
        for size_hw, members in _by_size(self.data, names).items():
            pairs = Pairs(self.data, members, (self.modality,), size_hw=size_hw)
            pool = RegionPool.of_grid("align", GRID, grid(self.backbone, self.layer, size_hw), centred=True)
            for first in range(0, len(members), IMAGES_AT_ONCE):
                some = members[first : first + IMAGES_AT_ONCE]
                images = torch.stack([pairs[0, first + i][self.modality] for i in range(len(some))])
                maps = self._maps(images)
                values += [
                    (name, pool(maps[i : i + 1], [self._scaled(boxes[name].boxes_xyxy, name, size_hw)]).flatten(1))
                    for i, name in enumerate(some)
                ]
                self.watch(len(values), len(names))
        by_name = dict(values)
        return RegionFeatures(
            torch.cat([by_name[name] for name in names]),
            torch.cat([torch.from_numpy(boxes[name].labels) for name in names]),
            torch.cat([torch.full((len(boxes[name].labels),), i) for i, name in enumerate(names)]),
        )

    @torch.no_grad()
    def _maps(self, images: Tensor) -> Tensor:
        inputs = self.backbone.input.normalise(images.to(self.device)).contiguous(memory_format=torch.channels_last)
        with autocast(self.device, self.precision):
            maps: dict[str, Tensor] = self.tapped(inputs)
        return maps[self.layer].float().cpu()

    def _scaled(self, boxes_xyxy: NDArray[np.float32], name: str, size_hw: tuple[int, int]) -> Tensor:
        """Boxes in pixels of the resized image: `(N, 4)` float32."""
        height, width = self.data.size_hw(name)
        scale = torch.tensor([size_hw[1] / width, size_hw[0] / height] * 2)
        return torch.from_numpy(boxes_xyxy) * scale


def annotated_boxes(data: PreparedData, split: str) -> dict[str, Boxes]:
    """The annotated objects of every image of a split that has any; boxes around crowds are left out.

    Raises:
        DataError: there are none.
    """
    found = {
        name: Boxes(each.boxes_xyxy[~each.crowd], each.labels[~each.crowd])
        for name, each in data.annotations(split).items()
        if not each.crowd.all()
    }
    if not found:
        raise DataError(
            f"Split {split!r} of {data.root} has no annotated boxes.",
            "Boxes come from COCO files: xmodal prepare folder ... --annotations train=FILE --annotations val=FILE",
        )
    return found


def _by_size(data: PreparedData, names: list[str]) -> dict[tuple[int, int], list[str]]:
    """Images grouped by the size at which the probe sees them."""
    groups: dict[tuple[int, int], list[str]] = {}
    for name in names:
        groups.setdefault(short_side_to(SHORT_SIDE, data.size_hw(name)), []).append(name)
    return groups


def _geometry(data: PreparedData, split: str) -> RegionFeatures:
    """Each box as centre, size, logarithms of size and aspect, in shares of its image: `(N, 7)`."""
    values, labels, images = [], [], []
    for number, (name, found) in enumerate(annotated_boxes(data, split).items()):
        height, width = data.size_hw(name)
        boxes = np.asarray(found.boxes_xyxy, np.float64) / [width, height, width, height]
        wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        centre_x, centre_y = boxes[:, 0] + wide / 2, boxes[:, 1] + high / 2
        values.append(np.stack([centre_x, centre_y, wide, high, np.log(wide), np.log(high), np.log(wide / high)], 1))
        labels.append(found.labels)
        images.append(np.full(len(boxes), number))
    return RegionFeatures(
        torch.from_numpy(np.concatenate(values)).float(),
        torch.from_numpy(np.concatenate(labels)),
        torch.from_numpy(np.concatenate(images)),
    )
