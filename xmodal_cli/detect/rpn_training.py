"""The training of a region proposal network from start to end, and the finished network on disk.

`train` begins a run, `resume` continues one or opens a finished one, `rehearse` takes two steps and writes nothing. The
weights lie in the run as `rpn.safetensors` under the plain network's keys; the description that goes with them (the
card's `network`, which proposals keep too) builds the network again.
"""

from __future__ import annotations

import datetime
import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import xmodal_cli
from xmodal_cli import files
from xmodal_cli.data.memory import common_size, fits_in_memory
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.rpn_settings import DEFAULT_BACKBONE, RpnSettings, check, resolve
from xmodal_cli.detect.rpn_task import RpnSamples, RpnTask, collate, learnable
from xmodal_cli.detect.samples import ImageSize
from xmodal_cli.detect.start import RPN as COMMAND
from xmodal_cli.detect.start import RPN_WEIGHTS as WEIGHTS
from xmodal_cli.detect.start import load_rpn, start_network
from xmodal_cli.errors import DataError, Interrupted
from xmodal_cli.models.backbones import Backbone
from xmodal_cli.models.detector_shape import detection_layer
from xmodal_cli.models.layers import grid, missing_keys
from xmodal_cli.models.rpn import Rpn, RpnShape
from xmodal_cli.models.weights import save_file
from xmodal_cli.runs import processes
from xmodal_cli.runs.fit import fit
from xmodal_cli.runs.folder import RunFolder, open_run
from xmodal_cli.runs.session import NOBODY, Watchers, announce, begin, carry_out, logged, seconds_per_step
from xmodal_cli.runs.training_settings import absolute, with_changes


@dataclass(frozen=True)
class TrainedRpn:
    """A network that proposes.

    Args:
        module: the network, in eval mode.
        description: what builds it again around its weights.
        run: where it was trained; None after a rehearsal.
    """

    module: Rpn
    description: Mapping[str, Any]
    run: RunFolder | None = None


@dataclass(frozen=True)
class _Plan:
    """Everything decided about a training."""

    settings: RpnSettings
    data: PreparedData
    samples: RpnSamples
    backbone: Backbone
    shape: RpnShape
    module: Rpn
    left_out: int

    def data_hash(self) -> str:
        """One hash of every image and of every box that is learned from."""
        boxes = hashlib.sha256(b"".join(self.samples.boxes[name].tobytes() for name in self.samples.ids))
        return f"{self.data.data_hash([self.settings.modality], self.samples.ids)}/{boxes.hexdigest()}"

    def description(self) -> dict[str, Any]:
        """What builds the network again around its weights."""
        plain, settings = self.backbone, self.settings
        saved = self.module.saved_state()
        return {
            "modality": settings.modality,
            "encoding": self.data.modality(settings.modality).to_dict(),
            "backbone": plain.to_dict(),
            "shape": self.shape.to_dict(),
            "missing_keys": [key for key in missing_keys(plain, [self.shape.layer]) if key not in saved],
            "size": asdict(self.samples.size),
            "device": settings.device,
            "threads": settings.threads,
            "learned_from": {
                "data": self.data.name,
                "split": settings.split,
                "images": len(self.samples.ids),
                "hash": self.data_hash(),
            },
        }


def train(
    settings: RpnSettings,
    *,
    runs: Path = Path("runs"),
    name: str | None = None,
    overwrite: bool = False,
    watchers: Watchers = NOBODY,
) -> TrainedRpn:
    """Train a region proposal network on a split's annotated boxes: one new run.

    Args:
        settings: what is trained, how, and how long.
        runs: the folder of all runs.
        name: the run's name; by default `<backbone>-<modality>-<date>-<4 hex>`.
        overwrite: whether a run of that name may be replaced.
        watchers: who is told what meanwhile.

    Raises:
        Interrupted: somebody stopped it; its state is saved.
        XmodalError: settings, data, weights or the training itself are at fault; see each subclass.
    """
    plan = _build(settings, watchers)
    default_name = f"{plan.backbone.name.replace('/', '-')}-{settings.modality}"
    config = {
        "command": COMMAND,
        "xmodal": xmodal_cli.__version__,
        "data": {"name": plan.data.name, "hash": plan.data_hash(), "images": len(plan.samples.ids)},
        "settings": plan.settings.to_dict(),
    }
    run = begin(runs, COMMAND, name, config, default_name=default_name, overwrite=overwrite)
    return _carry_out(plan, run, watchers)


def resume(
    path: Path, data: PreparedData, *, changes: Mapping[str, Any] | None = None, watchers: Watchers = NOBODY
) -> TrainedRpn:
    """Continue a run with its own settings, to the same end as if it had never stopped; a finished one is opened.

    Args:
        path: the run's folder.
        data: what it is trained on; to a finished run it does not matter.
        changes: settings given anew; only those that cannot change the network may differ.
        watchers: who is told what meanwhile.

    Raises:
        SettingsError: the folder is no run of this kind, or a setting that matters was changed.
        DataError: the data set is not the one the run began with.
        Interrupted: as `train`.
    """
    run = open_run(path, COMMAND)
    settings = with_changes(RpnSettings.from_dict(run.config()["settings"]), changes or {}, f"--init {run.path}")
    if run.finished:
        watchers.say(f"The run {run.path} is finished already: its network is used as it is.")
        return open_trained(run)
    plan = _build(replace(settings, data=str(data.root)), watchers)
    if run.config()["data"]["hash"] != plan.data_hash():
        raise DataError(
            f"The data set {data.root} is not as it was when the run {run.path} began.",
            "Restore it, or begin a new run without --resume.",
        )
    return _carry_out(plan, run.lock(), watchers)


