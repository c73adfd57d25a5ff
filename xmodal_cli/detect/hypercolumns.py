"""A frozen detector with hypercolumn masks: which layers it reads, what it says of boxes, how it lies on disk.

The detector stays as it was trained; only the location classifiers of `models/hypercolumn.py` are learned (paper,
section 4.1, 'intermediate layer representations'). A run holds the detector too, so that it finds objects by itself.

Shapes: R boxes of one image, C channels, h x w cells, S x S places of a box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xmodal_cli.detect.branches import Branch
from xmodal_cli.detect.samples import ImageSize, network_image
from xmodal_cli.errors import SettingsError
from xmodal_cli.models.backbones import Backbone
from xmodal_cli.models.detector_files import read_detector
from xmodal_cli.models.hypercolumn import REGION, Boxes, Level, MaskHead, MaskShape, mask_probabilities
from xmodal_cli.models.layer_names import paper_names, usual_trace
from xmodal_cli.models.layers import Tapped, grid, layers, resolve_layer
from xmodal_cli.models.weights import load_file, load_tensors
from xmodal_cli.runs.device import autocast
from xmodal_cli.runs.folder import RunFolder

COMMAND = "segmentation"  # the kind of run, and its folder
WEIGHTS = "masks.safetensors"
# Layers of the paper's networks with what their maps are multiplied with (recipe 5.2).
PAPER_LEVELS: dict[str, dict[str, float]] = {
    "alexnet": {"pool2": 0.0074, "conv4": 0.0909},
    "vgg": {"pool3": 0.0027, "pool4": 0.063},
}
FIRST_KERNEL, OTHER_KERNEL = 3, 1  # of the finest map and of the others (recipe 5.2)
BOXES_AT_ONCE = 128  # whose masks are computed together: some 30 MB


@dataclass(frozen=True)
class Segmenter:
    """A detector of one modality that also says which places of a box are figure.

    Args:
        branch: the detector, frozen.
        backbone: the plain network that it shares its weights with.
        tapped: the detector's trunk, which gives every map that is read.
        head: the location classifiers.
        centred: as in `MaskSettings`, with which they learned.
        dropout: whether the region's feature loses units in training, as the detector's own did.
    """

    branch: Branch
    backbone: Backbone
    tapped: Tapped
    head: MaskHead
    centred: bool = True
    dropout: bool = False

    @torch.no_grad()
    def maps(self, image: Tensor, precision: str = "fp32") -> list[Tensor]:
        """The maps of an image, `(C, h, w)` float32 each: of every level, and the one that the detector cuts up.

        Args:
            image: `(C, h, w)` as stored, at the network's size, on its device.
            precision: of the trunk.
        """
        detector = self.branch.detector
        inputs = detector.input.normalise(image[None])
        with autocast(image.device, precision):
            found = self.tapped(inputs.contiguous(memory_format=torch.channels_last))
            own = detector.joined(found[detector.layer], (inputs.shape[2], inputs.shape[3]))
        return [*(found[level.layer][0].float() for level in self.head.shape.levels), own[0].float()]

    @torch.no_grad()
    def regions(self, maps: Sequence[Tensor], asked: Boxes) -> Tensor:
        """The detector's own feature of each box, `(R, width)`; without columns where nothing reads it."""
        if not self.head.shape.width:
            return torch.zeros(len(asked.labels), 0, device=asked.boxes_xyxy.device)
        detector = self.branch.detector
        scaled = detector.pool.scaled(asked.boxes_xyxy, asked.scale)
        features: Tensor = detector.head(detector.pool(detector.head.reduced(maps[-1][None]), [scaled]))
        return features.float()

    def train(self, mode: bool) -> None:
        """Training mode of what is frozen: all that it changes is whether the region's feature loses units."""
        self.branch.detector.head.train(mode and self.dropout)

    @torch.no_grad()
    def probabilities(
        self,
        image: NDArray[Any],
        boxes_xyxy: NDArray[np.float32],
        labels: NDArray[np.int64],
        *,
        device: torch.device,
        precision: str = "fp32",
    ) -> Tensor:
        """Probability of figure at every place of every box.

        Args:
            image: `(H, W, C)` as stored.
            boxes_xyxy: `(R, 4)` pixels of the image, exclusive ends.
            labels: `(R,)` index into the detector's classes.
            device, precision: where and how.

        Returns:
            `(R, S, S)` float32 on the CPU.
        """
        size_hw = image.shape[0], image.shape[1]
        size = self.branch.size
        maps = self.maps(network_image(image, size.of(size_hw)).to(device), precision)
        found = []
        for first in range(0, len(labels), BOXES_AT_ONCE):
            part = slice(first, first + BOXES_AT_ONCE)
            boxes = torch.from_numpy(boxes_xyxy[part]).to(device)
            asked = Boxes(boxes, torch.from_numpy(labels[part]).to(device), size_hw, size.scale(size_hw))
            found.append(mask_probabilities(self.head(maps[:-1], self.regions(maps, asked), asked)).cpu())
        return torch.cat(found)

    def to(self, device: torch.device) -> Segmenter:
        """The same, its networks on a device."""
        for part in (self.branch.detector, self.tapped, self.head):
            part.to(device)
        return self


