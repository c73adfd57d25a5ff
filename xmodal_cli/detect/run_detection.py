"""What one detector, or several that are fused, find in images of a data set: runs are read, checked, and asked.

Several ensembles of runs are asked in one pass over the images, in which a run that is in many of them looks once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.proposals import Proposals, if_stored, open_proposals
from xmodal_cli.detect.branches import Branch, Trained, is_vision, load_trained
from xmodal_cli.detect.class_names import ClassMap, match_runs
from xmodal_cli.detect.predict import Ensemble, detect_ensembles
from xmodal_cli.detect.samples import SMALLEST_SIDE, ImageSize
from xmodal_cli.detect.vision import detect_each
from xmodal_cli.detect.vision_join import Vision
from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.metrics.detections import Detections
from xmodal_cli.runs.device import resolve_device, resolve_precision
from xmodal_cli.runs.folder import RunFolder

Watcher = Callable[[int, int], None]  # (images seen, images in all)


@dataclass(frozen=True)
class Looking:
    """How runs of Fast R-CNN look at images.

    Args:
        proposals: name of the stored proposals; by default those of the first run of an ensemble.
        size: short side in pixels for all; by default each run sees images at its own.
        device, precision: where and how.
        classes: the detector's word and the data set's, where they differ in a way that `class_names` does not know;
            None takes those that the runs were made with.
    """

    proposals: str | None = None
    size: int | None = None
    device: str = "auto"
    precision: str = "fp32"
    classes: Mapping[str, str] | None = None

    def resolved(self) -> tuple[torch.device, str]:
        """Device and precision.

        Raises:
            SettingsError: they, or the size, cannot be had.
        """
        if self.size is not None and self.size < SMALLEST_SIDE:
            raise SettingsError(f"--size must be at least {SMALLEST_SIDE} px, not {self.size}.")
        device = resolve_device(self.device)
        return device, resolve_precision(self.precision, device)


AS_TRAINED = Looking()


@dataclass(frozen=True)
class Together:
    """What one detector, or several that are fused, found, and with what.

    Args:
        detections: `images` index the IDs that were asked for, `labels` the data set's classes.
        trained: the runs.
        branches: all their detectors, at the size that images were seen.
        proposals: where they looked.
        classes: which of the data set's classes they know.
    """

    detections: Detections
    trained: list[Trained]
    branches: list[Branch]
    proposals: Proposals
    classes: ClassMap


def detect_together(
    runs: Sequence[RunFolder],
    data: PreparedData,
    ids: Sequence[str],
    looking: Looking = AS_TRAINED,
    *,
    watch: Watcher = lambda done, total: None,
) -> Together:
    """Detect in some images of a data set with one run, or with several fused.

    Args:
        runs: finished detection runs.
        data: the prepared data set.
        ids: which images.
        looking: how.
        watch: told how many images have been seen.

    Raises:
        XmodalError: settings, runs or data are at fault.
    """
    (found,) = detect_each_together([runs], data, ids, looking, watch=watch)
    return found


def detect_each_together(
    ensembles: Sequence[Sequence[RunFolder]],
    data: PreparedData,
    ids: Sequence[str],
    looking: Looking = AS_TRAINED,
    *,
    watch: Watcher = lambda done, total: None,
) -> list[Together]:
    """As `detect_together` with each of several ensembles of runs, in one pass; all detectors are loaded for it."""
    device, precision = looking.resolved()
    loaded = {run.path: load_trained(run) for runs in ensembles for run in runs}
    sized = {path: [at_size(branch, looking.size) for branch in each.branches] for path, each in loaded.items()}
    asked = [_asked([(loaded[run.path], sized[run.path]) for run in runs], data, looking) for runs in ensembles]
    for branches in sized.values():
        for branch in branches:
            branch.detector.to(device)
    together = [Ensemble(each.branches, each.proposals, each.trained[0].cutoffs) for each in asked]
    every = detect_ensembles(together, data, ids, device=device, precision=precision, watch=watch)
    return [replace(each, detections=_renamed(found, each.classes)) for found, each in zip(every, asked, strict=True)]


def _asked(runs: Sequence[tuple[Trained, list[Branch]]], data: PreparedData, looking: Looking) -> Together:
    """An ensemble that goes together and with the data, before it has found anything."""
    trained, branches = [each for each, _ in runs], [branch for _, branches in runs for branch in branches]
    check_together(trained)
    for branch in branches:
        check_modality(branch, data)
    matched = match_runs([each.card for each in trained], trained[0].classes, data.classes, looking.classes)
    method = looking.proposals or if_stored(str(trained[0].proposals["method"]), data)
    return Together(Detections.of([]), trained, branches, open_proposals(data, method), matched)


def detect_visions(
    visions: Sequence[Vision],
    data: PreparedData,
    ids: Sequence[str],
    *,
    classes: Mapping[str, str] | None = None,
    device: str = "auto",
    watch: Watcher = lambda done, total: None,
) -> tuple[Detections, ClassMap]:
    """As `detect_together` with torchvision detectors: what was found, of the data set's classes, and which those are.

    Raises:
        XmodalError: settings, runs or data are at fault.
    """
    for vision in visions:
        check_encoding(vision.modality, vision.encoding, data)
    cards = [vision.card for vision in visions if vision.card]
    matched = match_runs(cards, visions[0].classes, data.classes, classes)
    return _renamed(detect_each(visions, data, ids, resolve_device(device), watch), matched), matched


def _renamed(found: Detections, matched: ClassMap) -> Detections:
    """Detections with the data set's classes for labels; of classes that it does not have there are none."""
    found = replace(found, labels=matched.labels[found.labels])
    return found[found.labels >= 0]


