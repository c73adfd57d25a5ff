"""What the training commands share: options, how they become settings, and how a run is begun, rehearsed or resumed.

Options that are settings have no Typer default: None means not given, so that presets and files can decide.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from xmodal_cli.cli.options import DEFAULT_DATA, given_anew, option
from xmodal_cli.cli.output import out
from xmodal_cli.cli.progress import TrainingScreen
from xmodal_cli.errors import SettingsError

if TYPE_CHECKING:
    from xmodal_cli.runs.training_settings import TrainingSettings

    Settings = TypeVar("Settings", bound=TrainingSettings)


TRAINING, MACHINE, RUN = "Training", "Machine", "Run"  # panels of the help
# Options that are no settings of any training: what is trained, where the run lies, and how it is begun.
OF_RUNS = ("task", "preset", "devices", "run_name", "runs", "config", "resume", "overwrite", "dry_run", "input_")

WarmupSetting = Annotated[int | None, option("Steps of rising rate. [default: 5 % of all]", TRAINING)]
ClipNormSetting = Annotated[float | None, option("Largest gradient norm; 0: any. [default: 0]", TRAINING)]
ScheduleSetting = Annotated[str | None, option("cosine, step or constant. [default: cosine]", TRAINING)]
DecaySetting = Annotated[float | None, option("Of weights; biases have none. [default: 0.0001]", TRAINING)]
SeedSetting = Annotated[int | None, option("Of every random draw. [default: 0]", TRAINING)]
PrecisionSetting = Annotated[str | None, option("auto, bf16, fp16 or fp32. [default: auto]", MACHINE)]
DeviceSetting = Annotated[str | None, option("auto, cpu, cuda or cuda:N. [default: auto]", MACHINE)]
DevicesOption = Annotated[int, typer.Option("--devices", help="Processes, one per GPU.", rich_help_panel=MACHINE)]
ThreadsSetting = Annotated[int | None, option("CPU threads. [default: all]", MACHINE)]
WorkersSetting = Annotated[int | None, option("Processes that read images. [default: auto]", MACHINE)]
ConfigOption = Annotated[Path | None, option("Settings from a YAML file; options win over it.", RUN)]
CheckpointSetting = Annotated[int | None, option("Steps between checkpoints. [default: 200]", RUN)]
ResumeOption = Annotated[Path | None, option("Continue this run with its own settings.", RUN)]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace a run of that name.", rich_help_panel=RUN)]
DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="Build everything, run two steps, estimate; write nothing.", rich_help_panel=RUN),
]


@dataclass(frozen=True)
class TrainingCommand:
    """What is a training command's own.

    Args:
        settings: its settings.
        presets: by name.
        begin: begins a run of some settings; takes `runs`, `name`, `overwrite` and `watchers`.
        resume: continues a run's folder; takes `changes` and `watchers`.
        rehearse: takes two steps and writes nothing.
        features: what is computed before the training, in words.
        report: says what a run gave.
        report_rehearsal: says what a run would be.
    """

    settings: type[TrainingSettings]
    presets: Mapping[str, Mapping[str, Any]]
    begin: Callable[..., Any]
    resume: Callable[..., Any]
    rehearse: Callable[..., Any]
    features: str
    report: Callable[[Any], None]
    report_rehearsal: Callable[[Any], None]


def train(command: TrainingCommand, options: Mapping[str, Any]) -> None:
    """Begin, rehearse or resume a run, as the options say.

    Args:
        command: the command.
        options: its options by name, those of this module among them.
    """
    from xmodal_cli.runs import processes
    from xmodal_cli.runs.session import Watchers

    given = given_settings(command.settings, options)
    begins = {name: options[name] for name in ("preset", "config", "run_name", "overwrite", "dry_run")}
    devices, resume = options["devices"], options["resume"]
    if devices > 1 and begins["dry_run"]:
        raise SettingsError("A dry run is of one process.", "Leave --devices out.")
    if devices > 1 and processes.count() == 1:
        raise typer.Exit(processes.launch(devices, out.arguments))
    if resume is not None:
        refuse_beginning(**begins)
    else:
        settings = merged_settings(command.settings, command.presets, given, begins["preset"], begins["config"])
    if begins["dry_run"]:
        command.report_rehearsal(command.rehearse(settings))
        return
    with TrainingScreen(command.features) as screen:
        watchers = Watchers(out.say, screen.downloading, screen.filling, screen.training, out.detail)
        if resume is not None:
            result = command.resume(resume, changes=changed_settings(given), watchers=watchers)
        else:
            where = {"runs": options["runs"], "name": begins["run_name"], "overwrite": begins["overwrite"]}
            result = command.begin(settings, **where, watchers=watchers)
    command.report(result)


def given_settings(kind: type[TrainingSettings], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given and are settings, as settings hold them."""
    names = [field.name for field in dataclasses.fields(kind)]
    given = {name: options[name] for name in names if options.get(name) is not None}
    return {name: _plain(value) for name, value in given.items()}


def changed_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings given with `--resume`; the environment's data set is none."""
    named = "data" in given and given_anew(Path(given["data"])) is not None
    return {name: value for name, value in given.items() if name != "data" or named}


def merged_settings(
    kind: type[Settings],
    presets: Mapping[str, Mapping[str, Any]],
    given: Mapping[str, Any],
    preset: str | None,
    config: Path | None,
) -> Settings:
    """Defaults, under the preset, under the file, under the options given."""
    from xmodal_cli.runs.training_settings import from_file, preset_values

    values = {"data": DEFAULT_DATA, **preset_values(presets, preset)}
    if config is not None:
        values |= from_file(config)
    return kind.from_dict(values | dict(given))


def refuse_strangers(kind: type[TrainingSettings], options: Mapping[str, Any], why: str, hint: str) -> None:
    """Options of a command that a training of another kind has are not silently ignored.

    Args:
        kind: the settings of the training.
        options: of the command by name.
        why: whose they are, a sentence after the options.
        hint: what to do.

    Raises:
        SettingsError: one was given.
    """
    known = {*(field.name for field in dataclasses.fields(kind)), *OF_RUNS}
    strange = [name for name, value in options.items() if value is not None and name not in known]
    if strange:
        listed = ", ".join(f"--{name.replace('_', '-')}" for name in strange)
        raise SettingsError(f"{listed} {why}", hint)


def refuse_beginning(**options: Any) -> None:
    """Options that only make sense for a new run are not silently ignored where one is continued.

    Raises:
        SettingsError: one was given.
    """
    begins = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
    if begins:
        raise SettingsError(f"--resume continues a run; {', '.join(begins)} begins one.", "Leave one of them out.")


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return tuple(value) if isinstance(value, list) else value
