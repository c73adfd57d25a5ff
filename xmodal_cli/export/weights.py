"""Weights as safetensors: under their library's own names, with the Python that loads them in header and card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

import xmodal_cli
from xmodal_cli.export.package import Package, Write, network_card
from xmodal_cli.export.stock import Network, Stock, stock
from xmodal_cli.export.subjects import ADAPTER, Subject, numbered
from xmodal_cli.models.weights import SAFETENSORS, save_file


def package_weights(subject: Subject, *, adapter: bool = False) -> Package:
    """The plain networks of a run, each in a file that its library's own model loads strictly, and what stands above.

    Args:
        subject: the run.
        adapter: whether a student's adapters come along.

    Raises:
        XmodalError: the installed library makes other networks.
    """
    made = [stock(network) for network in subject.networks]
    names = [numbered("model", number) + SAFETENSORS for number in range(len(made))]
    written: dict[str, Write] = {}
    described = []
    for name, network, each in zip(names, subject.networks, made, strict=True):
        written[name] = _writer(each.state, _about(network, each, name))
        described.append({**network_card(network), "file": name, **_loading(each, name)})
    heads = {name: state for name, state in subject.heads.items() if adapter or name != ADAPTER}
    for name, state in heads.items():
        written[name + SAFETENSORS] = _writer(state, {"xmodal": xmodal_cli.__version__})
    load = "\n".join(each.loading(name) for each, name in zip(made, names, strict=True))
    return Package(written, {"networks": described}, load, _notes(subject, made, heads))


def _about(network: Network, made: Stock, name: str) -> dict[str, str]:
    """The header of a file of weights."""
    return {
        "xmodal": xmodal_cli.__version__,
        "network": network_card(network)["name"],
        "modality": network.modality,
        "encoding": json.dumps(dict(network.encoding)),
        "input": json.dumps(network.backbone.input.to_dict()),
        "layers": json.dumps(network.layers),
        "unlearned": json.dumps(made.unlearned),
        "load": made.loading(name),
    }


def _loading(made: Stock, name: str) -> dict[str, Any]:
    return {"load": made.loading(name).splitlines(), "unlearned": list(made.unlearned)}


def _writer(state: Mapping[str, Tensor], about: Mapping[str, str]) -> Write:
    def write(path: Path) -> None:
        save_file(path, state, about)

    return write


def _notes(subject: Subject, made: list[Stock], heads: Mapping[str, Any]) -> tuple[str, ...]:
    notes = []
    for network, each in zip(subject.networks, made, strict=True):
        if each.unlearned:
            notes.append(
                f"{len(each.unlearned)} of {len(each.state)} tensors of {network.backbone.name} lie above "
                f"{network.layers[-1]} and were not learned: they are a random start. card.json lists them."
            )
    if heads:
        told = ", ".join(f"{name}{SAFETENSORS}" for name in heads)
        notes.append(f"No plain network has what stands above: {told}.")
    return tuple(notes)
