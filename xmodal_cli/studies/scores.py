"""Steps that measure: AP of boxes or masks, of one run or of several fused, and the region probe; one document each."""

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
from xmodal_cli.detect.run_evaluation import evaluate_runs
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
        results = self._measured(watchers)
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
        evaluate = evaluate_masks if self.kind == MASKS else evaluate_runs
        return evaluate(runs, data, root=self.root, **how).to_dict()

    def _cards(self) -> list[str | None]:
        """What the runs are: the hashes of their cards, None where one is not finished."""
        cards = [path / CARD for path in self.runs]
        return [files.sha256(card) if card.is_file() else None for card in cards]


def _read(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"'{path}' cannot be read: {error}.", "Remove it, and it is measured again.") from None
    return document
