"""Figure or ground at every place of a box: location classifiers on hypercolumns (Hariharan et al., CVPR 2015).

A place's hypercolumn is what several layers say of it. For each class there are 5 x 5 classifiers, each the expert of
one part of a box; the probability at a place is the mean of its nearest experts' (recipe 5.2). All are linear, so that
a convolution of a whole map serves every box in it, and the linear map of the region's own feature adds a constant.

Shapes: R boxes of one image, K classes, G x G = 5 x 5 experts, S x S = 50 x 50 places of a box, T x T = 20 x 20 of them
where one expert counts, C channels, h x w cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EXPERTS = 5  # per side of a box (recipe 5.2)
PLACES = 50  # per side of a mask (recipe 5.2)
TERRITORY = 2 * PLACES // EXPERTS  # places per side that an expert counts at, those beyond the border among them
LEAST = 1e-30  # of a probability whose logarithm is taken
START_STD = 0.01  # of new weights (recipe 5.2)
REGION = "fc7"  # the region's own feature, whatever its head calls it


@dataclass(frozen=True)
class Level:
    """A map that the hypercolumns read.

    Args:
        layer: its name.
        channels: C.
        kernel: cells per side that an expert reads around its place; odd.
        scale: what the map is multiplied with, so that all levels weigh the same.
        stride_yx: network pixels per cell.
        first_centre_yx: centre of the first cell in 0-based network pixels; None maps an image's borders onto the
            map's, as the original does.
    """

    layer: str
    channels: int
    kernel: int
    scale: float
    stride_yx: tuple[float, float]
    first_centre_yx: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as cards hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Level:
        """The level that `to_dict` wrote."""
        first = values["first_centre_yx"]
        return cls(**{**values, "stride_yx": tuple(values["stride_yx"]), "first_centre_yx": first and tuple(first)})


@dataclass(frozen=True)
class MaskShape:
    """What a mask head reads.

    Args:
        levels: maps, in order of depth; may be empty.
        width: of the region's feature; 0 leaves it out.
        scale: what that feature is multiplied with.
    """

    levels: tuple[Level, ...]
    width: int
    scale: float = 1.0

    @property
    def features(self) -> str:
        """In the words of `--features`.

        Example:
            >>> MaskShape((Level("pool2", 4, 3, 1.0, (16.0, 16.0)),), 8).features
            'fc7+pool2'
        """
        return "+".join([*([REGION] if self.width else []), *(level.layer for level in self.levels)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as cards hold them."""
        return {"levels": [level.to_dict() for level in self.levels], "width": self.width, "scale": self.scale}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MaskShape:
        """The shape that `to_dict` wrote."""
        return cls(tuple(Level.from_dict(level) for level in values["levels"]), values["width"], values["scale"])


@dataclass(frozen=True)
class Boxes:
    """Boxes of one image, whose masks are asked for.

    Args:
        boxes_xyxy: `(R, 4)` float32 pixels of the image, exclusive ends.
        labels: `(R,)` int64 from 0.
        image_hw: size of the image.
        scale: network pixels per pixel of the image.
    """

    boxes_xyxy: Tensor
    labels: Tensor
    image_hw: tuple[int, int]
    scale: float


