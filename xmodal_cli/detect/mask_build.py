"""A mask training and everything decided about it, before anything is trained or written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xmodal_cli import files
from xmodal_cli.data.memory import common_size, fits_in_memory
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import Proposals, if_stored, open_proposals, require
from xmodal_cli.detect.branches import DETECTORS, VISION
from xmodal_cli.detect.hypercolumns import (
    COMMAND,
    Segmenter,
    assemble_segmenter,
    chosen_features,
    mask_shape,
    paper_scales,
    read_branch,
    with_scales,
)
from xmodal_cli.detect.mask_samples import MaskSamples
from xmodal_cli.detect.mask_settings import MaskSettings, check, resolve
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.models.hypercolumn import Boxes
from xmodal_cli.runs import processes
from xmodal_cli.runs.folder import RunFolder, open_run

MEASURED_IMAGES = 16  # from which the size of maps is measured
LEAST_SIZE = 1e-6  # of a map whose inverse is taken: nothing was seen in a map of zeros


@dataclass(frozen=True)
class MaskPlan:
    """Everything decided about a mask training; what `build` gives.

    Args:
        settings: every setting, resolved.
        data: the data set.
        samples: what is learned from.
        held_out: IDs that are watched; `watching` draws from them, None without any.
        proposals: of all of them.
        detector: the run whose detector is used.
        described: what its card says of the detector.
        segmenter: the detector with its new classifiers.
        device: where they are trained.
        left_out: why how many images of the split are not learned from.
    """

    settings: MaskSettings
    data: PreparedData
    samples: MaskSamples
    held_out: list[str]
    watching: MaskSamples | None
    proposals: Proposals
    detector: RunFolder
    described: Mapping[str, Any]
    segmenter: Segmenter
    device: torch.device
    left_out: dict[str, int]

    def watched(self) -> list[dict[str, Any]]:
        """The annotated boxes of held-out images, an image a draw."""
        if self.watching is None:
            return []
        return [
            self.watching.sample(name, np.arange(self.watching.found[name].annotated)) for name in self.watching.ids
        ]

    def data_hash(self) -> str:
        """One hash of every image, proposal, annotation and weight that the training reads."""
        paths = [self.data.annotation_file(name) for name in self.settings.split.split("+")]
        read = [path for path in [*paths, self.detector.path / self.described["file"]] if path is not None]
        images = self.data.data_hash([self.samples.modality], self.samples.ids)
        return "/".join([images, self.proposals.content_hash, *(files.sha256(path) for path in read)])


def build(settings: MaskSettings) -> MaskPlan:
    """Open data and detector, resolve the settings, find what can be learned from. Nothing is written.

    Raises:
        XmodalError: settings, data, proposals or the detector are at fault.
    """
    check(settings)
    detector = open_detector(Path(str(settings.init)))
    data = PreparedData.open(settings.data)
    branch, backbone, described = read_branch(detector, settings.modality)
    card = detector.card()
    _check_data(data, branch.modality, described["encoding"], card["classes"], detector)
    features = chosen_features(backbone, branch.detector.layer, settings.features)
    proposals = open_proposals(data, settings.proposals or if_stored(card["proposals"]["method"], data))
    ids, held_out = data.ids(settings.split), list[str]()
    if settings.hold_out:
        ids, held_out = data.hold_out(settings.split, settings.hold_out)
    require(proposals, [*ids, *held_out])
    in_memory = fits_in_memory(data, ids, [branch.modality])
    size_hw = branch.size.of(common_size(data, ids))
    shape = mask_shape(backbone, branch, features, size_hw, centred=settings.centred)
    settings = resolve(
        settings,
        in_memory=in_memory,
        modality=branch.modality,
        features=shape.features,
        proposals=proposals.method,
        proposals_per_image=settings.proposals_per_image or card["cutoffs"]["proposals"],
    )
    segmenter = assemble_segmenter(branch, backbone, shape, len(data.classes), settings.seed)
    segmenter = replace(segmenter, dropout=settings.dropout)
    samples = _samples(settings, data, ids, proposals, segmenter)
    if not samples.ids:
        raise DataError(
            f"No mask can be learned: none of the {len(ids)} images of split {settings.split!r} of {data.root} has an "
            "object.",
            "Name a split that has annotations with --split.",
        )
    watching = _samples(settings, data, held_out, proposals, segmenter) if held_out else None
    _scale(segmenter, samples)
    device = processes.own_device(settings.device)
    left_out = {"without objects": len(ids) - len(samples.ids)}
    return MaskPlan(
        settings, data, samples, held_out, watching, proposals, detector, described, segmenter, device, left_out
    )


def open_detector(path: Path) -> RunFolder:
    """The finished run of a detector, or of masks, whose detector can be used again.

    Raises:
        SettingsError: there is no run, or it is of something else.
        DataError: it is not finished.
    """
    run = open_run(path)
    if run.command not in (*DETECTORS, COMMAND):
        raise SettingsError(
            f"{run.path} is a run of `xmodal {run.made_by}`, and masks are learned on a detector.",
            f"Train a detector first: xmodal finetune --init {run.path}; then give --init its run.",
        )
    if run.card().get("kind") == VISION:
        raise SettingsError(
            f"The detector of {run.path} is one of torchvision's, which cuts no regions from proposals.",
            "Learn masks on a run of `xmodal finetune`; Mask R-CNN gives masks of its own.",
        )
    return run


def _check_data(
    data: PreparedData, modality: str, encoding: Mapping[str, Any], classes: Sequence[str], detector: RunFolder
) -> None:
    """Find out whether a data set is like the detector's."""
    differing = data.modality(modality).differences(encoding)
    if differing:
        told = ", ".join(f"{key} {wanted}, not {found}" for key, (wanted, found) in differing.items())
        raise DataError(
            f"The detector {detector.path} was trained on {modality} images of {told}, as '{data.root}' has them.",
            "Use a data set that was prepared like its own.",
        )
    if tuple(classes) != data.classes:
        raise SettingsError(
            f"The detector {detector.path} knows {', '.join(classes[:6])}, ...; the data set '{data.root}' has "
            f"{', '.join(data.classes[:6])}, ...: the classes must be the same.",
            "Use the data set that the detector learned from.",
        )


