"""One name space over three libraries, known without importing any of them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import timm
import torchvision

from xmodal_cli.errors import SettingsError
from xmodal_cli.models.catalogue import names, parse


def test_names_are_exactly_those_that_the_libraries_register() -> None:
    classic = ("alexnet", "vgg", "squeezenet")
    registered = {f"torchvision/{name}" for name in torchvision.models.list_models(module=torchvision.models)}
    found = {
        f"torchvision/{name.removeprefix('torchvision/')}" for name in names() if parse(name).library == "torchvision"
    }
    assert found == registered
    timms = {name for name in timm.list_models() if not name.startswith(classic)}
    assert {name for name in names() if parse(name).library == "timm"} == timms


def test_each_name_is_listed_once_and_is_its_own_canonical_form() -> None:
    assert len(names()) == len(set(names()))
    assert [name for name in names() if str(parse(name)) != name] == []


def test_bare_names_choose_the_library() -> None:
    assert [parse(name).library for name in ("alexnet", "vgg16_bn", "squeezenet1_0", "resnet18", "caffenet")] == [
        "torchvision",
        "torchvision",
        "torchvision",
        "timm",
        "xmodal",
    ]


def test_a_library_can_be_forced() -> None:
    assert str(parse("timm/vgg16")) == "timm/vgg16"
    assert str(parse("timm/resnet18")) == "resnet18"
    assert str(parse("torchvision/vgg16")) == "vgg16"
    assert parse("vit_small_patch14_dinov2.lvd142m").entry == "vit_small_patch14_dinov2"


@pytest.mark.parametrize("name", ["vgg61", "torchvision/caffenet", "timm/alexnet", "hub/resnet18", "", "resnet18/"])
def test_unknown_names_are_refused_with_the_way_on(name: str) -> None:
    with pytest.raises(SettingsError, match="No model is called") as caught:
        parse(name)
    assert "xmodal models" in str(caught.value.hint)


def test_misspelt_names_bring_the_closest() -> None:
    with pytest.raises(SettingsError) as caught:
        parse("squeezenet1.1")
    assert "squeezenet1_1" in str(caught.value.hint)


def test_listing_names_imports_no_library() -> None:
    code = (
        "import sys; from xmodal_cli.models.catalogue import names; assert len(names()) > 1000; "
        "print([m for m in ('torch', 'timm', 'torchvision', 'numpy', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
