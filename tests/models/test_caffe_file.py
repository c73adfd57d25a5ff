"""What the reader of Caffe's files promises, on files written byte by byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from caffe_files import WRITERS, chunk, double_blob, layer_v1, number, write_caffemodel

from xmodal_cli.errors import DataError
from xmodal_cli.models.caffe_file import read_caffemodel

WEIGHT = np.arange(2 * 3 * 5 * 5, dtype=np.float32).reshape(2, 3, 5, 5) - 7.25
BIAS = np.array([0.5, -1.5], np.float32)
LAYERS = {"data": (), "conv1": (WEIGHT, BIAS), "relu1": (), "fc6": (WEIGHT.reshape(2, 75), BIAS)}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_generation_of_files_gives_names_and_values(tmp_path: Path, kind: str) -> None:
    layers = read_caffemodel(write_caffemodel(tmp_path / "net.caffemodel", LAYERS, kind))
    assert [layer.name for layer in layers] == ["conv1", "fc6"]
    weight, bias = layers[0].blobs
    assert np.array_equal(weight, WEIGHT)
    assert weight.dtype == np.float32
    legacy = kind != "layer"
    assert bias.shape == ((1, 1, 1, 2) if legacy else (2,))
    assert layers[1].blobs[0].shape == ((1, 1, 2, 75) if legacy else (2, 75))


def test_doubles_and_both_kinds_of_layers_in_one_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    doubles = chunk(100, chunk(1, b"double") + chunk(7, double_blob(BIAS)))
    path.write_bytes(doubles + layer_v1("single", (BIAS,)))
    found = {layer.name: layer.blobs[0].ravel().tolist() for layer in read_caffemodel(path)}
    assert found == {"double": BIAS.tolist(), "single": BIAS.tolist()}


def test_values_that_came_in_pieces_are_joined(tmp_path: Path) -> None:
    blob = number(1, 1) + number(2, 1) + number(3, 1) + number(4, 2)
    pieces = chunk(5, BIAS[:1].tobytes()) + chunk(5, BIAS[1:].tobytes())
    path = tmp_path / "net.caffemodel"
    path.write_bytes(chunk(2, chunk(4, b"a") + chunk(6, blob + pieces)))
    assert read_caffemodel(path)[0].blobs[0].ravel().tolist() == BIAS.tolist()


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_cut_off_anywhere_never_gives_wrong_weights(tmp_path: Path, kind: str) -> None:
    path = write_caffemodel(tmp_path / "net.caffemodel", LAYERS, kind)
    whole, content = read_caffemodel(path), path.read_bytes()
    refused = 0
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        try:
            layers = read_caffemodel(path)
        except DataError as error:
            refused += path.name in error.message
            continue
        for found, expected in zip(layers, whole, strict=False):  # cut between two layers: those before are whole
            assert found.name == expected.name
            assert all(map(np.array_equal, found.blobs, expected.blobs))
    assert refused > len(content) / 7 - 20


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (bytes(range(256)) * 4, "cut off or no"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5"),
        (b'name: "CaffeNet"\nlayer {\n  name: "conv1"\n}\n', "definition"),
        (b"<!DOCTYPE html>\n<title>404 Not Found</title>", "text, not weights: it begins with '<!DOCTYPE html>"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git-lfs"),
        (number(1, 1) + number(2, 3) + chunk(5, bytes(12)), "no layer with weights|cut off or no"),
        (chunk(2, b"net_iter_100.caffemodel"), "no layer with weights|cut off or no"),
    ],
)
def test_what_is_no_file_of_weights_is_named_for_what_it_is(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_caffemodel(path)


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"net\.caffemodel' cannot be read"):
        read_caffemodel(tmp_path / "net.caffemodel")


@pytest.mark.parametrize("size", [3, 2**40])
def test_a_blob_that_contradicts_its_shape_is_refused_before_memory_is_asked_for(tmp_path: Path, size: int) -> None:
    path = tmp_path / "net.caffemodel"
    blob = chunk(5, BIAS.tobytes()) + chunk(7, number(1, size))  # an unpacked dimension is legal too
    path.write_bytes(chunk(100, chunk(1, b"conv1") + chunk(7, blob)))
    with pytest.raises(DataError, match="layer 'conv1', blob 0: 2 values do not fill"):
        read_caffemodel(path)