def same_kind(runs: Sequence[RunFolder]) -> Sequence[RunFolder]:
    """Runs of torchvision detectors, all of them.

    Raises:
        SettingsError: others are among them: their proposals and scores cannot be averaged.
    """
    other = [str(run.path) for run in runs if not is_vision(run)]
    if other:
        raise SettingsError(
            f"Detectors of torchvision cannot be fused with Fast R-CNN on proposals: {', '.join(other)}.",
            "Evaluate them one by one.",
        )
    return runs


def check_of_regions(proposals: str | None, size: int | None, precision: str) -> None:
    """Find out whether something is asked of a torchvision detector that only Fast R-CNN on proposals does.

    Raises:
        SettingsError: it is.
    """
    asked = {
        "--proposals": proposals is not None,
        "--size": size is not None,
        "--precision": precision not in ("auto", "fp32"),
    }
    given = [name for name, used in asked.items() if used]
    if given:
        raise SettingsError(
            f"{' and '.join(given)}: torchvision's detectors make their own proposals, choose their own size, and run "
            "in fp32.",
            "Leave it out; it is for detectors of `xmodal finetune`.",
        )


def check_together(trained: Sequence[Trained]) -> None:
    """Find out whether runs can be fused.

    Raises:
        SettingsError: their classes are not the same.
    """
    first = trained[0]
    for other in trained[1:]:
        if other.classes != first.classes:
            only = sorted(set(first.classes) ^ set(other.classes))
            what = f"only one of them knows {', '.join(only[:6])}" if only else "the order of their classes differs"
            raise SettingsError(
                f"{first.run.path} and {other.run.path} cannot be fused: {what}.",
                "Fuse detectors that were trained on the same classes.",
            )


def check_modality(branch: Branch, data: PreparedData) -> None:
    """Find out whether a data set has what a detector was trained to see.

    Raises:
        SettingsError: the modality is missing.
        DataError: it is there, but encoded in another way.
    """
    check_encoding(branch.modality, branch.encoding, data)


def check_encoding(modality: str, encoding: Mapping[str, Any] | None, data: PreparedData) -> None:
    """As `check_modality`, of a modality by name; where nothing is known of its encoding, any will do."""
    info = data.modality(modality)
    differing = {} if encoding is None else info.differences(encoding)
    if differing:
        told = ", ".join(f"{key} {wanted}, not {found}" for key, (wanted, found) in differing.items())
        raise DataError(
            f"The detector was trained on {modality} images of {told}, as '{data.root}' has them.",
            "Evaluate it on a data set that was prepared like its own.",
        )


def at_size(branch: Branch, size: int | None) -> Branch:
    """The branch, seeing images at another short side if one is given."""
    return branch if size is None else replace(branch, size=ImageSize(size, max(size, branch.size.longest)))
