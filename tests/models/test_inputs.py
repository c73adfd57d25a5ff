"""How stored pixels become a network's input."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xmodal_cli.errors import SettingsError
from xmodal_cli.models.inputs import CAFFE_INPUT, IMAGENET_MEAN, IMAGENET_STD, InputSpec


def test_imagenet_normalisation_is_torchvisions() -> None:
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close(InputSpec().normalise(images), (images / 255 - mean) / std)


@given(low=st.floats(-1e4, 1e4), span=st.floats(1e-2, 1e5))
def test_range_maps_its_ends_to_zero_and_one(low: float, span: float) -> None:
    spec = InputSpec((0.0,), (1.0,), (low, low + span))
    ends = torch.tensor([low, low + span], dtype=torch.float64).view(1, 1, 1, 2)
    found = spec.normalise(ends).flatten().tolist()
    assert found == pytest.approx([0, 1], abs=1e-5 + 1e-6 * abs(low) / span)


def test_sixteen_bit_images_keep_their_precision() -> None:
    spec = InputSpec((0.0,), (1.0,), (18_000.0, 19_000.0))
    images = torch.tensor([18_000, 18_001, 19_000], dtype=torch.int32).view(1, 1, 1, 3)
    assert spec.normalise(images).flatten().tolist() == pytest.approx([0, 0.001, 1], abs=1e-5)


def test_unsigned_sixteen_bit_images_are_taken_in_either_order() -> None:
    images = torch.tensor([0, 1, 2], dtype=torch.uint16).view(1, 3, 1, 1)
    spec = InputSpec((0.0,) * 3, (1.0,) * 3, (0.0, 1.0), "bgr")
    assert spec.normalise(images).flatten().tolist() == [2, 1, 0]


@pytest.mark.parametrize("spec", [InputSpec(), CAFFE_INPUT, InputSpec((0.5,), (0.2,), (0.0, 1.0))])
def test_specification_survives_a_card(spec: InputSpec) -> None:
    assert InputSpec.from_dict(spec.to_dict()) == spec


def test_wrong_number_of_channels_is_refused() -> None:
    with pytest.raises(SettingsError, match="takes 3 channels, the images have 1"):
        InputSpec().normalise(torch.zeros(1, 1, 2, 2))


def test_other_channel_counts_get_the_mean_of_the_means() -> None:
    spec = InputSpec((0.1, 0.2, 0.6), (1.0, 2.0, 3.0)).with_channels(4)
    assert spec.mean == pytest.approx((0.3,) * 4)
    assert spec.std == pytest.approx((2.0,) * 4)
