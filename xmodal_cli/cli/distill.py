"""`xmodal distill`: options to settings, one call, a report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from xmodal_cli.cli.app import INTERRUPTED, app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.options import DEFAULT_DATA, DEFAULT_RUNS, DataOption, RunsOption, given_anew
from xmodal_cli.cli.output import out, table
from xmodal_cli.cli.progress import TrainingScreen, duration
from xmodal_cli.errors import SettingsError

if TYPE_CHECKING:
    from xmodal_cli.transfer.distill import DistillResult, Rehearsal
    from xmodal_cli.transfer.settings import DistillSettings

EXAMPLES = """
xmodal distill --teacher vgg16 --student alexnet --modality hha --data data/nyud2
xmodal distill --teacher vit_small_patch14_dinov2 --student resnet18 --modality thermal --data DATA
xmodal distill --teacher squeezenet1_1 --teacher-weights FILE.pth --student squeezenet1_1 --transfer features.12
xmodal distill --resume runs/distill/NAME
Then: xmodal evaluate --probe
"""


def _option(text: str, panel: str, *names: str) -> Any:
    """An option without a Typer default: None means not given, so that presets and files can decide."""
    return typer.Option(*names, help=escape(text), rich_help_panel=panel, show_default=False)


NETWORKS, LOSS, IMAGES, TRAINING, MACHINE, RUN = "Networks", "Transfer", "Images", "Training", "Machine", "Run"


@command(app, "distill", examples=EXAMPLES)
def distill_command(
    data: DataOption = None,
    teacher: Annotated[str | None, _option("Teacher network; `xmodal models`. [default: vgg16]", NETWORKS)] = None,
    teacher_weights: Annotated[
        str | None, _option("imagenet, random, or a .pth or .safetensors file. [default: imagenet]", NETWORKS)
    ] = None,
    student: Annotated[str | None, _option("Student network. [default: alexnet]", NETWORKS)] = None,
    init: Annotated[
        str | None, _option("Student's start: random (the paper's), imagenet, or a file. [default: random]", NETWORKS)
    ] = None,
    stem: Annotated[
        str | None, _option("Stem weights for other than 3 channels: mean, copy or random. [default: mean]", NETWORKS)
    ] = None,
    modality: Annotated[str | None, _option("What the student sees. [default: hha]", IMAGES)] = None,
    source: Annotated[str | None, _option("What the teacher sees. [default: rgb]", IMAGES)] = None,
    split: Annotated[str | None, _option("Whose pairs to learn from. [default: train]", IMAGES)] = None,
    size: Annotated[
        str | None, _option("auto (short side 224), a short side, or HEIGHTxWIDTH. [default: auto]", IMAGES)
    ] = None,
    crop: Annotated[
        float | None,
        _option("Smallest share of an image that a window may have; 1: whole images. [default: 0.5]", IMAGES),
    ] = None,
    flip: Annotated[
        bool | None, _option("Mirror half of the pairs. [default: flip]", IMAGES, "--flip/--no-flip")
    ] = None,
    shuffle_pairs: Annotated[
        bool | None, _option("Control: pair every image with a stranger.", IMAGES, "--shuffle-pairs")
    ] = None,
    transfer: Annotated[
        list[str] | None,
        _option("TEACHER_LAYER:STUDENT_LAYER=WEIGHT, repeatable. [default: pool5 or the last map]", LOSS),
    ] = None,
    loss: Annotated[str | None, _option("l2, logistic, cosine or smooth-l1. [default: l2]", LOSS)] = None,
    normalise: Annotated[
        str | None, _option("Teacher's features: channel, scale or none. [default: scale]", LOSS)
    ] = None,
    cache: Annotated[str | None, _option("Teacher features on disk: auto, on or off. [default: auto]", LOSS)] = None,
    preset: Annotated[str | None, _option("small (the defaults) or paper.", TRAINING)] = None,
    iterations: Annotated[int | None, _option("Steps in all.", TRAINING)] = None,
    epochs: Annotated[
        float | None, _option("Passes over the pairs, where --iterations is not given. [default: 60]", TRAINING)
    ] = None,
    batch_size: Annotated[int | None, _option("Pairs per step. [default: 8]", TRAINING)] = None,
    optimiser: Annotated[str | None, _option("adamw or sgd. [default: adamw]", TRAINING)] = None,
    lr: Annotated[float | None, _option("Highest learning rate. [default: 0.001]", TRAINING)] = None,
    weight_decay: Annotated[float | None, _option("Of weights; biases have none. [default: 0.0001]", TRAINING)] = None,
    schedule: Annotated[str | None, _option("cosine, step or constant. [default: cosine]", TRAINING)] = None,
    warmup: Annotated[int | None, _option("Steps of rising rate. [default: 5 % of all]", TRAINING)] = None,
    clip_norm: Annotated[float | None, _option("Largest gradient norm; 0: any. [default: 0]", TRAINING)] = None,
    seed: Annotated[int | None, _option("Of every random draw. [default: 0]", TRAINING)] = None,
    precision: Annotated[str | None, _option("auto, bf16, fp16 or fp32. [default: auto]", MACHINE)] = None,
    device: Annotated[str | None, _option("auto, cpu, cuda or cuda:N. [default: auto]", MACHINE)] = None,
    devices: Annotated[int, typer.Option("--devices", help="Processes, one per GPU.", rich_help_panel=MACHINE)] = 1,
    threads: Annotated[int | None, _option("CPU threads. [default: all]", MACHINE)] = None,
    workers: Annotated[int | None, _option("Processes that read images. [default: auto]", MACHINE)] = None,
    run_name: Annotated[
        str | None, _option("Name of the run's folder. [default: STUDENT-MODALITY-DATE-HEX]", RUN)
    ] = None,
    runs: RunsOption = Path(DEFAULT_RUNS),
    config: Annotated[Path | None, _option("Settings from a YAML file; options win over it.", RUN)] = None,
    checkpoint_every: Annotated[int | None, _option("Steps between checkpoints. [default: 200]", RUN)] = None,
    evaluate_every: Annotated[
        int | None, _option("Steps between looks at held-out pairs. [default: a twelfth]", RUN)
    ] = None,
    resume: Annotated[Path | None, _option("Continue this run with its own settings.", RUN)] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a run of that name.", rich_help_panel=RUN)
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Build everything, run two steps, estimate; write nothing.", rich_help_panel=RUN
        ),
    ] = False,
) -> None:
    """Teach a student to see a new modality from unlabelled pairs (equation 2 of the paper)."""
    given = {name: value for name, value in locals().items() if value is not None}
    from xmodal_cli.runs import processes
    from xmodal_cli.runs.session import Watchers
    from xmodal_cli.transfer import distill as transfer_steps
    from xmodal_cli.transfer.settings import DistillSettings

    given = {field.name: given[field.name] for field in dataclasses.fields(DistillSettings) if field.name in given}

    if devices > 1 and dry_run:
        raise SettingsError("A dry run is of one process.", "Leave --devices out.")
    if devices > 1 and processes.count() == 1:
        raise typer.Exit(processes.launch(devices, out.arguments))
    if resume is not None:
        begins = {"preset": preset, "config": config, "run-name": run_name, "overwrite": overwrite, "dry-run": dry_run}
        _refuse_beginning([f"--{option}" for option, value in begins.items() if value])
    if dry_run:
        _report_rehearsal(transfer_steps.rehearse(_settings(given, preset, config)))
        return
    with TrainingScreen() as screen:
        watchers = Watchers(out.say, screen.downloading, screen.filling, screen.training, out.detail)
        if resume is not None:
            result = transfer_steps.resume(resume, changes=_given_anew(given), watchers=watchers)
        else:
            settings = _settings(given, preset, config)
            result = transfer_steps.distill(settings, runs=runs, name=run_name, overwrite=overwrite, watchers=watchers)
    _report(result)


def _refuse_beginning(options: list[str]) -> None:
    """Options that only make sense for a new run are not silently ignored where one is continued."""

    if options:
        raise SettingsError(f"--resume continues a run; {', '.join(options)} begins one.", "Leave one of them out.")


def _given_anew(given: dict[str, Any]) -> dict[str, Any]:
    """Options given with `--resume`; the environment's data set is no option."""
    kept = {name: value for name, value in given.items() if name != "data"}
    data = given_anew(given.get("data"))
    return _plain(kept if data is None else given)


