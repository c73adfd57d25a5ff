"""A run as files that other programs read: what is exported, to which format, into which folder."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xmodal_cli
from xmodal_cli.errors import SettingsError, closest
from xmodal_cli.export.onnx_file import package_onnx
from xmodal_cli.export.package import CARD, Package, check_folder, rehearse, write
from xmodal_cli.export.subjects import ADAPTER, Subject, command_for, read_subject
from xmodal_cli.export.timm_folder import package_timm
from xmodal_cli.export.weights import package_weights
from xmodal_cli.runs.folder import RunFolder

FORMATS = ("safetensors", "timm", "onnx")


@dataclass(frozen=True)
class Exported:
    """What was exported, or would be.

    Args:
        folder: where it lies.
        format: of the files.
        files: their names.
        what: a sentence for it.
        kind: of the run.
        load: Python that loads it.
        notes: what one should know.
        card: the whole card.
    """

    folder: Path
    format: str
    files: tuple[str, ...]
    what: str
    kind: str
    load: str
    notes: tuple[str, ...]
    card: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The `results` of `--json`."""
        return {
            "folder": str(self.folder),
            "format": self.format,
            "files": list(self.files),
            "what": self.what,
            "kind": self.kind,
            "load": self.load.splitlines(),
            "notes": list(self.notes),
        }


def export(
    run: RunFolder,
    format: str,
    folder: Path,
    *,
    adapter: bool = False,
    size_hw: tuple[int, int] | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
) -> Exported:
    """Export a run.

    Args:
        run: a finished run of any kind that leaves a network.
        format: one of `FORMATS`.
        folder: where to.
        adapter: whether a student's adapters come along.
        size_hw: of the images of an ONNX graph, where they cannot be of any size.
        overwrite: whether an earlier export may be replaced.
        dry_run: do and check everything, in a temporary folder, and leave nothing.

    Raises:
        SettingsError: an unknown format, one that the run cannot have, or the folder is taken.
        DataError: the run is not finished, or damaged.
    """
    if format not in FORMATS:
        raise SettingsError(f"Unknown format {format!r}; known are {', '.join(FORMATS)}.", closest(format, FORMATS))
    check_folder(folder, overwrite=overwrite)
    subject = read_subject(run)
    _check_options(subject, format, adapter, size_hw)
    package = _packaged(subject, format, folder, adapter, size_hw)
    card = _card(subject, format, package)
    whole = replace(package, card=card)
    notes = (*package.notes, *(rehearse(whole) if dry_run else write(whole, folder)))
    names = (*package.files, CARD)
    return Exported(folder, format, names, card["what"], subject.kind, package.load, notes, card)


def _packaged(subject: Subject, format: str, folder: Path, adapter: bool, size_hw: tuple[int, int] | None) -> Package:
    if format == "onnx":
        return package_onnx(subject, adapter=adapter, size_hw=size_hw)
    if format == "timm":
        return package_timm(subject, folder)
    return package_weights(subject, adapter=adapter)


def _check_options(subject: Subject, format: str, adapter: bool, size_hw: tuple[int, int] | None) -> None:
    """Make sure that no option would be ignored.

    Raises:
        SettingsError: the run has no adapter, or the format no place for it, or for a size of images.
    """
    if adapter and ADAPTER not in subject.heads:
        raise SettingsError(
            f"{subject.run.path} has no adapter of its own: it is a {subject.kind}"
            + (", taught without one." if subject.kind == "student" else "."),
            "Leave --adapter out.",
        )
    if adapter and format == "timm":
        raise SettingsError(
            "A folder of timm's holds a plain network: there is no place for --adapter in it.",
            f"Another format has it: {command_for(subject, '--format safetensors --adapter')}",
        )
    if size_hw is not None and format != "onnx":
        wanted = f"--format {format}" + (" --adapter" if adapter else "")
        raise SettingsError(
            f"--size is that of the images of an ONNX graph; with --format {format} it would change nothing.",
            f"Leave it out: {command_for(subject, wanted)}",
        )


def _card(subject: Subject, format: str, package: Package) -> dict[str, Any]:
    source = subject.card
    card = {
        "export": format,
        "what": source.get("what", f"{subject.kind} of {subject.run.path.name}"),
        "kind": subject.kind,
        "made": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "xmodal": xmodal_cli.__version__,
        "load": package.load.splitlines(),
        "size": dict(subject.size),
        **package.card,
        "run": {"path": str(subject.run.path.resolve()), "command": subject.run.command, "made": source.get("made")},
    }
    for key in ("classes", "cutoffs", "transfer", "teacher", "data"):
        if key in source:
            card[key] = source[key]
    return card
