"""`xmodal distill`: options to settings, one call, a report."""

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

if TYPE_CHECKING:
    from xmodal_cli.runs.folder import RunFolder
    from xmodal_cli.runs.training import Rehearsal
    from xmodal_cli.transfer.distill import DistillResult
    from xmodal_cli.transfer.settings import DistillSettings

EXAMPLES = """
xmodal distill --teacher vgg16 --student alexnet --modality hha --data data/nyud2
xmodal distill --teacher vit_small_patch14_dinov2 --student resnet18 --modality thermal --data DATA
xmodal distill --teacher squeezenet1_1 --teacher-weights FILE.pth --student squeezenet1_1 --transfer features.12
xmodal distill --teacher-run runs/finetune/RGB_RUN --student squeezenet1_1 --modality hha
xmodal distill --teacher-detector fasterrcnn_resnet50_fpn --student torchvision/resnet50 --modality hha
xmodal distill --student caffenet --transfer conv3:conv3 --transfer fc7:fc7=0.5 --regions proposals
xmodal distill --resume runs/distill/NAME
Then: xmodal evaluate --probe
"""


NETWORKS, LOSS, IMAGES = "Networks", "Transfer", "Images"


@command(app, "distill", examples=EXAMPLES)
def distill_command(
    data: DataOption = None,
    teacher: Annotated[str | None, option("Teacher network; `xmodal models`. [default: vgg16]", NETWORKS)] = None,
    teacher_weights: Annotated[
        str | None,
        option("imagenet, random, or a .pth, .safetensors or .caffemodel file. [default: imagenet]", NETWORKS),
    ] = None,
    teacher_run: Annotated[
        Path | None, option("A finished finetune or distill run that teaches, with its weights and input.", NETWORKS)
    ] = None,
    teacher_detector: Annotated[
        str | None,
        option("A torchvision detector whose body teaches, at every layer that it reads; weights: coco.", NETWORKS),
    ] = None,
    student: Annotated[str | None, option("Student network. [default: alexnet]", NETWORKS)] = None,
    init: Annotated[
        str | None,
        option("Student's start: random (the paper's), imagenet, teacher, or a file. [default: random]", NETWORKS),
    ] = None,
    stem: Annotated[
        str | None, option("Stem weights for other than 3 channels: mean, copy or random. [default: mean]", NETWORKS)
    ] = None,
    modality: Annotated[str | None, option("What the student sees. [default: hha]", IMAGES)] = None,
    source: Annotated[
        str | None, option("What the teacher sees; auto: rgb, or what its run sees. [default: auto]", IMAGES)
    ] = None,
    split: Annotated[str | None, option("Whose pairs to learn from. [default: train]", IMAGES)] = None,
    pairs: Annotated[
        int | None, option("Learn from so many pairs of it only, drawn by the seed. [default: all]", IMAGES)
    ] = None,
    size: Annotated[
        str | None,
        option(
            "auto (short side 224; with --transfer auto the detector's, at most 400), a short side, or HEIGHTxWIDTH. "
            "[default: auto]",
            IMAGES,
        ),
    ] = None,
    crop: Annotated[
        float | None,
        option("Smallest share of an image that a window may have; 1: whole images. [default: 0.5]", IMAGES),
    ] = None,
    flip: Annotated[
        bool | None, option("Mirror half of the pairs. [default: flip]", IMAGES, "--flip/--no-flip")
    ] = None,
    shuffle_pairs: Annotated[
        bool | None, option("Control: pair every image with a stranger.", IMAGES, "--shuffle-pairs")
    ] = None,
    transfer: Annotated[
        list[str] | None,
        option(
            "TEACHER_LAYER:STUDENT_LAYER=WEIGHT, repeatable; auto: all that a detector reads. "
            "[default: pool5 or the last map]",
            LOSS,
        ),
    ] = None,
    adapter: Annotated[
        bool | None,
        option(
            "Learn a 1x1 convolution between student and loss, or teach the student itself. [default: adapter]",
            LOSS,
            "--adapter/--no-adapter",
        ),
    ] = None,
    regions: Annotated[
        str | None,
        option("What fc6 and fc7 are compared on: image or proposals. [default: image]", LOSS),
    ] = None,
    proposals: Annotated[str | None, option("Name of the stored proposals, where there are several.", LOSS)] = None,
    regions_per_image: Annotated[
        int | None, option("Proposals of an image that are compared in one step. [default: 16]", LOSS)
    ] = None,
    loss: Annotated[str | None, option("l2, logistic, cosine or smooth-l1. [default: l2]", LOSS)] = None,
    normalise: Annotated[
        str | None, option("Teacher's features: channel, scale or none. [default: scale]", LOSS)
    ] = None,
    cache: Annotated[str | None, option("Teacher features on disk: auto, on or off. [default: auto]", LOSS)] = None,
    preset: Annotated[str | None, option("small (the defaults), paper or vgg-to-vgg.", TRAINING)] = None,
    iterations: Annotated[int | None, option("Steps in all.", TRAINING)] = None,
    epochs: Annotated[
        float | None, option("Passes over the pairs, where --iterations is not given. [default: 60]", TRAINING)
    ] = None,
    batch_size: Annotated[int | None, option("Pairs per step. [default: 8]", TRAINING)] = None,
    optimiser: Annotated[str | None, option("adamw or sgd. [default: adamw]", TRAINING)] = None,
    lr: Annotated[float | None, option("Highest learning rate. [default: 0.001]", TRAINING)] = None,
    weight_decay: DecaySetting = None,
    schedule: ScheduleSetting = None,
    warmup: WarmupSetting = None,
    clip_norm: ClipNormSetting = None,
    seed: SeedSetting = None,
    precision: PrecisionSetting = None,
    device: DeviceSetting = None,
    devices: DevicesOption = 1,
    threads: ThreadsSetting = None,
    workers: WorkersSetting = None,
    run_name: Annotated[
        str | None, option("Name of the run's folder. [default: STUDENT-MODALITY-DATE-HEX]", RUN)
    ] = None,
    runs: RunsOption = Path(DEFAULT_RUNS),
    config: ConfigOption = None,
    checkpoint_every: CheckpointSetting = None,
    evaluate_every: Annotated[
        int | None, option("Steps between looks at held-out pairs. [default: a twelfth]", RUN)
    ] = None,
    resume: ResumeOption = None,
    overwrite: OverwriteOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Teach a student to see a new modality from unlabelled pairs (equation 2 of the paper)."""
    options = dict(locals())
    from xmodal_cli.transfer import distill as steps
    from xmodal_cli.transfer.settings import PRESETS, DistillSettings

    command = TrainingCommand(
        settings=DistillSettings,
        presets=PRESETS,
        begin=steps.distill,
        resume=steps.resume,
        rehearse=steps.rehearse,
        features="teacher features",
        report=_report,
        report_rehearsal=_report_rehearsal,
    )
    train(command, options)


def _report(result: DistillResult) -> None:
    """What the transfer gave, and the next step."""
    from xmodal_cli.data.annotations import ANNOTATION_FOLDER
    from xmodal_cli.runs.folder import open_run
    from xmodal_cli.transfer.distill import saved_settings

    run = open_run(result.run)
    settings = saved_settings(run)
    explained = result.explained_variance
    rows: list[list[object]] = [
        ["run", result.run],
        ["steps", result.iterations],
        ["explained variance", "nothing held out" if explained is None else f"{explained:.2%}"],
        ["time", duration(result.seconds)],
    ]
    tables = [table("transfer" if result.finished else "interrupted", ["", ""], rows, left=2)]
    out.result(result, tables, runs=[result.run], data=settings.data, split=settings.split)
    if not result.finished:
        out.say(f"Interrupted; the state is saved. Go on with: xmodal distill --resume {result.run}")
        raise typer.Exit(INTERRUPTED)
    labelled = any((Path(settings.data) / ANNOTATION_FOLDER).glob("*.json"))
    detector = _detector_taught(run, settings)
    if detector is not None:
        out.next_step(
            f"xmodal zero-shot --detector {detector} --student {run.path}{'' if labelled else ' --join-only'}"
        )
    elif labelled:
        out.next_step(f"xmodal evaluate {result.run} --probe")
    else:
        out.next_step(f"load {result.run}/student.safetensors; card.json beside it says what it wants to be fed")


def _detector_taught(run: RunFolder, settings: DistillSettings) -> str | None:
    """The detector that a student was taught to go into: all that it reads was a transfer point."""
    asked = run.config().get("asked", {}).get("transfer", [])
    if settings.teacher_detector is not None:
        return settings.teacher_detector if asked in ([], ["auto"]) else None
    return settings.teacher_run if asked == ["auto"] else None


def _report_rehearsal(rehearsal: Rehearsal) -> None:
    """What a run would be, in figures."""
    cache = f"{rehearsal.cache_bytes / 1e6:.0f} MB" if rehearsal.cache_bytes else "none"
    points = ", ".join(rehearsal.settings.to_dict()["transfer"])
    report_rehearsal(rehearsal, "pairs", {"transfer": points, "teacher cache": cache})
