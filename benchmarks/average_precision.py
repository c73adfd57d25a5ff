"""How long average precision takes: 654 images x 19 classes x 100 boxes (the paper's test split at its most), one core.

    OMP_NUM_THREADS=1 python benchmarks/average_precision.py [--coco]

The issue asks for less than 5 s. Detections are synthetic: for every object some boxes near it, the rest anywhere.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from xmodal_cli.metrics.average_precision import voc_ap
from xmodal_cli.metrics.detections import Detections, Objects

IMAGES, CLASSES, BOXES = 654, 19, 100
OBJECTS_PER_IMAGE = 6  # NYUD2 has five to six objects of its 19 classes in an image
NEAR = 5  # boxes near each object
HEIGHT, WIDTH = 425, 560  # px


def synthetic(seed: int = 0) -> tuple[Detections, Objects]:
    random = np.random.default_rng(seed)
    count = IMAGES * OBJECTS_PER_IMAGE
    objects = Objects(
        np.repeat(np.arange(IMAGES), OBJECTS_PER_IMAGE),
        random.integers(0, CLASSES, count),
        _boxes(random, count),
        np.ones(count),
        np.zeros(count, np.bool_),
    )
    images = np.repeat(np.arange(IMAGES), CLASSES * BOXES)
    labels = np.tile(np.repeat(np.arange(CLASSES), BOXES), IMAGES)
    boxes, scores = _boxes(random, len(images)), random.random(len(images), np.float32)
    for number in range(count):
        first = (objects.images[number] * CLASSES + objects.labels[number]) * BOXES
        where = first + random.integers(0, BOXES, NEAR)
        boxes[where] = objects.boxes_xyxy[number] + random.normal(0, 6, (NEAR, 4)).astype(np.float32)
        scores[where] += 0.5
    return Detections(images, labels, scores, boxes), objects


def _boxes(random: np.random.Generator, count: int) -> np.ndarray:
    corner = random.random((count, 2)) * [WIDTH - 60, HEIGHT - 60]
    size = 20 + random.random((count, 2)) * ([WIDTH - 20, HEIGHT - 20] - corner)
    return np.hstack([corner, corner + size]).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coco", action="store_true", help="COCO's evaluator too")
    chosen = parser.parse_args()
    detections, objects = synthetic()
    names = [f"class {number}" for number in range(CLASSES)]
    print(f"{IMAGES} images x {CLASSES} classes x {BOXES} boxes = {len(detections)} detections, {len(objects)} objects")
    started = time.perf_counter()
    result = voc_ap(detections, objects, names)
    print(f"AP, all points at IoU 0.5: mAP {result.mAP:.2f} in {time.perf_counter() - started:.2f} s")
    started = time.perf_counter()
    low, high = result.interval()
    print(f"its bootstrap interval:    {low:.2f} to {high:.2f} in {time.perf_counter() - started:.2f} s")
    if chosen.coco:
        from xmodal_cli.metrics.coco import coco_ap

        started = time.perf_counter()
        coco = coco_ap(detections, objects, names)
        print(f"COCO's evaluator: AP50 {coco.ap50:.2f}, mAP {coco.mAP:.2f} in {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
