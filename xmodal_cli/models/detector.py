"""Fast R-CNN over any backbone and layer: a map of the whole image, cells of each proposal, scores and box deltas.

The trunk keeps the keys of its plain network, so that `detector.safetensors` loads there; what the plain network does
not have stands under `roi_head.`. Deltas are learned normalised by class (recipe 4.3) and saved so that no statistics
are needed to use them.

Shapes: N images, R regions of all images, K classes (index 0 of K + 1 is background), h x w cells of the map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from xmodal_cli.models.backbones import Backbone
from xmodal_cli.models.inputs import InputSpec
from xmodal_cli.models.joint import Joint
from xmodal_cli.models.layers import Tapped
from xmodal_cli.models.regions import RegionHead, RegionPool
from xmodal_cli.models.weights import ROI_HEAD, load_tensors

SCORE_STD, DELTA_STD = 0.01, 0.001  # Gaussian fillers of the last layers (recipe 3.1)


class RegionOutputs(NamedTuple):
    """What a detector says of regions: `scores` (R, K + 1) before softmax; `deltas` (R, K + 1, 4), or None."""

    scores: Tensor
    deltas: Tensor | None


class Detector(nn.Module):
    """Fast R-CNN's network.

    Args:
        backbone: the plain network; its weights are shared.
        layer: whose map the regions are cut from.
        pool: how.
        head: what reads the cells.
        classes: K, without background.
        box_regression: whether boxes are refined.
        generator: of the last layers' random weights.
        joint: what the trunk's map becomes, where the trunk stands for another network's lower part.
    """

    def __init__(
        self,
        backbone: Backbone,
        layer: str,
        pool: RegionPool,
        head: RegionHead,
        classes: int,
        *,
        box_regression: bool = True,
        generator: torch.Generator | None = None,
        joint: Joint | None = None,
    ) -> None:
        super().__init__()
        self.trunk = Tapped(backbone, [layer])
        self.joint = joint
        self.layer, self.pool, self.head, self.classes = layer, pool, head, classes
        self.input: InputSpec = backbone.input
        self.cls_score = _filled(nn.Linear(head.width, classes + 1), SCORE_STD, generator)
        self.bbox_pred = (
            _filled(nn.Linear(head.width, 4 * (classes + 1)), DELTA_STD, generator) if box_regression else None
        )
        self.delta_mean: Tensor
        self.delta_std: Tensor
        self.freeze_norms = False
        # Of the deltas, by class: they are learned normalised (recipe 4.3). Not saved: see `fold_statistics`.
        self.register_buffer("delta_mean", torch.zeros(classes + 1, 4))
        self.register_buffer("delta_std", torch.ones(classes + 1, 4))

    def forward(self, images: Tensor, boxes: Sequence[Tensor]) -> RegionOutputs:
        """Scores and deltas of boxes.

        Args:
            images: `(N, C, H, W)`, normalised as `input` says.
            boxes: per image `(R_n, 4)` float32 xyxy, pixels of the network's input, exclusive ends.
        """
        return self.regions(self.maps(images), boxes)

    def maps(self, images: Tensor) -> Tensor:
        """The map of normalised images: `(N, C', h, w)`."""
        maps: Tensor = self.trunk(images.contiguous(memory_format=torch.channels_last))[self.layer]
        return self.joined(maps, (images.shape[2], images.shape[3]))

    def joined(self, maps: Tensor, image_hw: tuple[int, int]) -> Tensor:
        """The trunk's map `(N, C, h, w)` as regions are cut from it: that of the layer which it stands for, if any."""
        return maps if self.joint is None else self.joint(maps, image_hw)

    def regions(self, maps: Tensor, boxes: Sequence[Tensor]) -> RegionOutputs:
        """Scores and deltas of boxes on maps that are there already."""
        features = self.head(self.pool(self.head.reduced(maps), boxes))
        deltas = None
        if self.bbox_pred is not None:
            deltas = self.bbox_pred(features).float().unflatten(1, (self.classes + 1, 4))
        return RegionOutputs(self.cls_score(features).float(), deltas)

    def unnormalised(self, outputs: RegionOutputs) -> RegionOutputs:
        """The same outputs with deltas as boxes are moved by."""
        if outputs.deltas is None:
            return outputs
        return outputs._replace(deltas=outputs.deltas * self.delta_std + self.delta_mean)

    def train(self, mode: bool = True) -> Detector:
        """Training mode, but for norms whose statistics stay as they are: all of them if asked, and frozen ones."""
        super().train(mode)
        for part in self.trunk.modules():
            if isinstance(part, _NormBase) and (self.freeze_norms or not _learns(part)):
                part.eval()
        return self

    def freeze(self, keys: Sequence[str]) -> None:
        """Stop the learning of parameters, by the plain network's keys.

        Args:
            keys: as in `plain_parameters`; unknown ones are those that the detector does not have.
        """
        parameters = self.plain_parameters()
        for key in keys:
            if key in parameters:
                parameters[key].requires_grad_(False)

    @property
    def trunk_is_frozen(self) -> bool:
        """Whether nothing below the pooled map learns, so that maps can be kept."""
        return not any(parameter.requires_grad for parameter in self.trunk.parameters())

    def plain_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that belong to the plain network, under its keys."""
        own = {name.removeprefix("network."): value for name, value in self.trunk.named_parameters()}
        for key, layer in zip(self.head.keys or (), self.head.layers, strict=False):
            own |= {f"{key}.{name}": value for name, value in layer.named_parameters()}
        return own

    def saved_state(self) -> dict[str, Tensor]:
        """Every tensor, under the plain network's keys and, for the rest, under `roi_head.`."""
        state = dict(self.trunk.kept_state())
        state |= self.head.state_under(self.head.keys or [f"{ROI_HEAD}fc{6 + n}" for n in range(len(self.head.linear))])
        new = {"reduction": self.head.reduction, "cls_score": self.cls_score, "bbox_pred": self.bbox_pred}
        new["adapter"] = None if self.joint is None else self.joint.adapter
        for name, part in new.items():
            if part is not None:
                state |= {f"{ROI_HEAD}{name}.{key}": value for key, value in part.state_dict().items()}
        return state

    def load_saved(self, state: Mapping[str, Tensor], what: str) -> None:
        """Load what `saved_state` gave.

        Raises:
            DataError: tensors are missing, unexpected or of another shape.
        """
        load_tensors(self.saved_state(), state, what)


