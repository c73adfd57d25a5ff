"""The training of a region proposal network from start to end, and the finished network on disk.

`train` begins a run, `resume` continues one or opens a finished one; the frame around both is `runs/training.py`.
`rehearse` takes two steps and writes nothing. The weights lie in the run as `rpn.safetensors` under the plain network's
keys; the description that goes with them (the card's `network`, which proposals keep too) builds the network again.
"""

from __future__ import annotations

import datetime
import hashlib
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
from xmodal_cli.runs.fit import Task
from xmodal_cli.runs.folder import RunFolder, open_run
from xmodal_cli.runs.session import NOBODY, Watchers
from xmodal_cli.runs.training import Training, TrainingResult, seconds_per_step
from xmodal_cli.runs.training_settings import absolute
from xmodal_cli.web.fetch import Watcher


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

    @property
    def device(self) -> torch.device:
        """Where the network learns."""
        return torch.device(self.settings.device)

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
    """Train a region proposal network on a split's annotated boxes: one new run, as `Training.begin` makes it.

    Raises:
        Interrupted: somebody stopped it; its state is saved.
        XmodalError: settings, data, weights or the training itself are at fault; see each subclass.
    """
    return _trained(TRAINING.begin(settings, runs=runs, name=name, overwrite=overwrite, watchers=watchers))


def resume(
    path: Path, data: PreparedData, *, changes: Mapping[str, Any] | None = None, watchers: Watchers = NOBODY
) -> TrainedRpn:
    """Continue a run, as `Training.resume` does, wherever its data set lies now; a finished one is opened.

    Raises:
        Interrupted: as `train`.
        XmodalError: as `Training.resume`.
    """
    here = replace(TRAINING, build=lambda settings, watch: _build(replace(settings, data=str(data.root)), watch))
    return _trained(here.resume(path, changes=changes, watchers=watchers))


def _trained(result: TrainingResult) -> TrainedRpn:
    """The network that a training left, if it came to its end."""
    run = open_run(result.run, COMMAND)
    if not result.finished:
        raise Interrupted(
            f"Interrupted at step {result.iterations} of the network's training; its state is saved.",
            f"Go on with: {run.resume()}",
        )
    return open_trained(run)


@dataclass(frozen=True)
class Rehearsal:
    """What a training would be: the network after two steps, and the time that all steps would take."""

    trained: TrainedRpn
    iterations: int
    seconds: float


def rehearse(settings: RpnSettings, watchers: Watchers = NOBODY) -> Rehearsal:
    """Build everything, train two steps, write nothing."""
    plan = _build(settings, watchers.downloading)
    iterations = plan.settings.iterations or 0
    task = RpnTask(plan.module, plan.device)
    seconds = seconds_per_step(task, plan.samples, collate, plan.settings.fit_settings())
    return Rehearsal(TrainedRpn(plan.module.eval(), plan.description()), iterations, seconds * iterations)


def open_trained(run: RunFolder) -> TrainedRpn:
    """The network of a finished run.

    Raises:
        DataError: the run is not finished, or its files do not belong together.
    """
    description = run.card()["network"]
    return TrainedRpn(load_rpn(description, run.path / WEIGHTS)[0], description, run)


def _build(settings: RpnSettings, downloading: Watcher) -> _Plan:
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
    start = start_network(settings, data, list(boxes), downloading, default_backbone=DEFAULT_BACKBONE)
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


def _name(plan: _Plan) -> str:
    return f"{plan.backbone.name.replace('/', '-')}-{plan.settings.modality}"


def _facts(plan: _Plan) -> dict[str, Any]:
    return {"data": {"name": plan.data.name, "hash": plan.data_hash(), "images": len(plan.samples.ids)}}


def _changed(plan: _Plan, run: RunFolder) -> str | None:
    if run.config()["data"]["hash"] == plan.data_hash():
        return None
    return f"The data set {plan.data.root} is not as it was when the run {run.path} began."


def _decided(plan: _Plan) -> str:
    settings = plan.settings
    return (
        f"{len(plan.samples.ids)} images, {plan.left_out} without objects left out; {settings.iterations} steps of "
        f"{settings.batch_size} images, short side {settings.size}; {settings.precision} on {settings.device}, "
        f"threads {settings.threads}, workers {settings.workers}"
    )


def _prepare(plan: _Plan, run: RunFolder, watchers: Watchers) -> tuple[RpnTask, RpnSamples]:
    return RpnTask(plan.module, plan.device), plan.samples


def _save(plan: _Plan, run: RunFolder, task: Task, figures: Mapping[str, Any]) -> None:
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
            **figures,
        }
    )


TRAINING = Training(
    command=COMMAND,
    settings=RpnSettings,
    build=_build,
    name=_name,
    facts=_facts,
    changed=_changed,
    decided=_decided,
    prepare=_prepare,
    collate=collate,
    save=_save,
)
