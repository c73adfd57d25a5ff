"""What a trained detector finds in images that belong to no data set: proposals made anew, then detected.

An image that lies in a prepared data set brings its partners, the same scene in other modalities, so that proposals are
made from what the run's own were made from; a lone image is searched by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.data import images
from xmodal_cli.data.prepared import DESCRIPTION, RGB, PreparedData
from xmodal_cli.data.proposals import PROPOSAL_FOLDER
from xmodal_cli.detect.branches import Trained
from xmodal_cli.detect.class_names import spoken_names
from xmodal_cli.detect.predict import detect_one
from xmodal_cli.detect.propose import propose_for
from xmodal_cli.detect.vision import look
from xmodal_cli.detect.vision_join import Vision
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.metrics.detections import Detections
from xmodal_cli.runs.device import resolve_device, resolve_precision

MADE_ANEW = ("bottom-up", "grid")  # methods that need nothing but images


@dataclass(frozen=True)
class Prediction:
    """What was found in one image.

    Args:
        path: the image.
        image: as it was read, `(H, W, C)`.
        detections: best first.
        classes: names that labels index, in the words of the data set that the run was made for.
        notes: what one should know of it.
    """

    path: Path
    image: NDArray[Any]
    detections: Detections
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values: class, score and box of every detection, boxes xyxy in pixels with exclusive ends."""
        found = self.detections
        return {
            "image": str(self.path),
            "height": self.image.shape[0],
            "width": self.image.shape[1],
            "detections": [
                {
                    "class": self.classes[label],
                    "score": round(float(score), 4),
                    "box_xyxy": [round(float(corner), 1) for corner in box],
                }
                for label, score, box in zip(found.labels, found.scores, found.boxes_xyxy, strict=True)
            ],
        }


def predict_images(
    trained: Trained,
    paths: Sequence[Path],
    *,
    modality: str | None = None,
    partners: Mapping[str, Path] | None = None,
    proposals: str | None = None,
    least_score: float = 0.0,
    device: str = "auto",
    precision: str = "fp32",
) -> Iterator[Prediction]:
    """Detect in images, one after another.

    Args:
        trained: the detector.
        paths: images in its first branch's modality, encoded as the data it learned from.
        modality: what they are, to be sure; must be what the detector sees.
        partners: for a single image: the same scene in other modalities.
        proposals: `bottom-up` or `grid`; by default the run's own method.
        least_score: weaker detections are left out.
        device, precision: where and how.

    Raises:
        SettingsError: the detector sees another modality, or needs an image that is not there.
        DataError: an image is damaged or not what the detector was trained on.
    """
    first = trained.branches[0]
    if modality is not None and modality != first.modality:
        raise SettingsError(
            f"{trained.run.path} sees {first.modality}, not {modality}.", f"Give it {first.modality} images."
        )
    if partners and len(paths) > 1:
        raise SettingsError("Partners are given for one image.", "Predict one image at a time, or use a data set.")
    if first.modality in (partners or {}):
        raise SettingsError(
            f"The image itself is the {first.modality} image; --with {first.modality}=... would be a second one.",
            "Leave that out.",
        )
    on = resolve_device(device)
    for branch in trained.branches:
        branch.detector.to(on)
    classes = spoken_names(trained.classes, trained.card)
    for path in paths:
        seen = _scene(path, first.modality, partners or {})
        _check(trained, seen, path)
        boxes, notes = _proposals(trained, seen, proposals)
        boxes = boxes[: trained.cutoffs.proposals]
        found = detect_one(
            trained.branches, seen, boxes, trained.cutoffs, device=on, precision=resolve_precision(precision, on)
        )
        found = found[np.argsort(-found.scores, kind="stable")]
        yield Prediction(path, seen[first.modality], found[found.scores >= least_score], classes, tuple(notes))


def predict_vision(
    vision: Vision,
    paths: Sequence[Path],
    *,
    modality: str | None = None,
    least_score: float = 0.0,
    device: str = "auto",
) -> Iterator[Prediction]:
    """Detect in images with a torchvision detector, which needs no proposals; arguments as in `predict_images`."""
    if modality not in (None, vision.modality):
        raise SettingsError(
            f"The detector sees {vision.modality}, not {modality}.", f"Give it {vision.modality} images."
        )
    on, classes = resolve_device(device), spoken_names(vision.classes, vision.card)
    for path in paths:
        image = _read(path, vision.modality)
        _check_image(path, image, vision.modality, vision.encoding or {"channels": 3, "dtype": "uint8", "encoding": ""})
        found = look(vision, image, on)
        found = found[np.argsort(-found.scores, kind="stable")]
        yield Prediction(path, image, found[found.scores >= least_score], classes)


