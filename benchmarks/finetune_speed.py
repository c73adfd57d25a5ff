"""Training throughput beside torchvision's own detection loop: same backbone, regions, head, optimiser and image size.

    OMP_NUM_THREADS=1 python benchmarks/finetune_speed.py --data data/nyud2 --proposals bottom-up --threads 1

The reference is `torchvision.models.detection.roi_heads.RoIHeads` (RoIAlign 7x7, TwoMLPHead, FastRCNNPredictor) on the
same layers of squeezenet1_1, driven as in torchvision's references/detection/engine.py. Its images and proposals lie in
memory at the network's size; it draws regions as it always does, from all proposals in every step. Ours runs in the
steps of `runs/fit.py`, in float32: once with the reference's operators and widths, once more with images read from disk
by one worker, and with the preset `small`. Blocks of steps of all four alternate, so that a machine that grows slower
or faster does so for all. The processor's time is printed beside the clock's: it does not notice other programs.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from xmodal_cli.detect.build import Plan, build
from xmodal_cli.detect.finetune import _task
from xmodal_cli.detect.samples import collate
from xmodal_cli.detect.settings import FinetuneSettings
from xmodal_cli.runs.fit import _batches, _Loop, build_optimiser
from xmodal_cli.runs.folder import RunFolder

POOL, WIDTH = 7, 1024  # of torchvision's Fast R-CNN head
REGIONS, FOREGROUND = 64, 0.25
LR, MOMENTUM, DECAY = 1e-3, 0.9, 5e-4
NEVER = 10**9  # steps: no checkpoint, report or evaluation in between
UNTIMED = 3  # first steps of a block: a worker reads two batches ahead while the others have their turn
SHARED: dict[str, Any] = {
    "backbone": "squeezenet1_1",
    "optimiser": "sgd",
    "momentum": MOMENTUM,
    "weight_decay": DECAY,
    "lr": LR,
    "schedule": "constant",
    "warmup": 0,
    "regions": REGIONS,
    "foreground": FOREGROUND,
    "flip": False,
    "input": "weights",
    "precision": "fp32",
}
AS_REFERENCE: dict[str, Any] = {
    "pooling": "align",
    "pool_size": POOL,
    "reduced": 0,
    "head": [WIDTH, WIDTH],
    "dropout": 0.0,
}
Step = Callable[[], None]


@dataclass
class Subject:
    """What is timed: a step, and the milliseconds of each of its blocks by clock and by processor."""

    name: str
    step: Step
    clock_ms: list[float] = field(default_factory=list)
    processor_ms: list[float] = field(default_factory=list)

    def block(self, steps: int) -> None:
        """Time so many steps, after a few that are not timed."""
        for _ in range(UNTIMED):
            self.step()
        clock, processor = time.perf_counter(), time.process_time()
        for _ in range(steps):
            self.step()
        self.clock_ms.append(1000 * (time.perf_counter() - clock) / steps)
        self.processor_ms.append(1000 * (time.process_time() - processor) / steps)


class Reference(nn.Module):
    """torchvision's Fast R-CNN with given proposals."""

    def __init__(self, layer: str, plan: Plan) -> None:
        super().__init__()
        last = int(layer.partition(".")[2] or NEVER) + 1
        self.trunk = torchvision.models.squeezenet1_1().features[:last]
        spec, size = plan.detectors[0].input, plan.settings.size
        self.transform = GeneralizedRCNNTransform(size, NEVER, list(spec.mean), list(spec.std), size_divisible=1)
        with torch.no_grad():
            channels = self.trunk(torch.zeros(1, 3, size, size)).shape[1]
        self.heads = RoIHeads(
            MultiScaleRoIAlign(["0"], output_size=POOL, sampling_ratio=2),
            TwoMLPHead(channels * POOL**2, WIDTH),
            FastRCNNPredictor(WIDTH, len(plan.data.classes) + 1),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=REGIONS,
            positive_fraction=FOREGROUND,
            bbox_reg_weights=None,
            score_thresh=0.05,
            nms_thresh=0.5,
            detections_per_img=100,
        )

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """The losses of images `(3, h, w)` in 0..1 with boxes, labels and proposals of each."""
        sizes = [(image.shape[1], image.shape[2]) for image in images]
        batch = self.transform.batch_images([self.transform.normalize(image) for image in images], 1)
        maps = OrderedDict([("0", self.trunk(batch))])
        losses: dict[str, Tensor] = self.heads(maps, [target["proposals"] for target in targets], sizes, targets)[1]
        return losses


def reference_step(layer: str, plan: Plan, device: torch.device) -> Step:
    """A step of references/detection/engine.py."""
    model = Reference(layer, plan).to(device).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    scenes = itertools.cycle([scene(plan, index) for index in range(len(plan.samples))])

    def step() -> None:
        chosen = [next(scenes) for _ in range(plan.settings.batch_size)]
        images = [(image.float() / 255).to(device) for image, _ in chosen]
        targets = [{name: value.to(device) for name, value in target.items()} for _, target in chosen]
        losses: Any = sum(model(images, targets).values())
        if not math.isfinite(losses.item()):
            raise SystemExit("the reference's loss is not finite")
        optimiser.zero_grad()
        losses.backward()
        optimiser.step()

    return step


