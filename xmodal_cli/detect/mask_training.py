"""The training of masks on a frozen detector, from start to end.

Read it top to bottom: `train_masks` begins a run, `resume` continues one, both `_train`; `rehearse` builds everything,
runs two steps and writes nothing.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import xmodal_cli
from xmodal_cli.data.memory import MEMORY_SHARE, free_memory_bytes
from xmodal_cli.detect.branches import branch_file
from xmodal_cli.detect.finetune import FinetuneResult, Rehearsal
from xmodal_cli.detect.hypercolumns import COMMAND, WEIGHTS
from xmodal_cli.detect.mask_build import MaskPlan, build
from xmodal_cli.detect.mask_samples import collate
from xmodal_cli.detect.mask_settings import MaskSettings
from xmodal_cli.detect.mask_task import MaskTask
from xmodal_cli.errors import DataError
from xmodal_cli.models.weights import load_file, save_file
from xmodal_cli.runs import folder as run_folder
from xmodal_cli.runs import processes
from xmodal_cli.runs.device import memory_bytes
from xmodal_cli.runs.fit import fit
from xmodal_cli.runs.folder import RunFolder
from xmodal_cli.runs.session import NOBODY, Watchers, announce, begin, carry_out, logged, seconds_per_step
from xmodal_cli.runs.training_settings import with_changes


def train_masks(
    settings: MaskSettings,
    *,
    runs: Path = Path("runs"),
    name: str | None = None,
    overwrite: bool = False,
    watchers: Watchers = NOBODY,
) -> FinetuneResult:
    """Teach a trained detector masks: one new run.

    Args:
        settings: what is trained, how, and how long.
        runs: the folder of all runs.
        name: the run's name; by default `<backbone>-<modality>-<date>-<4 hex>`.
        overwrite: whether a run of that name may be replaced.
        watchers: who is told what meanwhile.

    Raises:
        XmodalError: settings, data, the detector or the training itself are at fault; see each subclass.
    """
    plan = build(settings)
    default_name = f"{plan.segmenter.backbone.name.replace('/', '-')}-{plan.settings.modality}"

    def first() -> RunFolder:
        config = {**_config(plan), "asked": settings.asked()}
        return begin(runs, COMMAND, name, config, default_name=default_name, overwrite=overwrite)

    with processes.together(plan.device), processes.first_decides(first) as run:
        return _train(plan, run, watchers)


def resume(path: Path, *, changes: Mapping[str, Any] | None = None, watchers: Watchers = NOBODY) -> FinetuneResult:
    """Continue a run with its own settings, to the same end as if it had never stopped; a finished one is left alone.

    Args:
        path: the run's folder.
        changes: settings given anew; only those that cannot change the masks may differ.
        watchers: who is told what meanwhile.

    Raises:
        SettingsError: the folder is no run of masks, or a setting that matters was changed.
        DataError: the data set, its proposals or the detector are not those the run began with.
    """
    run = run_folder.open_run(path, COMMAND)
    settings = with_changes(
        saved_settings(run), changes or {}, f"--task segmentation --init {saved_settings(run).init}"
    )
    if run.finished:
        card = run.card()
        watchers.say(f"The run {run.path} is finished already; there is nothing left to do.")
        return FinetuneResult(run.path, True, card["iterations"], card["metrics"])
    plan = build(settings)
    if run.config()["data"]["hash"] != plan.data_hash():
        raise DataError(
            f"The data set {plan.data.root}, its proposals {plan.proposals.method}, or the detector {settings.init} "
            f"have changed since the run {run.path} began.",
            "Restore them, or begin a new run without --resume.",
        )
    with processes.together(plan.device), processes.first_decides(run.lock):
        return _train(plan, run, watchers)


def rehearse(settings: MaskSettings) -> Rehearsal:
    """Build everything, train two steps, write nothing."""
    plan = build(settings)
    seconds = seconds_per_step(_task(plan), plan.samples, collate, plan.settings.fit_settings())
    memory = memory_bytes(plan.device)
    return Rehearsal(plan.settings, len(plan.samples.ids), len(plan.held_out), plan.left_out, seconds, memory)


def saved_settings(run: RunFolder) -> MaskSettings:
    """The settings a run was started with, every `auto` resolved."""
    return MaskSettings.from_dict(run.config()["settings"])


def _config(plan: MaskPlan) -> dict[str, Any]:
    """What `config.yaml` holds: enough to continue the run, and to know that its data has not changed."""
    return {
        "command": COMMAND,
        "xmodal": xmodal_cli.__version__,
        "data": {"name": plan.data.name, "hash": plan.data_hash(), "images": len(plan.samples.ids)},
        "proposals": dict(plan.proposals.description),
        "settings": plan.settings.to_dict(),
    }


def _train(plan: MaskPlan, run: RunFolder, watchers: Watchers) -> FinetuneResult:
    """Train; whatever ends it early leaves a run that can be resumed."""
    return carry_out(
        run,
        plan.settings.threads or 1,
        lambda: _train_and_save(plan, run, logged(watchers, run)),
        lambda step: FinetuneResult(run.path, False, step),
    )


def _train_and_save(plan: MaskPlan, run: RunFolder, watchers: Watchers) -> FinetuneResult:
    """Train the classifiers, save them with the detector."""
    began = time.monotonic()
    announce(run, _decided(plan), plan.settings, watchers)
    _keep_maps(plan, watchers)
    settings = replace(plan.settings.fit_settings(), device=str(plan.device))
    result = fit(_task(plan), plan.samples, collate, settings, run, watchers.training)
    watchers.say(f"{'interrupted' if result.interrupted else 'trained'} at step {result.steps}")
    if processes.is_first() and not result.interrupted:
        _save(plan, run, iterations=result.steps, metrics=result.metrics, seconds=time.monotonic() - began)
    return FinetuneResult(run.path, not result.interrupted, result.steps, result.metrics, result.seconds)


def _decided(plan: MaskPlan) -> str:
    """What every `auto` became, in one line."""
    settings, samples = plan.settings, plan.samples
    boxes = int(samples.counts.sum())
    return (
        f"{len(samples.ids)} images with {boxes} boxes on objects, {len(plan.held_out)} held out; {settings.features}; "
        f"{settings.iterations} steps of {settings.batch_size} x {settings.boxes} boxes, short side "
        f"{samples.size.short}; {settings.precision} on {settings.device}, threads {settings.threads}, workers "
        f"{settings.workers}"
    )


def _task(plan: MaskPlan) -> MaskTask:
    settings = plan.settings
    return MaskTask(plan.segmenter, plan.device, settings.precision, settings.full_weight_px, plan.watched())


def _keep_maps(plan: MaskPlan, watchers: Watchers) -> None:
    """Compute the frozen maps of every image once, if all of them fit in memory."""
    samples, count = plan.samples, len(plan.samples)
    if plan.settings.workers:
        return
    segmenter = plan.segmenter.to(plan.device)
    for number, name in enumerate(samples.ids):
        maps = segmenter.maps(samples.image(name).to(plan.device), plan.settings.precision)
        maps = [each.cpu().contiguous() for each in maps]
        if number == 0 and count * sum(each.nbytes for each in maps) > MEMORY_SHARE * free_memory_bytes():
            watchers.say("frozen maps do not fit in memory: they are computed in every step")
            return
        samples.maps[name] = maps
        watchers.filling(number + 1, count)


def _save(plan: MaskPlan, run: RunFolder, **figures: Any) -> None:
    """Write the classifiers, the detector beside them, and the card; the card last, which makes the run finished."""
    segmenter, detector_card, data = plan.segmenter, plan.detector.card(), plan.data
    save_file(run.path / WEIGHTS, dict(segmenter.head.state_dict()))
    save_file(run.path / branch_file(0), load_file(plan.detector.path / plan.described["file"]))
    kept = ("classes", "size", "cutoffs", "proposals")
    run.finish(
        {
            "what": f"{segmenter.backbone.name} masks of {len(data.classes)} classes on {plan.settings.modality}, "
            f"{segmenter.head.shape.features}",
            "made": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "xmodal": xmodal_cli.__version__,
            **{key: detector_card[key] for key in kept},
            "branches": [{**plan.described, "file": branch_file(0)}],
            "masks": {**segmenter.head.shape.to_dict(), "file": WEIGHTS},
            "detector": {"run": str(plan.detector.path.resolve()), "iterations": detector_card.get("iterations")},
            "data": {
                "name": data.name,
                "path": str(data.root.resolve()),
                "split": plan.settings.split,
                "images": len(plan.samples.ids),
                "hash": plan.data_hash(),
            },
            "settings": plan.settings.to_dict(),
            **figures,
        }
    )