class FusedDetector(nn.Module):
    """Several detectors as one: the mean of their scores before softmax and of their deltas (recipe 4.5).

    Args:
        branches: detectors of the same classes; one alone is itself.
    """

    def __init__(self, branches: Sequence[Detector]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    @property
    def detectors(self) -> list[Detector]:
        """The branches."""
        return [branch for branch in self.branches if isinstance(branch, Detector)]

    def forward(self, images: Sequence[Tensor], boxes: Sequence[Tensor], *, on_maps: bool = False) -> RegionOutputs:
        """Scores and deltas of boxes.

        Args:
            images: for each branch `(N, C, H, W)` normalised images, or its maps.
            boxes: per image `(R_n, 4)` float32 xyxy, pixels of the network's input.
            on_maps: whether `images` are maps.
        """
        return fuse(
            [
                branch.regions(given, boxes) if on_maps else branch(given, boxes)
                for branch, given in zip(self.detectors, images, strict=True)
            ]
        )


def fuse(outputs: Sequence[RegionOutputs]) -> RegionOutputs:
    """The mean of several detectors' outputs on the same regions; deltas of those that have any."""
    deltas = [each.deltas for each in outputs if each.deltas is not None]
    scores = torch.stack([each.scores for each in outputs]).mean(0)
    return RegionOutputs(scores, torch.stack(deltas).mean(0) if deltas else None)


def fold_statistics(detector: Detector) -> dict[str, Tensor]:
    """The saved state with the deltas' normalisation folded into the last layer; the detector is left as it is."""
    state = detector.saved_state()
    if detector.bbox_pred is not None:
        weight, bias = state[f"{ROI_HEAD}bbox_pred.weight"], state[f"{ROI_HEAD}bbox_pred.bias"]
        scale, shift = detector.delta_std.flatten().to(weight), detector.delta_mean.flatten().to(weight)
        state[f"{ROI_HEAD}bbox_pred.weight"] = weight * scale[:, None]
        state[f"{ROI_HEAD}bbox_pred.bias"] = bias * scale + shift
    return state


def _filled(layer: nn.Linear, std: float, generator: torch.Generator | None) -> nn.Linear:
    with torch.no_grad():
        nn.init.normal_(layer.weight, std=std, generator=generator)
        nn.init.zeros_(layer.bias)
    return layer


def _learns(part: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in part.parameters(recurse=False))
