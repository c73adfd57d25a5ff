"""Weights as safetensors: under their library's own names, with the Python that loads them in header and card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

import xmodal_cli
from xmodal_cli.detect.vision_join import Vision
from xmodal_cli.export.classifying import classifying
from xmodal_cli.export.package import Package, Write, network_card, unlearned_notes
from xmodal_cli.export.stock import Network, Stock, stock
from xmodal_cli.export.subjects import ADAPTER, CLASSES, Subject, numbered
from xmodal_cli.export.torchvision_detector import stock_detector
from xmodal_cli.models.classifier import Classifier
from xmodal_cli.models.weights import INPUT, MODALITY, SAFETENSORS, save_file

MODEL, DETECTOR = "model", "detector"
STANDS_IN = (
    "No stock model holds this joint whole: the student (model.safetensors) with its adapters stands in the place of "
    "the detector's body, whose own tensors in detector.safetensors are a random start."
)


def package_weights(subject: Subject, *, adapter: bool = False) -> Package:
    """The plain networks of a run, each in a file that its library's own model loads strictly, and what stands above.

    Args:
        subject: the run.
        adapter: whether a student's adapters come along.

    Raises:
        XmodalError: the installed library makes other networks.
    """
    made, heads = _made(subject)
    wanted = adapter or isinstance(subject.whole, Vision)
    heads = {name: state for name, state in heads.items() if wanted or name != ADAPTER}
    names = [numbered(MODEL, number) + SAFETENSORS for number in range(len(made))]
    written: dict[str, Write] = {}
    described = []
    for name, network, each in zip(names, subject.networks, made, strict=True):
        written[name] = _writer(each.state, _about(network, each, name))
        described.append({**network_card(network), "file": name, **_loading(each, name)})
    for described_network, head in zip(described, _heads(subject), strict=False):
        described_network["head"] = head
    card: dict[str, Any] = {"networks": described}
    load = [each.loading(name) for each, name in zip(made, names, strict=True)]
    notes = unlearned_notes(subject.networks, made)
    if isinstance(subject.whole, Vision):
        whole, name = stock_detector(subject.whole), (DETECTOR if made else MODEL) + SAFETENSORS
        written[name] = _writer(whole.state, _about_detector(subject.whole, whole, name))
        card["detector"] = {"name": subject.whole.detector.name, "file": name, **_loading(whole, name)}
        load.append(whole.loading(name))
        notes += [STANDS_IN] if made else []
    for name, state in heads.items():
        written[name + SAFETENSORS] = _writer(state, {"xmodal": xmodal_cli.__version__})
    if heads:
        told = ", ".join(f"{name}{SAFETENSORS}" for name in heads)
        notes.append(f"What stands above, which no plain network has, lies beside it: {told}.")
    return Package(written, card, "\n\n".join(load), tuple(notes))


def _heads(subject: Subject) -> list[Mapping[str, Any]]:
    """How the heads of detectors and proposers are built, by network."""
    branches = subject.card.get("branches") or [subject.card.get("network", {})]
    return [branch["shape"] for branch in branches if "shape" in branch]


def _made(subject: Subject) -> tuple[list[Stock], dict[str, Mapping[str, Tensor]]]:
    """The stock models of a run, and what stands above them; a classifier's last layer goes in where it fits."""
    heads = dict(subject.heads)
    if isinstance(subject.whole, Classifier):
        height, width = subject.size["size_hw"]
        whole = classifying(subject.networks[0], subject.whole, heads[CLASSES], (height, width))
        if whole is not None:
            return [whole], {}
    return [stock(network) for network in subject.networks], heads


def _about(network: Network, made: Stock, name: str) -> dict[str, str]:
    """The header of a file of weights."""
    return {
        "xmodal": xmodal_cli.__version__,
        "network": network_card(network)["name"],
        MODALITY: network.modality,
        "encoding": json.dumps(dict(network.encoding)),
        INPUT: json.dumps(network.backbone.input.to_dict()),
        "layers": json.dumps(network.layers),
        "unlearned": json.dumps(made.unlearned),
        "load": made.loading(name),
    }


def _about_detector(vision: Vision, made: Stock, name: str) -> dict[str, str]:
    """The header of a torchvision detector's file."""
    return {
        "xmodal": xmodal_cli.__version__,
        "network": f"torchvision/{vision.detector.name}",
        MODALITY: vision.modality,
        "encoding": json.dumps(dict(vision.encoding or {})),
        "classes": json.dumps(vision.classes),
        "unlearned": json.dumps(made.unlearned),
        "load": made.loading(name),
    }


def _loading(made: Stock, name: str) -> dict[str, Any]:
    return {"load": made.loading(name).splitlines(), "unlearned": list(made.unlearned)}


def _writer(state: Mapping[str, Tensor], about: Mapping[str, str]) -> Write:
    def write(path: Path) -> None:
        save_file(path, state, about)

    return write
