"""Bad input to `prepare nyud2`: a clear error, its exit code, nothing half-written, and the next run goes on."""

from __future__ import annotations

import copy
import resource
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from nyud2_files import Labelled, write_labelled
from rigs import tree

from xmodal_cli.cli.app import run as xmodal
from xmodal_cli.datasets.downloads.catalogue import FILES
from xmodal_cli.datasets.downloads.fetched import place_of
from xmodal_cli.datasets.nyud2.prepare import Nyud2Settings, prepare_nyud2
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.files import sha256
from xmodal_cli.web.fetch import pin_of


def refused(mat: Path, out: Path, **changes: object) -> str:
    """The message of a run that must write nothing, with its hint."""
    with pytest.raises(DataError) as caught:
        prepare_nyud2(Nyud2Settings(out, labelled=mat, modalities=("depth",), workers=1, **changes))  # type: ignore[arg-type]
    assert not out.exists()
    return f"{caught.value.message} {caught.value.hint}"


def test_an_older_version_of_matlab_is_named(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"images": np.zeros((4, 4))})
    assert "version 5 to 7" in refused(tmp_path / "a.mat", tmp_path / "out")
    words = ["prepare", "nyud2", "--labelled", str(tmp_path / "a.mat"), "--out", str(tmp_path / "out"), "-q"]
    assert xmodal(words) == 3


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x89PNG\r\n\x1a\n" + bytes(1000)])
def test_what_is_no_matlab_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mat").write_bytes(content)
    assert "no MATLAB 7.3 file" in refused(tmp_path / "a.mat", tmp_path / "out")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "--labelled" in refused(tmp_path / "none.mat", tmp_path / "out")
    assert "cannot be read" in refused(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_file_cut_off_is_named_with_the_hash_of_the_whole(mat: Path, tmp_path: Path, share: float) -> None:
    content = mat.read_bytes()
    (tmp_path / "a.mat").write_bytes(content[: int(share * len(content))])
    said = refused(tmp_path / "a.mat", tmp_path / "out")
    assert "is cut off" in said
    assert "520609c519fba3ba5ac58c8fefcc3530" in said


@pytest.mark.parametrize("field", ["images", "depths", "rawDepths", "labels", "instances", "names", "scenes"])
def test_a_lacking_field_is_named(content: Labelled, tmp_path: Path, field: str) -> None:
    small = copy.copy(content)
    for part in ("images", "depths", "raw", "labels", "instances", "scenes"):
        setattr(small, part, getattr(content, part)[:1])
    said = refused(write_labelled(tmp_path / "a.mat", small, without=(field,)), tmp_path / "out")
    assert f"has no {field};" in said


def test_fields_of_other_sizes_and_types_are_named(mat: Path, tmp_path: Path) -> None:
    changed = tmp_path / "a.mat"
    for name, value, words in (
        ("depths", np.zeros((6, 480, 640), np.float32), "(N, 640, 480)"),
        ("labels", np.zeros((6, 640, 480), np.float32), "whole numbers"),
        ("scenes", np.zeros((1, 6), np.uint8), "no cell array of texts"),
    ):
        changed.write_bytes(mat.read_bytes())
        with h5py.File(changed, "r+") as file:
            del file[name]
            file[name] = value
        assert words in refused(changed, tmp_path / "out")


def test_names_without_a_class_of_the_benchmark_are_refused(content: Labelled, tmp_path: Path) -> None:
    fewer = copy.copy(content)
    fewer.names = [name for name in content.names if name not in ("monitor", "garbage bin")]
    said = refused(write_labelled(tmp_path / "a.mat", fewer), tmp_path / "out")
    assert "none is garbage-bin, monitor" in said


def test_a_label_beyond_the_names_is_refused(content: Labelled, tmp_path: Path) -> None:
    strange = copy.copy(content)
    strange.labels = [content.labels[0].copy(), *content.labels[1:]]
    strange.labels[0][200, 200] = len(content.names) + 1
    mat = write_labelled(tmp_path / "a.mat", strange)
    beyond = f"img_5001: label {len(content.names) + 1} is beyond the {len(content.names)} names"
    with pytest.raises(DataError, match=beyond):
        prepare_nyud2(Nyud2Settings(tmp_path / "out", labelled=mat, modalities=("depth",), workers=1))
    assert not (tmp_path / "out/dataset.json").exists()


def test_splits_that_share_a_scene_are_refused_unless_allowed(content: Labelled, tmp_path: Path) -> None:
    shared = copy.copy(content)
    shared.scenes = ["kitchen_0001", "kitchen_0002", "kitchen_0002", "office_0001", "office_0001", "office_0002"]
    mat = write_labelled(tmp_path / "a.mat", shared)
    said = refused(mat, tmp_path / "out")
    assert "Scene 'kitchen_0002' is in the splits train and test ('img_5003' and 'img_5002')" in said
    report = prepare_nyud2(
        Nyud2Settings(tmp_path / "out", mat, modalities=("gray",), workers=1, allow_shared_scenes=True)
    )
    assert any("kitchen_0002" in note for note in report.notes)


def test_damage_within_the_file_names_the_images_and_the_rest_is_kept(mat: Path, tmp_path: Path) -> None:
    damaged, out = tmp_path / mat.name, tmp_path / "out"
    content = bytearray(mat.read_bytes())
    with h5py.File(mat) as file:
        chunk = file["rawDepths"].id.get_chunk_info(5)
    content[chunk.byte_offset + 512 : chunk.byte_offset + 600] = bytes(88)
    damaged.write_bytes(content)
    with pytest.raises(DataError, match="rawDepths of the images 1 to 6 cannot be read"):
        prepare_nyud2(Nyud2Settings(out, damaged, modalities=("raw_depth",), workers=1, name="ny"))
    assert len(list(out.glob("rgb/*.png"))) == 6
    damaged.unlink()
    assert prepare_nyud2(Nyud2Settings(out, mat, modalities=("raw_depth",), workers=1, name="ny")).finished >= 0
    prepare_nyud2(Nyud2Settings(tmp_path / "whole", mat, modalities=("raw_depth",), workers=1, name="ny"))
    assert tree(out) == tree(tmp_path / "whole")


def test_both_sources_and_unknown_modalities_are_told_at_once(mat: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        prepare_nyud2(Nyud2Settings(tmp_path / "out", mat, tmp_path, ("hhaa",)))
    assert "name one of them" in caught.value.message
    assert "'hhaa'" in caught.value.message


def test_without_a_source_the_downloaded_file_is_taken_or_the_way_to_it_named(
    mat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prepare", "nyud2", "--out", str(tmp_path / "out"), "--modality", "gray"]
    assert xmodal(words) == 4
    said = " ".join(capsys.readouterr().err.split())
    assert "xmodal download nyud2" in said
    assert "--labelled" in said
    place = place_of(FILES["nyu_depth_v2_labeled.mat"])
    place.parent.mkdir(parents=True)
    place.symlink_to(mat)
    pin_of(place).write_text(f"{sha256(mat)}\n")
    assert xmodal(words) == 0


def test_a_data_set_made_otherwise_is_left_alone(mat: Path, tmp_path: Path) -> None:
    words = ["prepare", "rooms", "--scenes", "1", "--frames-per-scene", "1", "--size", "64x48", "--modality", "depth"]
    assert xmodal([*words, "--out", str(tmp_path / "rooms"), "--workers", "1", "-q"]) == 0
    before = tree(tmp_path / "rooms")
    with pytest.raises(SettingsError, match="not made by `prepare nyud2`"):
        prepare_nyud2(Nyud2Settings(tmp_path / "rooms", mat, overwrite=True, workers=1))
    assert tree(tmp_path / "rooms") == before


def test_a_full_disk_leaves_no_half_file_and_the_next_run_goes_on(mat: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["prepare", "nyud2", "--labelled", str(mat), "--out", str(out), "--modality", "depth", "--name", "ny"]
    process = subprocess.run(
        [sys.executable, "-m", "xmodal_cli", *words, "--workers", "1"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 1
    assert "disk is full" in process.stderr
    assert "Traceback" not in process.stderr
    assert not list(out.rglob("*.part"))
    assert not (out / "dataset.json").exists()
    prepare_nyud2(Nyud2Settings(out, mat, modalities=("depth",), workers=1, name="ny"))
    prepare_nyud2(Nyud2Settings(tmp_path / "whole", mat, modalities=("depth",), workers=1, name="ny"))
    assert tree(out) == tree(tmp_path / "whole")
