"""The networks of a run that one looks at: what it is now, what it started from, and who taught it.

A detector that began with a student has that student's teacher; a chain of runs is followed as far as its folders are
still there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodal_cli.classify.training import saved_settings as classifier_settings
from xmodal_cli.detect.branches import DETECTORS, ZERO_SHOT, load_backbone
from xmodal_cli.detect.finetune import saved_settings as detector_settings
from xmodal_cli.detect.start import CLASSIFICATION, StartSettings, start_backbone, start_from_run
from xmodal_cli.errors import SettingsError
from xmodal_cli.models.backbones import Backbone
from xmodal_cli.runs.folder import CARD, RunFolder, open_run
from xmodal_cli.runs.training_settings import FROM_TEACHER
from xmodal_cli.transfer.build import start_student, teacher_network
from xmodal_cli.transfer.distill import COMMAND as TRANSFER
from xmodal_cli.transfer.distill import saved_settings as transfer_settings
from xmodal_cli.transfer.resolve import teacher_run
from xmodal_cli.transfer.student import load_student
from xmodal_cli.web.fetch import Watcher


def silent(url: str, done: int, total: int) -> None:
    """Nobody is told of a download."""


@dataclass(frozen=True)
class Subject:
    """A finished run and its network.

    Args:
        run: the folder.
        modality: what the network sees.
        network: as it is now; of several trained jointly the first.
        layers: student layers of the transfer points, or the layer whose map a detector or classifier reads.
        card: of the run.
    """

    run: RunFolder
    modality: str
    network: Backbone
    layers: tuple[str, ...]
    card: Mapping[str, Any]

    @property
    def is_transfer(self) -> bool:
        """Whether it is a student of `distill`; else what was trained with labels."""
        return self.run.command == TRANSFER

    @property
    def who(self) -> str:
        """What the network is, in a word."""
        return {TRANSFER: "student", CLASSIFICATION: "classifier"}.get(self.run.command, "detector")


def open_subject(run: RunFolder) -> Subject:
    """The network of a finished run.

    Raises:
        SettingsError: another command made it, which leaves no network to look at.
        DataError: the run is not finished, or its files are damaged.
    """
    if run.command == TRANSFER:
        student = load_student(run)
        return Subject(run, student.modality, student.backbone, student.layers, student.card)
    if run.command == CLASSIFICATION:
        start, card = start_from_run(run, seed=0), run.card()
        return Subject(run, start.modality, start.backbone, (card["layer"],), card)
    if run.command not in DETECTORS:
        raise SettingsError(
            f"{run.path} is a run of `xmodal {run.made_by}`, which leaves no network to look at.",
            "Name a run of `xmodal distill` or `xmodal finetune`.",
        )
    network, branch = load_backbone(run)
    return Subject(run, branch["modality"], network, (branch["shape"]["layer"],), run.card())


def start_of(subject: Subject, downloading: Watcher = silent) -> tuple[str, Backbone]:
    """What a run's network was before its first step.

    Args:
        subject: the run.
        downloading: told of a download: published weights may have to be fetched again.

    Returns:
        A few words for it, and the network.

    Raises:
        XmodalError: the run or the file that it began with is gone.
    """
    channels = subject.network.in_channels
    if subject.is_transfer:
        settings = transfer_settings(subject.run)
        points = [point["student"] for point in subject.card["transfer"]]
        taught = teacher_of(subject, downloading) if settings.init == FROM_TEACHER else None
        start = start_student(
            settings, None if taught is None else taught[1], channels, points, transfer_size_hw(subject), downloading
        )
        return _word(settings.init), start
    if subject.run.command == ZERO_SHOT:
        return start_of(_student_of(subject), downloading)
    trained = _trained_settings(subject)
    if Path(trained.init).is_dir():
        return _word(trained.init), start_from_run(open_run(Path(trained.init)), trained.seed).backbone
    return _word(trained.init), start_backbone(trained, channels, downloading)


def teacher_of(subject: Subject, downloading: Watcher = silent) -> tuple[str, Backbone] | None:
    """The network that taught a student, or the student that a detector began with.

    Args:
        subject: the run.
        downloading: told of a download.

    Returns:
        What it sees and the network; None where nobody taught, or the run of the transfer is gone.

    Raises:
        XmodalError: the teacher's weights are gone.
    """
    if not subject.is_transfer:
        zero_shot = subject.run.command == ZERO_SHOT
        earlier = subject.card["settings"]["student"] if zero_shot else _trained_settings(subject).init
        if earlier is None or not (Path(earlier) / CARD).is_file():
            return None
        return teacher_of(open_subject(open_run(Path(earlier))), downloading)
    settings = transfer_settings(subject.run)
    channels = len(subject.card["teacher"]["input"]["mean"])
    layers = [point["teacher"] for point in subject.card["transfer"]]
    taught_by = teacher_run(settings)
    return settings.source, teacher_network(
        settings, taught_by, channels, layers, transfer_size_hw(subject), downloading
    )


def transfer_size_hw(subject: Subject) -> tuple[int, int]:
    """Height and width that the networks of a transfer saw."""
    height, width = subject.card["size_hw"]
    return height, width


def _student_of(subject: Subject) -> Subject:
    """The transfer whose student stands in a zero-shot detector.

    Raises:
        SettingsError: there is none, or its run is gone.
    """
    made = subject.card["settings"]
    if made["student"] is None:
        raise SettingsError(
            f"{subject.run.path} is {made['detector']}, shown {subject.modality} as it is: nothing was trained.",
            f"Look at that one: {made['detector']}",
        )
    return open_subject(open_run(Path(made["student"])))


def _trained_settings(subject: Subject) -> StartSettings:
    """The settings of a training with labels."""
    if subject.run.command == CLASSIFICATION:
        return classifier_settings(subject.run)
    return detector_settings(subject.run)


def _word(init: str) -> str:
    """A start in a word: `random`, `imagenet`, or the name of a run or file."""
    return Path(init).name
