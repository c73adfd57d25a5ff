"""What the tests of the raw video share: a few recorded scenes, and the list that says their splits."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_scenes import write_scene


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Four scene folders: two of train, one of val, one that no labelled image is of."""
    for name, count in (("kitchen_0004a", 4), ("kitchen_0004b_out", 2), ("office_0007", 2), ("cafe_0001c", 2)):
        write_scene(tmp_path / "raw" / "some_rooms" / name, count)
    return tmp_path / "raw"


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A CSV file that says which scene is in which split."""
    path = tmp_path / "scenes_and_splits.csv"
    path.write_text("scene,split\nkitchen_0004a,train\noffice_0007,val\nbedroom_0100,test\n")
    return path
