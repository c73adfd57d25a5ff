"""`xmodal finetune`: options to settings, one call, a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xmodal_cli.cli.app import INTERRUPTED, app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.options import DEFAULT_RUNS, DataOption, RunsOption, option
from xmodal_cli.cli.output import out, table
from xmodal_cli.cli.progress import duration
from xmodal_cli.cli.rehearsal import report_rehearsal
from xmodal_cli.cli.training import (
    RUN,
    TRAINING,
    CheckpointSetting,
    ClipNormSetting,
    ConfigOption,
    DecaySetting,
    DeviceSetting,
    DevicesOption,
    DryRunOption,
    OverwriteOption,
    PrecisionSetting,
    ResumeOption,
    ScheduleSetting,
    SeedSetting,
    ThreadsSetting,
    TrainingCommand,
    WarmupSetting,
    WorkersSetting,
    train,
)
from xmodal_cli.errors import SettingsError, closest

if TYPE_CHECKING:
    from xmodal_cli.runs.training import TrainingResult

EXAMPLES = """
xmodal finetune --data data/nyud2 --modality hha --init runs/distill/latest
xmodal finetune --data data/nyud2 --modality rgb --init imagenet --backbone alexnet --preset paper
xmodal finetune --data data/nyud2 --modality hha --init random --backbone caffenet --preset paper-no-init
xmodal finetune --data data/nyud2 --modality hha --init runs/distill/latest --freeze-through pool5
xmodal finetune --resume runs/finetune/NAME
xmodal finetune --task segmentation --init runs/finetune/NAME --data data/nyud2 --modality hha
xmodal finetune --task classification --data data/jhmdb --modality flow --init imagenet --backbone squeezenet1_1
Then: xmodal evaluate runs/finetune/latest --split val
"""

DETECTION, SEGMENTATION, CLASSIFICATION = TASKS = "detection", "segmentation", "classification"
NETWORK, IMAGES, REGIONS, HEAD = "Network", "Images", "Regions", "Head and losses"


@command(app, "finetune", examples=EXAMPLES)
def finetune_command(
    data: DataOption = None,
    task: Annotated[
        str | None,
        option(
            "detection; segmentation: masks of a trained detector's boxes; classification: the class of whole images. "
            "[default: detection]",
            NETWORK,
        ),
    ] = None,
    init: Annotated[
        str | None,
        option(
            "random, imagenet, a run's folder, or a file of weights; for segmentation the detector's run. "
            "[default: random]",
            NETWORK,
        ),
    ] = None,
    backbone: Annotated[str | None, option("Network, where --init is no run; `xmodal models`.", NETWORK)] = None,
    weights: Annotated[str | None, option("File of ImageNet weights, instead of a download.", NETWORK)] = None,
    stem: Annotated[
        str | None, option("Stem weights for other than 3 channels: mean, copy or random. [default: mean]", NETWORK)
    ] = None,
    layer: Annotated[
        str | None,
        option(
            "Whose map is read: regions are cut from it. [default: conv5, or the last map; classification: fc7, or "
            "the last map]",
            NETWORK,
        ),
    ] = None,
    freeze_through: Annotated[str | None, option("Layer up to which nothing learns.", NETWORK)] = None,
    joint: Annotated[
        str | None, option("Train jointly with this run's network; both outputs are averaged.", NETWORK)
    ] = None,
    modality: Annotated[str | None, option("What the detector sees. [default: hha]", IMAGES)] = None,
    split: Annotated[str | None, option("Whose annotated images to learn from. [default: train]", IMAGES)] = None,
    hold_out: Annotated[
        float | None, option("Share of them, by scene, only watched; 0 learns from all. [default: 0]", IMAGES)
    ] = None,
    size: Annotated[int | None, option("Short side in pixels. [default: 224; paper: 688]", IMAGES)] = None,
    longest: Annotated[int | None, option("What the long side may not exceed. [default: 2000]", IMAGES)] = None,
    flip: Annotated[
        bool | None, option("Learn from mirrored images too. [default: flip]", IMAGES, "--flip/--no-flip")
    ] = None,
    input_: Annotated[
        str | None,
        option(
            "Mean and spread: of the weights, measured, or auto (weights for rgb). [default: auto]",
            IMAGES,
            "--input",
        ),
    ] = None,
    proposals: Annotated[
        str | None, option("Name of the stored proposals. [default: the only ones there are]", REGIONS)
    ] = None,
    proposals_per_image: Annotated[
        int | None, option("Best proposals used. [default: 1000; paper: 2000]", REGIONS)
    ] = None,
    regions: Annotated[
        int | None, option("Regions drawn from an image in a step. [default: 128; paper: 64]", REGIONS)
    ] = None,
    foreground: Annotated[float | None, option("Largest share of them on objects. [default: 0.25]", REGIONS)] = None,
    background_low: Annotated[
        float | None, option("Smallest overlap of background with an object. [default: 0]", REGIONS)
    ] = None,
    pooling: Annotated[str | None, option("max (RoI max pooling) or align (RoIAlign). [default: max]", HEAD)] = None,
    pool_size: Annotated[int | None, option("Cells per side of a region, for a new head.", HEAD)] = None,
    features: Annotated[
        str | None,
        option(
            "Classify fc7 or fc6; for segmentation what is read, as fc7+pool2+conv4. [default: fc7; of masks the "
            "paper's layers or their like]",
            HEAD,
        ),
    ] = None,
    dropout: Annotated[
        float | None, option("Share of the head's units dropped. [default: 0; paper: 0.5]", HEAD)
    ] = None,
    box_regression: Annotated[
        bool | None, option("Refine boxes. [default: yes]", HEAD, "--box-regression/--no-box-regression")
    ] = None,
    preset: Annotated[str | None, option("small (the defaults), paper, or paper-no-init.", TRAINING)] = None,
    iterations: Annotated[int | None, option("Steps in all. [default: 2000; paper: 40000]", TRAINING)] = None,
    batch_size: Annotated[int | None, option("Images per step. [default: 1; paper: 2]", TRAINING)] = None,
    optimiser: Annotated[str | None, option("adamw or sgd. [default: adamw; paper: sgd]", TRAINING)] = None,
    lr: Annotated[float | None, option("Highest learning rate. [default: 0.001]", TRAINING)] = None,
    weight_decay: DecaySetting = None,
    schedule: ScheduleSetting = None,
    lr_step: Annotated[int | None, option("Steps between drops of a step schedule.", TRAINING)] = None,
    warmup: WarmupSetting = None,
    clip_norm: ClipNormSetting = None,
    seed: SeedSetting = None,
    precision: PrecisionSetting = None,
    device: DeviceSetting = None,
    devices: DevicesOption = 1,
    threads: ThreadsSetting = None,
    workers: WorkersSetting = None,
    run_name: Annotated[
        str | None, option("Name of the run's folder. [default: BACKBONE-MODALITY-DATE-HEX]", RUN)
    ] = None,
    runs: RunsOption = Path(DEFAULT_RUNS),
    config: ConfigOption = None,
    checkpoint_every: CheckpointSetting = None,
    evaluate_every: Annotated[
        int | None, option("Steps between looks at held-out images. [default: a quarter]", RUN)
    ] = None,
    resume: ResumeOption = None,
    overwrite: OverwriteOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Train a Fast R-CNN detector on few annotated images, from a transferred, copied or random network."""
    options = {**locals(), "input": input_}
    what = _task(task, resume)
    if what == SEGMENTATION:
        from xmodal_cli.cli.finetune_masks import train_mask_command

        train_mask_command(options)
        return
    if what == CLASSIFICATION:
        from xmodal_cli.cli.finetune_classifier import train_classifier_command

        train_classifier_command(options)
        return
    from xmodal_cli.detect import finetune as steps
    from xmodal_cli.detect.settings import PRESETS, FinetuneSettings

    command = TrainingCommand(
        settings=FinetuneSettings,
        presets=PRESETS,
        begin=steps.finetune,
        resume=steps.resume,
        rehearse=steps.rehearse,
        features="trunk's maps",
        report=_report,
        report_rehearsal=report_rehearsal,
    )
    train(command, options)


