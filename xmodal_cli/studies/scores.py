"""Steps that measure: AP of a detector or of several fused, and the region probe, kept as one document each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodal_cli import files
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.probe_evaluation import evaluate_probe
from xmodal_cli.detect.run_evaluation import evaluate_runs
from xmodal_cli.errors import DataError
from xmodal_cli.runs.folder import CARD, open_run
from xmodal_cli.runs.session import Watchers


@dataclass(frozen=True)
class Score:
    """One measurement of a study.

    Args:
        name: its document is `<name>.json`.
        title: what is measured, in words.
        runs: folders of the runs: several detectors are fused.
        data: the prepared data set.
        split: the split scored.
        folder: where the documents of the study lie.
        root: the folder of all runs, for what an evaluation itself keeps.
        probe: measure a student by the region probe instead.
        device: where.
    """

    name: str
    title: str
    runs: Sequence[Path]
    data: Path
    split: str
    folder: Path
    root: Path
    probe: bool = False
    device: str = "auto"

    @property
    def path(self) -> Path:
        """The document."""
        return self.folder / f"{self.name}.json"

    def finished(self) -> bool:
        """Whether the document is there and measures the runs as they are now."""
        return self.path.is_file() and _read(self.path).get("cards") == self._cards()

    def results(self) -> dict[str, Any]:
        """The figures, as `evaluate --json` gives them.

        Raises:
            DataError: the document is damaged.
        """
        results: dict[str, Any] = _read(self.path)["results"]
        return results

    def carry_out(self, watchers: Watchers) -> None:
        """Measure, and keep the document."""
        measure: Callable[[Watchers], dict[str, Any]] = self._probed if self.probe else self._scored
        document = {"runs": [str(path) for path in self.runs], "split": self.split, "results": measure(watchers)}
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write_json(self.path, {**document, "cards": self._cards()})

    def seconds(self) -> None:
        """Nothing can be tried before there are runs."""
        return

    def _scored(self, watchers: Watchers) -> dict[str, Any]:
        runs = [open_run(path) for path in self.runs]
        data = PreparedData.open(self.data)
        return evaluate_runs(
            runs, data, split=self.split, device=self.device, root=self.root, watch=watchers.filling
        ).to_dict()

    def _probed(self, watchers: Watchers) -> dict[str, Any]:
        (path,) = self.runs
        return evaluate_probe(
            open_run(path),
            PreparedData.open(self.data),
            split=self.split,
            device=self.device,
            runs=self.root,
            watch=watchers.filling,
        ).to_dict()

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
