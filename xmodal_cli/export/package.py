"""An export before it is written: its files, its card, and the folder that appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodal_cli import files
from xmodal_cli.errors import SettingsError
from xmodal_cli.export.stock import Network, Stock
from xmodal_cli.models.backbones import full_name

CARD = "card.json"

# Given the path to write; gives what one should know of what came out.
Write = Callable[[Path], tuple[str, ...] | None]


@dataclass(frozen=True)
class Package:
    """What an export consists of.

    Args:
        files: by name, what writes each.
        card: what they are; written beside them as `card.json`.
        load: Python that loads them.
        notes: what one should know.
    """

    files: Mapping[str, Write]
    card: Mapping[str, Any]
    load: str
    notes: tuple[str, ...] = ()


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Make sure that an export can go to a folder.

    Raises:
        SettingsError: something is there that may not be replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"{folder} is a file; an export is a folder.", "Name another one with --out DIR.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise SettingsError(
            f"The folder {folder} is not empty.", "Replace it with --overwrite, or name another one with --out DIR."
        )
    if not _is_export(folder):
        raise SettingsError(
            f"The folder {folder} holds something else than an export, which --overwrite would remove.",
            "Name another folder with --out DIR.",
        )


def _is_export(folder: Path) -> bool:
    """Whether a folder holds what a card says that an export left there, and nothing else."""
    try:
        card = json.loads((folder / CARD).read_text())
        return _names(folder) <= {CARD, *card["files"]} and "export" in card
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def rehearse(package: Package) -> tuple[str, ...]:
    """Write everything where it is removed again; what is found and raised is the same as of `write`."""
    with tempfile.TemporaryDirectory() as scratch:
        return write(package, Path(scratch) / "export")


def write(package: Package, folder: Path) -> tuple[str, ...]:
    """Write everything beside the folder's place, then put it there at once.

    Args:
        package: what to write.
        folder: absent, empty, or an earlier export, which is replaced.

    Returns:
        What one should know, which only the writing told.
    """
    folder = folder.resolve() if folder.is_symlink() else folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    found = list[str]()
    try:
        for name, write_to in package.files.items():
            found += write_to(made / name) or ()
        files.write_json(made / CARD, {**package.card, "files": sorted(_names(made))})
        _replace(folder, made)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return tuple(found)


def _replace(folder: Path, made: Path) -> None:
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.is_dir():
        folder.rename(old)
    made.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def network_card(network: Network) -> dict[str, Any]:
    """What a card says of a plain network: what it is, and how to feed it."""
    seen = network.backbone.input
    return {
        "name": full_name(network.backbone.to_dict()),
        "backbone": network.backbone.name,
        "modality": network.modality,
        "encoding": dict(network.encoding),
        "layers": list(network.layers),
        "input": {
            "channels": network.backbone.in_channels,
            **seen.to_dict(),
            "recipe": "x = (stored - range[0]) / (range[1] - range[0]), channels "
            + ("reversed" if seen.order == "bgr" else "as stored (R, G, B in colour images)")
            + "; then (x - mean) / std per channel; float32, (N, C, H, W)",
        },
    }


def unlearned_notes(networks: Sequence[Network], made: Sequence[Stock]) -> list[str]:
    """What is to be said of tensors that are in a file and were not learned."""
    return [
        f"{len(each.unlearned)} of {len(each.state)} tensors of {network.backbone.name} lie above {network.layers[-1]} "
        "and were not learned: they are a random start. card.json lists them."
        for network, each in zip(networks, made, strict=True)
        if each.unlearned
    ]
