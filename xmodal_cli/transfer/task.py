"""The training task of a transfer: equation 2 of the paper, summed over transfer points.

The student and its adapters live in one module whose forward does all trainable work, so that several processes see it
whole; the teacher stands outside of it, frozen. A point may be of regions (`regions`): then its maps are one cell of
every region, `(N P, C, 1, 1)`, and its loss, a mean over elements as for maps, is the mean over all regions.

Shapes: N pairs, `h x w` the teacher's grid at a point, C_s and C_t channels of student and teacher there, P regions of
an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xmodal_cli.models.align import Alignment
from xmodal_cli.models.backbones import InputSpec
from xmodal_cli.models.layers import Tapped
from xmodal_cli.transfer.cache import feature_key
from xmodal_cli.transfer.losses import LOSSES
from xmodal_cli.transfer.points import TransferPoint
from xmodal_cli.transfer.region_samples import BOXES
from xmodal_cli.transfer.regions import RegionTapped, read
from xmodal_cli.transfer.teacher import Teacher


class AdaptedStudent(nn.Module):
    """A student with an adapter at each transfer point: `t(student)` of equation 2, on the teacher's grid.

    Args:
        tapped: the student, read at its transfer layers.
        input_spec: how it wants its images.
        points: the transfer points.
        adapters: for each point a 1x1 convolution from C_s to C_t.
        rectify: for each point whether the adapter ends in a ReLU, as the paper's does.
        alignments: for each point how the student's grid is brought onto the teacher's.
    """

    def __init__(
        self,
        tapped: Tapped | RegionTapped,
        input_spec: InputSpec,
        points: Sequence[TransferPoint],
        adapters: Sequence[nn.Conv2d],
        rectify: Sequence[bool],
        alignments: Sequence[Alignment],
    ) -> None:
        super().__init__()
        self.student = tapped
        self.adapters = nn.ModuleList(adapters)
        self.input_spec, self.points = input_spec, list(points)
        self.rectify, self.alignments = list(rectify), list(alignments)

    def forward(self, images: Tensor, boxes: Tensor | None = None) -> list[Tensor]:
        """Adapted maps of target images.

        Args:
            images: `(N, C, H, W)` as stored.
            boxes: `(N, P, 4)` xyxy in pixels of the images, where regions are read.

        Returns:
            One `(N, C_t, h, w)` float32 tensor per point; of regions `(N P, C_t, 1, 1)`.
        """
        inputs = self.input_spec.normalise(images).contiguous(memory_format=torch.channels_last)
        maps = read(self.student, inputs, boxes)
        adapted = []
        for point, adapter, rectify, align in zip(
            self.points, self.adapters, self.rectify, self.alignments, strict=True
        ):
            prediction = adapter(maps[point.student]).float()  # (N, C_t, h_s, w_s)
            adapted.append(align(prediction.relu() if rectify else prediction))
        return adapted


def new_adapter(student_channels: int, teacher_channels: int, generator: torch.Generator) -> nn.Conv2d:
    """A 1x1 convolution with random weights, made with its own generator so that nothing else moves."""
    adapter = nn.Conv2d(student_channels, teacher_channels, 1)
    with torch.no_grad():
        nn.init.kaiming_normal_(adapter.weight, nonlinearity="relu", generator=generator)
        nn.init.zeros_(adapter.bias)  # type: ignore[arg-type]
    return adapter


def neutral_adapter(divisor: Tensor) -> nn.Conv2d:
    """A 1x1 convolution that gives every channel as it is, over its divisor.

    Args:
        divisor: `(C,)`, what the teacher's channels are divided by.
    """
    adapter = nn.Conv2d(len(divisor), len(divisor), 1)
    with torch.no_grad():
        adapter.weight.copy_(torch.diag(1 / divisor)[:, :, None, None])
        nn.init.zeros_(adapter.bias)  # type: ignore[arg-type]
    return adapter


def fixed_adapter(divisor: Tensor) -> nn.Conv2d:
    """A neutral adapter that learns nothing: the student itself is taught to give the teacher's channels."""
    return neutral_adapter(divisor).requires_grad_(False)


