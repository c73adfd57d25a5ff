"""The network that a training on boxes begins with: random, published, from a file, or what an earlier run left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from xmodal_cli.data.pairs import channel_statistics, value_range
from xmodal_cli.data.prepared import RGB, PreparedData
from xmodal_cli.detect.branches import DETECTORS, load_backbone
from xmodal_cli.errors import SettingsError, closest
from xmodal_cli.models.backbones import Backbone, InputSpec, build, rebuild, skeleton
from xmodal_cli.models.classifier import read_classifier
from xmodal_cli.models.detector_shape import detection_layer
from xmodal_cli.models.rpn import Rpn, RpnShape
from xmodal_cli.models.weights import INPUT, MODALITY, load_file, read_about
from xmodal_cli.runs.folder import RunFolder, open_run
from xmodal_cli.runs.training_settings import NO_FILE, TrainingSettings, absolute
from xmodal_cli.transfer.student import load_student
from xmodal_cli.web.fetch import Watcher

RPN, RPN_WEIGHTS = "rpn", "rpn.safetensors"  # runs of region proposal networks, `runs/rpn/NAME`, and their weights
CLASSIFICATION = "classification"  # runs of classifiers of whole images
TRANSFER = "distill"
INPUTS = ("auto", "weights", "measured")


@dataclass(frozen=True)
class StartSettings(TrainingSettings):
    """What the settings of every training with labels say of its data and of the network that it begins with.

    Args:
        data: folder of the prepared data set.
        modality: what the network sees.
        split: whose images it learns from.
        init: `random`, `imagenet` (published weights, or the file `weights`), a run's folder, or a file of weights.
        backbone: name of the network; a run brings its own.
        weights: a file with the ImageNet weights, instead of a download.
        stem: how weights of a three-channel stem become another number of channels (`mean`, `copy`, `random`).
        layer: whose map is read; a file of weights may end there.
        input: `weights` feeds images as the weights want colour images, `measured` with the modality's own mean and
            spread; `auto` takes `weights` for rgb, else `measured`. A run brings its own.
    """

    PATHS: ClassVar[tuple[str, ...]] = ("data", "weights", "init")

    data: str
    modality: str = "hha"
    split: str = "train"
    init: str = "random"
    backbone: str | None = None
    weights: str | None = None
    stem: str = "mean"
    layer: str | None = None
    input: str = "auto"


@dataclass(frozen=True)
class Start:
    """A network before it is trained on boxes: the plain backbone, and what it looks at."""

    backbone: Backbone
    modality: str


def start_problems(settings: StartSettings, *, default_backbone: str | None = None) -> list[str]:
    """Everything that is wrong with these settings, a sentence each.

    Args:
        settings: as asked for.
        default_backbone: what is used where none is named.
    """
    found, path = [], Path(settings.init)
    if settings.init in NO_FILE or path.is_file():
        if (settings.backbone or default_backbone) is None:
            found.append(f"--init {settings.init} needs a network: name one with --backbone, e.g. squeezenet1_1.")
    elif not path.is_dir():
        near = closest(settings.init, ("random", "imagenet"))
        found.append(f"--init {settings.init!r} is no run, no file of weights, and not random or imagenet. {near}")
    if settings.weights is not None and settings.init != "imagenet":
        found.append("--weights is the file of ImageNet weights: it belongs to --init imagenet.")
    elif settings.weights is not None and not Path(settings.weights).is_file():
        found.append(f"--weights: there is no file {settings.weights!r}.")
    if settings.input not in INPUTS:
        near = closest(settings.input, INPUTS)
        found.append(f"--input {settings.input!r} is not one of {', '.join(INPUTS)}. {near}".strip())
    return found


def resolved_start(settings: StartSettings, backbone: Backbone) -> dict[str, Any]:
    """Where a training begins, as its settings keep it: absolute paths, and the network's own name.

    Args:
        settings: as asked for.
        backbone: the network it begins with.
    """
    return {
        "data": absolute(settings.data),
        "init": absolute(settings.init),
        "weights": settings.weights and absolute(settings.weights),
        "backbone": backbone.name,
    }


def start_network(
    settings: StartSettings,
    data: PreparedData,
    ids: Sequence[str],
    downloading: Watcher = lambda url, done, total: None,
    *,
    default_backbone: str | None = None,
) -> Start:
    """The network that a training begins with.

    Args:
        settings: which one.
        data: what it will learn from.
        ids: the images whose mean and spread are measured where the weights' own are not wanted.
        downloading: told of a download.
        default_backbone: what is used where none is named.

    Raises:
        SettingsError: a run is of another network or sees another modality than asked for; an unknown name.
        DataError: weights do not fit.
    """
    path = Path(settings.init)
    if settings.init not in NO_FILE and path.is_dir():
        return _checked(start_from_run(open_run(path), settings.seed), settings, path)
    info = data.modality(settings.modality)
    backbone = start_backbone(settings, info.channels, downloading, default_backbone=default_backbone)
    exported = _exported_input(path, settings.modality)
    if exported is not None and len(exported.mean) == info.channels:
        backbone.input, backbone.keeps_input = exported, True
    own = settings.modality == RGB or backbone.keeps_input
    if settings.input == "measured" or (settings.input == "auto" and not own):
        mean, std = channel_statistics(data, settings.modality, ids)
        backbone.input = InputSpec(mean=mean, std=std, range=value_range(info))
    return Start(backbone, settings.modality)


def _exported_input(path: Path, modality: str) -> InputSpec | None:
    """What a file that `xmodal export` wrote says of its input, if its network sees this modality."""
    about = read_about(path)
    return InputSpec.from_dict(json.loads(about[INPUT])) if about.get(MODALITY) == modality and INPUT in about else None


def start_backbone(
    settings: StartSettings,
    channels: int,
    downloading: Watcher = lambda url, done, total: None,
    *,
    default_backbone: str | None = None,
) -> Backbone:
    """The plain network that a training begins with where no run is its start; its input is that of its weights.

    Args:
        settings: which one; `init` is no run.
        channels: of what it sees.
        downloading, default_backbone: as in `start_network`.
    """
    name = str(settings.backbone or default_backbone)
    needed = [detection_layer(skeleton(name), settings.layer)] if settings.init not in NO_FILE else []
    return build(
        name,
        weights=settings.weights or settings.init if settings.init == "imagenet" else settings.init,
        in_channels=channels,
        stem=settings.stem,  # type: ignore[arg-type]
        seed=settings.seed,
        through=needed,  # a student's file ends there
        watch=downloading,
    )


def start_from_run(run: RunFolder, seed: int) -> Start:
    """The plain network that a finished run left: a transfer's student, or what was trained with labels.

    Args:
        run: the run.
        seed: of layers that it did not learn.

    Raises:
        SettingsError: it is of something else, whose network is another run's.
        DataError: it is not finished, or its files do not belong together.
    """
    if run.command == RPN:
        description = run.card()["network"]
        return Start(load_rpn(description, run.path / RPN_WEIGHTS)[1], description["modality"])
    if run.command in DETECTORS:
        backbone, described = load_backbone(run, seed)
        return Start(backbone, described["modality"])
    if run.command == CLASSIFICATION:
        card = run.card()
        return Start(read_classifier(run.path, card, seed)[1], card["modality"])
    if run.command != TRANSFER:
        raise SettingsError(
            f"{run.path} is a run of `xmodal {run.made_by}`; no training begins with its network.",
            "Name a run of `xmodal distill` or `xmodal finetune`.",
        )
    student = load_student(run, seed)
    return Start(student.backbone, student.modality)


def load_rpn(description: Mapping[str, Any], weights: Path) -> tuple[Rpn, Backbone]:
    """A region proposal network by description, in eval mode, and the plain network that it shares weights with.

    Raises:
        DataError: the weights cannot be read, or do not fit.
    """
    backbone = rebuild(description["backbone"])
    backbone.weights = f"file:{weights}"
    module = Rpn(backbone, RpnShape.from_dict(description["shape"]))
    module.load_saved(load_file(weights), str(weights))
    return module.eval(), backbone


def _checked(start: Start, settings: StartSettings, path: Path) -> Start:
    """The start, if it is what the settings ask for."""
    if settings.backbone not in (None, start.backbone.name):
        raise SettingsError(
            f"The run {path} is of {start.backbone.name}, not of {settings.backbone}.", "Leave --backbone out."
        )
    if start.modality != settings.modality:
        raise SettingsError(
            f"The run {path} sees {start.modality}, and {settings.modality} is asked for.",
            f"Use --modality {start.modality}, or a run of {settings.modality}.",
        )
    return start