def _scene(path: Path, modality: str, partners: Mapping[str, Path]) -> dict[str, NDArray[Any]]:
    """The image and its partners, by modality, `(H, W, C)` each."""
    seen = {modality: _read(path, modality), **{name: _read(file, name) for name, file in partners.items()}}
    found = _in_data_set(path, modality)
    if found is not None and not partners:
        data, identifier = found
        seen |= {
            name: data.read(name, identifier)
            for name in data.modalities
            if name != modality and (name, identifier) in data.rows
        }
    sizes = {name: image.shape[:2] for name, image in seen.items()}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {height}x{width}" for name, (height, width) in sizes.items())
        raise DataError(f"The images of one scene differ in size: {told}.", "Give images that lie over one another.")
    return seen


def _in_data_set(path: Path, modality: str) -> tuple[PreparedData, str] | None:
    """The prepared data set that an image lies in, and its ID there.

    The path as given comes first: a data set may hold links to images that lie elsewhere.
    """
    for whole in dict.fromkeys((path.absolute(), path.resolve())):
        root = next((parent for parent in whole.parents if (parent / DESCRIPTION).is_file()), None)
        data = None if root is None else _opened(root)
        if data is None or modality not in data.modalities:
            continue
        folder = data.root / data.modalities[modality].folder
        if folder in whole.parents:
            identifier = whole.relative_to(folder).with_suffix("").as_posix()
            if (modality, identifier) in data.rows and data.path(modality, identifier) == whole:
                return data, identifier
    return None


def _opened(root: Path) -> PreparedData | None:
    """The data set of a folder, None where its description is of something else: other programs use that name too."""
    try:
        return PreparedData.open(root)
    except DataError:
        return None


def _read(path: Path, modality: str) -> NDArray[Any]:
    image: NDArray[Any] = images.read_rgb(path) if modality == RGB else images.read_raw(path)
    return image[:, :, None] if image.ndim == 2 else image


def _check(trained: Trained, seen: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Every branch finds its modality, in the form that it learned from."""
    for branch in trained.branches:
        image = seen.get(branch.modality)
        if image is None:
            raise SettingsError(
                f"The detector also sees {branch.modality}, and there is no such image for {path}.",
                f"Give it: --with {branch.modality}=FILE",
            )
        _check_image(path, image, branch.modality, branch.encoding)


def _check_image(path: Path, image: NDArray[Any], modality: str, encoding: Mapping[str, Any]) -> None:
    """An image has the form that a detector learned from."""
    if image.shape[2] != encoding["channels"] or str(image.dtype) != encoding["dtype"]:
        raise DataError(
            f"'{path}' holds {images.describe(image)}; the detector learned from {modality} images of "
            f"{encoding['channels']} x {encoding['dtype']} ({encoding['encoding']}).",
            f"Encode it first: xmodal prepare folder --target DIR --modality {modality} ...",
        )


def _proposals(
    trained: Trained, seen: Mapping[str, NDArray[Any]], method: str | None
) -> tuple[NDArray[np.float32], list[str]]:
    """Boxes to look at, and what is to be said of them."""
    notes: list[str] = []
    description = dict(trained.proposals["description"])
    if method is not None:
        if method not in MADE_ANEW:
            raise SettingsError(
                f"Proposals {method!r} cannot be made for a new image.", f"Use one of {', '.join(MADE_ANEW)}."
            )
        if method != description["method"]:
            notes.append(f"The run learned with the proposals {trained.proposals['method']}; here they are {method}.")
            description = {"method": method, "settings": {"most": trained.cutoffs.proposals, "grouping": {}}}
    settings = dict(description.get("settings", {}))
    wanted = settings.get("modalities", [])
    absent = [name for name in wanted if name not in seen]
    if absent and description["method"] == MADE_ANEW[0]:
        notes.append(f"The run's proposals were made from {', '.join(wanted)}; here from {', '.join(seen)} alone.")
        settings["modalities"] = list(seen)
    if settings.get("motion", RGB) not in (*seen, RGB):
        notes.append(f"The run's proposals were chosen by motion; here there is no {settings.pop('motion')} image.")
    kept = Path(trained.card["data"]["path"]) / PROPOSAL_FOLDER / str(trained.proposals["method"])
    return propose_for({**description, "settings": settings}, seen, kept if kept.is_dir() else None), notes
