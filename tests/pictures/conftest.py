"""Runs that are looked at: a transfer of four steps, and a detector that began with its student."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_detectors
import tiny_runs

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.finetune import finetune
from xmodal_cli.runs.folder import RunFolder, open_run
from xmodal_cli.transfer.distill import distill


@pytest.fixture(scope="session")
def proposed(tiny_data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """The tiny data set with proposals."""
    return tiny_detectors.with_proposals(tiny_data, tmp_path_factory.mktemp("drawn") / "data")


@pytest.fixture(scope="session")
def transferred(proposed: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished transfer of four steps; nobody may change it."""
    root = tmp_path_factory.mktemp("runs")
    distill(tiny_runs.settings(proposed, evaluate_every=2), runs=root, name="student")
    return open_run(root / "distill" / "student")


@pytest.fixture(scope="session")
def detecting(proposed: PreparedData, transferred: RunFolder) -> RunFolder:
    """A finished detector that began with that student, its first layers frozen; nobody may change it."""
    chosen = tiny_detectors.settings(
        proposed,
        init=str(transferred.path),
        backbone=None,
        freeze_through="features.2",
        iterations=12,
        lr=0.005,
    )
    root = transferred.path.parents[1]
    finetune(chosen, runs=root, name="tiny")
    return open_run(root / "finetune" / "tiny")


@pytest.fixture
def runs(transferred: RunFolder, detecting: RunFolder, tmp_path: Path) -> Path:
    """A folder with copies of both runs that a test may write to."""
    import shutil

    root = tmp_path / "runs"
    for run in (transferred, detecting):
        shutil.copytree(run.path.parent, root / run.path.parent.name, symlinks=True)
    return root
