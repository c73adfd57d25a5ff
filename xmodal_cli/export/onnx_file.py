"""An ONNX file of a run's graph, its inputs and outputs named, its sizes free where that is true."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from xmodal_cli.detect.branches import Trained
from xmodal_cli.detect.vision_join import Vision
from xmodal_cli.errors import SettingsError, XmodalError
from xmodal_cli.export.agreement import RUNTIME, can_compare, disagreement
from xmodal_cli.export.graphs import BATCH, COUNT, IMAGE, Graph, graph_of
from xmodal_cli.export.package import Package, network_card
from xmodal_cli.export.subjects import Subject
from xmodal_cli.models.rpn import Rpn

FILE = "model.onnx"
NEEDED = ("onnx", "onnxscript")
INSTALL = "pipx install 'xmodal-cli[onnx]', or python -m pip install 'xmodal-cli[onnx]'"
TRACED_OPSET = 17  # the newest that the tracing exporter knows well; RoIAlign as torchvision has it needs 16
COUNTS = (BATCH, COUNT)
MOST_WORDS = 250  # characters of what PyTorch says
MOST_BYTES = 1_900_000_000  # a protobuf message ends at 2 GiB: larger weights go to a file beside it


def package_onnx(subject: Subject, *, adapter: bool, size_hw: tuple[int, int] | None) -> Package:
    """A run as an ONNX file; arguments and errors as in `graph_of`.

    Raises:
        SettingsError: the packages that write ONNX are not installed.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise SettingsError(f"ONNX files are written with {' and '.join(missing)}, not installed here.", INSTALL)
    graph = graph_of(subject, adapter=adapter, size_hw=size_hw)
    described: dict[str, Any] = {
        "networks": [network_card(network) for network in subject.networks],
        "inputs": {
            name: {"shape": list(value.shape), "is": graph.meanings[name]} for name, value in graph.inputs.items()
        },
        "outputs": {name: {"is": graph.meanings[name]} for name in graph.outputs},
        "normalised_inside": True,
    }

    def write(path: Path) -> tuple[str, ...]:
        export_graph(graph, path)
        shapes = input_shapes(path)
        for name, sizes in shapes.items():
            described["inputs"][name]["shape"] = sizes
        return _written_notes(shapes, size_hw)

    return Package({FILE: write}, described, _loading(graph), _notes(subject))


def _loading(graph: Graph) -> str:
    """Python that runs a graph."""
    feeds = ", ".join(f'"{name}": {name}' for name in graph.inputs)
    run = f"session.run(None, {{{feeds}}})  # {', '.join(graph.outputs)}"
    return f'import onnxruntime\nsession = onnxruntime.InferenceSession("{FILE}")\noutputs = {run}'


def _notes(subject: Subject) -> tuple[str, ...]:
    cutoffs = subject.card.get("cutoffs") or {}
    if isinstance(subject.whole, Rpn):
        return ("Proposals come before suppression: keep the best by objectness and suppress their doubles.",)
    if isinstance(subject.whole, Vision):
        return ("torchvision's detectors go through PyTorch's older exporter; masks and keypoints are left out.",)
    if not isinstance(subject.whole, Trained):
        return ()
    notes = [
        f"Detections come before suppression: keep the best {cutoffs['per_image']} boxes of each class, suppress at an "
        f"overlap of {cutoffs['nms']}."
    ]
    if cutoffs["merge_px"]:
        notes.append("The run scores proposals that nearly coincide once; the graph scores each.")
    return tuple(notes)


def _written_notes(shapes: Mapping[str, Sequence[int | str]], size_hw: tuple[int, int] | None) -> tuple[str, ...]:
    """What is known of sizes once a file of these inputs is there."""
    height, width = next(sizes for name, sizes in shapes.items() if name.startswith(IMAGE))[-2:]
    notes = []
    if isinstance(height, int):
        notes.append(f"Images go in at {height}x{width} (height x width) alone; --size HEIGHTxWIDTH sets another size.")
    elif size_hw is not None:
        notes.append("Images of any size go in: --size was not needed.")
    if not can_compare():
        notes.append(
            f"{RUNTIME} is not installed: the file was not run and compared with PyTorch. Install it beside xmodal: "
            f"pipx inject xmodal-cli {RUNTIME}, or python -m pip install {RUNTIME}"
        )
    return tuple(notes)


