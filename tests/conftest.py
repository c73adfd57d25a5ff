"""Fixtures that every test folder shares: where the real data lies, and a calm terminal."""

from __future__ import annotations

import os
import signal
from pathlib import Path

# Tests run side by side (pytest-xdist), one thread each; set before torch is imported, and inherited by processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts the tests in the background lets them ignore Ctrl-C; the tests of Ctrl-C need it heard.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import hypothesis
import pytest
from tiny_actions import make_tiny_actions
from tiny_runs import make_tiny_data

from xmodal_cli.data.prepared import PreparedData

# No time limit per example (machines are shared), and the same examples every time (a failure can be repeated).
hypothesis.settings.register_profile("calm", deadline=None, derandomize=True)
hypothesis.settings.load_profile("calm")

REAL_DATA = Path(os.environ.get("XMODAL_REAL_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")).resolve()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `real` where the real data is not at hand."""
    if REAL_DATA.is_dir():
        return
    skip = pytest.mark.skip(reason=f"no real data at {REAL_DATA} (set XMODAL_REAL_DATA)")
    for item in items:
        if item.get_closest_marker("real"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; only for tests marked `real`."""
    return REAL_DATA


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """A prepared data set of 28 small pairs, rgb and disparity, with boxes; nobody may change it."""
    folder = tmp_path_factory.mktemp("tiny")
    return make_tiny_data(folder / "sensors", folder / "data")


@pytest.fixture(scope="session")
def tiny_clips(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """Small clips of three actions with their flow; nobody may change it."""
    folder = tmp_path_factory.mktemp("actions")
    return make_tiny_actions(folder / "clips", folder / "data")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own for every test, so that none finds what another stored."""
    monkeypatch.setenv("XMODAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def calm_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """No colour, 100 columns, no user settings, in every test."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "dumb")
    for name in ("XMODAL_DATA", "XMODAL_DEBUG", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