class TransferTask:
    """Teach an adapted student the teacher's normalised features.

    Args:
        module: the adapted student.
        teacher: gives the features of source images, when they do not come from a cache.
        divisors: for each point `(C_t,)`, what the teacher's features are divided by.
        loss: name of the function f.
        source, target: modalities that teacher and student see.
        held_out: batches of held-out pairs, `{source: ..., target: ...}`, with `boxes` where regions are read; may be
            empty.
    """

    def __init__(
        self,
        module: AdaptedStudent,
        teacher: Teacher,
        divisors: Sequence[Tensor],
        loss: str,
        source: str,
        target: str,
        held_out: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.module, self.teacher = module, teacher
        self.divisors = [divisor.to(teacher.device).view(1, -1, 1, 1) for divisor in divisors]
        self.loss = LOSSES[loss]
        self.source, self.target = source, target
        self.held_out = held_out

    def targets(self, batch: dict[str, Any]) -> list[Tensor]:
        """The teacher's normalised features of a batch, stored or computed now: `(N, C_t, h, w)` float32 per point."""
        if feature_key(0) in batch:
            maps = [batch[feature_key(number)].to(self.teacher.device).float() for number in range(len(self.divisors))]
        else:
            maps = self.teacher.features(batch[self.source], batch.get(BOXES))
        return [features / divisor for features, divisor in zip(maps, self.divisors, strict=True)]

    def step(self, module: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The weighted sum of the points' losses on a batch, in float32."""
        targets = self.targets(batch)
        adapted = module(*self._seen(batch))
        with torch.autocast(self.teacher.device.type, enabled=False):
            losses = [self.loss(student, teacher) for student, teacher in zip(adapted, targets, strict=True)]
        total = sum(point.weight * loss for point, loss in zip(self.module.points, losses, strict=True))
        return {"loss": torch.as_tensor(total)}

    def _seen(self, batch: dict[str, Any]) -> list[Tensor]:
        """What the student is given of a batch: target images, and regions where there are any."""
        names = [self.target, BOXES] if BOXES in batch else [self.target]
        return [batch[name].to(self.teacher.device, non_blocking=True) for name in names]

    def evaluate(self) -> dict[str, float]:
        """Explained variance on held-out pairs, at each point; `explained_variance` is that of the last one.

        1 - sum |t(student) - teacher|^2 / sum |teacher - channel mean|^2, over normalised features, sums in double.
        """
        if not self.held_out:
            return {}
        residuals = [ResidualSums() for _ in self.module.points]
        for batch in self.held_out:
            adapted = self.module(*self._seen(batch))
            for sums, student, teacher in zip(residuals, adapted, self.targets(batch), strict=True):
                sums.add(student, teacher)
        values = {
            f"explained_variance/{point.teacher}:{point.student}": sums.explained_variance()
            for point, sums in zip(self.module.points, residuals, strict=True)
        }
        return {"explained_variance": residuals[-1].explained_variance(), **values}

    def check(self) -> None:
        """Assert that the teacher is frozen and outside of what is trained."""
        self.teacher.check()
        mine = {id(parameter) for parameter in self.module.parameters()}
        assert not any(id(parameter) in mine for parameter in self.teacher.tapped.parameters()), (
            "the teacher is trained"
        )


class ResidualSums:
    """The sums behind explained variance, gathered batch by batch in double precision.

    Example:
        >>> sums = ResidualSums()
        >>> teacher = torch.tensor([0.0, 2.0]).view(2, 1, 1, 1)
        >>> sums.add(teacher, teacher)
        >>> sums.explained_variance()
        1.0
    """

    def __init__(self) -> None:
        self.cells = 0
        self.residual = torch.zeros((), dtype=torch.float64)
        self.total: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0

    def add(self, student: Tensor, teacher: Tensor) -> None:
        """Add a batch of maps `(N, C, h, w)`."""
        difference, values = (student - teacher).double(), teacher.double()
        self.cells += values.numel() // values.shape[1]
        self.residual = self.residual.to(difference.device) + difference.square().sum()
        self.total = self.total + values.sum((0, 2, 3))
        self.squares = self.squares + values.square().sum((0, 2, 3))

    def explained_variance(self) -> float:
        """The share of the teacher's variance that the student explains: at most 1, below 0 when it does harm."""
        variance = (torch.as_tensor(self.squares) - torch.as_tensor(self.total).square() / self.cells).sum()
        return float(1 - self.residual / variance)
