"""A detector's weights on disk, read back: the plain network under its own keys, and what the detector adds to it.

A detection run's card describes each of its networks: name, input, shape of what was added, and the file of weights.
Everything above reads them here, whether it wants the detector or only the network inside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from xmodal_cli.errors import DataError
from xmodal_cli.models.backbones import Backbone, InputSpec, build
from xmodal_cli.models.detector import Detector
from xmodal_cli.models.detector_shape import DetectorShape, assemble


def full_name(described: Mapping[str, Any]) -> str:
    """The name that builds a card's network again, with its library.

    Example:
        >>> full_name({"name": "alexnet", "library": "torchvision"})
        'torchvision/alexnet'
    """
    name, library = described["name"], described["library"]
    return str(name) if library == "xmodal" else f"{library}/{name}"


def read_detector(folder: Path, described: Mapping[str, Any], classes: int, seed: int = 0) -> tuple[Detector, Backbone]:
    """One detector of a run, and the plain network whose weights it shares; layers it does not use are random.

    Args:
        folder: of the run.
        described: what the card says of this branch: `backbone`, `shape` and `file`.
        classes: K, without background.
        seed: of layers that the detector does not use.

    Raises:
        DataError: the weights cannot be read, or do not belong to this network.
    """
    plain, path = described["backbone"], folder / described["file"]
    backbone = build(full_name(plain), in_channels=plain["in_channels"], seed=seed)
    backbone.input = InputSpec.from_dict(plain["input"])
    backbone.weights = f"run:{folder}"
    detector = assemble(backbone, DetectorShape.from_dict(described["shape"]), classes, seed=0)
    try:
        state = load_file(path)
    except Exception as error:  # safetensors raises its own type, an OSError, or a header error: all mean the same here
        raise DataError(f"The detector's weights cannot be read: {path}: {error}") from error
    detector.load_saved(state, str(path))
    return detector, backbone
