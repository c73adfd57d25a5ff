"""What is asked of a reproduction, and the recipe that becomes its steps.

A recipe names trainings, says which other training each begins from, and what is scored in the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from xmodal_cli.classify import settings as classifier_settings
from xmodal_cli.detect import mask_settings
from xmodal_cli.detect import settings as detector_settings
from xmodal_cli.models.backbones import skeleton
from xmodal_cli.models.detector_shape import detection_layer
from xmodal_cli.runs.training_settings import preset_values
from xmodal_cli.studies.joints import Joint
from xmodal_cli.studies.scores import BOXES, PROBE, Kind, Score, passes
from xmodal_cli.studies.steps import Step
from xmodal_cli.studies.trainings import Command, Training
from xmodal_cli.transfer import settings as transfer_settings

PRESETS = {
    "distill": transfer_settings.PRESETS,
    "finetune": detector_settings.PRESETS,
    "segmentation": mask_settings.PRESETS,
    "classification": classifier_settings.PRESETS,
}
# The network of each preset's rows, and the larger one that teaches in some: the paper's are AlexNet and VGG16.
COLOUR = "rgb"
NETWORKS: Mapping[str, tuple[str, str]] = {"small": ("squeezenet1_1", "squeezenet1_0"), "paper": ("alexnet", "vgg16")}


@dataclass(frozen=True)
class Plan:
    """What is asked of a reproduction.

    Args:
        table: such as `table1`, whose results lie in a folder of that name.
        data: the prepared data set.
        more_data: the same data in other splits: each figure is the mean over all of them.
        runs: the folder of all runs.
        modality: what the students see; usual: what they see in the paper. What sees another has it in its name.
        preset: `small` or `paper`, of transfers and detectors.
        backbone: the network of all rows; second: the larger teacher of some.
        weights, second_weights: files with their ImageNet weights, instead of downloads.
        seeds: each row is made with each of them.
        rows: the rows wanted; all if empty.
        train, split: what is learned from, what is scored.
        device: where rows are measured.
        given: further settings by command, `{"finetune": {"iterations": 2000}}`.
    """

    table: str
    data: Path
    runs: Path
    preset: str
    backbone: str
    second: str
    weights: Path | None = None
    second_weights: Path | None = None
    modality: str = "hha"
    usual: str = "hha"
    seeds: tuple[int, ...] = (0,)
    rows: tuple[str, ...] = ()
    train: str = "train"
    split: str = "val"
    given: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    more_data: tuple[Path, ...] = ()
    device: str = "auto"

    @property
    def every_data(self) -> tuple[Path, ...]:
        """Every data set, the first one first."""
        return (self.data, *self.more_data)

    @property
    def copied(self) -> dict[str, Any]:
        """Settings of a detector that begins with colour weights."""
        return _copied(self.backbone, self.weights)

    @property
    def second_copied(self) -> dict[str, Any]:
        """The same, of the second network."""
        return _copied(self.second, self.second_weights)

    @property
    def teacher(self) -> dict[str, Any]:
        """Settings of a transfer whose teacher has published weights."""
        weights = {} if self.weights is None else {"teacher_weights": str(self.weights)}
        return {"teacher": self.backbone, **weights}

    @property
    def no_init_preset(self) -> str:
        """Detectors from random weights train longer in the paper."""
        return "paper-no-init" if self.preset == "paper" else self.preset

    @cached_property
    def frozen_layer(self) -> str:
        """Through which layer a frozen detector is frozen: the one that its regions are cut from."""
        return detection_layer(skeleton(self.backbone), None)

    @property
    def folder(self) -> Path:
        """Where the measurements of the table lie."""
        return self.runs / "tables" / self.table


@dataclass
class Recipe:
    """The trainings and measurements of one seed on one data set, in the order in which they can be done.

    Args:
        plan: what is asked for.
        seed: of all of them; it ends every name.
        data: one of the plan's data sets; its folder's name is in every name, but for the first one's.
        trainings: by name; scores: by row; probes: by row.
        joints: zero-shot detectors, by name.
        needs: for each training the one that it begins from, for each joint those that it is made of.
    """

    plan: Plan
    seed: int
    data: Path
    trainings: dict[str, Training] = field(default_factory=dict)
    joints: dict[str, Joint] = field(default_factory=dict)
    scores: dict[str, Score] = field(default_factory=dict)
    probes: dict[str, Score] = field(default_factory=dict)
    needs: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def distill(self, name: str, title: str, given: Mapping[str, Any], *, teacher_run: str | None = None) -> None:
        """A transfer, from a teacher of its own or from the network of a detector of this recipe."""
        trial: dict[str, Any] = {}
        values = dict(given)
        if teacher_run is not None:
            values["teacher_run"] = self._run(teacher_run)
            network = self.trainings[teacher_run].given["backbone"]
            trial = {"teacher_run": None, "teacher": network, "teacher_weights": "random"}
            self.needs[name] = (teacher_run,)
        self._add("distill", name, title, values, self.plan.preset, trial)

    def finetune(
        self, name: str, title: str, given: Mapping[str, Any], *, init: str | None = None, preset: str | None = None
    ) -> None:
        """A detector, from weights or from a student of this recipe."""
        trial: dict[str, Any] = {}
        values = dict(given)
        if init is not None:
            values["init"] = self._run(init)
            begun = self.trainings[init].given
            trial = {"init": "random", "backbone": begun.get("student") or begun["backbone"]}
            self.needs[name] = (init,)
        self._add("finetune", name, title, values, preset or self.plan.preset, trial)

    def classify(self, name: str, title: str, given: Mapping[str, Any]) -> None:
        """A classifier of whole images."""
        self._add("classification", name, title, given, self.plan.preset, {})

    def zero_shot(self, name: str, title: str, detector: str, student: str | None, modality: str) -> None:
        """A detector of this recipe over a student of it, or shown a modality as it is."""
        taught = None if student is None else self.trainings[student]
        below, runs = self.trainings[detector], self.plan.runs
        self.joints[name] = Joint(self._named(name, modality), title, below, taught, modality, self.data, runs)
        self.needs[name] = (detector,) if student is None else (detector, student)

    def segment(self, name: str, title: str, given: Mapping[str, Any], *, init: str) -> None:
        """Masks on a detector of this recipe."""
        self.needs[name] = (init,)
        self._add("segmentation", name, title, {**given, "init": self._run(init)}, self.plan.preset, None)

    def score(self, row: str, title: str, detectors: Sequence[str], kind: Kind = BOXES) -> None:
        """AP of a row, of its boxes or its masks: of one run, or of several fused."""
        self.scores[row] = self._measure(f"score-{row.replace('/', '-')}", f"AP, {title}", detectors, kind)

    def probe(self, row: str, title: str, student: str) -> None:
        """The region probe of a row's student."""
        self.probes[row] = self._measure(f"probe-{row}", title, (student,), PROBE)

    def steps(self, rows: Sequence[str]) -> list[Step]:
        """What some rows need, in order."""
        measured = [kind[row] for row in rows for kind in (self.probes, self.scores) if row in kind]
        wanted = {self.name_of(path) for each in measured for path in each.runs}
        while more := {need for name in wanted for need in self.needs.get(name, ())} - wanted:
            wanted |= more
        made: list[Step] = [step for name, step in self.trainings.items() if name in wanted]
        return [*made, *(joint for name, joint in self.joints.items() if name in wanted), *passes(measured)]

    def name_of(self, path: Path) -> str:
        """What this recipe calls the run in a folder."""
        made: Mapping[str, Training | Joint] = {**self.trainings, **self.joints}
        return next(name for name, each in made.items() if each.path == path)

    def _named(self, name: str, modality: str, elsewhere: bool = False) -> str:
        seen = () if modality in (COLOUR, self.plan.usual) else (modality,)
        learned = () if elsewhere or self.data == self.plan.data else (self.data.name,)
        return "-".join((name, *seen, *learned, str(self.seed)))

    def _add(
        self,
        command: Command,
        name: str,
        title: str,
        given: Mapping[str, Any],
        preset: str,
        trial: Mapping[str, Any] | None,
    ) -> None:
        plan = self.plan
        values = {
            **preset_values(PRESETS[command], preset),
            "data": str(self.data),
            "split": plan.train,
            "seed": self.seed,
            **given,
            **plan.given.get(command, {}),
        }
        # What learns from other data, and begins with nothing that learned from these, is the same for all of them.
        elsewhere = values["data"] != str(self.data) and name not in self.needs
        named = self._named(name, values["modality"], elsewhere)
        self.trainings[name] = Training(command, named, title, values, plan.runs, trial)

    def _run(self, name: str) -> str:
        return str(self.trainings[name].path.resolve())

    def _measure(self, name: str, title: str, runs: Sequence[str], kind: Kind) -> Score:
        plan = self.plan
        paths = tuple((self.joints.get(run) or self.trainings[run]).path for run in runs)
        seen = {
            self.joints[run].modality if run in self.joints else self.trainings[run].given["modality"] for run in runs
        }
        (other,) = seen - {COLOUR} or {COLOUR}
        named = self._named(name, other)
        return Score(named, title, paths, self.data, plan.split, plan.folder, plan.runs, kind, plan.device)


def _copied(network: str, weights: Path | None) -> dict[str, Any]:
    own = {} if weights is None else {"weights": str(weights)}
    return {"init": "imagenet", "backbone": network, **own}
