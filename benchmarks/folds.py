"""Probe a small annotated data set in five folds over all its images, with bootstrap intervals.

For data of a few dozen images one split tells little: here every image is scored once, by a student and a probe that
saw neither it nor its neighbours (folds are blocks of consecutive names, since neighbours look alike). The figures of
all folds are pooled, and the interval comes from drawing images anew.

    python benchmarks/folds.py MM5 --weights squeezenet1_1-imagenet.pth --out OUT

The folder holds `rgb/`, one folder per modality (`thermal/`, `depth/` in millimetres), and COCO files `*.json` that
list disjoint images.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.folder.prepare import prepare_folder
from xmodal_cli.datasets.folder.settings import FolderSettings
from xmodal_cli.detect.probe_evaluation import Baseline, evaluate_probe
from xmodal_cli.metrics.results import ProbeResult, SeedScore
from xmodal_cli.runs.folder import open_run
from xmodal_cli.transfer.distill import distill
from xmodal_cli.transfer.settings import DistillSettings

FOLDS = 5
BACKBONE = "squeezenet1_1"
# The middle 98 % of mm5's training pixels and a margin: a hot cup stretches the measured range sixfold.
THERMAL_RANGE = (18_200.0, 18_570.0)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("source", type=Path)
    options.add_argument("--weights", required=True, help="ImageNet weights of the teacher")
    options.add_argument("--out", type=Path, required=True, help="where data sets and runs go")
    options.add_argument("--modality", nargs="+", default=["thermal", "depth"])
    options.add_argument("--epochs", type=float, default=DistillSettings(data="").epochs)
    options.add_argument("--threads", type=int)
    given = options.parse_args()
    folds = [fold(given, number) for number in range(FOLDS)]
    rows = {"box geometry": [probe(data, Baseline("geometry", None, "rgb"), given) for data in folds]}
    rows["rgb: the teacher"] = [probe(data, copied("rgb", given), given) for data in folds]
    for modality in given.modality:
        rows[f"{modality}: random"] = [probe(data, Baseline("random", BACKBONE, modality), given) for data in folds]
        rows[f"{modality}: copied from RGB"] = [probe(data, copied(modality, given), given) for data in folds]
        rows[f"{modality}: transferred"] = [transferred(data, modality, given, k) for k, data in enumerate(folds)]
    print("| features | accuracy | 95 % interval | class mean |\n|---|---|---|---|")
    for name, results in rows.items():
        found = pooled(results)
        low, high = found.interval()
        print(f"| {name} | {found.accuracy:.1f} | {low:.1f} to {high:.1f} | {found.class_mean_accuracy:.1f} |")


def fold(given: argparse.Namespace, number: int) -> PreparedData:
    """The data set whose split `val` is one block of consecutive images and whose split `train` is the rest."""
    parts = [json.loads(path.read_text()) for path in sorted(given.source.glob("*.json"))]
    images = sorted((image for part in parts for image in part["images"]), key=lambda image: image["file_name"])
    block = {image["file_name"] for image in np.array_split(np.array(images, dtype=object), FOLDS)[number]}
    folder = given.out / f"fold{number}"
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        chosen = [image for image in images if (image["file_name"] in block) == (split == "val")]
        ids = {image["id"] for image in chosen}
        boxes = [box for part in parts for box in part["annotations"] if box["image_id"] in ids]
        document = {"images": chosen, "annotations": boxes, "categories": parts[0]["categories"]}
        (folder / f"{split}.json").write_text(json.dumps(document))
    settings = FolderSettings(
        out=folder / "data",
        modalities=(),
        rgb=str(given.source / "rgb"),
        annotations={split: folder / f"{split}.json" for split in ("train", "val")},
    )
    for modality in given.modality:
        if modality == "thermal":
            options = {"target": str(given.source / "thermal"), "value_range": THERMAL_RANGE}
        else:
            options = {"target": str(given.source / "depth"), "depth_unit": 0.001}
        prepare_folder(replace(settings, modalities=(modality,), **options))
        settings = replace(settings, rgb=None, annotations={})
    return PreparedData.open(folder / "data")


def copied(modality: str, given: argparse.Namespace) -> Baseline:
    """The teacher's weights looking at another modality."""
    return Baseline("imagenet", BACKBONE, modality, weights=Path(given.weights))


def probe(data: PreparedData, baseline: Baseline, given: argparse.Namespace) -> ProbeResult:
    return evaluate_probe(baseline, data, split="val", runs=given.out / "runs").probe


def transferred(data: PreparedData, modality: str, given: argparse.Namespace, number: int) -> ProbeResult:
    """Transfer on a fold's training pairs, then probe."""
    settings = DistillSettings(
        data=str(data.root),
        teacher=BACKBONE,
        teacher_weights=given.weights,
        student=BACKBONE,
        modality=modality,
        epochs=given.epochs,
        threads=given.threads,
    )
    result = distill(settings, runs=given.out / "runs", name=f"{modality}-fold{number}", overwrite=True)
    return evaluate_probe(open_run(result.run), data, split="val", runs=given.out / "runs").probe


def pooled(results: list[ProbeResult]) -> ProbeResult:
    """One result over the images of all folds: accuracy over all regions; class means averaged over folds."""
    hits = np.concatenate([result.hits for result in results])
    offsets = np.cumsum([0, *(result.images.max() + 1 for result in results[:-1])])
    images = np.concatenate([result.images + offset for result, offset in zip(results, offsets, strict=True)])
    class_mean = float(np.mean([result.class_mean_accuracy for result in results]))
    score = SeedScore(0, float(hits.mean()) * 100, class_mean)
    return ProbeResult((score,), (), results[0].learned_regions, hits, images)


if __name__ == "__main__":
    main()