def _samples(
    settings: MaskSettings, data: PreparedData, ids: Sequence[str], proposals: Proposals, segmenter: Segmenter
) -> MaskSamples:
    annotations = data.annotations(settings.split)
    return MaskSamples(
        data,
        {name: annotations[name] for name in ids},
        segmenter.branch.modality,
        proposals,
        settings.proposals_per_image or 0,
        overlap=settings.overlap,
        boxes=settings.boxes,
        size=segmenter.branch.size,
        centred=settings.centred,
        seed=settings.seed,
        in_memory=settings.workers == 0,
    )


@torch.no_grad()
def _scale(segmenter: Segmenter, samples: MaskSamples) -> None:
    """Give every feature the size 1 (root of the mean square), measured on a few images, where the paper has no scale.

    Measured on the CPU in float32, before the networks move, so that a resumed run finds the same.
    """
    shape = segmenter.head.shape
    if paper_scales(segmenter.backbone):
        return
    squares = [list[Tensor]() for _ in range(len(shape.levels) + 1)]
    for name in samples.ids[:MEASURED_IMAGES]:
        maps, size_hw = segmenter.maps(samples.image(name)), samples.data.size_hw(name)
        boxes = torch.from_numpy(samples.found[name].boxes_xyxy)
        asked = Boxes(boxes, torch.zeros(len(boxes), dtype=torch.int64), size_hw, segmenter.branch.size.scale(size_hw))
        for kept, given in zip(squares, [*maps[:-1], segmenter.regions(maps, asked)], strict=True):
            kept.append(given.square().mean())
    sizes = [float(torch.stack(each).nanmean().sqrt().clamp(min=LEAST_SIZE)) for each in squares]
    with_scales(segmenter, [1 / size for size in sizes[:-1]], 1 / sizes[-1] if shape.width else 1.0)
