"""`xmodal evaluate` of classifiers: what images and clips are called, and how often that is right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xmodal_cli.cli.options import given_anew
from xmodal_cli.cli.output import out, table
from xmodal_cli.cli.progress import counting

if TYPE_CHECKING:
    from xmodal_cli.classify.evaluation import ClassificationEvaluation
    from xmodal_cli.metrics.classification import Accuracy
    from xmodal_cli.runs.folder import RunFolder


def score(
    found: Sequence[RunFolder], data: Path | None, split: str, *, device: str, precision: str, runs: Path
) -> None:
    """Name the images of a split with finished runs, score that, report."""
    from xmodal_cli.classify.evaluation import evaluate_classifiers
    from xmodal_cli.data.prepared import PreparedData

    chosen = given_anew(data) or found[0].recorded_data()
    with counting("images") as watch:
        result = evaluate_classifiers(
            found,
            PreparedData.open(chosen),
            split=split,
            device=device,
            precision=precision,
            root=runs,
            watch=watch,
        )
    _report(result)


def _report(result: ClassificationEvaluation) -> None:
    """Accuracy of images and of clips, in all and by class, and where everything is kept."""
    parts = {"images": result.images} | ({} if result.clips is None else {"clips": result.clips})
    title = f"accuracy in percent, {result.subject}, split {result.split}"
    figures = [[name, *_figures(part)] for name, part in parts.items()]
    tables = [table(title, ["", "accuracy", "95 % interval", "class mean", "count"], figures)]
    columns = ["class", *(column for name in parts for column in (f"{name} right", name))]
    tables.append(table("by class", columns, _rows(list(parts.values()))))
    out.result(result, tables, runs=result.runs, data=result.data, split=result.split)
    for note in result.notes:
        out.warn(note)
    if result.unlabelled:
        out.say(f"{result.unlabelled} images of the split have no class and are not scored")
    out.say(f"kept in {result.folder}")


def _figures(part: Accuracy) -> list[object]:
    low, high = part.interval()
    return [f"{part.accuracy:.1f}", f"{low:.1f} to {high:.1f}", f"{part.class_mean_accuracy:.1f}", len(part)]


def _rows(parts: Sequence[Accuracy]) -> list[list[object]]:
    """For each class the share that is named rightly, and how many there are."""
    known = [(part.by_class, part.counts()) for part in parts]
    rows: list[list[object]] = []
    for name in parts[0].classes:
        cells = [
            ("none" if (share := shares[name]) is None else f"{share:.1f}", counts[name]) for shares, counts in known
        ]
        rows.append([name, *(cell for pair in cells for cell in pair)])
    return rows
