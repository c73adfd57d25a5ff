"""A made labelled file and a made archive, in the true layouts; nobody may change them."""

from __future__ import annotations

from pathlib import Path

import pytest
from nyud2_files import Labelled, made_up, write_archive, write_labelled

ARCHIVE_NUMBERS = [5001, 5003, 5010]


@pytest.fixture(scope="session")
def content() -> Labelled:
    """Six images: two of test, four of train."""
    return made_up()


@pytest.fixture(scope="session")
def mat(content: Labelled, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The labelled file of them."""
    return write_labelled(tmp_path_factory.mktemp("labelled") / "nyu_depth_v2_labeled.mat", content)


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of one image of each split."""
    return write_archive(tmp_path_factory.mktemp("archive"), ARCHIVE_NUMBERS)
