"""`xmodal evaluate`: how good a run is.

A detector is measured by what it finds, a student by the region probe, a classifier by what it calls images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xmodal_cli.cli.app import app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.options import (
    DEFAULT_DATA,
    DEFAULT_RUNS,
    DataOption,
    DeviceOption,
    PrecisionOption,
    RunsOption,
    given_anew,
    option,
)
from xmodal_cli.cli.output import out, table
from xmodal_cli.cli.progress import counting
from xmodal_cli.errors import SettingsError, closest

if TYPE_CHECKING:
    from xmodal_cli.detect.probe_evaluation import Baseline, Evaluation
    from xmodal_cli.detect.run_evaluation import DetectionEvaluation, Earlier
    from xmodal_cli.metrics.results import ProbeResult
    from xmodal_cli.runs.folder import RunFolder

DEFAULT_MODALITY = "hha"
DETECTORS = (
    "finetune",
    "zero-shot",
)  # as in `detect.branches`, which is heavy to import

EXAMPLES = """
xmodal evaluate runs/finetune/latest --data data/nyud2 --split val
xmodal evaluate runs/finetune/RGB_RUN runs/finetune/HHA_RUN --split val
xmodal evaluate runs/finetune/latest --metric coco --json
xmodal evaluate --detections detections.json --data data/nyud2 --split val
xmodal evaluate runs/finetune/HHA_RUN --against runs/evaluate/DISPARITY_EVALUATION
xmodal evaluate runs/segmentation/RGB_RUN runs/segmentation/HHA_RUN --task segmentation --split val
xmodal evaluate runs/classification/latest --split test
xmodal evaluate runs/distill/latest --probe
xmodal evaluate --probe --init imagenet --backbone squeezenet1_1 --modality rgb --data data/nyud2
"""
DETECTOR, MASKS, PROBE = "Detectors", "Masks", "Probe"
DETECTION, SEGMENTATION, CLASSIFICATION = TASKS = "detection", "segmentation", "classification"
NO_DETECTOR = {
    SEGMENTATION: "masks; its boxes are those of its detector",
    CLASSIFICATION: "a classifier, which names whole images",
}


@command(app, "evaluate", examples=EXAMPLES)
def evaluate_command(
    run: Annotated[
        list[Path] | None,
        typer.Argument(help="Runs; several detectors are fused. \\[default: the newest]", show_default=False),
    ] = None,
    data: DataOption = None,
    split: Annotated[str, typer.Option("--split", help="Split that is scored.")] = "val",
    metric: Annotated[str | None, option("voc (the paper's AP) or coco. [default: voc]", DETECTOR)] = None,
    detections: Annotated[Path | None, option("Score this COCO results file, exactly as it is.", DETECTOR)] = None,
    proposals: Annotated[
        str | None, option("Name of the stored proposals. [default: those of the run]", DETECTOR)
    ] = None,
    size: Annotated[int | None, option("Short side in pixels, for all runs. [default: each its own]", DETECTOR)] = None,
    against: Annotated[Path | None, option("An earlier evaluation: count the classes won.", DETECTOR)] = None,
    class_: Annotated[
        list[str] | None,
        option(
            "DETECTOR_NAME=DATA_NAME, repeatable. [default: as the run was made, else by name]", DETECTOR, "--class"
        ),
    ] = None,
    paper: Annotated[str | None, option("Show a row of the paper beside, e.g. table1/1C.", DETECTOR)] = None,
    task: Annotated[
        str | None, option("detection, segmentation or classification. [default: what the run is for]", DETECTOR)
    ] = None,
    superpixels: Annotated[
        bool | None,
        option("Make masks whole superpixels. [default: yes]", MASKS, "--superpixels/--no-superpixels"),
    ] = None,
    mask_threshold: Annotated[
        float | None, option("Mean probability from which on they are of a mask. [default: 0.4]", MASKS)
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Name annotated boxes from frozen features.", rich_help_panel=PROBE)
    ] = False,
    train_split: Annotated[str | None, option("Split that the probe learns from. [default: train]", PROBE)] = None,
    init: Annotated[
        str | None, option("Baseline without a run: random, imagenet, or geometry (boxes alone).", PROBE)
    ] = None,
    backbone: Annotated[str | None, option("Network of a baseline.", PROBE)] = None,
    weights: Annotated[Path | None, option("Weights file of an imagenet baseline.", PROBE)] = None,
    modality: Annotated[str | None, option("What a baseline sees. [default: hha]", PROBE)] = None,
    layer: Annotated[
        str | None, option("Layer that is probed. [default: the last transferred, or pool5]", PROBE)
    ] = None,
    seed: Annotated[int | None, option("Of a random baseline. [default: 0]", PROBE)] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    runs: RunsOption = Path(DEFAULT_RUNS),
) -> None:
    """Measure detectors by what they find in a split, classifiers by what they call it, students by frozen features."""
    from xmodal_cli.runs.folder import latest, open_run

    of_detectors = {
        "--metric": metric,
        "--detections": detections,
        "--proposals": proposals,
        "--size": size,
        "--class": class_,
        "--against": against,
        "--paper": paper,
    }
    of_baselines = {"--backbone": backbone, "--weights": weights, "--modality": modality, "--seed": seed}
    of_probes: dict[str, Any] = {"--probe": probe or None, "--train-split": train_split, "--layer": layer}
    of_probes |= {"--init": init, **of_baselines}
    of_masks = {"--superpixels": superpixels, "--mask-threshold": mask_threshold}
    what = _task(task, run)
    if what == CLASSIFICATION:
        _refuse({**of_probes, **of_detectors, **of_masks}, "is not for classification")
        _classify(run, data, split, device, precision, runs)
        return
    if what == SEGMENTATION:
        _refuse({**of_probes, "--metric": metric, "--against": against, "--paper": paper}, "is not for masks")
        masks = (superpixels, mask_threshold)
        _masks(run, detections, data, split, *masks, proposals, size, class_, device, precision, runs)
        return
    _refuse(of_masks, "is for masks: add --task segmentation")
    beside, earlier = _paper_row(paper), _earlier(against, split, metric)
    if detections is not None:
        _refuse(of_probes, "measures a network, and --detections scores a file")
        _refuse(
            {"a run": run, "--proposals": proposals, "--size": size, "--class": class_},
            "is not used: --detections is a finished file",
        )
        _report_detections(_score_file(detections, data, split, metric, runs), earlier, paper, beside)
        return
    if init is not None:
        _refuse({"a run": run}, f"is measured by itself, and --init {init} is a baseline")
        _refuse(of_detectors, "is for detectors")
    found = [open_run(path) for path in run or ()]
    if not found and init is None:
        found = [latest(runs, ("distill",) if probe else ("distill", *DETECTORS))]
    if init is None:
        _refuse(of_baselines, "belongs to a baseline: add --init random or imagenet")
    kinds = {each.command for each in found}
    if kinds and kinds <= set(DETECTORS) and not probe:
        _refuse(of_probes, "is for the probe of a distill run")
        chosen = given_anew(data) or found[0].recorded_data()
        scored = _score_runs(found, chosen, split, metric, proposals, size, class_, device, precision, runs)
        _report_detections(scored, earlier, paper, beside)
        return
    _refuse(of_detectors, "is for detectors")
    if len(found) > 1 or kinds - {"distill"}:
        listed = ", ".join(f"{each.path} ({each.command})" for each in found)
        raise SettingsError(
            f"The probe measures one distill run; found {listed}.",
            "Name one distill run, or detection runs only (without --probe) to fuse them.",
        )
    subject = found[0] if found else _baseline(str(init), backbone, modality, weights, layer, seed)
    _probe(subject, data, split, train_split or "train", layer, device, precision, runs)


def _refuse(options: dict[str, Any], why: str) -> None:
    """Options that would silently do nothing are refused."""
    given = [name for name, value in options.items() if value is not None and value != []]
    if given:
        raise SettingsError(f"{', '.join(given)} {why}.", "Leave it out, or see `xmodal evaluate --help`.")


def _task(asked: str | None, run: Sequence[Path] | None) -> str:
    """What is scored: as asked for, else what the first run is for.

    Raises:
        SettingsError: there is no such task, or it is not what the run is for.
    """
    from xmodal_cli.runs.folder import open_run

    if asked not in (None, *TASKS):
        raise SettingsError(f"--task {asked!r} is not one of {', '.join(TASKS)}.", closest(str(asked), TASKS) or None)
    own = open_run(run[0]).command if run else DETECTION
    if run and own in NO_DETECTOR and asked not in (None, own):
        raise SettingsError(f"{run[0]} is a run of {NO_DETECTOR[own]}.", f"Name a run of {asked}, or leave --task out.")
    return own if own in NO_DETECTOR else asked or DETECTION


def _classify(
    run: Sequence[Path] | None, data: Path | None, split: str, device: str, precision: str, runs: Path
) -> None:
    """Score classifiers and report them."""
    from xmodal_cli.cli import evaluate_classifier
    from xmodal_cli.runs.folder import latest, open_run

    found = [open_run(path, CLASSIFICATION) for path in run or ()] or [latest(runs, (CLASSIFICATION,))]
    evaluate_classifier.score(found, data, split, device=device, precision=precision, runs=runs)


def _masks(
    run: Sequence[Path] | None,
    detections: Path | None,
    data: Path | None,
    split: str,
    superpixels: bool | None,
    threshold: float | None,
    proposals: str | None,
    size: int | None,
    class_: Sequence[str] | None,
    device: str,
    precision: str,
    runs: Path,
) -> None:
    """Score masks of runs, or of a file, and report them."""
    from xmodal_cli.cli import evaluate_masks
    from xmodal_cli.runs.folder import latest, open_run

    if detections is not None:
        making = {"--superpixels": superpixels, "--mask-threshold": threshold, "--proposals": proposals}
        _refuse(
            {"a run": run, "--size": size, "--class": class_, **making}, "is not used: --detections is a finished file"
        )
        evaluate_masks.score_mask_file(detections, data, split, runs)
        return
    found = [open_run(path) for path in run or ()] or [latest(runs, (SEGMENTATION,))]
    evaluate_masks.refuse_other_runs(found)
    evaluate_masks.score_masks(
        found,
        data,
        split,
        superpixels=superpixels,
        threshold=threshold,
        proposals=proposals,
        size=size,
        classes=_class_pairs(class_),
        device=device,
        precision=precision,
        runs=runs,
    )


def _class_pairs(given: Sequence[str] | None) -> dict[str, str] | None:
    """What `--class` says; None, as the runs were made, where it is not given."""
    from xmodal_cli.detect.class_names import read_pairs

    return read_pairs(given) if given else None


def _score_file(path: Path, data: Path | None, split: str, metric: str | None, runs: Path) -> DetectionEvaluation:
    from xmodal_cli.data.prepared import PreparedData
    from xmodal_cli.detect.run_evaluation import evaluate_file

    prepared = PreparedData.open(data or Path(DEFAULT_DATA))
    return evaluate_file(path, prepared, split=split, metric=metric or "voc", root=runs)


def _score_runs(
    found: Sequence[RunFolder],
    data: Path,
    split: str,
    metric: str | None,
    proposals: str | None,
    size: int | None,
    class_: Sequence[str] | None,
    device: str,
    precision: str,
    runs: Path,
) -> DetectionEvaluation:
    from xmodal_cli.data.prepared import PreparedData
    from xmodal_cli.detect.run_evaluation import evaluate_runs

    with counting("images") as watch:
        return evaluate_runs(
            found,
            PreparedData.open(data),
            split=split,
            metric=metric or "voc",
            proposals=proposals,
            size=size,
            classes=_class_pairs(class_),
            device=device,
            precision=precision,
            root=runs,
            watch=watch,
        )


def _report_detections(
    result: DetectionEvaluation, earlier: Earlier | None, paper: str | None, beside: dict[str, float]
) -> None:
    """AP by class, beside the paper's and an earlier evaluation's where asked for."""
    from xmodal_cli.detect.run_evaluation import classes_won

    scores = result.scores
    rows = scores.rows(beside or None)
    columns = ["class", "AP", "objects", "detections", *(["paper"] if beside else [])]
    tables = [table(f"{scores.metric} AP in percent, {result.subject}, split {scores.split}", columns, rows)]
    results = result.to_dict()
    if beside:
        results["paper"] = {"row": paper, **beside}
    if earlier is not None:
        won = classes_won(scores, earlier)
        results["against"] = won
        line = [won["won"], won["lost"], won["tied"], f"{scores.mAP:.1f}", f"{won['mAP']:.1f}"]
        tables.append(table(f"against {earlier.path}", ["won", "lost", "tied", "mAP", "its mAP"], [line], left=0))
    out.result(results, tables, runs=result.runs, data=result.data, split=scores.split)
    for note in result.notes:
        out.warn(note)
    if scores.classes_without_objects:
        out.say(f"the mean leaves out {', '.join(scores.classes_without_objects)}: no objects in this split")
    out.say(f"kept in {result.folder}")


def _earlier(path: Path | None, split: str, metric: str | None) -> Earlier | None:
    """The evaluation to compare with, found before anything is computed."""
    if path is None:
        return None
    from xmodal_cli.detect.run_evaluation import earlier_evaluation

    return earlier_evaluation(path, split, metric or "voc")


def _paper_row(name: str | None) -> dict[str, float]:
    """A row of the paper's tables as `{class: AP, "mean": mAP}`."""
    from xmodal_cli.metrics.paper import paper_row

    if name is None:
        return {}
    found = paper_row(name)
    return {**found.ap, **({} if found.mAP is None else {"mean": found.mAP})}


