"""Steps that measure: AP of boxes or masks, of one run or of several fused, and the region probe; one document each.

Detectors look at every image for minutes. Rows that share one are measured in one pass, in which it looks once; a pass
that is stopped before it has seen every image is done again from its beginning.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from xmodal_cli import files
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.mask_evaluation import evaluate_masks
from xmodal_cli.detect.probe_evaluation import evaluate_probe
from xmodal_cli.detect.run_detection import Looking
from xmodal_cli.detect.run_evaluation import evaluate_ensembles
from xmodal_cli.errors import DataError
from xmodal_cli.runs.folder import CARD, open_run
from xmodal_cli.runs.session import Watchers
from xmodal_cli.studies.rows import MAP

Kind = Literal["boxes", "masks", "probe"]
BOXES: Kind = "boxes"
MASKS: Kind = "masks"
PROBE: Kind = "probe"
AP_R_50, AP_R_70 = "AP^r at 0.5", "AP^r at 0.7"
# What is read of each kind's results, percent.
FIGURES: Mapping[Kind, Mapping[str, Callable[[Mapping[str, Any]], float]]] = {
    BOXES: {MAP: lambda results: float(results["mAP"])},
    MASKS: {
        AP_R_50: lambda results: float(results["mAP_r"]["0.5"]),
        AP_R_70: lambda results: float(results["mAP_r"]["0.7"]),
    },
    PROBE: {"probe": lambda results: float(results["probe"]["accuracy"])},
}


@dataclass(frozen=True)
class Score:
    """One measurement of a study.

    Args:
        name: its document is `<name>.json`.
        title: what is measured, in words.
        runs: folders of the runs: several are fused.
        data: the prepared data set.
        split: the split scored.
        folder: where the documents of the study lie.
        root: the folder of all runs, for what an evaluation itself keeps.
        kind: what of them: AP of boxes, AP^r of masks, or a student's region probe.
        device: where.
    """

    name: str
    title: str
    runs: Sequence[Path]
    data: Path
    split: str
    folder: Path
    root: Path
    kind: Kind = BOXES
    device: str = "auto"

    @property
    def path(self) -> Path:
        """The document."""
        return self.folder / f"{self.name}.json"

    def finished(self) -> bool:
        """Whether the document is there and measures the runs as they are now."""
        return self.path.is_file() and _read(self.path).get("cards") == self._cards()

    def figures(self) -> dict[str, float]:
        """The figures by name, percent.

        Raises:
            DataError: the document is damaged.
        """
        results = self.results()
        return {name: read(results) for name, read in FIGURES[self.kind].items()}

    def results(self) -> dict[str, Any]:
        """Everything that `evaluate --json` gives.

        Raises:
            DataError: the document is damaged.
        """
        results: dict[str, Any] = _read(self.path)["results"]
        return results

    def carry_out(self, watchers: Watchers) -> None:
        """Measure, and keep the document."""
        if self.kind == BOXES:
            measure_together([self], watchers)
        else:
            self.keep(self._measured(watchers))

    def keep(self, results: Mapping[str, Any]) -> None:
        """Write the document."""
        document = {"runs": [str(path) for path in self.runs], "split": self.split, "results": results}
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write_json(self.path, {**document, "cards": self._cards()})

    def seconds(self) -> None:
        """Nothing can be tried before there are runs."""
        return

    def _measured(self, watchers: Watchers) -> dict[str, Any]:
        runs, data = [open_run(path) for path in self.runs], PreparedData.open(self.data)
        how: dict[str, Any] = {"split": self.split, "device": self.device, "watch": watchers.filling}
        if self.kind == PROBE:
            (run,) = runs
            return evaluate_probe(run, data, runs=self.root, **how).to_dict()
        return evaluate_masks(runs, data, root=self.root, **how).to_dict()

    def _cards(self) -> list[str | None]:
        """What the runs are: the hashes of their cards, None where one is not finished."""
        cards = [path / CARD for path in self.runs]
        return [files.sha256(card) if card.is_file() else None for card in cards]


@dataclass(frozen=True)
class Pass:
    """Measurements of boxes whose rows share detectors, made together.

    Args:
        scores: of the same data set, split and device.
    """

    scores: Sequence[Score]

    @property
    def name(self) -> str:
        """The names of all."""
        return "+".join(score.name for score in self.scores)

    @property
    def title(self) -> str:
        """What is measured, in words."""
        return f"{self.scores[0].title}; and rows that share a detector with it, {len(self.scores)} in all"

    def finished(self) -> bool:
        """Whether all of them are there."""
        return all(score.finished() for score in self.scores)

    def carry_out(self, watchers: Watchers) -> None:
        """Measure those that are missing."""
        measure_together([score for score in self.scores if not score.finished()], watchers)

    def seconds(self) -> None:
        """Nothing can be tried before there are runs."""
        return


def measure_together(scores: Sequence[Score], watchers: Watchers) -> None:
    """Measure boxes of several rows in one pass over the images, and keep the documents."""
    first = scores[0]
    found = evaluate_ensembles(
        [[open_run(path) for path in score.runs] for score in scores],
        PreparedData.open(first.data),
        Looking(device=first.device),
        split=first.split,
        root=first.root,
        watch=watchers.filling,
    )
    for score, evaluation in zip(scores, found, strict=True):
        score.keep(evaluation.to_dict())


def passes(scores: Sequence[Score]) -> list[Score | Pass]:
    """Measurements in order, those of boxes that share detectors put together where the first of them stands."""
    groups: list[list[Score]] = []
    for score in scores:
        near = [group for group in groups if any(_share(score, other) for other in group)]
        joined = sorted([score, *(each for group in near for each in group)], key=scores.index)
        groups = [group for group in groups if group not in near] + [joined]
    groups.sort(key=lambda group: scores.index(group[0]))
    return [group[0] if len(group) == 1 else Pass(group) for group in groups]


def _share(one: Score, other: Score) -> bool:
    same = (one.data, one.split, one.device) == (other.data, other.split, other.device)
    return same and one.kind == other.kind == BOXES and bool(set(one.runs) & set(other.runs))


def _read(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"'{path}' cannot be read: {error}.", "Remove it, and it is measured again.") from None
    return document
