"""`xmodal finetune --task classification`: options to settings, one call, a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from xmodal_cli.cli.app import INTERRUPTED
from xmodal_cli.cli.output import out, table
from xmodal_cli.cli.progress import duration
from xmodal_cli.cli.rehearsal import report_rehearsal
from xmodal_cli.cli.training import TrainingCommand, refuse_strangers, train

if TYPE_CHECKING:
    from xmodal_cli.runs.training import TrainingResult


def train_classifier_command(options: Mapping[str, Any]) -> None:
    """Begin, rehearse or resume the training of a classifier, as the command's options say.

    Raises:
        SettingsError: an option is a detector's alone.
    """
    from xmodal_cli.classify import training as steps
    from xmodal_cli.classify.settings import PRESETS, ClassificationSettings

    refuse_strangers(
        ClassificationSettings,
        options,
        "belongs to the training of a detector; a classifier looks at whole images.",
        "Leave it out.",
    )
    command = TrainingCommand(
        settings=ClassificationSettings,
        presets=PRESETS,
        begin=steps.classify,
        resume=steps.resume,
        rehearse=steps.rehearse,
        features="images",
        report=_report,
        report_rehearsal=report_rehearsal,
    )
    train(command, options)


def _report(result: TrainingResult) -> None:
    """What the training gave, and the next step."""
    from xmodal_cli.classify.training import saved_settings
    from xmodal_cli.runs.folder import open_run

    settings = saved_settings(open_run(result.run))
    watched = {"accuracy": "accuracy on held-out images", "clip_accuracy": "on their clips"}
    figures: list[list[object]] = [
        [title, f"{result.metrics[name]:.1f} %"] for name, title in watched.items() if name in result.metrics
    ]
    rows: list[list[object]] = [
        ["run", result.run],
        ["steps", result.iterations],
        *(figures or [[watched["accuracy"], "nothing held out"]]),
        ["time", duration(result.seconds)],
    ]
    tables = [table("classifier" if result.finished else "interrupted", ["", ""], rows, left=2)]
    out.result(result, tables, runs=[result.run], data=settings.data, split=settings.split)
    if not result.finished:
        out.say(f"Interrupted; the state is saved. Go on with: xmodal finetune --resume {result.run}")
        raise typer.Exit(INTERRUPTED)
    out.next_step(f"xmodal finetune --data {settings.data} --modality {settings.modality} --init {result.run}")