def freeze(part: nn.Module) -> None:
    """Stop a network's learning, in eval mode."""
    part.eval()
    for parameter in part.parameters():
        parameter.requires_grad_(False)


def read_branch(run: RunFolder, modality: str | None) -> tuple[Branch, Backbone, Mapping[str, Any]]:
    """The detector of a run that sees a modality, the network inside it, and what the card says of it.

    Args:
        run: a finished run of a detector, or of masks on one.
        modality: which of several jointly trained detectors; the first where None.

    Raises:
        SettingsError: no detector of the run sees it.
    """
    card = run.card()
    seen = {each["modality"]: each for each in card["branches"]}
    if modality is not None and modality not in seen:
        raise SettingsError(
            f"The detector {run.path} sees {' and '.join(seen)}, not {modality}.",
            f"Use --modality {next(iter(seen))}, or a detector of {modality}.",
        )
    described = card["branches"][0] if modality is None else seen[modality]
    detector, backbone = read_detector(run.path, described, len(card["classes"]))
    freeze(detector)
    branch = Branch(described["modality"], detector, ImageSize(**card["size"]), described["encoding"])
    return branch, backbone, described


def chosen_features(backbone: Backbone, layer: str, features: str | None) -> tuple[bool, list[str]]:
    """Whether the region's own feature is read, and which maps are, in order of depth.

    Args:
        backbone: the network inside the detector.
        layer: whose map the detector cuts regions from: later ones are not there.
        features: `fc7`, or several between plus signs; None for the paper's, or their like.

    Raises:
        SettingsError: no such layer, or one that the detector does not have.
    """
    if features is None:
        return True, _usual_levels(backbone, layer)
    parts = [part.strip() for part in features.split("+")]
    named = [part if part == REGION else resolve_layer(backbone, part) for part in parts]
    names = [name for name in named if name != REGION]
    if len(set(named)) < len(named):
        raise SettingsError(f"--features {features!r} names a layer twice.", f"Write --features {REGION}+LAYER+LAYER")
    traced, known = usual_trace(backbone), _paths(backbone)
    last = traced.layers[known[layer]]
    for name in names:
        found = traced.layers[known[name]]
        if found.order > last.order or found.grid.size_hw == (1, 1):
            there = [each.name for each in layers(backbone, _usual_hw(backbone)) if not each.whole_image]
            there = there[: there.index(layer) + 1] if layer in there else there
            raise SettingsError(
                f"--features: the detector has no map {name!r}: it reads {backbone.name} up to {layer!r}.",
                f"It has {', '.join(there[-6:])}; {REGION} is the feature of the region itself.",
            )
    return REGION in named, sorted(names, key=lambda name: traced.layers[known[name]].order)


def _paths(backbone: Backbone) -> dict[str, str]:
    """Module paths of all layers, by path and by the paper's name."""
    return {**{path: path for path in usual_trace(backbone).layers}, **paper_names(backbone.name, backbone.module)}


