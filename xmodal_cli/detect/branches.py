"""A trained detector on disk, and ready to use: weights under the plain network's keys, the card that explains them.

A run has one branch, or several that were trained jointly; fusing runs is putting their branches side by side.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import xmodal_cli
from xmodal_cli.detect.samples import ImageSize
from xmodal_cli.errors import SettingsError
from xmodal_cli.models.backbones import Backbone
from xmodal_cli.models.detector import Detector, fold_statistics
from xmodal_cli.models.detector_files import read_detector
from xmodal_cli.models.detector_shape import DetectorShape
from xmodal_cli.models.layers import missing_keys
from xmodal_cli.models.weights import save_file
from xmodal_cli.runs.folder import RunFolder

COMMAND = "finetune"
ZERO_SHOT = "zero-shot"
DETECTORS = (COMMAND, ZERO_SHOT)  # commands whose runs are detectors
VISION = "torchvision"  # the kind of a run whose detector is one of torchvision's


@dataclass(frozen=True)
class Cutoffs:
    """Which detections are kept (recipe 4.4); the defaults are the paper's.

    Args:
        nms: overlap that suppresses a weaker box of the same class.
        per_image: boxes of a class kept in one image, before suppression.
        per_image_mean: boxes of a class kept over all images, per image on average.
        merge_px: proposals whose corners agree to so many network pixels are computed once; 0 computes all.
        proposals: best proposals of an image that are scored.
    """

    nms: float = 0.3
    per_image: int = 100
    per_image_mean: int = 40
    merge_px: int = 0
    proposals: int = 2000


@dataclass(frozen=True)
class Branch:
    """A detector that looks at one modality.

    Args:
        modality: what it looks at.
        detector: the network.
        size: how large it wants its images.
        encoding: how images of this modality were made, as in `dataset.json`.
    """

    modality: str
    detector: Detector
    size: ImageSize
    encoding: Mapping[str, Any]


@dataclass(frozen=True)
class Trained:
    """A finished detection run.

    Args:
        run: its folder.
        branches: its detectors.
        classes: names of the classes, without background.
        cutoffs: which detections it keeps.
        proposals: `method` (name of the stored proposals it learned with) and `description` (how they were made).
        card: everything else.
    """

    run: RunFolder
    branches: tuple[Branch, ...]
    classes: tuple[str, ...]
    cutoffs: Cutoffs
    proposals: Mapping[str, Any]
    card: Mapping[str, Any]


def branch_file(number: int) -> str:
    """Name of the weights of a run's branch.

    Example:
        >>> branch_file(0), branch_file(1)
        ('detector.safetensors', 'detector-2.safetensors')
    """
    return "detector.safetensors" if number == 0 else f"detector-{number + 1}.safetensors"


def save_branch(run: RunFolder, number: int, detector: Detector) -> None:
    """Write the weights of one branch, with the deltas' statistics folded in."""
    save_file(run.path / branch_file(number), fold_statistics(detector))


def branch_card(
    number: int,
    backbone: Backbone,
    shape: DetectorShape,
    detector: Detector,
    modality: str,
    encoding: Mapping[str, Any],
) -> dict[str, Any]:
    """What the card says of one branch."""
    saved = detector.saved_state()
    return {
        "file": branch_file(number),
        "modality": modality,
        "encoding": dict(encoding),
        "backbone": backbone.to_dict(),
        "shape": shape.to_dict(),
        "missing_keys": [key for key in missing_keys(backbone, [shape.layer]) if key not in saved],
    }


def detector_card(
    branches: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    cutoffs: Cutoffs,
    size: ImageSize,
    proposals: Mapping[str, Any],
    **rest: Any,
) -> dict[str, Any]:
    """The card of a detection run."""
    seen = " and ".join(branch["modality"] for branch in branches)
    return {
        "what": f"{branches[0]['backbone']['name']} detector of {len(classes)} classes on {seen}",
        "made": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "xmodal": xmodal_cli.__version__,
        "classes": list(classes),
        "size": asdict(size),
        "cutoffs": asdict(cutoffs),
        "proposals": dict(proposals),
        "branches": [dict(branch) for branch in branches],
        **rest,
    }


def load_trained(run: RunFolder) -> Trained:
    """Read a finished detection run.

    Raises:
        DataError: the run is not finished, or its files do not belong together.
    """
    card = _card(run)
    classes = tuple(card["classes"])
    branches = tuple(_load_branch(run, described, card, len(classes)) for described in card["branches"])
    return Trained(run, branches, classes, Cutoffs(**card["cutoffs"]), card["proposals"], card)


def load_backbone(run: RunFolder, seed: int = 0) -> tuple[Backbone, dict[str, Any]]:
    """The first plain network of a finished detection run with its learned weights, and what the card says of it.

    Args:
        run: its folder.
        seed: of layers that the detector did not use.
    """
    card = _card(run)
    described = card["branches"][0]
    _, backbone = read_detector(run.path, described, len(card["classes"]), seed)
    return backbone, described


def is_vision(run: RunFolder) -> bool:
    """Whether a detection run is of a torchvision detector."""
    return run.finished and run.card().get("kind") == VISION


def _card(run: RunFolder) -> dict[str, Any]:
    card = run.card()
    if card.get("kind") == VISION:
        raise SettingsError(
            f"{run.path} is a {card['detector']['name']} of torchvision; wanted is a Fast R-CNN with proposals.",
            "`xmodal predict` and `xmodal evaluate` take it; else name a run of `xmodal finetune`.",
        )
    return card


def _load_branch(run: RunFolder, described: Mapping[str, Any], card: Mapping[str, Any], classes: int) -> Branch:
    detector, _ = read_detector(run.path, described, classes)
    return Branch(described["modality"], detector.eval(), ImageSize(**card["size"]), described["encoding"])