class MaskHead(nn.Module):
    """The location classifiers of every class.

    Args:
        shape: what they read.
        classes: K.
        seed: of the new weights.

    Example:
        >>> head = MaskHead(MaskShape((Level("map", 4, 3, 1.0, (8.0, 8.0)),), 6), classes=2)
        >>> asked = Boxes(torch.tensor([[0.0, 0.0, 40.0, 20.0]]), torch.tensor([1]), (64, 64), 1.0)
        >>> head([torch.zeros(4, 8, 8)], torch.zeros(1, 6), asked).shape
        torch.Size([1, 5, 5, 20, 20])
    """

    def __init__(self, shape: MaskShape, classes: int, seed: int = 0) -> None:
        super().__init__()
        self.shape, self.classes = shape, classes
        outputs = classes * EXPERTS**2
        with torch.random.fork_rng(devices=[]):  # layers draw weights of their own before they get those of the seed
            self.maps = nn.ModuleList(
                nn.Conv2d(level.channels, outputs, level.kernel, padding=level.kernel // 2) for level in shape.levels
            )
            self.region = nn.Linear(shape.width, outputs) if shape.width else None
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith("bias"):
                    parameter.zero_()
                else:
                    parameter.normal_(std=START_STD, generator=random)

    def forward(self, maps: Sequence[Tensor], regions: Tensor, asked: Boxes) -> Tensor:
        """What every expert of the class of each box says at the places that it counts at.

        Args:
            maps: of each level `(C, h, w)`.
            regions: `(R, width)`.
            asked: the boxes.

        Returns:
            Logits `(R, G, G, T, T)` float32.
        """
        count, experts, device = len(asked.labels), EXPERTS**2, asked.boxes_xyxy.device
        total = torch.zeros(count, EXPERTS, EXPERTS, TERRITORY, TERRITORY, device=device)
        if self.region is not None:
            said = self.region(regions * self.shape.scale).view(count, self.classes, EXPERTS, EXPERTS)
            total = total + said[torch.arange(count, device=device), asked.labels].float()[..., None, None]
        kinds, place = torch.unique(asked.labels, return_inverse=True)  # classes that no box has are not computed
        for level, layer, given in zip(self.shape.levels, self.maps, maps, strict=True):
            weight = layer.get_parameter("weight").view(self.classes, experts, *layer.get_parameter("weight").shape[1:])
            weight = weight[kinds].flatten(0, 1)
            bias = layer.get_parameter("bias").view(self.classes, experts)[kinds].flatten()
            said = F.conv2d(given[None] * level.scale, weight, bias, padding=level.kernel // 2)[0].float()
            cells = places(level, (said.shape[1], said.shape[2]), asked)
            total = total + sample(said.view(len(kinds), EXPERTS, EXPERTS, *said.shape[1:])[place], *cells)
        return total


def places(level: Level, size_hw: tuple[int, int], asked: Boxes) -> tuple[Tensor, Tensor]:
    """Where the places of each box lie on a map, in cells: rows `(R, S)` and columns `(R, S)`.

    Args:
        level: the map's.
        size_hw: its rows and columns.
        asked: the boxes.
    """
    found = []
    for axis in (0, 1):  # down, across
        first, last = asked.boxes_xyxy[:, 1 - axis], asked.boxes_xyxy[:, 3 - axis]
        share = (torch.arange(PLACES, device=first.device) + 0.5) / PLACES
        at = first[:, None] + share * (last - first)[:, None]  # image pixels, 0 at the image's border
        if level.first_centre_yx is None:
            found.append((at - 0.5) / (asked.image_hw[axis] - 1) * size_hw[axis] - 0.5)
        else:
            pixels = at * asked.scale - 0.5  # from the centre of the network's first pixel
            found.append((pixels - level.first_centre_yx[axis]) / level.stride_yx[axis])
    return found[0], found[1]


def sample(maps: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Experts' maps between their cells, bilinear, clamped at the borders, where each expert counts.

    Boxes have upright sides, so that interpolation is a matrix from the left and one from the right.

    Args:
        maps: `(R, G, G, h, w)`, for each box those of its class.
        rows, columns: `(R, S)`, the places in cells.

    Returns:
        `(R, G, G, T, T)`.
    """
    own = territories().to(maps.device)
    down = _between(rows, maps.shape[-2])[:, own]  # (R, G, T, h)
    across = _between(columns, maps.shape[-1])[:, own]  # (R, G, T, w)
    return down[:, :, None] @ maps @ across[:, None].transpose(-1, -2)


def _between(at: Tensor, cells: int) -> Tensor:
    """Weights of cells at places between them: `(..., S)` to `(..., S, cells)`."""
    near = at.clamp(0, cells - 1)[..., None] - torch.arange(cells, device=at.device)
    return (1 - near.abs()).clamp(min=0)


def territories() -> Tensor:
    """The places that each row or column of experts looks at, `(G, T)`: as far as the centres of its neighbours.

    Those beyond the box's border stand for none; `expert_weights` gives them no weight.

    Example:
        >>> territories()[1].tolist() == list(range(5, 25)), territories()[0, :7].tolist()
        (True, [0, 0, 0, 0, 0, 0, 1])
    """
    return (_first_places()[:, None] + torch.arange(TERRITORY)).clamp(0, PLACES - 1)


def expert_weights() -> Tensor:
    """How much each row or column of experts counts at a place: bilinear between their centres, clamped at the borders.

    Returns:
        `(S, G * T)`; the rows sum to 1.

    Example:
        >>> weights = expert_weights()
        >>> weights[0].max().item(), weights.sum(1).allclose(torch.ones(50))
        (1.0, True)
    """
    at = ((torch.arange(PLACES) + 0.5) * EXPERTS / PLACES - 0.5).clamp(0, EXPERTS - 1)
    along = (1 - (at - torch.arange(EXPERTS)[:, None]).abs()).clamp(min=0)  # (G, S)
    first = _first_places()
    weights = torch.zeros(PLACES, EXPERTS, TERRITORY)
    for expert in range(EXPERTS):
        seen = torch.arange(max(0, int(first[expert])), min(PLACES, int(first[expert]) + TERRITORY))
        weights[seen, expert, seen - first[expert]] = along[expert, seen]
    return weights.flatten(1)


def _first_places() -> Tensor:
    return torch.arange(EXPERTS) * TERRITORY // 2 - TERRITORY // 4


def mask_probabilities(logits: Tensor) -> Tensor:
    """Probability of figure at every place: the sigmoid of each expert, then their mean (recipe 5.2).

    Args:
        logits: `(R, G, G, T, T)`.

    Returns:
        `(R, S, S)`.
    """
    weights = expert_weights().to(logits)
    experts = logits.sigmoid().permute(0, 1, 3, 2, 4).flatten(3, 4).flatten(1, 2)  # (R, G * T, G * T)
    return weights @ experts @ weights.T


def mask_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Minus the logarithm of the right answer's probability, summed over places, weighted and averaged over boxes.

    Args:
        logits: `(R, G, G, T, T)` float32.
        targets: `(R, S, S)` bool, figure.
        weights: `(R,)`, how much each box counts.

    Returns:
        One number.
    """
    # Log of p and of 1 - p, each a sum of small positive numbers: no difference of near equals.
    figure, ground = (mask_probabilities(each).clamp(min=LEAST) for each in (logits, -logits))
    right = torch.where(targets, figure, ground)
    return (-right.log().sum((1, 2)) * weights).sum() / len(logits)
