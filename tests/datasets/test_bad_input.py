"""Bad input to `prepare folder`: a clear error, its kind, and nothing lost."""

from __future__ import annotations

import numpy as np
import pytest
from rigs import CAMERA, depth_mm, make_rig, picture, settings_for, tree

from xmodal_cli.data.images import write_png
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.assembly import exclusive
from xmodal_cli.datasets.folder.prepare import prepare_folder
from xmodal_cli.errors import DataError, SettingsError


@pytest.fixture
def rig(tmp_path):
    return make_rig(tmp_path / "rig")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def refused(kind: type[DataError] | type[SettingsError], rig, out, **changes) -> DataError | SettingsError:
    """The error of a run that must write nothing."""
    with pytest.raises(kind) as caught:
        prepare_folder(settings_for(rig, out, **changes))
    assert not out.exists()
    return caught.value


def test_8_bit_depth_without_a_unit_is_no_metres(rig, out):
    for name in "abcd":
        write_png(rig / "depth" / f"{name}.png", np.full((24, 32), 80, np.uint8))
    error = refused(DataError, rig, out, depth_unit=None)
    assert "8-bit" in error.message
    assert "--depth-unit" in str(error.hint)


def test_millimetres_read_as_metres_are_refused(rig, out):
    error = refused(DataError, rig, out, depth_unit=None)
    assert "--depth-unit 0.001" in str(error.hint)


def test_metres_read_as_millimetres_are_refused(rig, out):
    for number, name in enumerate("abcd"):
        (rig / "depth" / f"{name}.png").unlink()
        np.save(rig / "depth" / f"{name}.npy", (depth_mm(number) / 1000).astype(np.float32))
    error = refused(DataError, rig, out, depth_unit=0.001)
    assert "--depth-unit 1" in str(error.hint)


def test_hha_without_a_camera_is_refused(rig, out):
    error = refused(SettingsError, rig, out, modalities=("hha",))
    assert "--camera" in error.message


def test_pairs_of_different_size_name_both_sizes_and_files(rig, out):
    for number, name in enumerate("abcd"):
        write_png(rig / "depth" / f"{name}.png", depth_mm(number, (12, 16)))
    error = refused(DataError, rig, out)
    for part in ("32 x 24", "16 x 12", "rgb/a.jpg", "depth/a.png"):
        assert part in error.message


def test_a_folder_without_pairs_shows_names_of_both_sides(rig, out):
    for name in "abcd":
        (rig / "depth" / f"{name}.png").rename(rig / "depth" / f"x{name}.png")
    error = refused(DataError, rig, out)
    for part in ("none of the 4", "a.jpg", "xa.png"):
        assert part in error.message


def test_an_unknown_modality_names_the_closest(rig, out):
    assert "'disparity'" in str(refused(SettingsError, rig, out, modalities=("disprity",)).hint)


def test_pictures_in_false_colours_are_no_depth(rig, out):
    for number, name in enumerate("abcd"):
        write_png(rig / "depth" / f"{name}.png", picture(number))
    assert "colours" in refused(DataError, rig, out).message


def test_depth_without_any_value_is_refused(rig, out):
    for name in "abcd":
        write_png(rig / "depth" / f"{name}.png", np.zeros((24, 32), np.uint16))
    assert "every pixel" in refused(DataError, rig, out).message


def test_a_folder_that_holds_something_else_is_refused_and_untouched(rig):
    before = tree(rig)
    with pytest.raises(SettingsError, match="not empty"):
        prepare_folder(settings_for(rig, rig))
    assert tree(rig) == before


def test_all_problems_of_the_settings_are_told_at_once(rig, out):
    changes = {"modalities": ("hha",), "val_fraction": 3.0, "depth_unit": -1.0, "target": None}
    message = refused(SettingsError, rig, out, **changes).message
    for part in ("--camera", "--val-fraction", "--depth-unit", "--target"):
        assert part in message


@pytest.mark.parametrize(
    "changes",
    [
        {"modalities": ("hha", "thermal"), "camera": CAMERA},
        {"modalities": ("thermal",)},
        {"rgb": None},
        {"modalities": ()},
        {"val_fraction": 0.5, "split_files": {"val": "x"}},
        {"split_files": {"train+val": "x"}},
        {"workers": 0},
    ],
    ids=["two kinds", "a unit for thermal", "no colour", "no modality", "two ways to split", "a plus", "no process"],
)
def test_settings_that_contradict_each_other_are_refused(rig, out, changes):
    refused(SettingsError, rig, out, **changes)


def test_two_processes_do_not_prepare_one_folder(rig, out):
    with exclusive(out), pytest.raises(SettingsError, match="Another process"):
        prepare_folder(settings_for(rig, out))
    assert list(out.iterdir()) == []
    prepare_folder(settings_for(rig, out))


def test_another_camera_is_refused(rig, out):
    prepare_folder(settings_for(rig, out, modalities=("hha",), camera=CAMERA))
    before = tree(out)
    with pytest.raises(SettingsError, match=r"40,40,16\.5,12\.5"):
        prepare_folder(settings_for(rig, out, modalities=("depth",), camera=CAMERA.scaled(2)))
    assert tree(out) == before


def damage(rig):
    """One pair of six stays whole on each side; the others are damaged, each in its own way."""
    make_rig(rig, "abcdef")
    (rig / "rgb/b.jpg").write_bytes(b"")
    content = (rig / "rgb/c.jpg").read_bytes()
    (rig / "rgb/c.jpg").write_bytes(content[: len(content) // 2])
    content = (rig / "depth/d.png").read_bytes()
    (rig / "depth/d.png").write_bytes(content[:-20])
    write_png(rig / "depth/e.png", depth_mm(0, (12, 16)))


def test_every_bad_pair_is_named_and_what_is_finished_is_kept(rig, out):
    damage(rig)
    with pytest.raises(DataError) as caught:
        prepare_folder(settings_for(rig, out))
    for part in ("4 pairs are bad, of 6", "rgb/b.jpg", "rgb/c.jpg", "depth/d.png", "depth/e.png"):
        assert part in caught.value.message
    assert "--skip-bad" in str(caught.value.hint)
    assert (out / "disparity/a.png").exists()
    with pytest.raises(DataError):
        PreparedData.open(out)


def test_skip_bad_goes_on_counts_and_records(rig, out):
    damage(rig)
    report = prepare_folder(settings_for(rig, out, skip_bad=True))
    data = PreparedData.open(out)
    assert sorted(report.left_out) == sorted(data.provenance["left_out"]) == ["b", "c", "d", "e"]
    assert data.all_ids == ["a", "f"]
    assert {row.id for row in data.rows.values()} == {"a", "f"}


def test_a_slip_that_shows_in_some_images_gives_its_own_hint(rig, out):
    write_png(rig / "depth/c.png", depth_mm(0) + np.uint16(55000))
    with pytest.raises(DataError) as caught:
        prepare_folder(settings_for(rig, out, depth_unit=0.001))
    assert "c.png" in caught.value.message
    assert "--depth-unit" in str(caught.value.hint)


def test_a_type_that_only_some_files_have_is_reported_by_name(rig, out):
    write_png(rig / "depth/c.png", np.full((24, 32), 80, np.uint8))
    with pytest.raises(DataError, match=r"c\.png' is uint8; the other files"):
        prepare_folder(settings_for(rig, out))


def test_nothing_but_bad_pairs_is_an_error_even_with_skip_bad(rig, out):
    for name in "abcd":
        (rig / "rgb" / f"{name}.jpg").write_bytes(b"")
    refused(DataError, rig, out, skip_bad=True)
