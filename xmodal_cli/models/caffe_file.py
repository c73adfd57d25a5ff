"""Caffe's files of weights, read without Caffe: `.caffemodel`, a serialised protocol buffer.

Of Caffe's published message definitions (`caffe.proto`) only names and blobs are described here, in code; all else in a
file is skipped. Layers come in three generations: `layer` (field 100), `layers` (field 2, "V1"), and the first one,
inside of the second. A blob has either a shape or four legacy numbers. Its values are described as bytes, which a
packed list of floats is on the wire: so half a gigabyte is read without making a Python object of every number.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory
from numpy.typing import NDArray

from xmodal_cli.errors import DataError

SUFFIX = ".caffemodel"
MOST_BYTES = 2**31 - 1  # of a protocol buffer
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
SHOWN = 60  # bytes of a text file in a message

_FIELD = descriptor_pb2.FieldDescriptorProto
_ONE, _MANY = _FIELD.LABEL_OPTIONAL, _FIELD.LABEL_REPEATED
# Name, number, whether repeated, type or the message that it is; numbers are those of caffe.proto.
_MESSAGES: dict[str, tuple[tuple[str, int, Any, Any], ...]] = {
    "BlobShape": (("dim", 1, _MANY, _FIELD.TYPE_INT64),),
    "BlobProto": (
        ("num", 1, _ONE, _FIELD.TYPE_INT32),
        ("channels", 2, _ONE, _FIELD.TYPE_INT32),
        ("height", 3, _ONE, _FIELD.TYPE_INT32),
        ("width", 4, _ONE, _FIELD.TYPE_INT32),
        ("data", 5, _MANY, _FIELD.TYPE_BYTES),
        ("shape", 7, _ONE, "BlobShape"),
        ("double_data", 8, _MANY, _FIELD.TYPE_BYTES),
    ),
    "LayerParameter": (("name", 1, _ONE, _FIELD.TYPE_BYTES), ("blobs", 7, _MANY, "BlobProto")),
    "V0LayerParameter": (("name", 1, _ONE, _FIELD.TYPE_BYTES), ("blobs", 50, _MANY, "BlobProto")),
    "V1LayerParameter": (
        ("layer", 1, _ONE, "V0LayerParameter"),
        ("name", 4, _ONE, _FIELD.TYPE_BYTES),
        ("blobs", 6, _MANY, "BlobProto"),
    ),
    "NetParameter": (("layers", 2, _MANY, "V1LayerParameter"), ("layer", 100, _MANY, "LayerParameter")),
}


@dataclass(frozen=True)
class CaffeLayer:
    """One layer that has learned something.

    Args:
        name: as in the network's definition.
        blobs: float32 arrays in Caffe's order, weights before biases; legacy blobs have four axes.
    """

    name: str
    blobs: tuple[NDArray[np.float32], ...]


def read_caffemodel(path: Path) -> list[CaffeLayer]:
    """Read a `.caffemodel`.

    Returns:
        The layers that have blobs, in the file's order.

    Raises:
        DataError: the file is missing, empty, cut off, something else, or its blobs contradict their shapes.
    """
    try:
        net: Any = _net_class().FromString(_read(path))  # the bytes are not kept beside the message
    except message.DecodeError:
        raise DataError(
            f"'{path}' is cut off or no {SUFFIX} file: {path.stat().st_size} bytes are no complete protocol buffer.",
            "Compare its size and hash with the published ones, and fetch it again.",
        ) from None
    layers = [_layer(path, name, blobs) for name, blobs in _layers(net) if len(blobs)]
    if not layers:
        raise DataError(
            f"'{path}' holds no layer with weights: it may be a mean image, a solver's state or a definition.",
            f"Weights end in {SUFFIX}.",
        )
    return layers


def _read(path: Path) -> bytes:
    """The bytes of a file that may be one of weights.

    Raises:
        DataError: they cannot be read, or are plainly something else.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise DataError(f"'{path}' has {size} bytes; a {SUFFIX} file has at most {MOST_BYTES}.")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}.", "Check the path.") from None
    if not content:
        raise DataError(f"'{path}' is empty (0 bytes).", "Fetch the file again.")
    if content.startswith(HDF5_SIGNATURE):
        raise DataError(
            f"'{path}' is an HDF5 file, Caffe's other format of weights.", f"Save the weights as {SUFFIX} in Caffe."
        )
    if _is_text(content):
        start = " ".join(content[: 4 * SHOWN].decode(errors="replace").split())[:SHOWN]
        definition = b"layer" in content
        what = "a network's definition (prototxt), which holds no weights" if definition else "text, not weights"
        raise DataError(f"'{path}' is {what}: it begins with '{start}'.", f"Name the {SUFFIX} file beside it.")
    return content


def _is_text(content: bytes) -> bool:
    """Whether a file is text: a definition, or the page of a server that no longer has the file."""
    start = content[:4096]
    return not any(byte < 32 and byte not in b"\t\n\r\f" for byte in start)


@functools.cache
def _net_class() -> type[Any]:
    """The message class of a network, made of the descriptions above."""
    file = descriptor_pb2.FileDescriptorProto(
        name="xmodal/caffe_weights.proto", package="xmodal.caffe", syntax="proto2"
    )
    for name, fields in _MESSAGES.items():
        described = file.message_type.add(name=name)
        for field, number, label, kind in fields:
            if isinstance(kind, str):
                described.field.add(
                    name=field, number=number, label=label, type=_FIELD.TYPE_MESSAGE, type_name=f".xmodal.caffe.{kind}"
                )
            else:
                described.field.add(name=field, number=number, label=label, type=kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("xmodal.caffe.NetParameter"))


def _layers(net: Any) -> Iterable[tuple[str, Any]]:
    """Name and blobs of every layer, of whichever generation."""
    for layer in net.layers:
        first = layer.layer if layer.HasField("layer") else layer
        yield first.name.decode(errors="replace"), first.blobs
    for layer in net.layer:
        yield layer.name.decode(errors="replace"), layer.blobs


def _layer(path: Path, name: str, blobs: Iterable[Any]) -> CaffeLayer:
    return CaffeLayer(name, tuple(_array(f"'{path}', layer '{name}', blob {n}", blob) for n, blob in enumerate(blobs)))


def _array(where: str, blob: Any) -> NDArray[np.float32]:
    """The values of a blob in its shape.

    Raises:
        DataError: they are not as many as the shape says.
    """
    legacy = (blob.num, blob.channels, blob.height, blob.width)
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else legacy
    doubles = len(blob.double_data) > 0
    content = b"".join(blob.double_data if doubles else blob.data)
    item = np.dtype("<f8" if doubles else "<f4")
    if min(shape, default=1) < 0 or len(content) != math.prod(shape) * item.itemsize:
        raise DataError(
            f"{where}: {len(content) / item.itemsize:g} values do not fill the shape {'x'.join(map(str, shape))}.",
            "The file is damaged: fetch it again.",
        )
    return np.frombuffer(content, item).astype(np.float32).reshape(shape)
