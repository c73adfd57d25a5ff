"""A classifier's training: what it learns from, the task, and what it leaves.

`classify` begins a run, `resume` continues one; the frame around both is `runs/training.py`. `rehearse` builds
everything, runs two steps and writes nothing. A finished run's network is the start of a detector, as a student's is:
`finetune --init RUN`.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import numpy as np

import xmodal_cli
from xmodal_cli.classify.build import Plan, build, numbered
from xmodal_cli.classify.settings import ClassificationSettings
from xmodal_cli.classify.task import ClassificationTask, LabelledImages, class_probabilities
from xmodal_cli.data.labels import clips
from xmodal_cli.data.pairs import collate
from xmodal_cli.detect.start import CLASSIFICATION as COMMAND
from xmodal_cli.metrics.classification import clip_accuracy, image_accuracy
from xmodal_cli.models.layers import missing_keys
from xmodal_cli.models.weights import save_file
from xmodal_cli.runs.fit import Task
from xmodal_cli.runs.folder import RunFolder
from xmodal_cli.runs.session import Watchers
from xmodal_cli.runs.training import Rehearsal, Training, rehearsal_on_images

WEIGHTS = "classifier.safetensors"


def rehearse(settings: ClassificationSettings) -> Rehearsal:
    """Build everything, train two steps, write nothing."""
    plan = build(settings)
    return rehearsal_on_images(plan, _task(plan), collate)


def _name(plan: Plan) -> str:
    return f"{plan.backbone.name.replace('/', '-')}-{plan.settings.modality}"


def _facts(plan: Plan) -> dict[str, Any]:
    return {"data": {"name": plan.data.name, "hash": plan.data_hash(), "images": len(plan.samples.ids)}}


def _changed(plan: Plan, run: RunFolder) -> str | None:
    if run.config()["data"]["hash"] == plan.data_hash():
        return None
    return f"The data set {plan.data.root}, or the classes of its images, have changed since the run {run.path} began."


def _decided(plan: Plan) -> str:
    settings, (height, width) = plan.settings, plan.size_hw
    left_out = "".join(f", {count} {reason} left out" for reason, count in plan.left_out.items() if count)
    unlearned = plan.unlearned()
    unseen = f", none of {', '.join(unlearned)}" if unlearned else ""
    return (
        f"{len(plan.samples.ids)} images of {len(plan.labels.classes)} classes{unseen}{left_out}, "
        f"{len(plan.held_out)} held out; classes of {plan.labels.source}; {settings.iterations} steps of "
        f"{settings.batch_size} at {height}x{width}, layer {settings.layer}; {settings.precision} on "
        f"{settings.device}, threads {settings.threads}, workers {settings.workers}"
    )


def _prepare(plan: Plan, run: RunFolder, watchers: Watchers) -> tuple[ClassificationTask, LabelledImages]:
    return _task(plan), plan.samples


def _task(plan: Plan) -> ClassificationTask:
    score = (lambda: _score(plan)) if plan.held_out else None
    return ClassificationTask(plan.module, plan.device, plan.settings.modality, score)


def _score(plan: Plan) -> dict[str, float]:
    """Accuracy on the held-out images, and on their clips where they have any, in percent."""
    ids, classes = plan.held_out, plan.labels.classes
    found = class_probabilities(
        plan.module,
        plan.data,
        ids,
        plan.settings.modality,
        plan.size_hw,
        device=plan.device,
        precision=plan.settings.precision,
    )
    labels, groups = np.array([plan.labels.labels[name] for name in ids]), numbered(clips(plan.data, ids).values())
    of_clips = clip_accuracy(found, labels, groups, classes)
    figures = {"accuracy": image_accuracy(found, labels, groups, classes).accuracy}
    return figures if of_clips is None else {**figures, "clip_accuracy": of_clips.accuracy}


def _save(plan: Plan, run: RunFolder, task: Task, figures: Mapping[str, Any]) -> None:
    """Write weights and card; the card last, which makes the run a finished one."""
    save_file(run.path / WEIGHTS, plan.module.saved_state())
    data, settings = plan.data, plan.settings
    run.finish(
        {
            "what": f"{plan.backbone.name} classifier of {len(plan.labels.classes)} classes on {settings.modality}",
            "made": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "xmodal": xmodal_cli.__version__,
            "classes": list(plan.labels.classes),
            "modality": settings.modality,
            "encoding": data.modality(settings.modality).to_dict(),
            "backbone": plan.backbone.to_dict(),
            "layer": settings.layer,
            "file": WEIGHTS,
            "missing_keys": missing_keys(plan.backbone, [plan.module.layer]),
            "size_hw": list(plan.size_hw),
            "data": data.learned_from(settings.split, len(plan.samples.ids), plan.data_hash()),
            "settings": settings.to_dict(),
            **figures,
        }
    )


TRAINING = Training(
    command=COMMAND,
    settings=ClassificationSettings,
    build=build,
    name=_name,
    facts=_facts,
    changed=_changed,
    decided=_decided,
    prepare=_prepare,
    collate=collate,
    save=_save,
    anew=lambda run: f"--task classification --init {run.path}",
)
classify, resume, saved_settings = TRAINING.begin, TRAINING.resume, TRAINING.saved_settings
