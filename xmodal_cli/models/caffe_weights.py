"""Weights of Caffe's networks under the keys of ours, and what these weights want to be fed.

The names of layers are Caffe's (`conv1`, `conv3_2`, `fc6`). The authors put `da_` before those of the network that sees
HHA: in their transferred student, and in files that hold two networks (recipe 3.1). Convolutions and groups lie as they
do in PyTorch; fc6 reads a map that is flattened channel by channel, as here. The first layer expects blue, green, red:
the weights stay as they are, and the input specification says so (recipe 2.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.models.caffe_file import CaffeLayer, read_caffemodel
from xmodal_cli.models.caffenet import STUDENT, CaffeNet
from xmodal_cli.models.catalogue import ModelName

DEPTH_PREFIX = "da_"  # of the layers that see HHA, in the authors' files
HEADS = ("cls_score", "bbox_pred")  # of their detectors: no part of the plain network
SHOWN = 6  # layers named in a message
FITTING = "caffenet, caffenet-rgb, vgg16 or vgg19"


def read_caffe_weights(path: Path, model: ModelName, module: nn.Module) -> dict[str, Tensor]:
    """The weights of a `.caffemodel` for a network, under the network's keys.

    Args:
        path: the file.
        model: the network's name.
        module: the network.

    Returns:
        Tensors by name; layers that the file lacks are missing.

    Raises:
        SettingsError: the network is none of Caffe's.
        DataError: the file cannot be read, is of another network, or has layers that this one does not have.
    """
    keys = dict(_layer_keys(model, module))
    if not keys:
        raise SettingsError(f"The Caffe weights of '{path}' fit {FITTING}, not {model}.", "Name one of them.")
    layers = {layer.name: layer for layer in read_caffemodel(path)}
    prefix = _prefix(path, model, module, layers, next(iter(keys)))
    branch = _of_branch(layers, prefix)
    strangers = [name for name in branch if name not in keys]
    if strangers:
        raise DataError(
            f"'{path}' is not of {model}: it has {len(strangers)} layers that {model} lacks: {_some(strangers)}.",
            f"Name the network that it is of: {FITTING}.",
        )
    state: dict[str, Tensor] = {}
    for name, layer in branch.items():
        state.update(_tensors(path, layer, keys[name], module))
    return state


def _layer_keys(model: ModelName, module: nn.Module) -> Iterator[tuple[str, str]]:
    """Caffe's name and ours of every layer with weights, in order; none where Caffe has no such network."""
    if isinstance(module, CaffeNet):
        yield from ((name, name) for name, part in module.named_children() if isinstance(part, nn.Conv2d | nn.Linear))
    elif model.library == "torchvision" and model.entry in ("vgg16", "vgg19"):
        block, within = 1, 0
        for index, part in enumerate(module.get_submodule("features").children()):
            if isinstance(part, nn.Conv2d):
                within += 1
                yield f"conv{block}_{within}", f"features.{index}"
            elif isinstance(part, nn.MaxPool2d):
                block, within = block + 1, 0
        for name, index in (("fc6", 0), ("fc7", 3), ("fc8", 6)):
            yield name, f"classifier.{index}"


def _prefix(path: Path, model: ModelName, module: nn.Module, layers: Mapping[str, CaffeLayer], first: str) -> str:
    """What stands before the names of this network's layers: of two networks in a file, the HHA student's is `da_`.

    Raises:
        DataError: the file is of another network.
    """
    student = isinstance(module, CaffeNet) and module.conv1.padding == (STUDENT.conv1, STUDENT.conv1)
    order = (DEPTH_PREFIX, "") if student else ("", DEPTH_PREFIX)
    for prefix in order:
        if f"{prefix}{first}" in layers:
            return prefix
    raise DataError(
        f"'{path}' is not of {model}: it has the layers {_some(layers)}, and none is called '{first}'.",
        f"Name the network that it is of: {FITTING}.",
    )


def _of_branch(layers: Mapping[str, CaffeLayer], prefix: str) -> dict[str, CaffeLayer]:
    """The layers of one of the networks in a file, by their name without prefix; those of its detector are left out."""
    found = {name: layer for name, layer in layers.items() if name.startswith(DEPTH_PREFIX) == bool(prefix)}
    plain = {name.removeprefix(prefix): layer for name, layer in found.items()}
    return {name: layer for name, layer in plain.items() if not name.startswith(HEADS)}


def _tensors(path: Path, layer: CaffeLayer, key: str, module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights and biases of a layer, in the shape that the network has them in where that loses nothing."""
    own = module.get_submodule(key)
    if len(layer.blobs) not in (1, 2):
        raise DataError(f"'{path}', layer '{layer.name}' has {len(layer.blobs)} blobs; expected weights and biases.")
    for name, blob in zip(("weight", "bias"), layer.blobs, strict=False):
        yield f"{key}.{name}", torch.from_numpy(_in_shape(blob, tuple(getattr(own, name).shape)))


def _in_shape(blob: NDArray[np.float32], wanted: tuple[int, ...]) -> NDArray[np.float32]:
    """A blob without what legacy blobs and fully convolutional layers add to its shape; others stay as they are.

    Example:
        >>> _in_shape(np.zeros((1, 1, 4, 6), np.float32), (4, 6)).shape
        (4, 6)
        >>> _in_shape(np.zeros((4, 1, 2, 3), np.float32), (4, 6)).shape, _in_shape(np.zeros((6, 4)), (4, 6)).shape
        ((4, 6), (6, 4))
    """
    legacy = (1,) * (4 - len(wanted)) + wanted
    convolution = (
        len(wanted) == 2 and blob.ndim == 4 and blob.shape[0] == wanted[0] and blob.size == wanted[0] * wanted[1]
    )
    return blob.reshape(wanted) if blob.shape == legacy or convolution else blob


def _some(layers: Iterable[str]) -> str:
    names = list(layers)
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
