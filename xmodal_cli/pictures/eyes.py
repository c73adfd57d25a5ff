"""Networks that look at the pairs of a data set: the maps of a run's network, and of its teacher where they correspond.

At a transfer point the student is read behind its adapter, on the teacher's grid: there unit by unit both mean the same
(recipe 8). At any other layer, and in a detector, the network is read alone.

Shapes: N pairs, C channels, h x w cells of a map, `H x W` the size that networks see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from xmodal_cli.data.memory import common_size
from xmodal_cli.data.pairs import Pairs, collate
from xmodal_cli.data.prepared import RGB, PreparedData
from xmodal_cli.detect.samples import ImageSize
from xmodal_cli.errors import DataError, SettingsError, closest
from xmodal_cli.models.grid import Grid
from xmodal_cli.models.layers import Tapped, grid, resolve_layer
from xmodal_cli.pictures.subjects import Subject, open_subject, silent, teacher_of, transfer_size_hw
from xmodal_cli.runs.device import resolve_device
from xmodal_cli.runs.folder import RunFolder
from xmodal_cli.transfer.adapted import load_adapted
from xmodal_cli.transfer.regions import REGION_LAYERS
from xmodal_cli.transfer.teacher import Teacher
from xmodal_cli.web.fetch import Watcher

VAL = "val"  # the split that is looked at where there is one: nobody trained on it
BATCH = 16  # pairs at once
MOST_PAIRS = 512  # pairs of a split that are looked at, evenly chosen


@dataclass(frozen=True)
class Eye:
    """A network at one layer.

    Args:
        title: a few words for it.
        modality: what it sees.
        layer: which one is read.
        grid: where its cells look, and how far.
        look: stored images `(N, C, H, W)` to maps `(N, C', h, w)`.
    """

    title: str
    modality: str
    layer: str
    grid: Grid
    look: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class View:
    """What looks, and at what.

    Args:
        subject: the run.
        data: the prepared data set.
        ids: its pairs that are looked at, not trained on where that can be.
        size_hw: what networks see.
        own: the run's network.
        teacher: where its units correspond to those of `own`; else None.
        source: the modality that people look at beside the network's own: the teacher's, else rgb.
    """

    subject: Subject
    data: PreparedData
    ids: tuple[str, ...]
    size_hw: tuple[int, int]
    own: Eye
    teacher: Eye | None
    source: str

    def maps(self, ids: Sequence[str]) -> Iterator[tuple[list[str], Tensor, Tensor | None]]:
        """Maps of pairs, some at a time: their IDs, the network's, the teacher's."""
        eyes = [self.own] if self.teacher is None else [self.own, self.teacher]
        pairs = Pairs(self.data, ids, [eye.modality for eye in eyes], size_hw=self.size_hw)
        for first in range(0, len(pairs), BATCH):
            batch = collate([pairs[0, index] for index in range(first, min(first + BATCH, len(pairs)))])
            with torch.no_grad():
                seen = [eye.look(batch[eye.modality]).float().cpu() for eye in eyes]
            yield batch["ids"], seen[0], seen[1] if len(seen) > 1 else None


def open_view(
    run: RunFolder,
    data: PreparedData,
    *,
    layer: str | None = None,
    split: str | None = None,
    device: str = "auto",
    downloading: Watcher = silent,
) -> View:
    """The networks of a run, ready to look at pairs.

    Args:
        run: a finished run of `distill` or `finetune`.
        data: pairs to look at.
        layer: of the run's network, or a transfer point `TEACHER:STUDENT`; by default the last transfer point of whole
            images, or the layer that a detector's regions are cut from.
        split: whose pairs; by default val, else what a training of the run's split holds out.
        device: where networks run.
        downloading: told of a download.

    Raises:
        SettingsError: unknown layer, split or modality.
        DataError: the run is not finished or damaged, or the split is empty.
    """
    subject, on = open_subject(run), resolve_device(device)
    ids = ids_to_look_at(data, split, str(subject.card["data"]["split"]))
    data.modality(subject.modality)
    size_hw = _size_hw(subject, data, ids)
    number = point_number(subject, layer) if subject.is_transfer else None
    if number is None:
        name = resolve_layer(subject.network, layer or subject.layers[-1])
        own, source = _plain_eye(subject, name, size_hw, on), RGB if RGB in data.modalities else subject.modality
        return View(subject, data, tuple(ids), size_hw, own, None, source)
    own, teacher = _pair_of_eyes(subject, number, size_hw, on, downloading)
    data.modality(teacher.modality)
    return View(subject, data, tuple(ids), size_hw, own, teacher, teacher.modality)


def ids_to_look_at(data: PreparedData, split: str | None, trained_on: str) -> list[str]:
    """Pairs of a split, evenly chosen where there are many; by default such as were not trained on.

    Args:
        data: the prepared data set.
        split: a name, or None: val, else what a training on `trained_on` holds out.
        trained_on: the run's own split.
    """
    if split is None and VAL not in data.splits:
        known = all(name in data.splits for name in trained_on.split("+"))
        ids = data.hold_out(trained_on)[1] if known else data.all_ids
    else:
        ids = data.ids(split or VAL)
    if not ids:
        raise DataError(f"Split {split or VAL} of {data.root} has no pairs.", "Name another with --split.")
    return evenly(ids, MOST_PAIRS)


def evenly(ids: Sequence[str], count: int) -> list[str]:
    """At most so many IDs, evenly spread, first and last among them.

    Example:
        >>> evenly("abcdefg", 3), evenly("ab", 3)
        (['a', 'd', 'g'], ['a', 'b'])
    """
    if len(ids) <= count:
        return list(ids)
    return [ids[round(index * (len(ids) - 1) / max(1, count - 1))] for index in range(count)]


def point_number(subject: Subject, layer: str | None) -> int | None:
    """Which transfer point of whole images a layer names; None for another layer of the student.

    Raises:
        SettingsError: the run has no such point, or only points of regions.
    """
    points = [(point["teacher"], point["student"]) for point in subject.card["transfer"]]
    of_regions = bool(subject.card.get("regions"))
    usable = [n for n, names in enumerate(points) if not (of_regions and set(names) & set(REGION_LAYERS))]
    if layer is None:
        if not usable:
            raise SettingsError(
                f"{subject.run.path} compared regions only; its transfer points are no maps of whole images.",
                "Name a layer of the student: --layer conv5",
            )
        return usable[-1]
    names = [f"{teacher}:{student}" for teacher, student in points]
    if ":" in layer:
        if layer not in names or names.index(layer) not in usable:
            raise SettingsError(
                f"{subject.run.path} has no transfer point {layer!r} of whole images; it has {', '.join(names)}.",
                closest(layer, names) or None,
            )
        return names.index(layer)
    name = resolve_layer(subject.network, layer)
    found = [number for number in usable if points[number][1] == name]
    return found[-1] if found else None


def _plain_eye(subject: Subject, layer: str, size_hw: tuple[int, int], on: torch.device) -> Eye:
    """A run's network at a layer, as it is."""
    network, tapped = subject.network, Tapped(subject.network, [layer]).eval().requires_grad_(False).to(on)

    def look(images: Tensor) -> Tensor:
        maps: Tensor = tapped(network.input.normalise(images.to(on)))[layer]
        return maps

    return Eye(f"{subject.who} ({subject.modality})", subject.modality, layer, grid(network, layer, size_hw), look)


