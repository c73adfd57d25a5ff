from __future__ import annotations

from pathlib import Path

import pytest

from xmodal_cli.data.matching import find_images, match_names, match_pairs
from xmodal_cli.errors import DataError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_the_id_is_the_relative_path_without_ending(tmp_path):
    touch(tmp_path, "kitchen_0004/0123.jpg", "a.b.png", "notes.txt", ".hidden/c.png")
    assert list(find_images(str(tmp_path))) == ["a.b", "kitchen_0004/0123"]


def test_the_id_is_what_the_star_matched(tmp_path):
    touch(tmp_path, "f-0.color.jpg", "f-0.depth.png", "f-1.color.jpg", "deeper/f-2.color.jpg")
    assert list(find_images(f"{tmp_path}/*.color.jpg")) == ["f-0", "f-1"]


def test_several_stars_are_joined_by_slashes(tmp_path):
    touch(tmp_path, "s1/color/1.jpg", "s2/color/1.jpg", "s1/depth/1.png")
    assert list(find_images(f"{tmp_path}/*/color/*.jpg")) == ["s1/1", "s2/1"]


def test_two_stars_cross_folders(tmp_path):
    touch(tmp_path, "1.jpg", "a/2.jpg", "a/b/3.jpg")
    assert list(find_images(f"{tmp_path}/**/*.jpg")) == ["1", "a/2", "a/b/3"]


def test_brackets_in_names_mean_themselves(tmp_path):
    touch(tmp_path, "run[1]/a (2).jpg")
    assert list(find_images(f"{tmp_path}/run[1]/*.jpg")) == ["a (2)"]


def test_two_files_with_one_id_are_an_error_that_names_both(tmp_path):
    touch(tmp_path, "a.jpg", "a.png")
    with pytest.raises(DataError, match=r"a\.jpg.*a\.png"):
        find_images(str(tmp_path))


def test_a_misspelt_folder_names_the_closest(tmp_path):
    touch(tmp_path, "depth/a.png")
    with pytest.raises(DataError) as caught:
        find_images(str(tmp_path / "dpeth"))
    assert "'depth'" in str(caught.value.hint)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="holds no image"):
        find_images(str(tmp_path))


def test_no_pairs_says_how_many_files_each_side_has_and_what_they_are_called():
    rgb = {f"c{n}": Path(f"c{n}.jpg") for n in range(5)}
    depth = {"d0": Path("d0.png")}
    with pytest.raises(DataError) as caught:
        match_pairs(rgb, depth, "rig/rgb", "rig/depth")
    for part in ("5", "c0.jpg", "rig/rgb", "1", "d0.png", "rig/depth"):
        assert part in caught.value.message


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("scene/0001", "scene/0001"),
        ("scene/0001.jpg", "scene/0001"),
        ("images/scene/0001.jpg", "scene/0001"),
        ("./scene\\0001.png", "scene/0001"),
        ("0002.jpg", "scene/0002"),
        ("0001.jpg", None),  # two scenes have one
        ("third/0002.jpg", None),  # another folder's
        ("0003.jpg", None),
    ],
)
def test_names_mean_an_image_by_path_or_by_a_bare_name_that_is_unique(name, meant):
    images = {i: Path(f"/rig/{i}.jpg") for i in ("scene/0001", "other/0001", "scene/0002")}
    assert match_names([name], images).get(name) == meant
