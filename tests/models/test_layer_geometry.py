"""Where a layer's cells look is what its gradients say: the centre of mass of the input gradient of one cell.

For the centre to be exact the networks are made even: kernels of stride one keep their middle only (so that a cell's
receptive field fits into the image), others become flat, max pools become means, and attention and gates, which look
everywhere, are silenced. None of this moves a window.
"""

from __future__ import annotations

import copy

import pytest
import torch
from network_kinds import KINDS, ODD_HW, SELF_SUPERVISED
from torch import Tensor, nn

from xmodal_cli.models.backbones import Backbone, build, skeleton
from xmodal_cli.models.layers import Grid, Tapped, default_layer, grid, layers

IMAGE_HW = (224, 288)
TOLERANCE_PX = 0.01
GATES = ("conv_expand", "se.fc2", "attn.proj")  # the last weights of squeeze-and-excitation and of attention


def evened(network: nn.Module) -> nn.Module:
    """The same windows with even weights."""
    even = copy.deepcopy(network).eval()
    for path, part in list(even.named_modules()):
        if isinstance(part, nn.Conv2d):
            part.weight.data = even_kernel(part)
        if path.endswith(GATES):
            part.weight.data.zero_()
        if path.endswith("downsample.reduction"):  # Swin joins four patches: equal weights for each
            part.weight.data = part.weight.data.unflatten(1, (4, -1)).mean(1).repeat(1, 4)
    return with_mean_pools(even)


def with_mean_pools(network: nn.Module) -> nn.Module:
    """The network itself, its max pools replaced by means over the same windows."""
    for path, part in list(network.named_modules()):
        if isinstance(part, nn.MaxPool2d):
            mean = nn.AvgPool2d(part.kernel_size, part.stride, part.padding, part.ceil_mode, count_include_pad=False)
            parent, _, child = path.rpartition(".")
            setattr(network.get_submodule(parent), child, mean)
    return network


