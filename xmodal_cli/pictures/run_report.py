"""What a report says of runs: what they are, how their settings differ, how they went, how good they are, pictures.

Whatever cannot be shown (a data set that moved, metrics that are damaged, a run that is not finished) leaves a line in
its place that says why, and the rest of the page is made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.branches import DETECTORS, ZERO_SHOT, is_vision
from xmodal_cli.detect.hypercolumns import COMMAND as MASKS
from xmodal_cli.detect.scoring import COMMAND as EVALUATE
from xmodal_cli.detect.scoring import RESULTS
from xmodal_cli.detect.start import CLASSIFICATION
from xmodal_cli.errors import DataError, XmodalError
from xmodal_cli.metrics.paper import PaperRow
from xmodal_cli.pictures.curves import draw_curves, names_of, read_curves
from xmodal_cli.pictures.detections import draw_scenes
from xmodal_cli.pictures.eyes import evenly, open_view
from xmodal_cli.pictures.features import draw_features, look_at_features
from xmodal_cli.pictures.filters import channel_summary, compare_filters, draw_filters
from xmodal_cli.pictures.patches import choose_units, draw_patches, respond
from xmodal_cli.pictures.report import Figure, Section, Table, Text
from xmodal_cli.pictures.scenes import scenes_of_runs
from xmodal_cli.runs.folder import CARD, RunFolder

Part = Text | Table | Figure
SCENES, LEAST_SCORE, MOST_DETECTIONS = 4, 0.1, 6
UNITS = 3
LOOKED_AT = 200  # pairs in which units are searched: a report of several runs should take minutes at most


@dataclass(frozen=True)
class Choice:
    """What a report of runs shows.

    Args:
        data: the data set; None takes the one that each run learned from.
        paper: a row of the paper's tables that stands beside scores.
        pictures: whether networks are looked at, which takes time.
        device: where networks run.
    """

    data: Path | None = None
    paper: PaperRow | None = None
    pictures: bool = True
    device: str = "auto"


def sections_of(
    runs: Sequence[RunFolder], choice: Choice, telling: Callable[[str], None] = lambda text: None
) -> tuple[list[Section], list[str]]:
    """The sections of a report of one run, or of several compared.

    Args:
        runs: of `distill` or `finetune`, finished or not.
        choice: what is shown.
        telling: told what is being drawn.

    Returns:
        The sections, and what had to be left out, a sentence each.
    """
    names, problems = names_of(runs), []

    def tried(what: str, make: Callable[[], list[Part]]) -> list[Part]:
        telling(what)
        try:
            return make()
        except XmodalError as error:
            problems.append(f"{what}: {error.message}")
            return [Text(f"Left out: {error.message} {error.hint or ''}".strip(), problem=True)]

    sections = [
        Section("Runs", tried("runs", lambda: [_overview(runs, names)])),
        Section("Settings", tried("settings", lambda: _settings(runs, names))),
    ]
    trained = [run for run in runs if run.command != ZERO_SHOT]
    sections += [Section("Training", tried("curves", lambda: _curves(trained)))] if trained else []
    scores = tried("scores", lambda: _scores(runs, names, choice.paper))
    sections += [Section("Scores", scores)] if scores else []
    for run, name in zip(runs, names, strict=True) if choice.pictures else ():
        kinds = _looks(run, choice)
        sections += [
            Section(f"{title}: {name}", tried(f"{title.lower()} of {name}", make)) for title, make in kinds.items()
        ]
    return sections, problems


def _looks(run: RunFolder, choice: Choice) -> dict[str, Callable[[], list[Part]]]:
    """What can be looked at in a run, by title."""
    shown: dict[str, Callable[[], list[Part]]] = {}
    if run.command != MASKS and not is_vision(run):  # those of masks are their detector's
        shown["First-layer filters"] = lambda: _filters(run)
        if run.command == "distill":
            shown["Features"] = lambda: _features(run, choice)
        shown["Patches"] = lambda: _patches(run, choice)
    if run.command in (*DETECTORS, MASKS):
        shown["Detections"] = lambda: _detections(run, choice)
    return shown


def _card(run: RunFolder) -> dict[str, Any]:
    """The card of a run; empty where it is not finished.

    Raises:
        DataError: it is damaged.
    """
    if not run.finished:
        return {}
    try:
        return run.card()
    except ValueError as error:
        raise DataError(f"{run.path / CARD} is damaged: {error}.") from None


def _overview(runs: Sequence[RunFolder], names: Sequence[str]) -> Table:
    """What each run is, a column a run."""
    cards = [_card(run) for run in runs]
    rows: list[list[object]] = [
        ["what", *(card.get("what", "not finished") for card in cards)],
        ["command", *(f"xmodal {run.made_by}" for run in runs)],
        ["made", *(card.get("made", "") for card in cards)],
        ["data", *(_data_line(card) for card in cards)],
        ["iterations", *(card.get("iterations", "") for card in cards)],
        ["minutes", *(f"{card['seconds'] / 60:.1f}" if "seconds" in card else "" for card in cards)],
    ]
    keys = dict.fromkeys(key for card in cards for key in card.get("metrics", {}))
    rows += [[key, *(_rounded(card.get("metrics", {}).get(key)) for card in cards)] for key in keys]
    return Table(["", *names], rows)


def _data_line(card: Mapping[str, Any]) -> str:
    data = card.get("data", {})
    count = f"{data['pairs']} pairs" if "pairs" in data else f"{data.get('images')} images"
    return f"{data['name']}, split {data['split']}, {count}" if data else ""


def _rounded(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else value


def _settings(runs: Sequence[RunFolder], names: Sequence[str]) -> list[Part]:
    """All settings; of several runs those that differ first, highlighted."""
    found = [dict(run.config()["settings"]) for run in runs]
    keys = list(dict.fromkeys(key for settings in found for key in settings))
    rows = [[key, *(_shown(settings, key) for settings in found)] for key in keys]
    differing = [row for row in rows if len(set(map(str, row[1:]))) > 1]
    alike = [row for row in rows if row not in differing]
    columns = ["setting", *names]
    if len(runs) == 1:
        return [Table(columns, rows, folded=f"{len(rows)} settings")]
    head: list[Part] = [Text("All settings are alike.")]
    if differing:
        head = [Table(columns, differing, "settings that differ", marked=range(len(differing)))]
    return [*head, Table(columns, alike, folded=f"{len(alike)} settings that are alike")] if alike else head


def _shown(settings: Mapping[str, Any], key: str) -> str:
    value = settings.get(key)
    if value is None:
        return "–"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _curves(runs: Sequence[RunFolder]) -> list[Part]:
    return [Figure(draw_curves([read_curves(run) for run in runs]), "What was reported while the runs trained.")]


def evaluations_of(run: RunFolder) -> list[tuple[str, dict[str, Any]]]:
    """The evaluations of a run, or of it and others fused, that lie beside the runs: name and content of each.

    Damaged ones are passed over: they are not this run's.
    """
    found = []
    for path in sorted((run.path.parents[1] / EVALUATE).glob(f"*/{RESULTS}")):
        try:
            document = json.loads(path.read_bytes())
            ours = any(Path(each).parts[-2:] == run.path.parts[-2:] for each in document["runs"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if ours:
            found.append((path.parent.name, document))
    return found


def _scores(runs: Sequence[RunFolder], names: Sequence[str], paper: PaperRow | None) -> list[Part]:
    """Tables of AP by class, of probes and of classifications, the paper's figures beside the first."""
    found = {name: document for run in runs for name, document in evaluations_of(run)}
    detecting = {name: each for name, each in found.items() if "AP" in each.get("results", {})}
    probing = {name: each["results"]["probe"] for name, each in found.items() if "probe" in each.get("results", {})}
    parts: list[Part] = []
    if detecting:
        parts.append(_ap_table(detecting, paper))
    if probing:
        rows = [[name, each["accuracy"], each["class_mean_accuracy"]] for name, each in probing.items()]
        parts.append(Table(["evaluation", "accuracy", "class mean"], rows, "Region probe, percent."))
    naming = {name: each["results"] for name, each in found.items() if each.get("task") == CLASSIFICATION}
    if naming:
        parts.append(_accuracy_table(naming))
    return parts


