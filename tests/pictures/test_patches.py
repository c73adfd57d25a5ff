"""Promises of patches: they are where a unit fires most, as large as its field, and no unit is made up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.errors import SettingsError
from xmodal_cli.models.grid import Grid
from xmodal_cli.models.layers import grid
from xmodal_cli.pictures.eyes import Eye, View, open_view, point_number
from xmodal_cli.pictures.patches import (
    PATCH_SIDE,
    choose_units,
    cut_patch,
    draw_patches,
    field_box,
    patch_table,
    respond,
)
from xmodal_cli.pictures.subjects import open_subject
from xmodal_cli.runs.folder import RunFolder

# Cells of 8 x 8 pixels side by side, over the 48 x 64 pixels of tiny images.
CELLS = Grid((8.0, 8.0), (3.5, 3.5), (6, 8), (8.0, 8.0))
RED, BLUE = (4, 8, 20, 24), (36, 20, 60, 44)  # where every tiny image is red, and where it is blue


def pooled(of: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda images: torch.nn.functional.avg_pool2d(of(images.float()), 8)


def redness_and_blueness(images: Tensor) -> Tensor:
    red, _, blue = images.split(1, 1)
    return torch.cat([red - blue, blue - red, torch.zeros_like(red)], 1)


@pytest.fixture(scope="module")
def view(transferred: RunFolder, proposed: PreparedData) -> View:
    """A network that is known: unit 0 fires where it is red, unit 1 where it is blue, unit 2 never."""
    own = Eye("known", "rgb", "cells", CELLS, pooled(redness_and_blueness))
    return View(open_subject(transferred), proposed, tuple(proposed.ids("val")), (48, 64), own, None, "rgb")


def inside(box: list[float], area: tuple[int, ...]) -> bool:
    return box[0] >= area[0] - 4 and box[1] >= area[1] - 4 and box[2] <= area[2] + 4 and box[3] <= area[3] + 4


def test_patches_are_where_the_unit_fires_most(view: View) -> None:
    responses = respond(view)
    red, blue = patch_table(view, responses, [0, 1], 4)
    assert all(inside(each["box_xyxy"], RED) for each in red["own"])
    assert all(inside(each["box_xyxy"], BLUE) for each in blue["own"])
    patch = cut_patch(view.data.read("rgb", red["own"][0]["id"]), red["own"][0]["box_xyxy"], view.size_hw)
    assert patch[PATCH_SIDE // 2, PATCH_SIDE // 2].tolist() == [220, 30, 30]


def test_patches_come_strongest_first_and_one_from_an_image(view: View) -> None:
    (found,) = patch_table(view, respond(view), [0], 6)
    scores = [each["response"] for each in found["own"]]
    assert scores == sorted(scores, reverse=True)
    assert len({each["id"] for each in found["own"]}) == len(view.ids)


def test_units_that_agree_with_the_teacher_are_chosen_first(view: View) -> None:
    def teach(images: Tensor) -> Tensor:
        maps = pooled(redness_and_blueness)(images)
        noise = torch.rand(maps[:, :1].shape, generator=torch.Generator().manual_seed(0))
        return torch.cat([noise, maps[:, 1:2] * 3 + 1, maps[:, 2:]], 1)

    taught = View(
        view.subject, view.data, view.ids, view.size_hw, view.own, Eye("t", "rgb", "cells", CELLS, teach), "rgb"
    )
    responses = respond(taught)
    assert responses.agreement[1] == pytest.approx(1)
    assert abs(responses.agreement[0]) < 0.5
    assert np.isnan(responses.agreement[2])  # a unit that never fires agrees with nothing
    assert choose_units(responses, None, 2) == [1, 0]
    assert choose_units(responses, [2, 0]) == [2, 0]
    with pytest.raises(SettingsError, match="no unit 3: the layer has 3, 0 to 2"):
        choose_units(responses, [3])


def test_fields_are_those_of_the_paper() -> None:
    fields = {layer: grid("caffenet", layer, (688, 917)).field_hw for layer in ("conv1", "conv5", "pool5")}
    assert fields == {"conv1": (11, 11), "conv5": (163, 163), "pool5": (195, 195)}
    assert grid("vgg16", "pool5", (224, 224)).field_hw == (212, 212)
    assert grid("resnet18", "layer1", (224, 224)).field_hw == (43, 43)  # the branch that sees far counts


def test_field_beyond_the_image_is_left_plain() -> None:
    image = np.full((48, 64, 3), 200, np.uint8)
    patch = cut_patch(image, field_box(Grid((8.0, 8.0), (0.5, 0.5), (6, 8), (16.0, 16.0)), (0, 0)), (48, 64))
    assert patch[10, 10].tolist() == [235] * 3
    assert patch[-10, -10].tolist() == [200] * 3


def test_three_rows_stand_at_a_transfer_point_and_two_elsewhere(transferred: RunFolder, proposed: PreparedData) -> None:
    point, alone = (open_view(transferred, proposed, layer=layer) for layer in (None, "features.3"))
    assert point.teacher is not None
    assert (point.own.layer, point.teacher.layer, alone.teacher) == ("features.5", "features.5", None)
    heights = [draw_patches(each, respond(each), [0], 3).shape[0] for each in (point, alone)]
    assert heights[0] - heights[1] > PATCH_SIDE


def test_unknown_layers_and_points_are_told_with_near_ones(transferred: RunFolder) -> None:
    subject = open_subject(transferred)
    assert point_number(subject, "features.5:features.5") == 0
    with pytest.raises(SettingsError, match=r"has no transfer point 'features\.4:features\.5'") as error:
        point_number(subject, "features.4:features.5")
    assert "features.5:features.5" in str(error.value.hint)
    with pytest.raises(SettingsError, match="no layer") as error:
        point_number(subject, "featurs.3")
    assert "features.3" in str(error.value.hint)
