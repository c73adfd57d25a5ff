"""A first run for everyone: the whole idea on built-in rooms, from nothing to a table like the paper's Table 1.

A network learns to detect on labelled colour images of rooms. It teaches a student that sees HHA, on rooms that nobody
labelled; the student starts as a copy of its teacher, the better start where pairs are few. Detectors on HHA are then
trained on few labelled rooms: from random weights, from the colour network's own, and from the student; and one that no
label of HHA has taught is joined of student and teacher. All of it is computed by the functions behind the commands;
nothing is shipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xmodal_cli import files
from xmodal_cli.datasets.rooms.settings import RoomsSettings
from xmodal_cli.detect.propose import BOTTOM_UP, ProposalSettings
from xmodal_cli.metrics.paper import paper_row
from xmodal_cli.runs.session import NOBODY, Watchers
from xmodal_cli.runs.training_settings import FROM_TEACHER
from xmodal_cli.studies.making import Boxes, Rooms
from xmodal_cli.studies.plan import Plan, Recipe
from xmodal_cli.studies.rows import MAP, Figure, Row
from xmodal_cli.studies.steps import Moment, Step, run_study

TEACH, PAIRS, FEW, VAL = "teach", "pairs", "few", "val"
TEACHER, STUDENT, NONE, COPIED, TRANSFERRED = "teacher", "student", "none", "copied", "transferred"
AS_IT_IS, ZERO = "as-it-is", "zero"  # detectors of HHA that no label of HHA has taught
NETWORK, LAYER = "squeezenet1_1", "features.7"  # small enough to learn from nothing in minutes; one cell every 8 pixels
SIZE_HW = (120, 160)
TABLE = "table.json"
# The rows of the table: what it is, which detectors are scored together, and the paper's row that it is like, if any.
ROWS: Mapping[str, tuple[str, tuple[str, ...], str | None]] = {
    NONE: ("HHA: no initialisation", (NONE,), "table1/1A"),
    COPIED: ("HHA: copied from RGB", (COPIED,), "table1/1B"),
    TRANSFERRED: ("HHA: transferred", (TRANSFERRED,), "table1/1D"),
    TEACHER: ("RGB alone: the teacher", (TEACHER,), "table1/3A"),
    "rgb+copied": ("RGB + HHA copied", (TEACHER, COPIED), "table1/3B"),
    "rgb+transferred": ("RGB + HHA transferred", (TEACHER, TRANSFERRED), "table1/3C"),
    AS_IT_IS: ("HHA, no labels: the teacher shown HHA", (AS_IT_IS,), None),
    ZERO: ("HHA, no labels: zero-shot", (ZERO,), "table5/D"),
    "rgb+zero": ("RGB + HHA zero-shot", (TEACHER, ZERO), "table5/RGB+D"),
}
DETECTOR: dict[str, Any] = {
    "layer": LAYER,
    "size": SIZE_HW[0],
    "batch_size": 4,
    "pooling": "align",
    "regions": 64,
    "foreground": 0.5,
    "head": (256, 256),
    "trunk_lr": 1.0,
    "proposals": BOTTOM_UP,
}


@dataclass(frozen=True)
class Scale:
    """How much is made and trained.

    Args:
        rooms: by split.
        frames: of each room.
        boxes: proposals per image.
        steps: of the teacher, of the transfer, and of each detector on few labels.
    """

    rooms: Mapping[str, int]
    frames: int
    boxes: int
    steps: tuple[int, int, int]


# Ten minutes on two CPU cores; and one minute, whose figures prove nothing.
FULL = Scale({TEACH: 220, PAIRS: 360, FEW: 15, VAL: 100}, 2, 300, (1200, 2000, 300))
QUICK = Scale({TEACH: 4, PAIRS: 6, FEW: 3, VAL: 3}, 2, 100, (10, 10, 5))


@dataclass(frozen=True)
class DemoSettings:
    """What `xmodal demo` is told.

    Args:
        out: the folder in which everything lands.
        seeds: everything but the rooms is made with each of them.
        quick: about a minute; the figures prove nothing.
        device: where networks run.
        workers: processes that make rooms and proposals; None decides.
    """

    out: Path = Path("xmodal-demo")
    seeds: tuple[int, ...] = (0,)
    quick: bool = False
    device: str = "auto"
    workers: int | None = None

    @property
    def scale(self) -> Scale:
        """How much is made and trained."""
        return QUICK if self.quick else FULL

    @property
    def data(self) -> Path:
        """The rooms."""
        return self.out / "data"

    @property
    def runs(self) -> Path:
        """The folder of all runs."""
        return self.out / "runs"


@dataclass(frozen=True)
class Demo:
    """What the demo gave.

    Args:
        settings: what it was told.
        rows: the table.
        explained: explained variance of the student by seed, percent.
        detectors: folders of the first seed's detectors by row, and of its student.
    """

    settings: DemoSettings
    rows: tuple[Row, ...]
    explained: Mapping[int, float]
    detectors: Mapping[str, Path] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {
            "rows": [row.to_dict() for row in self.rows],
            "explained_variance": {str(seed): value for seed, value in self.explained.items()},
            "metric": "mAP at IoU 0.5, percent",
            "quick": self.settings.quick,
            "report": str(self.settings.out / "report.html"),
        }


def recipe(settings: DemoSettings, seed: int) -> Recipe:
    """Every training and measurement of one seed."""
    plan = Plan("demo", settings.data, settings.runs, "small", NETWORK, "", split=VAL, device=settings.device)
    made, (teach, transfer, few) = Recipe(plan, seed, plan.data), settings.scale.steps
    shared = {**DETECTOR, "device": settings.device}
    on_few = {**shared, "modality": "hha", "split": FEW, "iterations": few}
    rgb = {**shared, "modality": "rgb", "split": TEACH, "iterations": teach, "init": "random", "backbone": NETWORK}
    made.finetune(TEACHER, "teacher: a detector on labelled colour images", rgb)
    pairs = {
        "modality": "hha",
        "student": NETWORK,
        "init": FROM_TEACHER,
        "split": PAIRS,
        "transfer": (LAYER,),
        "batch_size": 4,  # explains more than half as many steps of twice as many
        "size": str(SIZE_HW[0]),
    }
    made.distill(
        STUDENT,
        "student: learns HHA from the teacher, without labels",
        {**pairs, "iterations": transfer, "device": settings.device},
        teacher_run=TEACHER,
    )
    made.finetune(
        NONE, "detector on HHA, few labels: no initialisation", {**on_few, "init": "random", "backbone": NETWORK}
    )
    copied = {**on_few, "init": str(made.trainings[TEACHER].path / "detector.safetensors"), "backbone": NETWORK}
    made.finetune(COPIED, "detector on HHA, few labels: weights copied from RGB", copied)
    made.needs[COPIED] = (TEACHER,)
    made.finetune(TRANSFERRED, "detector on HHA, few labels: transferred", on_few, init=STUDENT)
    made.zero_shot(AS_IT_IS, "the teacher, shown HHA", TEACHER, None, "hha")
    made.zero_shot(ZERO, "zero-shot: the teacher's head over the student", TEACHER, STUDENT, "hha")
    for row, (title, detectors, _) in ROWS.items():
        made.score(row, title, detectors)
    return made


def steps(settings: DemoSettings) -> list[Step]:
    """Everything that the demo does, in order."""
    scale = settings.scale
    rooms = RoomsSettings(
        settings.data,
        sum(scale.rooms.values()),
        scale.frames,
        SIZE_HW,
        splits=scale.rooms,
        modalities=("hha",),
        workers=settings.workers,
        name="rooms",
    )
    boxes = ProposalSettings(most=scale.boxes, split="+".join((TEACH, FEW, VAL)), workers=settings.workers)
    made: list[Step] = [Rooms(rooms), Boxes(settings.data, boxes)]
    for seed in settings.seeds:
        made += recipe(settings, seed).steps(tuple(ROWS))
    return made


def demo(
    settings: DemoSettings, watch: Callable[[Moment], None] = lambda moment: None, watchers: Watchers = NOBODY
) -> Demo:
    """Run what is not finished, and put the table together.

    Args:
        settings: how much, and where.
        watch: told of each step.
        watchers: told what happens within one.

    Raises:
        SettingsError: the folder holds a demo of other settings.
        Interrupted: it was stopped; running it again goes on.
    """
    run_study(steps(settings), watch, watchers)
    made = [recipe(settings, seed) for seed in settings.seeds]
    rows = tuple(
        Row(
            row,
            title,
            {MAP: Figure(_by_seed(made, row), None if like is None else paper_row(like).mAP)},
        )
        for row, (title, _, like) in ROWS.items()
    )
    explained = {
        each.seed: value for each in made if (value := each.trainings[STUDENT].explained_variance()) is not None
    }
    runs = made[0].trainings | made[0].joints
    found = Demo(settings, rows, explained, {name: each.path for name, each in runs.items()})
    files.write_json(settings.out / TABLE, found.to_dict())
    return found


def _by_seed(made: list[Recipe], row: str) -> dict[int, float]:
    return {each.seed: each.scores[row].figures()[MAP] for each in made}
