"""The training of masks on a frozen detector: what it learns from, the task, and what it leaves.

`train_masks` begins a run, `resume` continues one; the frame around both is `runs/training.py`. `rehearse` builds
everything, runs two steps and writes nothing.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import xmodal_cli
from xmodal_cli.data.memory import MEMORY_SHARE, free_memory_bytes
from xmodal_cli.detect.branches import branch_file, save_branch
from xmodal_cli.detect.hypercolumns import COMMAND, WEIGHTS
from xmodal_cli.detect.mask_build import MaskPlan, build
from xmodal_cli.detect.mask_samples import MaskSamples, collate
from xmodal_cli.detect.mask_settings import MaskSettings
from xmodal_cli.detect.mask_task import MaskTask
from xmodal_cli.models.weights import save_file
from xmodal_cli.runs.fit import Task
from xmodal_cli.runs.folder import RunFolder
from xmodal_cli.runs.session import Watchers
from xmodal_cli.runs.training import Rehearsal, Training, rehearsal_on_images


def rehearse(settings: MaskSettings) -> Rehearsal:
    """Build everything, train two steps, write nothing."""
    plan = build(settings)
    return rehearsal_on_images(plan, _task(plan), collate)


def _name(plan: MaskPlan) -> str:
    return f"{plan.segmenter.backbone.name.replace('/', '-')}-{plan.settings.modality}"


def _facts(plan: MaskPlan) -> dict[str, Any]:
    return {
        "data": {"name": plan.data.name, "hash": plan.data_hash(), "images": len(plan.samples.ids)},
        "proposals": dict(plan.proposals.description),
    }


def _changed(plan: MaskPlan, run: RunFolder) -> str | None:
    if run.config()["data"]["hash"] == plan.data_hash():
        return None
    return (
        f"The data set {plan.data.root}, its proposals {plan.proposals.method}, or the detector {plan.settings.init} "
        f"have changed since the run {run.path} began."
    )


def _anew(run: RunFolder) -> str:
    return f"--task segmentation --init {saved_settings(run).init}"


def _decided(plan: MaskPlan) -> str:
    settings, samples = plan.settings, plan.samples
    boxes = int(samples.counts.sum())
    return (
        f"{len(samples.ids)} images with {boxes} boxes on objects, {len(plan.held_out)} held out; {settings.features}; "
        f"{settings.iterations} steps of {settings.batch_size} x {settings.boxes} boxes, short side "
        f"{samples.size.short}; {settings.precision} on {settings.device}, threads {settings.threads}, workers "
        f"{settings.workers}"
    )


def _prepare(plan: MaskPlan, run: RunFolder, watchers: Watchers) -> tuple[MaskTask, MaskSamples]:
    _keep_maps(plan, watchers)
    return _task(plan), plan.samples


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


def _save(plan: MaskPlan, run: RunFolder, task: Task, figures: Mapping[str, Any]) -> None:
    """Write the classifiers, the detector beside them, and the card; the card last, which makes the run finished."""
    segmenter, detector_card, data = plan.segmenter, plan.detector.card(), plan.data
    save_file(run.path / WEIGHTS, dict(segmenter.head.state_dict()))
    save_branch(run, 0, segmenter.branch.detector)
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
            "detector": {
                "run": str(plan.detector.path.resolve()),
                "iterations": detector_card.get("iterations"),
                "data": detector_card["data"],
            },
            "data": data.learned_from(plan.settings.split, len(plan.samples.ids), plan.data_hash()),
            "settings": plan.settings.to_dict(),
            **figures,
        }
    )


TRAINING = Training(
    command=COMMAND,
    settings=MaskSettings,
    build=lambda settings, downloading: build(settings),
    name=_name,
    facts=_facts,
    changed=_changed,
    decided=_decided,
    prepare=_prepare,
    collate=collate,
    save=_save,
    anew=_anew,
)
train_masks, resume, saved_settings = TRAINING.begin, TRAINING.resume, TRAINING.saved_settings
