"""Proposals of a region proposal network that was trained on a split's annotated boxes, all classes as one.

`propose_data` trains one (`detect/rpn_training.py`), or continues or opens a run, and applies it to images of a data
set; `propose_for` makes the same boxes for a new image from the description that is stored with the proposals. The
network's weights are kept beside them.

Shapes: N boxes of an image.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xmodal_cli import files
from xmodal_cli.data.prepared import RGB, PreparedData
from xmodal_cli.detect.rpn_settings import RpnSettings
from xmodal_cli.detect.rpn_task import scaled
from xmodal_cli.detect.rpn_training import TrainedRpn, rehearse, resume, train
from xmodal_cli.detect.samples import ImageSize, network_image
from xmodal_cli.detect.start import RPN_WEIGHTS as WEIGHTS
from xmodal_cli.detect.start import load_rpn
from xmodal_cli.errors import DataError, Interrupted, SettingsError
from xmodal_cli.models.rpn import Rpn
from xmodal_cli.runs.device import computing_threads
from xmodal_cli.runs.session import NOBODY, Watchers

Boxes = NDArray[np.float32]


@dataclass(frozen=True)
class Made:
    """What `propose_data` gives.

    Args:
        settings: what `propose_for` needs, beside `modalities` and `most`.
        boxes: ID and boxes in the order asked for; computed when read.
        weights: the file of weights, to be kept beside the proposals under its name; None after a rehearsal.
        notes: what a person should know.
    """

    settings: Mapping[str, Any]
    boxes: Iterator[tuple[str, Boxes]]
    weights: Path | None
    notes: tuple[str, ...]


def propose_data(
    data: PreparedData,
    ids: Sequence[str],
    *,
    modality: str | None = None,
    most: int,
    given: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    runs: Path = Path("runs"),
    run: Path | None = None,
    dry_run: bool = False,
    watchers: Watchers = NOBODY,
) -> Made:
    """Train a network on a data set, and propose boxes for its images.

    Args:
        data: the data set.
        ids: for which images.
        modality: what the network sees: by default what the run's does, else rgb if it is there.
        most: boxes per image.
        given: settings of the training by name, as `RpnSettings` has them.
        folder: where the proposals will lie, with a copy of the weights.
        runs: the folder of all runs.
        run: a run to continue or, if it is finished, to use, instead of a new one.
        dry_run: two steps only, and nothing is written.
        watchers: who is told what meanwhile.

    Raises:
        Interrupted: the training was stopped; its state is saved.
        XmodalError: settings, data, weights or the training are at fault.
    """
    notes: tuple[str, ...] = ()
    values = {**(given or {}), **({} if modality is None else {"modality": modality})}
    if run is not None:
        trained = resume(run, data, changes=values, watchers=watchers)
    else:
        usual = RGB if RGB in data.modalities else next(iter(data.modalities))
        settings = RpnSettings.from_dict({"data": str(data.root), "modality": usual, **values})
        if dry_run:
            tried = rehearse(settings, watchers)
            trained = tried.trained
            notes = (f"The network's training would take about {tried.seconds:.0f} s ({tried.iterations} steps).",)
        else:
            trained = train(settings, runs=runs, watchers=watchers)
    _require_encoding(trained, data)
    boxes = _propose_all(trained, data, ids, most)
    weights = None if trained.run is None else trained.run.path / WEIGHTS
    places = [] if weights is None else [str(place.resolve()) for place in _places(weights, folder)]
    described = {"network": dict(trained.description)}
    if trained.run is not None:
        described["weights"] = {"places": places, "sha256": trained.run.card()["weights"]["sha256"]}
    return Made(described, boxes, weights, notes)


def propose_for(
    description: Mapping[str, Any], images: Mapping[str, NDArray[Any]], folder: Path | None = None
) -> Boxes:
    """Make proposals for a new image as those of a data set were made.

    Args:
        description: of the stored proposals: `settings` with `modalities`, `most`, `network` and `weights`.
        images: the new image `(H, W, C)` by modality, as a data set stores it.
        folder: where the proposals lie, if they have been moved since they were made.

    Returns:
        `(N, 4)` float32 xyxy, best first.

    Raises:
        DataError: the weights are gone, or are others.
        SettingsError: the image has another number of channels than the network sees.
    """
    settings = description["settings"]
    network, weights = settings["network"], settings["weights"]
    places = [*([folder / WEIGHTS] if folder else []), *map(Path, weights["places"])]
    module = _opened(tuple(places), weights["sha256"], json.dumps(network, sort_keys=True))
    image = images[network["modality"]]
    if image.ndim != 3 or image.shape[2] != network["backbone"]["in_channels"]:
        raise SettingsError(
            f"The {network['modality']} image has the shape {image.shape}; the network that made the proposals sees "
            f"{network['backbone']['in_channels']} channels.",
            "Encode the image as the data set's images are.",
        )
    return _propose(module, network, image, int(settings["most"]))


def _propose_all(trained: TrainedRpn, data: PreparedData, ids: Sequence[str], most: int) -> Iterator[tuple[str, Boxes]]:
    """Proposals for images of a data set; an interruption says that the training need not be done again."""
    try:
        for name in ids:
            image = data.read(trained.description["modality"], name)
            yield name, _propose(trained.module, trained.description, image, most)
    except KeyboardInterrupt:
        if trained.run is None:
            raise
        again = f"xmodal prepare proposals {data.root} --method rpn --resume {trained.run.path}"
        raise Interrupted(
            "Interrupted; no proposals were written, but the network is trained.", f"Go on with: {again}"
        ) from None


def _propose(module: Rpn, network: Mapping[str, Any], image: NDArray[Any], most: int) -> Boxes:
    """Proposals for one image `(H, W, C)`: `(N, 4)`, at most `most`, best first, inside the image, with an area."""
    device = torch.device(network["device"])
    if device.type == "cuda" and not torch.cuda.is_available():
        device = torch.device("cpu")
    height, width = image.shape[:2]
    size_hw = ImageSize(**network["size"]).of((height, width))
    with computing_threads(network["threads"]):
        seen = network_image(image, size_hw)[None].to(device)
        found = module.to(device).propose(module.input.normalise(seen), most)
    boxes = scaled(found, size_hw, (height, width)).cpu().numpy()
    boxes = np.clip(boxes, 0, np.array([width, height, width, height], np.float32)).astype(np.float32)
    return np.ascontiguousarray(boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)])


def _require_encoding(trained: TrainedRpn, data: PreparedData) -> None:
    """A finished run may come from another data set: what it sees has to be the same here."""
    modality = trained.description["modality"]
    different = data.modality(modality).differences(trained.description["encoding"])
    if different:
        raise SettingsError(
            f"The network of {trained.run and trained.run.path} sees another {modality} than {data.root} has: "
            + "; ".join(f"{key} {wanted} against {found}" for key, (wanted, found) in different.items())
            + ".",
            "Train one on this data set: leave --resume out.",
        )


def _places(weights: Path, folder: Path | None) -> list[Path]:
    """Where the weights can be found again: beside the proposals, and in the run."""
    return [*([folder / WEIGHTS] if folder else []), weights]


@lru_cache(maxsize=2)
def _opened(places: tuple[Path, ...], sha256: str, network: str) -> Rpn:
    """The network, from the first place that has its very weights."""
    there = [path for path in places if path.is_file()]
    for path in there:
        if files.sha256(path) == sha256:
            return load_rpn(json.loads(network), path)[0]
    found = f"there are others in {', '.join(map(str, there))}" if there else "there is no such file"
    raise DataError(
        f"The weights that made the proposals are gone ({', '.join(map(str, places))}): {found}.",
        "Make the proposals again: xmodal prepare proposals DATA --method rpn --overwrite",
    )
