"""A detector's weights on disk, read back: the plain network under its own keys, and what the detector adds to it.

A detection run's card describes each of its networks: name, input, shape of what was added, and the file of weights.
Everything above reads them here, whether it wants the detector or only the network inside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xmodal_cli.models.backbones import Backbone, rebuild
from xmodal_cli.models.detector import Detector
from xmodal_cli.models.detector_shape import DetectorShape, assemble
from xmodal_cli.models.weights import load_file


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
    path = folder / described["file"]
    backbone = rebuild(described["backbone"], seed=seed)
    backbone.weights = f"run:{folder}"
    detector = assemble(backbone, DetectorShape.from_dict(described["shape"]), classes, seed=0)
    detector.load_saved(load_file(path), str(path))
    return detector, backbone