def _plain(given: dict[str, Any]) -> dict[str, Any]:
    """Option values as settings hold them."""
    values = dict(given)
    if "data" in values:
        values["data"] = str(values["data"])
    if "transfer" in values:
        values["transfer"] = tuple(values["transfer"])
    return values


def _settings(given: dict[str, Any], preset: str | None, config: Path | None) -> DistillSettings:
    """Defaults, under the preset, under the file, under the options given."""
    from xmodal_cli.runs.training_settings import from_file, preset_values
    from xmodal_cli.transfer.settings import PRESETS, DistillSettings

    values = {"data": DEFAULT_DATA, **preset_values(PRESETS, preset)}
    if config is not None:
        values |= from_file(config)
    return DistillSettings.from_dict(values | _plain(given))


def _report(result: DistillResult) -> None:
    """What the transfer gave, and the next step."""
    from xmodal_cli.data.annotations import ANNOTATION_FOLDER
    from xmodal_cli.runs.folder import open_run
    from xmodal_cli.transfer.distill import saved_settings

    settings = saved_settings(open_run(result.run))
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
    if any((Path(settings.data) / ANNOTATION_FOLDER).glob("*.json")):
        out.next_step(f"xmodal evaluate {result.run} --probe")
    else:
        out.next_step(f"load {result.run}/student.safetensors; card.json beside it says what it wants to be fed")


def _report_rehearsal(rehearsal: Rehearsal) -> None:
    """What a run would be, in figures."""
    rows: list[list[object]] = [
        ["pairs", f"{rehearsal.pairs}, {rehearsal.held_out} more held out"],
        ["transfer", ", ".join(rehearsal.settings.transfer)],
        ["steps", rehearsal.settings.iterations],
        ["time", f"about {duration(rehearsal.seconds)}, {rehearsal.seconds_per_step * 1000:.0f} ms a step"],
        ["memory", f"{rehearsal.memory_bytes / 1e9:.1f} GB"],
        ["teacher cache", f"{rehearsal.cache_bytes / 1e6:.0f} MB" if rehearsal.cache_bytes else "none"],
    ]
    tables = [table("dry run: nothing was written", ["", ""], rows, left=2)]
    out.result(rehearsal, tables, data=rehearsal.settings.data, split=rehearsal.settings.split)
    out.next_step("the same command without --dry-run")