def scene(plan: Plan, index: int) -> tuple[Tensor, dict[str, Tensor]]:
    """An image of the samples at the network's size, with its proposals and objects in the network's pixels."""
    samples, name = plan.samples, plan.samples.ids[index]
    scale, objects = samples.size.scale(plan.data.size_hw(name)), samples.annotations[name]
    kept = ~objects.crowd
    return samples.image(plan.starts[0].modality, index), {
        "proposals": torch.from_numpy(plan.proposals.boxes(name, samples.most)) * scale,
        "boxes": torch.from_numpy(objects.boxes_xyxy[kept]) * scale,
        "labels": torch.from_numpy(objects.labels[kept]) + 1,
    }


@contextmanager
def our_step(plan: Plan, images: int) -> Iterator[Step]:
    """A step of `runs/fit.py`, on the first images of the samples; those that are kept in memory are read first."""
    plan.samples.keep(plan.samples.ids[:images])
    if not plan.settings.workers:
        for index in range(len(plan.samples)):
            plan.samples.image(plan.starts[0].modality, index)
    settings = replace(
        plan.settings.fit_settings(),
        device=str(plan.device),
        iterations=NEVER,
        log_every=NEVER,
        checkpoint_every=NEVER,
        evaluate_every=NEVER,
    )
    task = _task(plan)
    task.module.to(plan.device).to(memory_format=torch.channels_last)
    with tempfile.TemporaryDirectory() as scratch:
        run = RunFolder(Path(scratch), "finetune")
        scaler = torch.amp.GradScaler(plan.device.type, enabled=False)
        optimiser = build_optimiser(task.module, settings)
        loop = _Loop(task, settings, run, lambda progress: None, optimiser, scaler, 0, {}, len(plan.samples))
        batches, numbers = iter(_batches(plan.samples, collate, settings, 0)), itertools.count()
        yield lambda: loop.do(next(numbers), next(batches))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="prepared data set with proposals")
    parser.add_argument("--modality", default="hha")
    parser.add_argument("--proposals", help="name of the stored proposals, if there are several")
    parser.add_argument("--layer", default="features", help="of squeezenet1_1: features, or features.N")
    parser.add_argument("--size", type=int, default=224, help="short side in pixels")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--images", type=int, default=40, help="how many to learn from")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of a block")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(chosen.threads)
    names = ("data", "modality", "proposals", "layer", "size", "batch_size", "threads", "device")
    shared = {**SHARED, **{name: getattr(chosen, name) for name in names}}

    def plan(**more: Any) -> Plan:
        return build(FinetuneSettings.from_dict({**shared, **more}))

    alike = plan(**AS_REFERENCE, workers=0)
    with (
        our_step(alike, chosen.images) as like_for_like,
        our_step(plan(**AS_REFERENCE, workers=1), chosen.images) as from_disk,
        our_step(plan(workers=0), chosen.images) as small,
    ):
        reference = reference_step(chosen.layer, alike, alike.device)
        subjects = [
            Subject("torchvision", reference),
            Subject("ours, like for like", like_for_like),
            Subject("ours, images from disk", from_disk),
            Subject("ours, preset small", small),
        ]
        for number in range(chosen.blocks):
            for subject in subjects:
                subject.block(chosen.steps)
                told = f"{subject.clock_ms[-1]:.0f} ms a step, {subject.processor_ms[-1]:.0f} of the processor"
                print(f"block {number + 1}, {subject.name}: {told}", file=sys.stderr, flush=True)
    report(subjects, chosen)


def report(subjects: list[Subject], chosen: argparse.Namespace) -> None:
    """Milliseconds of a step, and how many times as fast as the reference, block by block."""
    print(
        f"squeezenet1_1 up to {chosen.layer}, short side {chosen.size}, {chosen.batch_size} x {REGIONS} regions, "
        f"{chosen.threads} threads on {chosen.device}; {chosen.blocks} blocks of {chosen.steps} steps"
    )
    first = subjects[0]
    for title, of in (("clock", "clock_ms"), ("processor", "processor_ms")):
        print(f"\n{title:24}{'ms a step':>10}  {'torchvision / it: median':>26}{'least':>8}{'most':>8}")
        for subject in subjects:
            mine = getattr(subject, of)
            ratios = [theirs / own for theirs, own in zip(getattr(first, of), mine, strict=True)]
            middle = statistics.median(ratios)
            print(
                f"{subject.name:24}{statistics.median(mine):10.0f}  {middle:26.2f}{min(ratios):8.2f}{max(ratios):8.2f}"
            )


if __name__ == "__main__":
    main()
