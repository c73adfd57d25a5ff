"""A detector's training: what it learns from, the task, and what it leaves.

`finetune` begins a run, `resume` continues one; the frame around both is `runs/training.py`. `rehearse` builds
everything, runs two steps and writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from xmodal_cli.data.memory import MEMORY_SHARE, free_memory_bytes
from xmodal_cli.detect.branches import COMMAND, branch_card, detector_card, save_branch
from xmodal_cli.detect.build import Plan, build
from xmodal_cli.detect.predict import detect
from xmodal_cli.detect.samples import DetectionSamples, collate
from xmodal_cli.detect.scoring import objects_in
from xmodal_cli.detect.settings import FinetuneSettings
from xmodal_cli.detect.task import FinetuneTask
from xmodal_cli.metrics.average_precision import voc_ap
from xmodal_cli.models.detector import FusedDetector
from xmodal_cli.runs.device import autocast
from xmodal_cli.runs.fit import Task
from xmodal_cli.runs.folder import RunFolder
from xmodal_cli.runs.session import Watchers
from xmodal_cli.runs.training import Rehearsal, Training, rehearsal_on_images


def rehearse(settings: FinetuneSettings) -> Rehearsal:
    """Build everything, train two steps, write nothing."""
    plan = build(settings)
    return rehearsal_on_images(plan, _task(plan), collate)


def _name(plan: Plan) -> str:
    seen = "+".join(start.modality for start in plan.starts)
    return f"{plan.starts[0].backbone.name.replace('/', '-')}-{seen}"


def _facts(plan: Plan) -> dict[str, Any]:
    return {
        "data": {"name": plan.data.name, "hash": plan.data_hash(), "images": len(plan.samples.ids)},
        "proposals": dict(plan.proposals.description),
    }


def _changed(plan: Plan, run: RunFolder) -> str | None:
    if run.config()["data"]["hash"] == plan.data_hash():
        return None
    return (
        f"The data set {plan.data.root}, or its proposals {plan.proposals.method}, have changed since the run "
        f"{run.path} began."
    )


def _decided(plan: Plan) -> str:
    settings, samples = plan.settings, plan.samples
    left_out = "".join(f", {count} {reason} left out" for reason, count in plan.left_out.items() if count)
    return (
        f"{len(samples.ids)} images{left_out}, {len(plan.held_out)} held out; {settings.iterations} steps of "
        f"{settings.batch_size} images with {settings.regions} regions, short side {settings.size}; proposals "
        f"{plan.proposals.method}; {settings.precision} on {settings.device}, threads {settings.threads}, workers "
        f"{settings.workers}"
    )


def _prepare(plan: Plan, run: RunFolder, watchers: Watchers) -> tuple[FinetuneTask, DetectionSamples]:
    task = _task(plan)
    _keep_maps(plan, watchers)
    return task, plan.samples


def _task(plan: Plan) -> FinetuneTask:
    """The task of a plan."""
    score = (lambda: _score(plan)) if plan.held_out else None
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


def _save(plan: Plan, run: RunFolder, task: Task, figures: Mapping[str, Any]) -> None:
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
            data=data.learned_from(plan.settings.split, len(plan.samples.ids), plan.data_hash()),
            settings=plan.settings.to_dict(),
            **figures,
        )
    )


TRAINING = Training(
    command=COMMAND,
    settings=FinetuneSettings,
    build=build,
    name=_name,
    facts=_facts,
    changed=_changed,
    decided=_decided,
    prepare=_prepare,
    collate=collate,
    save=_save,
)
finetune, resume, saved_settings = TRAINING.begin, TRAINING.resume, TRAINING.saved_settings
