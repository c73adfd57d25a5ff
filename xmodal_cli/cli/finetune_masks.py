"""`xmodal finetune --task segmentation`: options to settings, one call, a report."""

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


def train_mask_command(options: Mapping[str, Any]) -> None:
    """Begin, rehearse or resume a training of masks, as the command's options say.

    Raises:
        SettingsError: an option is a detector's alone.
    """
    from xmodal_cli.detect import mask_training as steps
    from xmodal_cli.detect.mask_settings import PRESETS, MaskSettings

    refuse_strangers(
        MaskSettings,
        options,
        "belongs to the training of a detector; masks are learned on one that is finished.",
        "Leave it out: network, image size and regions are those of the detector given with --init.",
    )
    command = TrainingCommand(
        settings=MaskSettings,
        presets=PRESETS,
        begin=steps.train_masks,
        resume=steps.resume,
        rehearse=steps.rehearse,
        features="trunk's maps",
        report=_report,
        report_rehearsal=report_rehearsal,
    )
    train(command, options)


def _report(result: TrainingResult) -> None:
    """What the training gave, and the next step."""
    from xmodal_cli.detect.mask_training import saved_settings
    from xmodal_cli.runs.folder import open_run

    settings = saved_settings(open_run(result.run))
    watched = f"{result.metrics['mask_iou']:.1f} %" if "mask_iou" in result.metrics else "nothing held out"
    rows: list[list[object]] = [
        ["run", result.run],
        ["features", settings.features],
        ["steps", result.iterations],
        ["IoU of masks in held-out boxes", watched],
        ["time", duration(result.seconds)],
    ]
    tables = [table("masks" if result.finished else "interrupted", ["", ""], rows, left=2)]
    out.result(result, tables, runs=[result.run], data=settings.data, split=settings.split)
    if not result.finished:
        out.say(f"Interrupted; the state is saved. Go on with: xmodal finetune --resume {result.run}")
        raise typer.Exit(INTERRUPTED)
    out.next_step(f"xmodal evaluate {result.run} --task segmentation --split val")
