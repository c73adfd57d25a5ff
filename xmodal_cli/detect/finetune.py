"""A detector's training from start to end.

Read it top to bottom: `finetune` begins a run, `resume` continues one, both `_train`; `rehearse` builds everything,
runs two steps and writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

import xmodal_cli
from xmodal_cli.data.memory import MEMORY_SHARE, free_memory_bytes
from xmodal_cli.detect.branches import COMMAND, branch_card, detector_card, save_branch
from xmodal_cli.detect.build import Plan, build
from xmodal_cli.detect.mask_settings import MaskSettings
from xmodal_cli.detect.predict import detect
from xmodal_cli.detect.samples import collate
from xmodal_cli.detect.scoring import objects_in
from xmodal_cli.detect.settings import FinetuneSettings
from xmodal_cli.detect.task import FinetuneTask
from xmodal_cli.errors import DataError
from xmodal_cli.metrics.average_precision import voc_ap
from xmodal_cli.models.detector import FusedDetector
from xmodal_cli.runs import folder as run_folder
from xmodal_cli.runs import processes
from xmodal_cli.runs.device import autocast, memory_bytes
from xmodal_cli.runs.fit import fit
from xmodal_cli.runs.folder import RunFolder
from xmodal_cli.runs.session import NOBODY, Watchers, announce, begin, carry_out, logged, seconds_per_step
from xmodal_cli.runs.training_settings import with_changes


@dataclass(frozen=True)
class FinetuneResult:
    """What a training gave.

    Args:
        run: its folder.
        finished: False when it was interrupted; its state is saved and can be resumed.
        iterations: steps done in all.
        metrics: figures on held-out images, `mAP` in percent among them; empty when nothing was held out.
        seconds: wall time of the training steps that this process did.
    """

    run: Path
    finished: bool
    iterations: int
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {**asdict(self), "run": str(self.run)}


def finetune(
    settings: FinetuneSettings,
    *,
    runs: Path = Path("runs"),
    name: str | None = None,
    overwrite: bool = False,
    watchers: Watchers = NOBODY,
) -> FinetuneResult:
    """Train a detector on annotated images: one new run.

    Args:
        settings: what is trained, how, and how long.
        runs: the folder of all runs.
        name: the run's name; by default `<backbone>-<modality>-<date>-<4 hex>`.
        overwrite: whether a run of that name may be replaced.
        watchers: who is told what meanwhile.

    Raises:
        XmodalError: settings, data, weights or the training itself are at fault; see each subclass.
    """
    plan = build(settings, watchers.downloading)
    seen = "+".join(start.modality for start in plan.starts)
    default_name = f"{plan.starts[0].backbone.name.replace('/', '-')}-{seen}"

    def first() -> RunFolder:
        config = {**_config(plan), "asked": settings.asked()}
        return begin(runs, COMMAND, name, config, default_name=default_name, overwrite=overwrite)

    with processes.together(plan.device), processes.first_decides(first) as run:
        return _train(plan, run, watchers)


def resume(path: Path, *, changes: Mapping[str, Any] | None = None, watchers: Watchers = NOBODY) -> FinetuneResult:
    """Continue a run with its own settings, to the same end as if it had never stopped; a finished one is left alone.

    Args:
        path: the run's folder.
        changes: settings given anew; only those that cannot change the detector may differ.
        watchers: who is told what meanwhile.

    Raises:
        SettingsError: the folder is no run of `finetune`, or a setting that matters was changed.
        DataError: the data set or its proposals are not those the run began with.
    """
    run = run_folder.open_run(path, COMMAND)
    settings = with_changes(saved_settings(run), changes or {}, f"--init {run.path}")
    if run.finished:
        card = run.card()
        watchers.say(f"The run {run.path} is finished already; there is nothing left to do.")
        return FinetuneResult(run.path, True, card["iterations"], card["metrics"])
    plan = build(settings, watchers.downloading)
    if run.config()["data"]["hash"] != plan.data_hash():
        raise DataError(
            f"The data set {plan.data.root}, or its proposals {plan.proposals.method}, have changed since the run "
            f"{run.path} began.",
            "Restore them, or begin a new run without --resume.",
        )
    with processes.together(plan.device), processes.first_decides(run.lock):
        return _train(plan, run, watchers)


@dataclass(frozen=True)
class Rehearsal:
    """What a run would be, from two real steps.

    Args:
        settings: every setting, resolved.
        images, held_out: how many images are learned from and watched.
        left_out: how many are not, by reason.
        seconds_per_step: of the second step, the first warms up.
        memory_bytes: peak memory so far.
    """

    settings: FinetuneSettings | MaskSettings
    images: int
    held_out: int
    left_out: dict[str, int]
    seconds_per_step: float
    memory_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {**asdict(self), "settings": self.settings.to_dict(), "seconds": self.seconds}

    @property
    def seconds(self) -> float:
        """Estimated time of the whole training."""
        return self.seconds_per_step * (self.settings.iterations or 0)


def rehearse(settings: FinetuneSettings) -> Rehearsal:
    """Build everything, train two steps, write nothing."""
    plan = build(settings)
    task = _task(plan, watched=False)
    seconds = seconds_per_step(task, plan.samples, collate, plan.settings.fit_settings())
    return Rehearsal(
        plan.settings,
        len(plan.samples.ids),
        len(plan.held_out),
        plan.left_out,
        seconds,
        memory_bytes(plan.device),
    )


def saved_settings(run: RunFolder) -> FinetuneSettings:
    """The settings a run was started with, every `auto` resolved."""
    return FinetuneSettings.from_dict(run.config()["settings"])


def _config(plan: Plan) -> dict[str, Any]:
    """What `config.yaml` holds: enough to continue the run, and to know that its data has not changed."""
    return {
        "command": COMMAND,
        "xmodal": xmodal_cli.__version__,
        "data": {"name": plan.data.name, "hash": plan.data_hash(), "images": len(plan.samples.ids)},
        "proposals": dict(plan.proposals.description),
        "settings": plan.settings.to_dict(),
    }


def _train(plan: Plan, run: RunFolder, watchers: Watchers) -> FinetuneResult:
    """Train; whatever ends it early leaves a run that can be resumed."""
    return carry_out(
        run,
        plan.settings.threads or 1,
        lambda: _train_and_save(plan, run, logged(watchers, run)),
        lambda step: FinetuneResult(run.path, False, step),
    )


def _train_and_save(plan: Plan, run: RunFolder, watchers: Watchers) -> FinetuneResult:
    """Train the detector, save it."""
    began = time.monotonic()
    announce(run, _decided(plan), plan.settings, watchers)
    task = _task(plan)
    _keep_maps(plan, watchers)
    settings = replace(plan.settings.fit_settings(), device=str(plan.device))
    result = fit(task, plan.samples, collate, settings, run, watchers.training)
    watchers.say(f"{'interrupted' if result.interrupted else 'trained'} at step {result.steps}")
    if processes.is_first() and not result.interrupted:
        _save(plan, run, iterations=result.steps, metrics=result.metrics, seconds=time.monotonic() - began)
    return FinetuneResult(run.path, not result.interrupted, result.steps, result.metrics, result.seconds)


def _decided(plan: Plan) -> str:
    """What every `auto` became, in one line."""
    settings, samples = plan.settings, plan.samples
    left_out = "".join(f", {count} {reason} left out" for reason, count in plan.left_out.items() if count)
    return (
        f"{len(samples.ids)} images{left_out}, {len(plan.held_out)} held out; {settings.iterations} steps of "
        f"{settings.batch_size} images with {settings.regions} regions, short side {settings.size}; proposals "
        f"{plan.proposals.method}; {settings.precision} on {settings.device}, threads {settings.threads}, workers "
        f"{settings.workers}"
    )


def _task(plan: Plan, *, watched: bool = True) -> FinetuneTask:
    """The task of a plan."""
    score = (lambda: _score(plan)) if watched and plan.held_out else None
    settings = plan.settings
    return FinetuneTask(FusedDetector(plan.detectors), plan.device, settings.class_loss, settings.box_loss, score)


def _score(plan: Plan) -> dict[str, float]:
    """AP on the held-out images, in percent."""
    found = detect(plan.branches(), plan.data, plan.held_out, plan.proposals, plan.cutoffs, device=plan.device)
    annotations = plan.data.annotations(plan.settings.split)
    scored = voc_ap(found, objects_in(annotations[name] for name in plan.held_out), plan.data.classes)
    return {"mAP": scored.mAP}


@torch.no_grad()
def _keep_maps(plan: Plan, watchers: Watchers) -> None:
    """Where no trunk learns, compute the map of every image once, if all of them fit in memory."""
    if plan.settings.workers or not all(detector.trunk_is_frozen for detector in plan.detectors):
        return
    samples, count = plan.samples, len(plan.samples)
    for index in range(count):
        maps = []
        for start, detector in zip(plan.starts, plan.detectors, strict=True):
            detector.eval().to(plan.device)
            image = samples.image(start.modality, index)[None].to(plan.device)
            with autocast(plan.device, plan.settings.precision):
                maps.append(detector.maps(detector.input.normalise(image))[0].float().cpu())
        if index == 0 and count * sum(each.nbytes for each in maps) > MEMORY_SHARE * free_memory_bytes():
            watchers.say("frozen maps do not fit in memory: they are computed in every step")
            return
        samples.maps[index] = maps
        watchers.filling(index + 1, count)


def _save(plan: Plan, run: RunFolder, **figures: Any) -> None:
    """Write the detectors and the card; the card last, which makes the run a finished one."""
    branches = []
    for number, (start, shape, detector) in enumerate(zip(plan.starts, plan.shapes, plan.detectors, strict=True)):
        save_branch(run, number, detector)
        encoding = plan.data.modality(start.modality).to_dict()
        branches.append(branch_card(number, start.backbone, shape, detector, start.modality, encoding))
    data = plan.data
    run.finish(
        detector_card(
            branches,
            data.classes,
            plan.cutoffs,
            plan.size,
            {"method": plan.proposals.method, "description": dict(plan.proposals.description)},
            data={
                "name": data.name,
                "path": str(data.root.resolve()),
                "split": plan.settings.split,
                "images": len(plan.samples.ids),
                "hash": plan.data_hash(),
            },
            settings=plan.settings.to_dict(),
            **figures,
        )
    )