def _usual_hw(backbone: Backbone) -> tuple[int, int]:
    usual_trace(backbone)
    assert backbone.usual_hw is not None
    return backbone.usual_hw


def paper_scales(backbone: Backbone) -> dict[str, float]:
    """The paper's layers of a network with their scales; empty for networks that it does not use."""
    names = paper_names(backbone.name, backbone.module)
    kind = "vgg" if "vgg" in backbone.name else "alexnet"
    return {resolve_layer(backbone, name): scale for name, scale in PAPER_LEVELS[kind].items() if name in names}


def _usual_levels(backbone: Backbone, layer: str) -> list[str]:
    """Two maps like the paper's: its own, else the last of half the detector's stride and the middle of its stride."""
    own = list(paper_scales(backbone))
    if own:
        return own
    listed = [each for each in layers(backbone, _usual_hw(backbone)) if not each.whole_image]
    names = [each.name for each in listed]
    before = listed[: names.index(layer)] if layer in names else []
    stride = usual_trace(backbone).layers[_paths(backbone)[layer]].grid.stride_yx[0]
    strides = {each.name: each.stride if isinstance(each.stride, float | int) else each.stride[0] for each in before}
    finer = [name for name, found in strides.items() if found == stride / 2]
    same = [name for name, found in strides.items() if found == stride]
    return [*finer[-1:], *([same[len(same) // 2]] if same else [])]


def mask_shape(
    backbone: Backbone, branch: Branch, features: tuple[bool, list[str]], size_hw: tuple[int, int], *, centred: bool
) -> MaskShape:
    """What the head of a detector reads; the paper's scales where it gives any, else 1.

    Args:
        backbone: the network inside the detector.
        branch: the detector.
        features: of `chosen_features`.
        size_hw: of a usual image, as the network sees it.
        centred: respect where the maps' cells look; the original does not.
    """
    scales, levels = paper_scales(backbone), list[Level]()
    for name in features[1]:
        found = grid(backbone, name, size_hw)
        channels = usual_trace(backbone).layers[_paths(backbone)[name]].channels
        kernel = OTHER_KERNEL if levels else FIRST_KERNEL
        first = found.first_centre_yx if centred else None
        levels.append(Level(name, channels, kernel, scales.get(name, 1.0), found.stride_yx, first))
    return MaskShape(tuple(levels), branch.detector.head.width if features[0] else 0)


def assemble_segmenter(branch: Branch, backbone: Backbone, shape: MaskShape, classes: int, seed: int) -> Segmenter:
    """A detector with a new mask head."""
    tapped = Tapped(backbone, [*(level.layer for level in shape.levels), branch.detector.layer])
    freeze(tapped)
    return Segmenter(branch, backbone, tapped, MaskHead(shape, classes, seed))


def with_scales(segmenter: Segmenter, levels: Sequence[float], region: float) -> Segmenter:
    """The same, its maps and its regions' feature multiplied with other numbers."""
    shape = segmenter.head.shape
    scaled = [replace(level, scale=scale) for level, scale in zip(shape.levels, levels, strict=True)]
    segmenter.head.shape = replace(shape, levels=tuple(scaled), scale=region)
    return segmenter


def load_segmenter(run: RunFolder) -> tuple[Segmenter, tuple[str, ...]]:
    """Read a finished run of masks: the network, and the names of its classes.

    Raises:
        SettingsError: it is a run of something else.
        DataError: the run is not finished, or its files do not belong together.
    """
    if run.command != COMMAND:
        raise SettingsError(
            f"{run.path} is a run of `xmodal {run.made_by}`, which gives no masks.",
            f"Train masks on a detector: xmodal finetune --task segmentation --init {run.path}",
        )
    card = run.card()
    branch, backbone, _ = read_branch(run, None)
    shape = MaskShape.from_dict(card["masks"])
    segmenter = assemble_segmenter(branch, backbone, shape, len(card["classes"]), seed=0)
    segmenter = replace(segmenter, centred=bool(card["settings"]["centred"]))
    path = run.path / WEIGHTS
    load_tensors(segmenter.head.state_dict(), load_file(path), str(path))
    freeze(segmenter.head)
    return segmenter, tuple(card["classes"])
