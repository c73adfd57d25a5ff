"""The page that `xmodal demo` ends with: what was done, the table, and what was learned, in pictures."""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.pictures.contact_sheet import draw_contact_sheet
from xmodal_cli.pictures.curves import draw_curves, read_curves
from xmodal_cli.pictures.detections import draw_scenes
from xmodal_cli.pictures.eyes import open_view
from xmodal_cli.pictures.features import draw_features, look_at_features
from xmodal_cli.pictures.filters import compare_filters, draw_filters
from xmodal_cli.pictures.report import Figure, Section, Table, Text, write_report
from xmodal_cli.pictures.scenes import scenes_of_runs
from xmodal_cli.runs.folder import open_run
from xmodal_cli.studies.demo import COPIED, FEW, NONE, PAIRS, STUDENT, TEACH, TEACHER, TRANSFERRED, VAL, Demo

COMMAND = "demo"
REPORT = "report.html"
TITLE = "Supervision carried from colour to depth"
SCENES, LEAST_SCORE, MOST_DETECTIONS = 6, 0.2, 8
SHOWN_PAIRS = 4
NO_PROOF = "This was a quick run: every stage works, but so little was trained that the figures prove nothing."


def write_demo_report(demo: Demo) -> Path:
    """Write `report.html` into the demo's folder.

    Returns:
        Its path.

    Raises:
        SettingsError: something that is no report of the demo has that name.
    """
    data = PreparedData.open(demo.settings.data)
    sections = [
        Section("What was done", _story(demo, data)),
        Section("The table", _table(demo)),
        Section("Detections on depth", [_detections(demo, data)]),
        Section("Teacher and student see the same", [_features(demo, data)]),
        Section("First layers", _filters(demo)),
        Section("Training", [_curves(demo)]),
    ]
    seeds = ", ".join(map(str, demo.settings.seeds))
    return write_report(
        demo.settings.out / REPORT, TITLE, sections, subtitle=f"xmodal demo, seeds {seeds}", command=COMMAND
    )


def _story(demo: Demo, data: PreparedData) -> list[Text | Table | Figure]:
    counts = {split: len(data.ids(split)) for split in data.splits}
    lines = [
        f"A teacher learned to detect things in {counts[TEACH]} labelled colour images of made-up rooms.",
        f"A student, at first a copy of the teacher, looked at the HHA images of {counts[PAIRS]} other pairs, none of "
        "them labelled, and learned to give the teacher's features for the colour images.",
        f"Three detectors on HHA then learned from only {counts[FEW]} labelled images: one from random weights, one "
        f"from the teacher's own weights, one from the student. All are scored on {counts[VAL]} images of rooms that "
        "nobody saw.",
        "A fourth detector on HHA has seen no label of HHA at all: it is the teacher's upper part over the student. "
        "Beside it stands the teacher that is shown HHA as if it were colour.",
    ]
    warning = [Text(NO_PROOF, problem=True)] if demo.settings.quick else []
    sheet = Figure(draw_contact_sheet(data, SHOWN_PAIRS), "Pairs of the rooms, with their labels.")
    return [*warning, *(Text(line) for line in lines), sheet]


def _table(demo: Demo) -> list[Text | Table | Figure]:
    rows = [
        [
            row.title,
            f"{row.main.mean:.1f}",
            ", ".join(f"{value:.1f}" for value in row.main.by_seed.values()),
            row.main.paper or "",
        ]
        for row in demo.rows
    ]
    best = [index for index, row in enumerate(demo.rows) if row.id == TRANSFERRED]
    explained = ", ".join(f"{value:.1f} %" for value in demo.explained.values())
    caption = "mAP at IoU 0.5, percent; beside it Tables 1 and 5 of the paper, on NYU Depth v2 with AlexNet"
    return [
        Table(["detector", "mAP", "each seed", "paper"], rows, caption=caption, marked=best),
        Text(f"Of the variance of the teacher's features on held-out pairs the student explains {explained}."),
        Text("The two columns are different experiments: compare what is above what, not the figures."),
    ]


def _detections(demo: Demo, data: PreparedData) -> Figure:
    runs = [open_run(demo.detectors[TRANSFERRED])]
    scenes = scenes_of_runs(runs, data, VAL, None, SCENES, LEAST_SCORE, MOST_DETECTIONS, demo.settings.device)
    caption = "What the detector that began with the student finds in HHA, drawn on both images of the pair."
    return Figure(draw_scenes(data, scenes, "detector on HHA, transferred"), caption)


def _features(demo: Demo, data: PreparedData) -> Figure:
    view = open_view(open_run(demo.detectors[STUDENT]), data, split=VAL, device=demo.settings.device)
    caption = "The first three principal components of the teacher's features, as red, green and blue, in both."
    return Figure(draw_features(view, look_at_features(view, SHOWN_PAIRS)), caption)


def _filters(demo: Demo) -> list[Text | Table | Figure]:
    compared = {name: compare_filters(open_run(demo.detectors[name])) for name in (TEACHER, STUDENT)}
    captions = {TEACHER: "The teacher's first layer, before and after it learned.", STUDENT: "The student's."}
    return [Figure(draw_filters(each), captions[name]) for name, each in compared.items()]


def _curves(demo: Demo) -> Figure:
    runs = [open_run(demo.detectors[name]) for name in (TEACHER, STUDENT, NONE, COPIED, TRANSFERRED)]
    return Figure(draw_curves([read_curves(run) for run in runs]), "Loss and explained variance of every training.")