def even_kernel(part: nn.Conv2d) -> Tensor:
    mixing = part.weight.data.abs().mean((2, 3), keepdim=True)
    mixing = mixing / mixing.sum(1, keepdim=True)
    height, width = part.kernel_size
    if part.stride == (1, 1) and height % 2 and width % 2:
        kernel = torch.zeros(height, width)
        kernel[height // 2, width // 2] = 1
    else:
        kernel = torch.full((height, width), 1 / (height * width))
    return mixing * kernel


def centre_of_mass(maps: Tensor, image: Tensor, row: int, column: int) -> tuple[float, float]:
    weights = torch.linspace(1, 2, maps.shape[1]).sin()
    (gradient,) = torch.autograd.grad((maps[0, :, row, column] * weights).sum(), image, retain_graph=True)
    mass = gradient[0].double().sum(0)
    rows, columns = torch.arange(mass.shape[0]).double(), torch.arange(mass.shape[1]).double()
    return float((mass.sum(1) * rows).sum() / mass.sum()), float((mass.sum(0) * columns).sum() / mass.sum())


def some_layers(backbone: Backbone) -> list[str]:
    """The default layer and four others, spread over the depth."""
    names = [layer.name for layer in layers(backbone, IMAGE_HW) if not layer.whole_image]
    return list(dict.fromkeys([*names[:: max(1, len(names) // 4)], default_layer(backbone)]))


@pytest.mark.parametrize("kind", [*KINDS, *SELF_SUPERVISED[:2]])
def test_cells_look_where_their_grid_says(kind: str) -> None:
    backbone = build(kind)
    backbone.module = evened(backbone.module)
    names = some_layers(backbone)
    image = torch.full((1, 3, *IMAGE_HW), 0.5, requires_grad=True)
    for name, maps in Tapped(backbone, names).eval()(image).items():
        told = grid(backbone, name, IMAGE_HW)
        assert tuple(maps.shape[2:]) == told.size_hw, name
        for row, column in (
            (told.size_hw[0] // 2, told.size_hw[1] // 2),
            (told.size_hw[0] // 2 - 1, told.size_hw[1] // 2),
        ):
            expected = (told.centres()[0][row], told.centres()[1][column])
            assert centre_of_mass(maps, image, row, column) == pytest.approx(expected, abs=TOLERANCE_PX), name


@pytest.mark.parametrize(
    ("name", "layer", "first", "stride"),
    [
        ("caffenet", "conv5", 10, 16),
        ("caffenet", "pool5", 26, 32),
        ("caffenet-rgb", "conv5", 0, 16),
        ("caffenet-rgb", "pool5", 16, 32),
        ("vgg16", "conv5_3", 7.5, 16),
        ("vgg16", "pool5", 15.5, 32),
        ("alexnet", "pool5", 31, 32),
        ("squeezenet1_1", "features", 15, 16),
        ("vit_small_patch14_dinov2", "norm", 6.5, 14),
    ],
)
def test_geometry_is_the_papers(name: str, layer: str, first: float, stride: float) -> None:
    told = grid(name, layer, (224, 224))
    assert (told.first_centre_yx, told.stride_yx) == ((first, first), (stride, stride))


def test_height_and_width_are_not_swapped() -> None:
    assert grid("vgg16", "pool5", (425, 560)).size_hw == (14, 18)
    assert grid("swin_tiny_patch4_window7_224", "norm", ODD_HW).size_hw == (4, 5)


def test_a_vector_is_one_cell_that_looks_at_the_whole_image() -> None:
    told = grid("alexnet", "fc6", (100, 200))
    assert told == Grid((100.0, 200.0), (49.5, 99.5), (1, 1))


class Joined(nn.Module):
    """Operations that real networks have and that move cells in their own ways."""

    def __init__(self) -> None:
        super().__init__()
        self.merge = nn.PixelUnshuffle(2)
        self.dilated = nn.Conv2d(12, 4, 3, padding=2, dilation=2)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.cut = Cut()
        self.strides = Strides()
        self.stretch = nn.Upsample(scale_factor=2, mode="bilinear")

    def forward(self, images: Tensor) -> Tensor:
        return self.stretch(self.strides(self.cut(self.up(self.dilated(self.merge(images))))))


class Cut(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return nn.functional.pad(maps[:, :, 3:, -59:], (1, 0, 1, 0))


class Strides(nn.Module):
    """Four strided slices side by side, as Swin merges patches."""

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([maps[:, :, y::2, x::2] for y in (0, 1) for x in (0, 1)], 1)


def test_unusual_operations_move_cells_as_their_gradients_do() -> None:
    network = Joined()
    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.constant_(part.weight, 0.1)
    backbone = Backbone("resnet18", "timm", network, skeleton("resnet18").input)
    image = torch.full((1, 3, 64, 80), 0.5, requires_grad=True)
    for name, maps in Tapped(backbone, ["merge", "dilated", "up", "cut", "strides", "stretch"])(image).items():
        told = grid(backbone, name, (64, 80))
        assert tuple(maps.shape[2:]) == told.size_hw, name
        row, column = told.size_hw[0] // 2, told.size_hw[1] // 2
        pair = maps[
            0, :, row : row + 2, column : column + 2
        ].sum()  # widening leans each of two cells, not their middle
        mass = torch.autograd.grad(pair, image, retain_graph=True)[0][0].double().sum(0)
        rows = float((mass.sum(1) * torch.arange(64)).sum() / mass.sum())
        columns = float((mass.sum(0) * torch.arange(80)).sum() / mass.sum())
        expected = [
            centres[i] / 2 + centres[i + 1] / 2 for centres, i in zip(told.centres(), (row, column), strict=True)
        ]
        assert [rows, columns] == pytest.approx(expected, abs=TOLERANCE_PX), name


FIELDS = (("squeezenet1_1", "features.5"), ("resnet18", "layer2"), ("alexnet", "features.5"))


@pytest.mark.parametrize(("kind", "layer"), FIELDS)
def test_field_is_what_a_cell_sees(kind: str, layer: str) -> None:
    """With weights that let everything through, the gradient of a cell reaches to the edges of its field."""
    backbone = build(kind)
    for part in backbone.module.modules():
        if isinstance(part, nn.Conv2d):
            part.weight.data.fill_(1 / part.weight[0].numel())
            if part.bias is not None:
                part.bias.data.zero_()
        if isinstance(part, nn.BatchNorm2d):
            part.weight.data.fill_(1)  # timm starts the last one of a block at zero
    backbone.module = with_mean_pools(backbone.module)
    image = torch.full((1, 3, *IMAGE_HW), 0.5, requires_grad=True)
    maps, told = Tapped(backbone, [layer]).eval()(image)[layer], grid(backbone, layer, IMAGE_HW)
    row, column = (size // 2 for size in told.size_hw)
    (gradient,) = torch.autograd.grad(maps[0, :, row, column].sum(), image)
    seen = gradient[0].abs().sum(0).nonzero()
    (top, left), (bottom, right) = seen.min(0).values.tolist(), seen.max(0).values.tolist()
    assert (bottom - top + 1, right - left + 1) == told.field_hw
    rows, columns = told.centres()
    assert ((top + bottom) / 2, (left + right) / 2) == (rows[row], columns[column])
