"""A finished run as a teacher: the network inside a detector (the paper's AlexNet*), a classifier, or a student.

The paper's best teachers are first finetuned for detection on RGB (experiment 1D, recipe 3.4). A student that has
learned another modality can teach in turn: transfers make chains. Only what the run learned may be taught: above that,
the network's layers are random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodal_cli.errors import SettingsError
from xmodal_cli.models.backbones import Backbone, full_name
from xmodal_cli.models.classifier import read_classifier
from xmodal_cli.models.detector_files import read_detector
from xmodal_cli.models.layers import Tapped, resolve_layer
from xmodal_cli.runs.folder import RunFolder, open_run
from xmodal_cli.transfer.student import load_student

DISTILL, CLASSIFICATION, DETECTORS = "distill", "classification", ("finetune", "zero-shot")
VISION = "torchvision"  # as in `detect.branches`, which lies above


@dataclass(frozen=True)
class TeacherRun:
    """The network of a finished run, described by its card; `load` reads its weights.

    Args:
        run: the folder.
        modality: what the network sees.
        network: the card's `name`, `library`, `in_channels`.
        layers: up to which the run learned, as far as its card says.
        random_keys: of the plain network's tensors those that the run does not have.
        card: the run's card, or of a detector that branch's part.
        classes: of a detector; 0 of others.
    """

    run: RunFolder
    modality: str
    network: Mapping[str, Any]
    layers: tuple[str, ...]
    random_keys: frozenset[str]
    card: Mapping[str, Any]
    classes: int

    @property
    def name(self) -> str:
        """The network's name, with its library."""
        return full_name(self.network)

    @property
    def origin(self) -> str:
        """A few words for it."""
        return str(self.run.path)

    def load(self) -> Backbone:
        """The network with its learned weights and its own input specification.

        Raises:
            DataError: the run's files are damaged.
        """
        if self.run.command == DISTILL:
            return load_student(self.run).backbone
        if self.run.command == CLASSIFICATION:
            return read_classifier(self.run.path, self.card)[1]
        return read_detector(self.run.path, self.card, self.classes)[1]

    def read_layers(self) -> tuple[str, ...]:
        """The layers that a detector reads; none of another run."""
        return self.layers if self.run.command in DETECTORS else ()

    def looks_at(self) -> tuple[int, bool]:
        """The short side, in pixels, at which a detector sees images; never a square."""
        return self.run.card()["size"]["short"], False

    def check_layers(self, backbone: Backbone, layers: Sequence[str]) -> None:
        """Make sure that the run learned everything below some layers.

        Raises:
            SettingsError: it did not; the hint names a layer that it did learn.
        """
        for layer in layers:
            if self.random_keys & Tapped(backbone, [layer]).kept_state().keys():
                learned = resolve_layer(backbone, Tapped(backbone, self.layers).last.name)
                raise SettingsError(
                    f"The run {self.run.path} learned {backbone.name} through {learned}; above it, {layer} is random.",
                    f"Transfer what was learned: --transfer {learned}:STUDENT_LAYER",
                )

    def to_dict(self) -> dict[str, Any]:
        """What a student's card says of it."""
        return {"path": str(self.run.path), "command": self.run.command}


def open_teacher_run(path: Path, source: str | None = None) -> TeacherRun:
    """A finished run that can teach.

    Args:
        path: its folder.
        source: the modality that is wanted, which chooses among the networks of a run that trained several jointly.

    Raises:
        SettingsError: there is no run, or it left no network that could teach.
        DataError: the run is not finished.
    """
    run = open_run(path)
    if run.command not in (*DETECTORS, CLASSIFICATION, DISTILL):
        raise SettingsError(
            f"{path} is a run of `xmodal {run.made_by}`, which leaves no network.",
            "--teacher-run takes a run of `xmodal finetune` or `xmodal distill`.",
        )
    card = run.card()
    if run.command == DISTILL:
        layers = tuple(point["student"] for point in card["transfer"])
        return TeacherRun(
            run, card["modality"], card["student"], layers, frozenset(card["missing_keys"]), card, classes=0
        )
    if run.command == CLASSIFICATION:
        missing = frozenset(card["missing_keys"])
        return TeacherRun(run, card["modality"], card["backbone"], (card["layer"],), missing, card, classes=0)
    if card.get("kind") == VISION:
        raise SettingsError(
            f"{path} is a {card['detector']['name']} of torchvision above a student.",
            f"Let the student itself teach: --teacher-run {card['student']['run']}",
        )
    branches = [branch for branch in card["branches"] if branch["modality"] == source] or card["branches"]
    branch = branches[0]
    return TeacherRun(
        run,
        branch["modality"],
        branch["backbone"],
        (branch["shape"]["layer"],),
        frozenset(branch["missing_keys"]),
        branch,
        len(card["classes"]),
    )
