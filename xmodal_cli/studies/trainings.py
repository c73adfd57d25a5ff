"""Steps that train: a transfer or a detector of a name of its own, begun, resumed or found finished."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from xmodal_cli.classify import training as classification
from xmodal_cli.detect import finetune, mask_training
from xmodal_cli.errors import Interrupted, SettingsError
from xmodal_cli.runs.folder import CONFIG, RunFolder
from xmodal_cli.runs.session import Watchers
from xmodal_cli.runs.training_settings import HARMLESS, TrainingSettings
from xmodal_cli.studies.steps import AGAIN
from xmodal_cli.transfer import distill

# The module of each kind: its `TRAINING` begins and resumes runs, its `rehearse` takes two steps.
COMMANDS: Mapping[str, ModuleType] = {
    "distill": distill,
    "finetune": finetune,
    "segmentation": mask_training,
    "classification": classification,
}
Command = Literal["distill", "finetune", "segmentation", "classification"]
# Settings of the machine: a run that another machine began is the same run.
OF_THE_MACHINE = {*HARMLESS, "device", "threads", "precision"}


def settings_of(command: str) -> type[TrainingSettings]:
    """The class of a kind's settings."""
    kind: type[TrainingSettings] = COMMANDS[command].TRAINING.settings
    return kind


@dataclass(frozen=True)
class Training:
    """One training of a study.

    Args:
        command: the kind of training, and the folder of its runs.
        name: the run's name, `runs/<command>/<name>`.
        title: what it is, in words.
        given: the settings that are not the defaults.
        runs: the folder of all runs.
        trial: settings in whose place a trial takes others, because what they name is not made yet; None where
            nothing can take its place.
    """

    command: Command
    name: str
    title: str
    given: Mapping[str, Any]
    runs: Path
    trial: Mapping[str, Any] | None = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The run's folder, which is there once the training has begun."""
        return self.runs / self.command / self.name

    @property
    def run(self) -> RunFolder:
        """The run in that folder."""
        return RunFolder(self.path, self.command)

    def saved(self) -> dict[str, Any] | None:
        """The settings that the run was begun with, every `auto` resolved; None before that."""
        return self.run.config()["settings"] if (self.path / CONFIG).is_file() else None

    def finished(self) -> bool:
        """Whether the run is finished.

        Raises:
            SettingsError: there is a run of this name with other settings.
        """
        if self.saved() is None:
            return False
        found = self.run.config().get("asked", {})
        wanted = settings_of(self.command).from_dict(dict(self.given)).asked()
        keys = (found.keys() | wanted.keys()) - OF_THE_MACHINE
        pairs = {key: (found.get(key), wanted.get(key)) for key in sorted(keys)}
        differing = [f"{key} {there!r}, not {here!r}" for key, (there, here) in pairs.items() if there != here]
        if differing:
            raise SettingsError(
                f"The run {self.path} was made with {'; '.join(differing)}.",
                "Give this study a folder of its own with --runs, or remove that run.",
            )
        return self.run.finished

    def carry_out(self, watchers: Watchers) -> None:
        """Train, or go on with a training that was cut short."""
        training = COMMANDS[self.command].TRAINING
        if self.saved() is not None:
            result = training.resume(self.path, watchers=watchers)
        else:
            settings = training.settings.from_dict(dict(self.given))
            result = training.begin(settings, runs=self.runs, name=self.name, watchers=watchers)
        if not result.finished:
            raise Interrupted(f"Stopped in '{self.title}'; its state is saved.", AGAIN)

    def seconds(self) -> float | None:
        """The time that the whole training will take, from two steps of it; None where they cannot be taken yet."""
        if self.trial is None:
            return None
        settings = settings_of(self.command).from_dict({**self.given, **self.trial})
        return float(COMMANDS[self.command].rehearse(settings).seconds)

    def explained_variance(self) -> float | None:
        """Of a finished transfer's held-out pairs, percent; None where it is not finished or nothing was held out."""
        value = self.run.card()["metrics"].get("explained_variance") if self.finished() else None
        return None if value is None else 100 * float(value)

    def settings(self) -> dict[str, Any]:
        """The settings as far as they are known: the run's own where it has begun."""
        return self.saved() or settings_of(self.command).from_dict(dict(self.given)).to_dict()
