"""What shards of `prepare nyud2` promise: joined they are what one machine makes, from either source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nyud2_files import made_up, write_archive, write_labelled
from rigs import but_provenance, tree

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.data.check import check
from xmodal_cli.data.images import write_png
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.merge.merge import merge
from xmodal_cli.datasets.nyud2.camera import CROP_SIZE_HW
from xmodal_cli.datasets.nyud2.prepare import Nyud2Report, Nyud2Settings, prepare_nyud2
from xmodal_cli.datasets.shards import Shard
from xmodal_cli.errors import SettingsError

COUNT = 3


def prepare(out: Path, mat: Path | None = None, **changes: object) -> Nyud2Report:
    given = {"labelled": mat, "modalities": ("depth",), "workers": 1, "name": "ny", **changes}
    return prepare_nyud2(Nyud2Settings(out, **given))  # type: ignore[arg-type]


def parts_of(folder: Path, mat: Path | None = None, **changes: object) -> list[Path]:
    parts = [folder / f"part{index}" for index in range(1, COUNT + 1)]
    for index, part in enumerate(parts, start=1):
        prepare(part, mat, shard=Shard(index, COUNT), **changes)
    return parts


def test_joined_parts_of_the_labelled_file_equal_an_undivided_run(mat: Path, tmp_path: Path) -> None:
    prepare(tmp_path / "whole", mat)
    parts = parts_of(tmp_path, mat)
    assert all(check(PreparedData.open(part), workers=1).ok for part in parts)
    assert PreparedData.open(parts[0]).all_ids == ["img_5001", "img_5002"]  # neighbours lie together in the file
    report = merge(parts[::-1], tmp_path / "joined", name="ny")
    assert report.splits == {"train": 4, "test": 2}
    assert but_provenance(tmp_path / "joined") == but_provenance(tmp_path / "whole")


def test_joined_parts_of_the_archive_equal_an_undivided_run_with_superpixels_and_counts(tmp_path: Path) -> None:
    numbers = [5001, 5003, 5010, 5011]
    source = {"archive": write_archive(tmp_path / "archive", numbers), "superpixels": tmp_path / "sp"}
    for number in numbers:
        write_png(tmp_path / f"sp/img_{number}.png", np.full(CROP_SIZE_HW, number, np.uint16))
    prepare(tmp_path / "whole", **source)
    merge(parts_of(tmp_path, **source), tmp_path / "joined", name="ny")
    assert but_provenance(tmp_path / "joined") == but_provenance(tmp_path / "whole")
    assert len(list((tmp_path / "joined/superpixels").iterdir())) == len(numbers)
    whole, joined = (PreparedData.open(tmp_path / name).provenance["modalities"] for name in ("whole", "joined"))
    assert joined == whole
    assert joined["rgb"]["instances_without_a_class"] == len(numbers)


def test_what_is_joined_is_known_for_finished_and_takes_more_modalities(mat: Path, tmp_path: Path) -> None:
    merge(parts_of(tmp_path, mat), tmp_path / "joined", name="ny")
    report = prepare(tmp_path / "joined", mat)
    assert (report.written, report.finished) == (0, 12)
    assert prepare(tmp_path / "joined", mat, modalities=("gray",)).written == 6


def test_a_part_is_no_place_for_another_part_or_more_modalities(mat: Path, tmp_path: Path) -> None:
    part = parts_of(tmp_path, mat)[0]
    before = tree(part)
    for shard, modality, said in (
        (Shard(2, 3), "depth", "part 1/3 of a data set; --shard 2/3"),
        (None, "depth", "part 1/3 of a data set; the whole"),
        (Shard(1, 3), "gray", "part 1/3 of a data set, without gray"),
    ):
        with pytest.raises(SettingsError, match=said):
            prepare(part, mat, shard=shard, modalities=(modality,))
    prepare(tmp_path / "whole", mat)
    with pytest.raises(SettingsError, match="holds the whole data set; --shard 1/3"):
        prepare(tmp_path / "whole", mat, shard=Shard(1, 3))
    assert prepare(part, mat, shard=Shard(1, 3)).written == 0
    assert tree(part) == before


def test_parts_of_other_scenes_or_without_superpixels_are_refused(mat: Path, tmp_path: Path) -> None:
    moved = made_up()
    moved.scenes = [scene.replace("kitchen", "bedroom") for scene in moved.scenes]
    other = write_labelled(tmp_path / mat.name, moved)
    assert other.stat().st_size == mat.stat().st_size
    parts = parts_of(tmp_path, mat)
    prepare(tmp_path / "stranger", other, shard=Shard(3, 3))
    with pytest.raises(SettingsError, match="of the same images, but of other splits, scenes or annotations"):
        merge([*parts[:2], tmp_path / "stranger"], tmp_path / "joined")
    for number in (5005, 5006):
        write_png(tmp_path / f"sp/img_{number}.png", np.ones(CROP_SIZE_HW, np.uint16))
    prepare(tmp_path / "with", mat, shard=Shard(3, 3), superpixels=tmp_path / "sp")
    with pytest.raises(SettingsError, match="of the same images, but"):
        merge([*parts[:2], tmp_path / "with"], tmp_path / "joined")


def test_proposals_are_of_the_whole(mat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prepare", "nyud2", "--labelled", str(mat), "--out", str(tmp_path / "part"), "--shard", "1/2"]
    assert xmodal([*words, "--proposals", "nyud2_mcg_boxes.mat"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "xmodal prepare proposals DATA --method nyud2_mcg_boxes.mat --name mcg" in said
    assert not (tmp_path / "part").exists()
