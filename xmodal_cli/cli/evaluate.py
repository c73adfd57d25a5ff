"""`xmodal evaluate`: how good a run's features are. Today by the region probe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
)
from xmodal_cli.cli.output import out, table
from xmodal_cli.cli.progress import counting

if TYPE_CHECKING:
    from xmodal_cli.detect.evaluation import Baseline, Evaluation
    from xmodal_cli.metrics.results import ProbeResult
    from xmodal_cli.runs.folder import RunFolder

DEFAULT_MODALITY = "hha"

EXAMPLES = """
xmodal evaluate runs/distill/latest --probe --data data/nyud2 --split val
xmodal evaluate --probe
xmodal evaluate --probe --init imagenet --backbone squeezenet1_1 --modality rgb --data data/nyud2
xmodal evaluate --probe --init random --backbone squeezenet1_1 --modality hha --seed 1
"""


@command(app, "evaluate", examples=EXAMPLES)
def evaluate_command(
    run: Annotated[Path | None, typer.Argument(help="Run to evaluate; the newest finished one by default.")] = None,
    probe: Annotated[  # what is measured; until there is another measure it goes without saying
        bool, typer.Option("--probe", help="Name annotated boxes from frozen features.", show_default=False)
    ] = True,
    data: DataOption = None,
    split: Annotated[str, typer.Option("--split", help="Split that is scored.")] = "val",
    train_split: Annotated[str, typer.Option("--train-split", help="Split that the probe learns from.")] = "train",
    init: Annotated[
        str | None, typer.Option("--init", help="Baseline without a run: random, imagenet, or geometry (boxes alone).")
    ] = None,
    backbone: Annotated[str | None, typer.Option("--backbone", help="Network of a baseline.")] = None,
    weights: Annotated[Path | None, typer.Option("--weights", help="Weights file of an imagenet baseline.")] = None,
    modality: Annotated[str | None, typer.Option("--modality", help="What a baseline sees. \\[default: hha]")] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", help="Layer that is probed. \\[default: the last transferred, or pool5]")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of a random baseline.")] = 0,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    runs: RunsOption = Path(DEFAULT_RUNS),
) -> None:
    """Measure a run, or a baseline, on annotated boxes that its student never saw."""
    from xmodal_cli.data.prepared import PreparedData
    from xmodal_cli.detect import evaluation
    from xmodal_cli.errors import SettingsError

    baseline_only = {"--backbone": backbone, "--weights": weights, "--modality": modality, "--seed": seed or None}
    misplaced = [option for option, value in baseline_only.items() if value is not None]
    if init is None and misplaced:
        raise SettingsError(f"{', '.join(misplaced)} belongs to a baseline.", "Add --init random or imagenet.")
    if init is not None and run is not None:
        raise SettingsError(f"--init {init} measures a baseline, and {run} is a run.", "Leave one of the two out.")
    subject: RunFolder | Baseline
    if init is None:
        subject = evaluation.find_run(run, runs)
        chosen = given_anew(data) or evaluation.recorded_data(subject)
    else:
        subject = evaluation.Baseline(init, backbone, modality or DEFAULT_MODALITY, weights, layer, seed)
        subject.check()
        chosen = data or Path(DEFAULT_DATA)
    with counting("images") as watch:
        result = evaluation.evaluate_probe(
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
    _report(result)


def _report(result: Evaluation) -> None:
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
