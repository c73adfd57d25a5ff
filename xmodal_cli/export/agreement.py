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

from xmodal_cli.export.graphs import BOXES, COUNT, HEIGHT, SCORES, WIDTH, Graph

RUNTIME = "onnxruntime"
TOLERANCE = 1e-3  # what other kernels may change, in multiples of an output's largest value
# Of findings that no other ties with, these many must be found again: suppression hangs on the last digits of scores.
FOUND_AGAIN = 0.8
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


def _difference(graph: Graph, session: Any, inputs: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str | None:
    values = session.run(list(graph.outputs), {name: value.numpy() for name, value in inputs.items()})
    given = dict(zip(graph.outputs, values, strict=True))
    wanted = {name: value.numpy() for name, value in tensors.items()}
    if BOXES in wanted and SCORES in wanted:
        different = [] if _same_findings(wanted, given) else [BOXES]
    else:
        different = [name for name in wanted if not _same_values(wanted[name], given[name])]
    if not different:
        return None
    sizes = " and ".join(f"{name} {tuple(value.shape)}" for name, value in inputs.items())
    return f"its {different[0]} differs from PyTorch's for {sizes}"


def _same_values(wanted: Array, given: Array) -> bool:
    if wanted.shape != given.shape:
        return False
    return np.allclose(given, wanted, rtol=0, atol=TOLERANCE * _largest(wanted), equal_nan=True)


def _same_findings(wanted: Mapping[str, Array], given: Mapping[str, Array]) -> bool:
    """Whether two lists of boxes, best first, are the same but for what equal scores leave open."""
    scores, boxes = wanted[SCORES], wanted[BOXES]
    tolerance = TOLERANCE * _largest(scores)
    gaps = np.abs(np.diff(scores, prepend=np.inf, append=-np.inf))
    sure = np.minimum(gaps[:-1], gaps[1:]) > tolerance
    if not sure.any():
        return bool(len(scores)) == bool(len(given[SCORES]))
    near = np.abs(boxes[sure][:, None] - given[BOXES]).max(2) < TOLERANCE * _largest(boxes)
    alike = np.abs(scores[sure][:, None] - given[SCORES]) < tolerance
    return bool((near & alike).any(1).mean() >= FOUND_AGAIN)


def _largest(values: Array) -> float:
    return float(np.abs(values).max(initial=0.0))
