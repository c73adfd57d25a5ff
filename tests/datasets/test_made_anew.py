"""What `--overwrite` promises when it is stopped: no data set that names files which are gone, none of two settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from coco_files import make_coco, settings_of_coco
from made_scenes import write_scene
from made_videos import work, write_video
from nyud2_files import made_up, write_archive, write_labelled
from rigs import tree

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets import assembly
from xmodal_cli.datasets.coco.prepare import prepare_coco
from xmodal_cli.datasets.nyud2.prepare import Nyud2Settings, prepare_nyud2
from xmodal_cli.datasets.nyud2_raw.prepare import RawSettings, prepare_nyud2_raw
from xmodal_cli.datasets.rooms.prepare import prepare_rooms
from xmodal_cli.datasets.rooms.settings import RoomsSettings
from xmodal_cli.datasets.videos.video import VideoSettings, prepare_video
from xmodal_cli.errors import DataError

# prepare(settings, progress), settings of one data set, settings of another one in the same folder
Kind = tuple[Callable[..., Any], Any, Any]


class Killed(Exception):
    """Stands for a process that dies."""


def die(done: int, total: int) -> None:
    raise Killed


def coco(here: Path, out: Path) -> Kind:
    settings = settings_of_coco(make_coco(here), out, name="x")
    return prepare_coco, settings, replace(settings, limit=1)


def raw(here: Path, out: Path) -> Kind:
    write_scene(here / "raw/kitchen_0004a", 3)
    (here / "scenes.csv").write_text("scene,split\nkitchen_0004a,train\n")
    base = RawSettings(out, (here / "raw",), ("depth",), scenes=here / "scenes.csv", frames_per_scene=3, workers=1)
    return prepare_nyud2_raw, base, replace(base, fill="colourise", frames_per_scene=2)


def rooms(here: Path, out: Path) -> Kind:
    base = RoomsSettings(out, scenes=2, frames_per_scene=1, size_hw=(48, 64), modalities=("gray",), workers=1)
    return prepare_rooms, base, replace(base, seed=1)


def video(here: Path, out: Path) -> Kind:
    for name in "ab":
        write_video(here / f"{name}.avi", 8)

    def prepare(settings: Any, *progress: Any) -> Any:
        return prepare_video(VideoSettings(settings), *progress)

    return prepare, work(here, out, name="x"), work(here, out, name="x", per_video=2)


def nyud2(here: Path, out: Path) -> Kind:
    first = write_labelled(here / "first.mat", made_up(2))
    settings = Nyud2Settings(out, first, modalities=("depth",), workers=1, name="x")
    archive = write_archive(here / "archive", [5003])
    return prepare_nyud2, settings, replace(settings, labelled=None, archive=archive)


KINDS = {maker.__name__: maker for maker in (coco, raw, rooms, video, nyud2)}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    (tmp_path / "source").mkdir()
    made = KINDS[request.param](tmp_path / "source", tmp_path / "a/out")
    made[0](made[1])
    return made


def anew(kind: Kind, root: Path) -> dict[str, bytes]:
    """What the other settings make of an empty folder."""
    kind[0](replace(kind[2], out=root))
    return tree(root)


def test_stopped_in_the_midst_it_is_no_data_set_and_goes_on_without_the_old(kind: Kind, tmp_path: Path) -> None:
    prepare, _, other = kind
    with pytest.raises(Killed):
        prepare(replace(other, overwrite=True), die)
    with pytest.raises(DataError, match="no prepared data set"):
        PreparedData.open(other.out)
    prepare(other)
    assert tree(other.out) == anew(kind, tmp_path / "b/out")


def test_stopped_while_the_old_one_goes_it_is_finished_by_the_next_run(kind: Kind, tmp_path: Path) -> None:
    prepare, _, other = kind
    whole = tree(other.out)
    folders = {name.split("/")[0] for name in whole if "/" in name}
    assembly.discard(other.out, folders)  # and no more: the process is killed here
    assert len(tree(other.out)) == len(whole)
    prepare(other)
    assert tree(other.out) == anew(kind, tmp_path / "b/out")