@dataclass(frozen=True)
class Rehearsal:
    """What a training would be: the network after two steps, and the time that all steps would take."""

    trained: TrainedRpn
    iterations: int
    seconds: float


def rehearse(settings: RpnSettings, watchers: Watchers = NOBODY) -> Rehearsal:
    """Build everything, train two steps, write nothing."""
    plan = _build(settings, watchers)
    iterations = plan.settings.iterations or 0
    seconds = seconds_per_step(_task(plan), plan.samples, collate, plan.settings.fit_settings())
    return Rehearsal(TrainedRpn(plan.module.eval(), plan.description()), iterations, seconds * iterations)


def open_trained(run: RunFolder) -> TrainedRpn:
    """The network of a finished run.

    Raises:
        DataError: the run is not finished, or its files do not belong together.
    """
    description = run.card()["network"]
    return TrainedRpn(load_rpn(description, run.path / WEIGHTS)[0], description, run)


def _build(settings: RpnSettings, watchers: Watchers) -> _Plan:
    """Open the data, resolve the settings, build the network."""
    check(settings)
    data = PreparedData.open(settings.data)
    data.modality(settings.modality)
    annotations = data.annotations(settings.split)
    boxes = learnable(annotations, data)
    if not boxes:
        raise DataError(
            f"The split {settings.split!r} of {data.root} has no annotated boxes for the network to learn from.",
            "Boxes come from COCO files: xmodal prepare folder ... --annotations train=FILE; --method bottom-up "
            "needs none.",
        )
    start = start_network(settings, data, list(boxes), watchers.downloading, default_backbone=DEFAULT_BACKBONE)
    backbone = start.backbone
    layer = detection_layer(backbone, settings.layer)
    in_memory = fits_in_memory(data, list(boxes), [settings.modality])
    settings = resolve(settings, backbone, layer, in_memory=in_memory)
    size = ImageSize(settings.size, settings.longest)
    kept = in_memory and settings.workers == 0
    samples = RpnSamples(data, boxes, settings.modality, size, flip=settings.flip, in_memory=kept)
    where = grid(backbone, layer, size.of(common_size(data, samples.ids)))
    sizes_px = tuple(share * settings.size for share in settings.anchor_sizes)
    shape = RpnShape(layer, settings.reduced, sizes_px, settings.anchor_ratios, where.stride_yx, where.first_centre_yx)
    module = Rpn(backbone, shape, settings.seed)
    return _Plan(settings, data, samples, backbone, shape, module, len(annotations) - len(boxes))


def _carry_out(plan: _Plan, run: RunFolder, watchers: Watchers) -> TrainedRpn:
    """Train; whatever ends it early leaves a run that can be resumed."""
    again = f"prepare proposals {plan.data.root} --method rpn"  # what continues it, in the words of `run.resume()`
    with processes.first_decides(lambda: replace(run, command=again)) as locked:
        steps = carry_out(
            locked,
            plan.settings.threads or 1,
            lambda: _train_and_save(plan, locked, logged(watchers, locked)),
            lambda step: step,
        )
    if not run.finished:
        raise Interrupted(
            f"Interrupted at step {steps} of the network's training; its state is saved.",
            f"Go on with: {locked.resume()}",
        )
    return open_trained(run)


def _train_and_save(plan: _Plan, run: RunFolder, watchers: Watchers) -> int:
    """Train the network, save it; steps done."""
    began, settings = time.monotonic(), plan.settings
    decided = (
        f"{len(plan.samples.ids)} images, {plan.left_out} without objects left out; {settings.iterations} steps of "
        f"{settings.batch_size} images, short side {settings.size}; {settings.precision} on {settings.device}, "
        f"threads {settings.threads}, workers {settings.workers}"
    )
    announce(run, decided, settings, watchers)
    result = fit(_task(plan), plan.samples, collate, settings.fit_settings(), run, watchers.training)
    watchers.say(f"{'interrupted' if result.interrupted else 'trained'} at step {result.steps}")
    if not result.interrupted:
        _save(plan, run, result.steps, time.monotonic() - began)
    return result.steps


def _task(plan: _Plan) -> RpnTask:
    return RpnTask(plan.module, torch.device(plan.settings.device))


def _save(plan: _Plan, run: RunFolder, steps: int, seconds: float) -> None:
    """Write weights and card; the card last, which makes the run a finished one."""
    save_file(run.path / WEIGHTS, plan.module.saved_state())
    settings = plan.settings
    run.finish(
        {
            "what": f"{plan.backbone.name} region proposal network on {settings.modality}",
            "made": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "xmodal": xmodal_cli.__version__,
            "weights": {"file": WEIGHTS, "sha256": files.sha256(run.path / WEIGHTS)},
            "network": plan.description(),
            "data": {"name": plan.data.name, "path": absolute(str(plan.data.root)), "hash": plan.data_hash()},
            "settings": settings.to_dict(),
            "iterations": steps,
            "metrics": {},
            "seconds": seconds,
        }
    )