def _ap_table(detecting: Mapping[str, Mapping[str, Any]], paper: PaperRow | None) -> Table:
    """A row a class, a column an evaluation, the paper's row last."""
    classes = list(dict.fromkeys(name for each in detecting.values() for name in each["results"]["AP"]))
    rows: list[list[object]] = [
        [name, *(_percent(each["results"]["AP"].get(name)) for each in detecting.values())] for name in classes
    ]
    rows.append(["mean", *(_percent(each["results"]["mAP"]) for each in detecting.values())])
    columns = ["class", *detecting]
    caption = "AP in percent, by evaluation"
    if paper is not None:
        columns.append(f"paper, {paper.table}/{paper.id}")
        beside = {**paper.ap, "mean": paper.mAP}
        rows = [[*row, _percent(beside.get(str(row[0])))] for row in rows]
        caption += "; the paper's figures are of other networks, data and training: see docs/results.md"
    return Table(columns, rows, f"{caption}.", marked=[len(rows) - 1])


def _accuracy_table(naming: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row an evaluation: images, and clips where there are any."""
    rows: list[list[object]] = [
        [name, *(each[kind]["accuracy"] if each[kind] else "" for kind in ("images", "clips"))]
        for name, each in naming.items()
    ]
    return Table(["evaluation", "images", "clips"], rows, "Classification: top-1 accuracy in percent.")


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _filters(run: RunFolder) -> list[Part]:
    compared = compare_filters(run)
    rows = channel_summary(compared)
    return [
        Figure(draw_filters(compared), "Filters of the first layer before and after training, and the teacher's."),
        Table(["filters", "shape", "relative change", "correlation to now"], rows),
    ]


def _data(run: RunFolder, choice: Choice) -> PreparedData:
    return PreparedData.open(choice.data or run.recorded_data())


def _features(run: RunFolder, choice: Choice) -> list[Part]:
    view = open_view(run, _data(run, choice), device=choice.device)
    caption = "Maps of teacher and student on held-out pairs, along the teacher's three main directions."
    return [Figure(draw_features(view, look_at_features(view)), caption)]


def _patches(run: RunFolder, choice: Choice) -> list[Part]:
    view = open_view(run, _data(run, choice), device=choice.device)
    view = replace(view, ids=tuple(evenly(view.ids, LOOKED_AT)))
    responses = respond(view)
    drawn = draw_patches(view, responses, choose_units(responses, None, UNITS))
    return [Figure(drawn, "Where units fire most, and the source images at the same places.")]


def _detections(run: RunFolder, choice: Choice) -> list[Part]:
    data = _data(run, choice)
    scenes = scenes_of_runs([run], data, "val", None, SCENES, LEAST_SCORE, MOST_DETECTIONS, choice.device)
    caption = f"The best {MOST_DETECTIONS} detections of some images of split val, scores of {LEAST_SCORE} and above."
    return [Figure(draw_scenes(data, scenes, f"{run.path.name}, split val"), caption)]
