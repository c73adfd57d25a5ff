"""Steps that join: a zero-shot detector, or a detector shown another modality as it is; nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodal_cli import files
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.branches import ZERO_SHOT
from xmodal_cli.detect.join import join_runs, open_detector
from xmodal_cli.detect.unadapted import show_unadapted
from xmodal_cli.errors import SettingsError
from xmodal_cli.runs.folder import CARD, RunFolder
from xmodal_cli.runs.session import Watchers
from xmodal_cli.studies.trainings import Training

MADE_OF = "made_of.json"  # beside the run's own files: what it was joined of


@dataclass(frozen=True)
class Joint:
    """A joined detector of a study.

    Args:
        name: the run's name, `runs/zero-shot/<name>`.
        title: what it is, in words.
        detector, student: what it is made of; without a student the detector is shown the modality as it is.
        modality: what it sees.
        data: the prepared data set.
        runs: the folder of all runs.
    """

    name: str
    title: str
    detector: Training
    student: Training | None
    modality: str
    data: Path
    runs: Path

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.runs / ZERO_SHOT / self.name

    def finished(self) -> bool:
        """Whether the run is there, joined of the two as they are now.

        Raises:
            SettingsError: a run of that name is there that no study has joined, of others than these.
        """
        made_of, run = self.path / MADE_OF, RunFolder(self.path, ZERO_SHOT)
        if run.finished and not made_of.is_file():
            self._check_own(run.card()["settings"])
        return made_of.is_file() and made_of.read_text() == self._parts() and run.finished

    def carry_out(self, watchers: Watchers) -> None:
        """Join them."""
        trained = open_detector(self.detector.path)
        if self.student is None:
            data = PreparedData.open(self.data)
            show_unadapted(trained, data, self.modality, runs=self.runs, name=self.name, overwrite=True)
        else:
            join_runs(trained, self.student.run, runs=self.runs, name=self.name, overwrite=True)
        files.write_text(self.path / MADE_OF, self._parts())

    def seconds(self) -> None:
        """Nothing is trained."""
        return

    def _check_own(self, settings: Mapping[str, Any]) -> None:
        parts = [None if part is None else str(part.path.resolve()) for part in (self.detector, self.student)]
        own = [settings["detector"], settings["student"]]
        if own != parts:
            found, wanted = (" and ".join(filter(None, each)) for each in (own, parts))
            raise SettingsError(
                f"The run {self.path} was joined of {found}; expected one of {wanted}.",
                "Give another --runs folder, or rename that run.",
            )

    def _parts(self) -> str:
        """The hashes of what it is made of."""
        parts = [part.path / CARD for part in (self.detector, self.student) if part is not None]
        return "".join(f"{files.sha256(card)}\n" for card in parts if card.is_file())