def input_shapes(path: Path) -> dict[str, list[int | str]]:
    """The shapes of an ONNX file's inputs; free sizes are names."""
    import onnx

    inputs = onnx.load(path, load_external_data=False).graph.input
    return {each.name: [dim.dim_param or dim.dim_value for dim in each.type.tensor_type.shape.dim] for each in inputs}


def export_graph(graph: Graph, path: Path) -> None:
    """Write a graph with as many free sizes as its network has, and compare what it gives, if there is a program to.

    Args:
        graph: what to write.
        path: the file.

    Raises:
        XmodalError: PyTorch cannot write it, or writes something else.
    """
    graph.run(graph.inputs)  # a joint finds out here, where nobody watches, how its grids are aligned
    failed: Exception | None = None
    for free in _tries(graph):
        chosen = replace(graph, free=free)
        try:
            with _quiet(), torch.no_grad():
                (_traced if graph.traced else _exported)(chosen, path)
        except Exception as error:
            failed, wrong = error, f"cannot write this network as ONNX: {str(error).strip() or type(error).__name__}"
            continue
        differs = disagreement(chosen, path) if can_compare() else None
        if differs is None:
            return
        failed, wrong = None, f"wrote an ONNX file that is not this network: {differs}"
    raise XmodalError(
        f"PyTorch {torch.__version__} {wrong.splitlines()[0][:MOST_WORDS]}",
        "Export it with --format safetensors.",
    ) from failed


def _tries(graph: Graph) -> list[Mapping[str, Mapping[int, str]]]:
    """What may be free in the file: all that could be; how many images and boxes, not how large; nothing."""
    everything = {name: dict(graph.free.get(name, {})) for name in graph.inputs}
    counts = {name: {at: word for at, word in free.items() if word in COUNTS} for name, free in everything.items()}
    nothing = {name: dict[int, str]() for name in graph.inputs}
    tries: list[Mapping[str, Mapping[int, str]]] = [everything]
    for free in (counts, nothing):
        if free != tries[-1]:
            tries.append(free)
    return tries


@contextmanager
def _quiet() -> Iterator[None]:
    """A block in which PyTorch does not tell how it writes ONNX."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


def _exported(graph: Graph, path: Path) -> None:
    free = tuple(dict(graph.free.get(name, {})) for name in graph.inputs)
    several = len(graph.inputs) > 1  # then `forward` takes them as *given
    torch.onnx.export(
        graph.module,
        tuple(graph.inputs.values()),
        path,
        input_names=list(graph.inputs),
        output_names=list(graph.outputs),
        dynamic_shapes=(free,) if several else free,
        dynamo=True,
        external_data=_bytes(graph) > MOST_BYTES,
        custom_translation_table={torch.ops.torchvision.roi_pool.default: _roi_pool},
        verbose=False,
    )


def _traced(graph: Graph, path: Path) -> None:
    torch.onnx.export(
        graph.module,
        tuple(graph.inputs.values()),
        path,
        input_names=list(graph.inputs),
        output_names=list(graph.outputs),
        dynamic_axes={**graph.free, **{name: {0: "detections"} for name in graph.outputs}},
        opset_version=TRACED_OPSET,
        dynamo=False,
        verbose=False,
    )


def _bytes(graph: Graph) -> int:
    return sum(value.numel() * value.element_size() for value in graph.module.state_dict().values())


def _roi_pool(maps: Any, boxes: Any, spatial_scale: float, pooled_height: int, pooled_width: int) -> Any:
    """RoI max pooling: what onnxscript has for it takes other arguments than torchvision's operator."""
    from onnxscript import opset18

    pooled = opset18.MaxRoiPool(maps, boxes, pooled_shape=(pooled_height, pooled_width), spatial_scale=spatial_scale)
    return pooled, pooled  # the second would be where each maximum was, for gradients
