"""Caffe's files of weights written byte by byte, after the wire format and `caffe.proto`, with no protobuf library.

A field is its number and wire type as a varint, then its value; wire type 2 is a length and so many bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Weights (outputs, inputs of a group, rows, columns) of CaffeNet up to pool5 (recipe 3.1).
CAFFENET = {
    "conv1": (96, 3, 11, 11),
    "conv2": (256, 48, 5, 5),
    "conv3": (384, 256, 3, 3),
    "conv4": (384, 192, 3, 3),
    "conv5": (256, 192, 3, 3),
}
Blobs = dict[str, tuple[NDArray[np.float32], ...]]
Layers = Mapping[str, Sequence[NDArray[np.float32]]]


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number % 128 + 128)
        number //= 128
    return bytes([*out, number])


def number(field: int, value: int) -> bytes:
    return varint(field * 8) + varint(value)


def chunk(field: int, content: bytes) -> bytes:
    return varint(field * 8 + 2) + varint(len(content)) + content


def floats(values: NDArray[np.float32]) -> bytes:
    return struct.pack(f"<{values.size}f", *values.ravel().tolist()) if values.size < 1000 else values.tobytes()


def legacy_blob(values: NDArray[np.float32]) -> bytes:
    """num, channels, height, width; what has fewer axes gets ones in front."""
    shape = (1,) * (4 - values.ndim) + values.shape
    head = b"".join(number(field, size) for field, size in enumerate(shape, start=1))
    return head + chunk(5, floats(values))


def shaped_blob(values: NDArray[np.float32]) -> bytes:
    """BlobShape, after the values, as Caffe writes it."""
    return chunk(5, floats(values)) + chunk(7, chunk(1, b"".join(map(varint, values.shape))))


def double_blob(values: NDArray[np.float32]) -> bytes:
    return chunk(7, chunk(1, b"".join(map(varint, values.shape)))) + chunk(8, values.astype("<f8").tobytes())


def layer(name: str, blobs: Sequence[NDArray[np.float32]]) -> bytes:
    """A LayerParameter with a type, inputs and convolution settings, as of today's Caffe."""
    about = chunk(1, name.encode()) + chunk(2, b"Convolution") + chunk(3, b"data") + chunk(4, name.encode())
    learned = b"".join(chunk(7, shaped_blob(blob)) for blob in blobs)
    return chunk(100, about + learned + chunk(106, number(1, 96) + number(4, 11)))


def layer_v1(name: str, blobs: Sequence[NDArray[np.float32]]) -> bytes:
    """A V1LayerParameter with an enumerated type, rates (fixed32) and legacy blobs."""
    about = chunk(2, b"data") + chunk(3, name.encode()) + chunk(4, name.encode()) + number(5, 4)
    learned = b"".join(chunk(6, legacy_blob(blob)) for blob in blobs)
    return chunk(2, about + learned + varint(7 * 8 + 5) + struct.pack("<f", 1.0))


def layer_v0(name: str, blobs: Sequence[NDArray[np.float32]]) -> bytes:
    """The first generation: a V1LayerParameter around a V0LayerParameter."""
    learned = b"".join(chunk(50, legacy_blob(blob)) for blob in blobs)
    return chunk(2, chunk(1, chunk(1, name.encode()) + chunk(2, b"conv") + learned))


WRITERS = {"layer": layer, "layers": layer_v1, "first": layer_v0}


def write_caffemodel(path: Path, layers: Layers, kind: str = "layer") -> Path:
    """A network with a name, an input and some layers; layers without blobs are written too."""
    head = chunk(1, b"CaffeNet") + chunk(3, b"data") + number(4, 10) + number(5, 1)
    path.write_bytes(head + b"".join(WRITERS[kind](name, blobs) for name, blobs in layers.items()))
    return path


def random_layers(shapes: dict[str, tuple[int, ...]], seed: int = 0, prefix: str = "") -> Blobs:
    """Weights that keep the size of signals, and biases; each layer's own."""
    random = np.random.default_rng(seed)
    return {
        f"{prefix}{name}": (
            random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32),
            random.normal(0, 0.1, shape[0]).astype(np.float32),
        )
        for name, shape in shapes.items()
    }
