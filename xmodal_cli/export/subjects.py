"""What there is to export of a run: its plain networks, what stands above them, and the whole thing as it runs."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from xmodal_cli.detect.branches import DETECTORS, VISION, Trained, load_trained
from xmodal_cli.detect.hypercolumns import COMMAND as MASKS
from xmodal_cli.detect.hypercolumns import Segmenter, load_segmenter
from xmodal_cli.detect.start import CLASSIFICATION, RPN, RPN_WEIGHTS, TRANSFER, load_rpn
from xmodal_cli.detect.vision_join import Vision, load_vision
from xmodal_cli.errors import SettingsError
from xmodal_cli.export.stock import Network
from xmodal_cli.export.torchvision_detector import stand_in, student_backbone
from xmodal_cli.models.backbones import Backbone
from xmodal_cli.models.classifier import Classifier, read_classifier
from xmodal_cli.models.detector_files import read_detector
from xmodal_cli.models.rpn import Rpn
from xmodal_cli.models.weights import CLASS_HEAD, ROI_HEAD, RPN_HEAD, load_file
from xmodal_cli.runs.folder import RunFolder
from xmodal_cli.transfer.adapted import read_adapter
from xmodal_cli.transfer.student import Student, load_student

Whole = Student | Classifier | Trained | Rpn | Segmenter | Vision

ADAPTER, ROI, CLASSES, PROPOSER, MASK_HEAD = "adapter", "roi_head", "class_head", "rpn_head", "masks"


@dataclass(frozen=True)
class Subject:
    """A finished run, read to be exported.

    Args:
        run: its folder.
        card: its card.
        kind: a few words for what it is.
        whole: as it runs, in eval mode.
        networks: its plain networks.
        heads: tensors that no plain network has, by the name of the file that they go to.
        size: the size at which it sees images: `size_hw`, or `short` and `longest` side.
    """

    run: RunFolder
    card: Mapping[str, Any]
    kind: str
    whole: Whole
    networks: tuple[Network, ...]
    heads: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    size: Mapping[str, Any] = field(default_factory=dict)


def read_subject(run: RunFolder) -> Subject:
    """Read a run of any kind that leaves a network.

    Raises:
        SettingsError: it leaves none.
        DataError: it is not finished, or its files do not belong together.
    """
    if run.command not in READERS:
        raise SettingsError(
            f"{run.path} is a run of `xmodal {run.made_by}`, which leaves no network to export.",
            "Name a run of `xmodal distill`, `xmodal finetune` or `xmodal zero-shot`.",
        )
    return READERS[run.command](run)


def _read_student(run: RunFolder) -> Subject:
    student = load_student(run)
    card = student.card
    size_hw = (card["size_hw"][0], card["size_hw"][1])
    student.backbone.module.eval()
    network = Network(
        student.backbone, student.modality, card["encoding"], student.layers, frozenset(card["missing_keys"]), size_hw
    )
    adapters = {}
    for number, point in enumerate(card["transfer"]):
        if point.get("adapter", True):
            for key, value in zip(("weight", "bias"), scaled_adapter(run, number), strict=True):
                adapters[f"{number}.{key}"] = value
    heads = {ADAPTER: adapters} if adapters else {}
    return Subject(run, card, "student", student, (network,), heads, {"size_hw": list(size_hw)})


@torch.no_grad()
def scaled_adapter(run: RunFolder, number: int) -> tuple[Tensor, Tensor]:
    """Weight and bias of a transfer point's adapter, which give the teacher's features at their own scale.

    In training they gave features divided by a positive number for each channel (`joint.set_adapter`).
    """
    weight, bias, divisor = read_adapter(run, number)
    scale = divisor.double()
    return (weight.double() * scale[:, None, None, None]).float(), (bias.double() * scale).float()


def _read_classifier(run: RunFolder) -> Subject:
    card = run.card()
    classifier, backbone = read_classifier(run.path, card)
    described = {**card, "shape": {"layer": card["layer"]}}
    heads = {CLASSES: _above(load_file(run.path / card["file"]), CLASS_HEAD)}
    size = {"size_hw": list(card["size_hw"])}
    return Subject(run, card, "classifier", classifier, (_network(backbone, described),), heads, size)


def _read_detector(run: RunFolder) -> Subject:
    if run.card().get("kind") == VISION:
        return _read_vision(run)
    trained = load_trained(run)
    return Subject(run, trained.card, "detector", trained, *_branches(run, trained.card), dict(trained.card["size"]))


def _branches(run: RunFolder, card: Mapping[str, Any]) -> tuple[tuple[Network, ...], dict[str, Mapping[str, Tensor]]]:
    """The networks inside a detection run and, by file, what stands above each."""
    networks, heads = list[Network](), dict[str, Mapping[str, Tensor]]()
    for number, described in enumerate(card["branches"]):
        _, backbone = read_detector(run.path, described, len(card["classes"]))
        networks.append(_network(backbone, described))
        heads[numbered(ROI, number)] = _above(load_file(run.path / described["file"]), ROI_HEAD)
    return tuple(networks), heads


def _read_masks(run: RunFolder) -> Subject:
    segmenter, _ = load_segmenter(run)
    card = run.card()
    networks, heads = _branches(run, card)
    heads[MASK_HEAD] = segmenter.head.state_dict()
    return Subject(run, card, "mask network", segmenter, networks, heads, dict(card["size"]))


def _read_rpn(run: RunFolder) -> Subject:
    card = run.card()
    described, path = card["network"], run.path / RPN_WEIGHTS
    module, backbone = load_rpn(described, path)
    heads = {PROPOSER: _above(load_file(path), RPN_HEAD)}
    network = _network(backbone, described)
    return Subject(run, card, "region proposal network", module, (network,), heads, dict(described["size"]))


def _read_vision(run: RunFolder) -> Subject:
    vision = load_vision(run)
    card, looks = run.card(), vision.detector
    size = {"size_hw": [looks.short_px] * 2} if looks.square else {"short": looks.short_px}
    below = stand_in(vision)
    if below is None:
        return Subject(run, card, "torchvision detector", vision, (), size=size)
    described = card["branches"][0]
    layers, unlearned = tuple(point["student"] for point in described["points"]), frozenset(described["missing_keys"])
    network = Network(
        student_backbone(vision, below), vision.modality, described["encoding"], tuple(dict.fromkeys(layers)), unlearned
    )
    adapters = {key.replace(".adapter", ""): value for key, value in below.joints.state_dict().items()}
    heads = {ADAPTER: adapters} if adapters else {}
    return Subject(run, card, "torchvision detector", vision, (network,), heads, size)


READERS: dict[str, Callable[[RunFolder], Subject]] = {
    TRANSFER: _read_student,
    CLASSIFICATION: _read_classifier,
    RPN: _read_rpn,
    MASKS: _read_masks,
    **dict.fromkeys(DETECTORS, _read_detector),
}


def _network(backbone: Backbone, described: Mapping[str, Any]) -> Network:
    """The plain network of a detector's, proposer's or classifier's card."""
    backbone.module.eval()
    return Network(
        backbone,
        described["modality"],
        described["encoding"],
        (described["shape"]["layer"],),
        frozenset(described["missing_keys"]),
    )


def _above(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What stands under a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def command_for(subject: Subject, options: str) -> str:
    """The command that exports a run with these options, ready to be copied."""
    return f"xmodal export {shlex.quote(str(subject.run.path))} {options}"


def numbered(name: str, number: int) -> str:
    """The name of a file of a run's network.

    Example:
        >>> numbered("model", 0), numbered("model", 1)
        ('model', 'model-2')
    """
    return name if number == 0 else f"{name}-{number + 1}"