def _pair_of_eyes(
    subject: Subject, number: int, size_hw: tuple[int, int], on: torch.device, downloading: Watcher
) -> tuple[Eye, Eye]:
    """The student behind its adapter and the teacher's normalised features, on the same grid."""
    taught = teacher_of(subject, downloading)
    assert taught is not None, "a transfer has a teacher"
    source, network = taught
    point: dict[str, Any] = subject.card["transfer"][number]
    adapted, divisor = load_adapted(subject.run, subject.card, subject.network, network, number, size_hw)
    adapted.to(on)
    divided = divisor.view(1, -1, 1, 1)
    teacher = Teacher(network, [point["teacher"]], on, "fp32")
    teacher_grid = grid(network, point["teacher"], size_hw)
    # Aligned onto the teacher's cells, the student's own reach stays what it was.
    own_grid = replace(teacher_grid, field_hw=grid(subject.network, point["student"], size_hw).field_hw)
    return (
        Eye(
            f"student ({subject.modality})",
            subject.modality,
            point["student"],
            own_grid,
            lambda images: adapted(images.to(on))[0],
        ),
        Eye(
            f"teacher ({source})",
            source,
            point["teacher"],
            teacher_grid,
            lambda images: teacher.features(images)[0].cpu() / divided,
        ),
    )


def _size_hw(subject: Subject, data: PreparedData, ids: Sequence[str]) -> tuple[int, int]:
    """Height and width that the networks see: those of the training."""
    if "size_hw" in subject.card:
        return transfer_size_hw(subject)
    return ImageSize(**subject.card["size"]).of(common_size(data, ids))
