"""A classifier and everything decided about it, before anything is trained or written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from xmodal_cli.classify.settings import ClassificationSettings, check, resolve
from xmodal_cli.classify.task import LabelledImages
from xmodal_cli.data.labels import ImageLabels, image_labels
from xmodal_cli.data.memory import common_size, fits_in_memory
from xmodal_cli.data.pairs import Pairs
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.transforms import Augmentation, short_side_to
from xmodal_cli.detect.start import start_network
from xmodal_cli.errors import DataError
from xmodal_cli.models.backbones import Backbone
from xmodal_cli.models.classifier import Classifier, classified_layer
from xmodal_cli.runs import processes
from xmodal_cli.web.fetch import Watcher


@dataclass(frozen=True)
class Plan:
    """Everything decided about a classifier's training; what `build` gives.

    Args:
        settings: every setting, resolved.
        data: the data set.
        labels: the class of each image.
        samples: what is learned from.
        held_out: IDs that are watched.
        backbone, module: the plain network, and the classifier that shares its weights.
        size_hw: what the network sees, pixels.
        device: where it is trained.
        left_out: why how many images of the split are not learned from.
    """

    settings: ClassificationSettings
    data: PreparedData
    labels: ImageLabels
    samples: LabelledImages
    held_out: list[str]
    backbone: Backbone
    module: Classifier
    size_hw: tuple[int, int]
    device: torch.device
    left_out: Mapping[str, int]

    def data_hash(self) -> str:
        """One hash of every image that is learned from, and of its class."""
        names = "".join(f"{name} {self.labels.classes[self.labels.labels[name]]}\n" for name in self.samples.ids)
        images = self.data.data_hash([self.settings.modality], self.samples.ids)
        return f"{images}/{hashlib.sha256(names.encode()).hexdigest()}"

    def unlearned(self) -> list[str]:
        """Classes that no image to learn from is of."""
        seen = {self.labels.labels[name] for name in self.samples.ids}
        return [name for number, name in enumerate(self.labels.classes) if number not in seen]


def build(settings: ClassificationSettings, downloading: Watcher = lambda url, done, total: None) -> Plan:
    """Open the data, find the classes, resolve the settings, build the network.

    Nothing is written; weights may be downloaded, since naming a pretrained network asks for it.

    Raises:
        XmodalError: settings, data or weights are at fault.
    """
    check(settings)
    data = PreparedData.open(settings.data)
    data.modality(settings.modality)
    labels = image_labels(data, settings.split)
    learned, held_out = _divided(data, labels, settings)
    backbone = start_network(settings, data, learned, downloading).backbone
    layer = classified_layer(backbone, settings.layer)
    in_memory = fits_in_memory(data, learned, [settings.modality])
    settings = resolve(settings, backbone, layer, in_memory=in_memory)
    size_hw = short_side_to(settings.size, common_size(data, learned))
    pairs = Pairs(
        data,
        learned,
        (settings.modality,),
        augmentation=Augmentation(size_hw, settings.crop, settings.flip),
        size_hw=size_hw,
        seed=settings.seed,
        in_memory=in_memory and settings.workers == 0,
    )
    samples = LabelledImages(pairs, labels.labels)
    module = Classifier(backbone, layer, len(labels.classes), dropout=settings.dropout, seed=settings.seed)
    device = processes.own_device(settings.device)
    left_out = {"without a class": len(data.ids(settings.split)) - len(learned) - len(held_out)}
    return Plan(settings, data, labels, samples, held_out, backbone, module, size_hw, device, left_out)


def _divided(data: PreparedData, labels: ImageLabels, settings: ClassificationSettings) -> tuple[list[str], list[str]]:
    """IDs to learn from and IDs to watch, those that have a class.

    Raises:
        DataError: those to learn from are all of one class, or none is left to watch.
    """
    ids, held_out = data.ids(settings.split), list[str]()
    if settings.hold_out:
        ids, held_out = data.hold_out(settings.split, settings.hold_out)
    learned, watched = labels.of(ids), labels.of(held_out)
    kinds = sorted({labels.classes[labels.labels[name]] for name in learned})
    if len(kinds) < 2:
        found = f"all of the class '{kinds[0]}'" if kinds else "none"
        raise DataError(
            f"A classifier learns to tell classes apart; of the {len(ids)} images of split {settings.split!r} of "
            f"{data.root} to learn from, {len(learned)} have a class, {found}.",
            "Use a split with images of several classes.",
        )
    if held_out and not watched:
        raise DataError(
            f"The {len(held_out)} images held out of split {settings.split!r} have no class: nothing can be watched.",
            "Hold out more with --hold-out SHARE, or none with --hold-out 0.",
        )
    return learned, watched


def numbered(names: Iterable[str]) -> NDArray[np.int64]:
    """Clips by number in place of name, `(N,)`."""
    return np.unique(list(names), return_inverse=True)[1].astype(np.int64)