def _baseline(
    init: str, backbone: str | None, modality: str | None, weights: Path | None, layer: str | None, seed: int | None
) -> Baseline:
    from xmodal_cli.detect.probe_evaluation import Baseline

    subject = Baseline(init, backbone, modality or DEFAULT_MODALITY, weights, layer, seed or 0)
    subject.check()
    return subject


def _probe(
    subject: RunFolder | Baseline,
    data: Path | None,
    split: str,
    train_split: str,
    layer: str | None,
    device: str,
    precision: str,
    runs: Path,
) -> None:
    """Probe a run's student or a baseline, and report it."""
    from xmodal_cli.data.prepared import PreparedData
    from xmodal_cli.detect.probe_evaluation import Baseline, evaluate_probe

    if isinstance(subject, Baseline):
        chosen = data or Path(DEFAULT_DATA)
    else:
        chosen = given_anew(data) or subject.recorded_data()
    with counting("images") as watch:
        result = evaluate_probe(
            subject,
            PreparedData.open(chosen),
            split=split,
            train_split=train_split,
            layer=layer,
            device=device,
            precision=precision,
            runs=runs,
            watch=watch,
        )
    _report_probe(result)


def _report_probe(result: Evaluation) -> None:
    """The probe's figures, and where they are kept."""
    found = result.probe
    low, high = found.interval()
    seeds = "  ".join(f"{score.accuracy:.1f}" for score in found.seeds)
    rows: list[list[object]] = [
        ["accuracy", f"{found.accuracy:.1f} %", f"95 % interval {low:.1f} to {high:.1f}; seeds {seeds}"],
        ["class mean", f"{found.class_mean_accuracy:.1f} %", _classes(found)],
        ["regions", len(found.hits), f"learned from {found.learned_regions}"],
    ]
    title = f"region probe of {result.subject}, {result.layer or 'no network'}, split {result.split}"
    tables = [table(title, ["", "", ""], rows)]
    out.result(result, tables, runs=[result.run] if result.run else [], data=result.data, split=result.split)
    out.say(f"kept in {result.folder}")


def _classes(found: ProbeResult) -> str:
    """Which classes the mean leaves out."""
    missing = found.classes_without_objects
    return f"without {', '.join(missing)}: no objects in this split" if missing else "over all classes"
