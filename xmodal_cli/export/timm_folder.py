"""A folder that timm loads: `timm.create_model("local-dir:FOLDER", pretrained=True)`.

timm's `config.json` names the architecture, the arguments of its constructor, the classes and how images are fed. A
network of torchvision goes in where timm has the very same one: built, given the weights, and compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xmodal_cli import files
from xmodal_cli.errors import SettingsError
from xmodal_cli.export.classifying import classifying
from xmodal_cli.export.package import Package, network_card, unlearned_notes
from xmodal_cli.export.stock import Network, Stock, constructor, stock
from xmodal_cli.export.subjects import ADAPTER, CLASSES, Subject, command_for
from xmodal_cli.models.catalogue import parse
from xmodal_cli.models.classifier import Classifier
from xmodal_cli.models.inputs import BYTE
from xmodal_cli.models.layer_names import module_path
from xmodal_cli.models.networks import Backbone, create_timm
from xmodal_cli.models.weights import save_file

WEIGHTS, CONFIG = "model.safetensors", "config.json"  # as timm calls them
ASKED_HW = 96, 128  # of the image on which two networks are compared


def package_timm(subject: Subject, folder: Path) -> Package:
    """The network of a run as a folder of timm's.

    Args:
        subject: the run.
        folder: where it will lie, for the Python that loads it.

    Raises:
        SettingsError: timm has no such network; the hint names a format that does.
    """
    network = _of_timm(subject)
    made, classes = _stock(subject, network)
    config = _config(network, classes, subject.size)
    load = f'import timm\nmodel = timm.create_model("local-dir:{folder}", pretrained=True).eval()'
    card = {"networks": [{**network_card(network), "file": WEIGHTS, "unlearned": list(made.unlearned)}]}

    def write_weights(path: Path) -> None:
        save_file(path, made.state)

    def write_config(path: Path) -> None:
        files.write_json(path, config)

    notes = _notes(subject, network, made)
    return Package({WEIGHTS: write_weights, CONFIG: write_config}, card, load, notes)


def _of_timm(subject: Subject) -> Network:
    """The one plain network of a run, as one of timm's.

    Raises:
        SettingsError: it holds none or several, or timm does not have it.
    """
    hint = f"Another format has it: {command_for(subject, '--format safetensors')}"
    if len(subject.networks) != 1:
        what = f"{len(subject.networks)} networks" if subject.networks else f"a {subject.kind}"
        raise SettingsError(f"{subject.run.path} holds {what}; timm's folder holds one plain network.", hint)
    network = subject.networks[0]
    found = network if network.model.library == "timm" else _same_in_timm(network)
    if found is None:
        raise SettingsError(
            f"{network.backbone.name}, the network of {subject.run.path}, is {_OWNERS[network.model.library]}, and "
            "timm does not have the same one.",
            hint,
        )
    return found


_OWNERS = {"torchvision": "torchvision's", "xmodal": "xmodal's own"}


def _same_in_timm(network: Network) -> Network | None:
    """A network as timm's of that name, if that is the same one: its tensors fit, and it gives the same map."""
    own, entry = network.backbone, network.model.entry
    try:
        parse(f"timm/{entry}")
    except SettingsError:
        return None
    renamed = Backbone(f"timm/{entry}", "timm", own.module, own.input, in_channels=own.in_channels)
    as_timm, path = replace(network, backbone=renamed), module_path(own, network.layers[-1])
    with torch.random.fork_rng(devices=[]):
        module, _ = create_timm(as_timm.model, own.in_channels, None, num_classes=0)
    state, wanted = own.module.state_dict(), module.state_dict()
    fits = all(key in state and state[key].shape == value.shape for key, value in wanted.items())
    if not fits or path not in dict(module.named_modules()):
        return None
    module.load_state_dict({key: state[key] for key in wanted}, strict=True)
    images = torch.randn(1, own.in_channels, *ASKED_HW, generator=torch.Generator().manual_seed(0))
    here, there = (_map(each.eval(), path, images) for each in (own.module, module))
    return as_timm if here.shape == there.shape and torch.allclose(here, there, rtol=1e-4, atol=1e-5) else None


@torch.no_grad()
def _map(module: nn.Module, path: str, images: Tensor) -> Tensor:
    """What a part of a network gives for images."""
    found: list[Tensor] = []
    handle = module.get_submodule(path).register_forward_hook(lambda part, args, output: found.append(output.clone()))
    module(images)
    handle.remove()
    return found[0]


def _stock(subject: Subject, network: Network) -> tuple[Stock, tuple[str, ...]]:
    """The network with the names of its classes: those of a classifier, if timm's own head says the same."""
    if not isinstance(subject.whole, Classifier):
        return stock(network), ()
    height, width = subject.size["size_hw"]
    made = classifying(network, subject.whole, subject.heads[CLASSES], (height, width))
    if made is None:
        raise SettingsError(
            f"The classifier of {subject.run.path} has one linear layer above {network.layers[-1]}, and timm's "
            f"{network.model.entry} has more there.",
            f"Another format has it: {command_for(subject, '--format safetensors')}",
        )
    return made, tuple(subject.card["classes"])


def _config(network: Network, classes: tuple[str, ...], size: Mapping[str, Any]) -> dict[str, Any]:
    """What timm reads beside the weights."""
    seen, channels = network.backbone.input, network.backbone.in_channels
    module, _, options = constructor(network)
    height, width = size.get("size_hw") or (size["short"], size["short"])
    arguments = {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}
    del arguments["num_classes"]
    config: dict[str, Any] = {
        "architecture": network.model.entry,
        "num_classes": len(classes),
        "num_features": getattr(module, "num_features", None),
        "pretrained_cfg": {
            "tag": "xmodal",
            "custom_load": False,
            "input_size": [channels, height, width],
            "fixed_input_size": "img_size" in options,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "mean": list(seen.mean),
            "std": list(seen.std),
            "num_classes": len(classes),
        },
        "model_args": arguments,
    }
    return config | ({"label_names": list(classes)} if classes else {})


def _notes(subject: Subject, network: Network, made: Stock) -> tuple[str, ...]:
    notes = []
    if network.backbone.input.range != (0.0, BYTE) or network.backbone.input.order != "rgb":
        notes.append("timm's own transforms scale pixels otherwise than this network wants: feed it as card.json says.")
    if any("dynamic_img_pad" in line for line in made.lines):
        notes.append("Images whose size is no multiple of the patch need model.patch_embed.dynamic_img_pad = True.")
    left_out = [name for name in subject.heads if name not in (ADAPTER, CLASSES)]
    if left_out:
        notes.append(f"The plain network alone: {', '.join(left_out)} of the {subject.kind} is left out.")
    return (*notes, *unlearned_notes([network], [made]))
