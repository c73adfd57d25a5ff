"""What `evaluate` does: find what is to be measured, measure it, keep the result beside the runs.

A subject is a network with one of its layers and the modality it looks at: the student of a run, or a baseline that
needs no run (random weights, weights copied from RGB, or no network at all).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodal_cli import files
from xmodal_cli.data.pairs import channel_statistics, value_range
from xmodal_cli.data.prepared import RGB, PreparedData
from xmodal_cli.detect.probe import probe, probe_geometry
from xmodal_cli.errors import SettingsError, closest
from xmodal_cli.metrics.results import ProbeResult
from xmodal_cli.models.backbones import Backbone, InputSpec, build
from xmodal_cli.models.layers import default_layer, resolve_layer
from xmodal_cli.runs import folder as run_folder
from xmodal_cli.runs.device import resolve_device, resolve_precision
from xmodal_cli.runs.folder import RunFolder
from xmodal_cli.transfer.student import load_student

BASELINES = ("random", "imagenet", "geometry")
COMMAND = "evaluate"


@dataclass(frozen=True)
class Baseline:
    """A subject without a run.

    Args:
        init: `random`, `imagenet` (a copy of RGB weights), or `geometry` (the boxes alone, no network).
        backbone: name of the network.
        modality: what it looks at.
        weights: a file with its ImageNet weights; downloaded otherwise.
        layer: the layer that is probed; the default one if None.
        seed: of random weights.
    """

    init: str
    backbone: str | None
    modality: str
    weights: Path | None = None
    layer: str | None = None
    seed: int = 0

    def check(self) -> None:
        """Find what is wrong with it.

        Raises:
            SettingsError: an unknown kind, or a network is needed and not named.
        """
        if self.init not in BASELINES:
            near = closest(self.init, BASELINES)
            raise SettingsError(f"--init {self.init!r} is not one of {', '.join(BASELINES)}.", near or None)
        if self.init != "geometry" and self.backbone is None:
            raise SettingsError(f"--init {self.init} needs a network.", "Name one with --backbone, e.g. squeezenet1_1.")


@dataclass(frozen=True)
class Evaluation:
    """What was measured, of what, on what.

    Args:
        subject: a few words for what was measured.
        run: the run measured, if any.
        data: the prepared data set.
        split: the split scored.
        layer: the layer probed; None without a network.
        modality: what the subject looks at.
        probe: the figures.
        folder: where they are kept.
    """

    subject: str
    run: Path | None
    data: Path
    split: str
    layer: str | None
    modality: str
    probe: ProbeResult
    folder: Path

    def to_dict(self) -> dict[str, Any]:
        """The `results` of `--json`."""
        return self.probe.to_dict()


def evaluate_probe(
    subject: RunFolder | Baseline,
    data: PreparedData,
    *,
    split: str,
    train_split: str = "train",
    layer: str | None = None,
    device: str = "auto",
    precision: str = "fp32",
    runs: Path = Path("runs"),
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Probe a run's student or a baseline, and keep the result in `runs/evaluate/<name>/`.

    Args:
        subject: a finished distill run, or a baseline.
        data: the prepared data set.
        split: the split that is scored.
        train_split: the split that the probe's classifier learns from.
        layer: the layer to probe, if not the subject's own.
        device, precision: where and how features are computed.
        runs: the folder of all runs.
        watch: told how many images have been seen.

    Raises:
        XmodalError: settings, run or data are at fault.
    """
    if isinstance(subject, Baseline):
        subject.check()
    if isinstance(subject, Baseline) and subject.init == "geometry":
        found = probe_geometry(data, split=split, train_split=train_split)
        name, probed, modality = "box geometry", None, "none"
    else:
        backbone, own_layer, modality, name = _network(subject, data, train_split)
        probed = resolve_layer(backbone, layer or own_layer)
        on = resolve_device(device)
        found = probe(
            backbone,
            probed,
            data,
            modality,
            split=split,
            train_split=train_split,
            device=on,
            precision=resolve_precision(precision, on),
            watch=watch,
        )
    run = subject.path if isinstance(subject, RunFolder) else None
    folder = runs / COMMAND / f"{run.name if run else re.sub('[ /]', '-', name)}-{split}-{secrets.token_hex(2)}"
    evaluation = Evaluation(name, run, data.root, split, probed, modality, found, folder)
    _save(evaluation, train_split, data)
    return evaluation


def find_run(path: Path | None, runs: Path) -> RunFolder:
    """The run named, or the newest finished one.

    Raises:
        SettingsError: there is no such run, or none yet.
    """
    return run_folder.latest(runs, ("distill",)) if path is None else run_folder.open_run(path, "distill")


def _network(subject: RunFolder | Baseline, data: PreparedData, train_split: str) -> tuple[Backbone, str, str, str]:
    """A subject's network, the layer to probe, what it looks at, and its name."""
    if isinstance(subject, RunFolder):
        student = load_student(subject)
        return student.backbone, student.layers[-1], student.modality, student.card["what"]
    info = data.modality(subject.modality)
    weights: str | Path = subject.weights or subject.init if subject.init == "imagenet" else "random"
    backbone = build(str(subject.backbone), weights=weights, in_channels=info.channels, seed=subject.seed)
    if subject.modality != RGB and not backbone.keeps_input:
        mean, std = channel_statistics(data, subject.modality, data.ids(train_split))
        backbone.input = InputSpec(mean=mean, std=std, range=value_range(info))
    layer = subject.layer or default_layer(backbone)
    return backbone, layer, subject.modality, f"{subject.backbone} {subject.init} on {subject.modality}"


def _save(evaluation: Evaluation, train_split: str, data: PreparedData) -> None:
    """Keep an evaluation: its figures, and everything that decided them."""
    evaluation.folder.mkdir(parents=True)
    document = {
        "command": COMMAND,
        "subject": evaluation.subject,
        "run": str(evaluation.run) if evaluation.run else None,
        "layer": evaluation.layer,
        "modality": evaluation.modality,
        "data": {"name": data.name, "path": str(data.root.resolve())},
        "split": evaluation.split,
        "train_split": train_split,
    }
    files.write_yaml(evaluation.folder / run_folder.CONFIG, document)
    files.write_json(evaluation.folder / "results.json", {**document, "results": evaluation.to_dict()})
