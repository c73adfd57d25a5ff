"""A detector and everything decided about it, before anything is trained or written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from xmodal_cli import files
from xmodal_cli.data.annotations import Annotations
from xmodal_cli.data.memory import common_size, fits_in_memory
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import Proposals, open_proposals, require
from xmodal_cli.detect.branches import Branch, Cutoffs
from xmodal_cli.detect.resolve import check, resolve
from xmodal_cli.detect.samples import DetectionSamples, ImageSize
from xmodal_cli.detect.sampling import Sampling
from xmodal_cli.detect.settings import FinetuneSettings
from xmodal_cli.detect.start import Start, start_from_run, start_network
from xmodal_cli.detect.task import delta_statistics
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.models.backbones import Backbone
from xmodal_cli.models.detector import Detector
from xmodal_cli.models.detector_shape import (
    DetectorShape,
    assemble,
    detection_layer,
    has_own_head,
    own_widths_and_size,
)
from xmodal_cli.models.layers import Tapped, grid, resolve_layer
from xmodal_cli.models.regions import RegionPool
from xmodal_cli.runs import processes
from xmodal_cli.runs.folder import open_run
from xmodal_cli.web.fetch import Watcher


@dataclass(frozen=True)
class Plan:
    """Everything decided about a detector's training; what `build` gives.

    Args:
        settings: every setting, resolved.
        data: the data set.
        samples: what is learned from.
        held_out: IDs that are watched.
        proposals: of all of them.
        starts, shapes, detectors: one for each branch; the first is the run's own.
        device: where it is trained.
        left_out: why how many images of the split are not learned from.
    """

    settings: FinetuneSettings
    data: PreparedData
    samples: DetectionSamples
    held_out: list[str]
    proposals: Proposals
    starts: list[Start]
    shapes: list[DetectorShape]
    detectors: list[Detector]
    device: torch.device
    left_out: dict[str, int]

    @property
    def size(self) -> ImageSize:
        """How large the networks see images."""
        return self.samples.size

    @property
    def cutoffs(self) -> Cutoffs:
        """Which detections are kept."""
        chosen = self.settings
        return Cutoffs(chosen.nms, chosen.per_image, chosen.per_image_mean, chosen.merge_px, chosen.proposals_per_image)

    def branches(self) -> list[Branch]:
        """The detectors as they are now, ready to predict."""
        return [
            Branch(start.modality, detector, self.size, self.data.modality(start.modality).to_dict())
            for start, detector in zip(self.starts, self.detectors, strict=True)
        ]

    def data_hash(self) -> str:
        """One hash of every image, of every proposal, and of the annotations, that the training reads."""
        modalities = [start.modality for start in self.starts]
        paths = [self.data.annotation_file(name) for name in self.settings.split.split("+")]
        annotations = [files.sha256(path) for path in paths if path is not None]
        return "/".join([self.data.data_hash(modalities, self.samples.ids), self.proposals.content_hash, *annotations])


def build(settings: FinetuneSettings, downloading: Watcher = lambda url, done, total: None) -> Plan:
    """Open the data, resolve the settings, build the networks, find what regions can be drawn.

    Nothing is written; weights may be downloaded, since naming a pretrained network asks for it.

    Raises:
        XmodalError: settings, data, proposals or weights are at fault.
    """
    check(settings)
    data = PreparedData.open(settings.data)
    data.modality(settings.modality)
    proposals = open_proposals(data, settings.proposals)
    learned, held_out = _divided(data, settings)
    starts = [start_network(settings, data, learned, downloading)]
    if settings.joint is not None:
        starts.append(start_from_run(open_run(Path(settings.joint)), settings.seed))
    modalities = [start.modality for start in starts]
    for modality in modalities:
        data.modality(modality)
    in_memory = fits_in_memory(data, learned, modalities)
    settings = resolve(settings, starts[0].backbone, proposals.method, in_memory=in_memory)
    require(proposals, [*learned, *held_out])
    _check_held_out(settings, data, held_out)
    size_hw = ImageSize(settings.size, settings.longest).of(common_size(data, learned))
    shapes = [_shape(settings, start.backbone, size_hw) for start in starts]
    samples, left_out = _samples(settings, data, learned, modalities, proposals, shapes[0].pool, in_memory=in_memory)
    found = (samples.candidates(name) for name in samples.ids)
    deltas = delta_statistics(found, len(data.classes), samples.sampling.foreground_iou, flip=settings.flip)
    detectors = [
        _detector(settings, start, shape, len(data.classes), deltas, seed=settings.seed + number)
        for number, (start, shape) in enumerate(zip(starts, shapes, strict=True))
    ]
    device = processes.own_device(settings.device)
    if settings.joint is None:  # else the layers of two networks may differ, and None stands for each one's own
        settings = replace(settings, layer=shapes[0].layer)
    return Plan(settings, data, samples, held_out, proposals, starts, shapes, detectors, device, left_out)


def _divided(data: PreparedData, settings: FinetuneSettings) -> tuple[list[str], list[str]]:
    """IDs to learn from and IDs to watch."""
    ids = data.ids(settings.split)
    if not settings.hold_out:
        return ids, []
    return data.hold_out(settings.split, settings.hold_out)


def _check_held_out(settings: FinetuneSettings, data: PreparedData, held_out: Sequence[str]) -> None:
    """Find out whether watching makes sense, before hours of training.

    Raises:
        DataError: images are held out, and none of them has an object.
    """
    annotations = data.annotations(settings.split)
    if held_out and all(bool(annotations[name].crowd.all()) for name in held_out):
        raise DataError(
            f"The {len(held_out)} images held out of split {settings.split!r} have no objects: nothing can be watched.",
            "Hold out more with --hold-out SHARE, or none with --hold-out 0.",
        )


def _samples(
    settings: FinetuneSettings,
    data: PreparedData,
    ids: Sequence[str],
    modalities: Sequence[str],
    proposals: Proposals,
    pool: RegionPool,
    *,
    in_memory: bool,
) -> tuple[DetectionSamples, dict[str, int]]:
    """The images that can be learned from, and how many cannot be, by reason.

    Raises:
        DataError: none can.
    """
    annotations = data.annotations(settings.split)
    chosen: dict[str, Annotations] = {name: annotations[name] for name in ids}
    samples = DetectionSamples(
        data,
        chosen,
        modalities,
        proposals,
        settings.proposals_per_image,
        ImageSize(settings.size, settings.longest),
        pool,
        Sampling(settings.regions, settings.foreground, background_iou=(settings.background_low, 0.5)),
        flip=settings.flip,
        seed=settings.seed,
        in_memory=in_memory and settings.workers == 0,
    )
    left_out = {
        "without objects": sum(not bool(samples.candidates(name).overlaps.any()) for name in ids),
        "without a proposal near an object": 0,
    }
    usable = [name for name in samples.ids if samples.candidates(name).usable()]
    left_out["without a proposal near an object"] = len(ids) - len(usable) - left_out["without objects"]
    if not usable:
        reasons = ", ".join(f"{count} are {reason}" for reason, count in left_out.items())
        raise DataError(
            f"Nothing to learn from: of {len(ids)} images of split {settings.split!r} of {data.root} {reasons}.",
            "Boxes come from COCO files: xmodal prepare folder ... --annotations train=FILE; and proposals from "
            f"xmodal prepare proposals {data.root}",
        )
    samples.keep(usable)
    return samples, left_out


def _shape(settings: FinetuneSettings, backbone: Backbone, size_hw: tuple[int, int]) -> DetectorShape:
    """What the detector adds to a backbone."""
    layer = detection_layer(backbone, settings.layer)
    own = has_own_head(backbone, layer)
    widths, size = own_widths_and_size(backbone, layer) if own else (settings.head, settings.pool_size)
    pool = RegionPool.of_grid(
        settings.pooling,  # type: ignore[arg-type]
        size,
        grid(backbone, layer, size_hw),
        centred=settings.centred,
    )
    used = tuple(widths[:1] if settings.features == "fc6" else widths[:2])
    reduced = 0 if own else settings.reduced
    return DetectorShape(layer, pool, own, used, reduced, settings.dropout, settings.box_regression)


def _detector(
    settings: FinetuneSettings,
    start: Start,
    shape: DetectorShape,
    classes: int,
    deltas: tuple[Tensor, Tensor],
    *,
    seed: int,
) -> Detector:
    """A detector, frozen as far as asked, that knows the deltas it will learn."""
    detector = assemble(start.backbone, shape, classes, seed)
    detector.freeze_norms = start.backbone.weights != "random"
    if settings.freeze_through is not None:
        _freeze_through(detector, start.backbone, settings.freeze_through, shape.layer)
    detector.delta_mean.copy_(deltas[0])
    detector.delta_std.copy_(deltas[1])
    return detector


def _freeze_through(detector: Detector, backbone: Backbone, name: str, pooled: str) -> None:
    """Stop the learning up to a layer, which must be one that the detector has."""
    kept, own = Tapped(backbone, [resolve_layer(backbone, name)]).kept_state(), detector.plain_parameters()
    beyond = [key for key, _ in backbone.module.named_parameters() if key in kept and key not in own]
    if beyond:
        raise SettingsError(
            f"--freeze-through {name} lies beyond the detector: it has no {beyond[0]}; regions are cut from the layer "
            f"'{pooled}'.",
            f"Freeze through that layer or an earlier one; `xmodal layers {backbone.name}` lists them.",
        )
    detector.freeze(list(kept))