def _task(asked: str | None, resumed: Path | None) -> str:
    """What is trained: as asked for, or what the run that goes on was for.

    Raises:
        SettingsError: there is no such task, or the run is for another one.
    """
    if asked not in (None, *TASKS):
        raise SettingsError(f"--task {asked!r} is not one of {', '.join(TASKS)}.", closest(str(asked), TASKS) or None)
    if resumed is None:
        return asked or DETECTION
    from xmodal_cli.runs.folder import open_run

    command_name = open_run(resumed).command
    own = command_name if command_name in TASKS else DETECTION
    if asked not in (None, own):
        raise SettingsError(f"{resumed} is a run of --task {own}, not {asked}.", "Leave --task out.")
    return own


def _report(result: TrainingResult) -> None:
    """What the training gave, and the next step."""
    from xmodal_cli.detect.finetune import saved_settings
    from xmodal_cli.runs.folder import open_run

    settings = saved_settings(open_run(result.run))
    rows: list[list[object]] = [
        ["run", result.run],
        ["steps", result.iterations],
        ["mAP on held-out images", f"{result.metrics['mAP']:.1f} %" if "mAP" in result.metrics else "nothing held out"],
        ["time", duration(result.seconds)],
    ]
    tables = [table("detector" if result.finished else "interrupted", ["", ""], rows, left=2)]
    out.result(result, tables, runs=[result.run], data=settings.data, split=settings.split)
    if not result.finished:
        out.say(f"Interrupted; the state is saved. Go on with: xmodal finetune --resume {result.run}")
        raise typer.Exit(INTERRUPTED)
    out.next_step(f"xmodal evaluate {result.run} --split val")
