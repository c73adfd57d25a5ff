"""Whether an ONNX file gives what its network gives: both see the same images, of this size and another.

An exporter follows a network at one size. Where the network decides by its sizes, the file may claim any size and be
right at one alone; nothing but running it tells.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xmodal_cli.export.graphs import COUNT, HEIGHT, WIDTH, Graph

RUNTIME = "onnxruntime"
TOLERANCE = 1e-3  # what other kernels may change, in multiples of an output's largest value
FOUND_TOLERANCE = 1e-2  # the same of a detector's findings as a whole: suppression hangs on last digits of scores
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)  # by which findings are compared: equal scores may change places
# Pixels that other images are higher and wider: to a size that no network was made for, and one that keeps to strides.
MORE_HW = ((5, 3), (64, 32))
MORE_BATCH, MORE_BOXES = 1, 3

Array = NDArray[Any]


def can_compare() -> bool:
    """Whether the program that runs ONNX files is installed."""
    return importlib.util.find_spec(RUNTIME) is not None


def disagreement(graph: Graph, path: Path) -> str | None:
    """What a file gives otherwise than its network, in words; None where both agree.

    Args:
        graph: that was written; sizes that it calls free are changed.
        path: the file.
    """
    try:
        session = _session(path)
        wrong = _difference(graph, session, graph.inputs, graph.run(graph.inputs))
        if wrong is not None or not any(graph.free.values()):
            return wrong
        for more_hw in MORE_HW:
            inputs = _other_sizes(graph, more_hw)
            try:
                wanted = graph.run(inputs)
            except (RuntimeError, AssertionError, ValueError):
                continue  # the network itself does not take images of that size
            return _difference(graph, session, inputs, wanted)
    except Exception as error:  # onnxruntime's are of no common kind
        return f"onnxruntime does not run it: {str(error).strip()}"
    return "the network takes no other size than the one it was written at"


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal: everything else comes as an exception, or is no matter of the user
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _other_sizes(graph: Graph, more_hw: tuple[int, int]) -> dict[str, Tensor]:
    """The example inputs, repeated along every free dimension up to another size."""
    more = {HEIGHT: more_hw[0], WIDTH: more_hw[1], COUNT: MORE_BOXES}
    inputs = dict[str, Tensor]()
    for name, value in graph.inputs.items():
        for dim, word in graph.free.get(name, {}).items():
            size = value.shape[dim]
            value = value.index_select(dim, torch.arange(size + more.get(word, MORE_BATCH)) % size)
        inputs[name] = value
    return inputs


def _difference(graph: Graph, session: Any, inputs: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    given = session.run(list(graph.outputs), {name: value.numpy() for name, value in inputs.items()})
    same = _same_findings if graph.traced else _same_values
    for (name, value), there in zip(wanted.items(), given, strict=True):
        if not same(value.numpy(), there):
            sizes = " and ".join(f"{each} {tuple(inputs[each].shape)}" for each in inputs)
            return f"its {name} differs from PyTorch's for {sizes}"
    return None


def _same_values(wanted: Array, given: Array) -> bool:
    if wanted.shape != given.shape:
        return False
    return np.allclose(given, wanted, rtol=0, atol=TOLERANCE * _largest(wanted), equal_nan=True)


def _same_findings(wanted: Array, given: Array) -> bool:
    """Whether two lists of findings, along the first dimension, are much the same in whatever order."""
    if not len(wanted) or not len(given):
        return len(wanted) == len(given)
    here, there = (np.quantile(each, QUANTILES, axis=0) for each in (wanted, given))
    return np.allclose(there, here, rtol=0, atol=FOUND_TOLERANCE * _largest(wanted))


def _largest(values: Array) -> float:
    return float(np.abs(values).max(initial=0.0))
