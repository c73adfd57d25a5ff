"""Which split each pair of a folder belongs to, and how that agrees with what the data set already holds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xmodal_cli.data import splits
from xmodal_cli.data.annotations import match_coco, merge_classes, read_coco
from xmodal_cli.data.matching import match_names
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.datasets.assembly import Labels
from xmodal_cli.datasets.folder.settings import FolderSettings
from xmodal_cli.errors import DataError, SettingsError

EXAMPLES = 3  # names shown in a message
VAL = "val"


@dataclass(frozen=True)
class SplitChoice:
    """Where each pair goes.

    Args:
        splits: sorted IDs by split; no ID in two.
        by: what decided: `annotations`, `files`, `fraction`, or `none` (all to train).
        scenes: scene by ID, where known.
        labels: annotations to write; None keeps those of the data set.
        notes: what was left out, for the user.
    """

    splits: Mapping[str, Sequence[str]]
    by: str
    scenes: Mapping[str, str] = field(default_factory=dict)
    labels: Labels | None = None
    notes: tuple[str, ...] = ()

    @property
    def ids(self) -> list[str]:
        """All IDs, sorted."""
        return sorted(identifier for ids in self.splits.values() for identifier in ids)

    def only(self, kept: Collection[str]) -> SplitChoice:
        """The choice for some of the IDs; a split that loses all of them is gone."""
        left = {split: [name for name in ids if name in kept] for split, ids in self.splits.items()}
        splits = {split: ids for split, ids in left.items() if ids}
        scenes = {name: scene for name, scene in self.scenes.items() if name in kept}
        labels = self.labels
        if labels is not None:
            labels = Labels({split: coco for split, coco in labels.files.items() if split in splits}, labels.image_ids)
        return replace(self, splits=splits, scenes=scenes, labels=labels)


def choose_splits(
    settings: FolderSettings, ids: Sequence[str], rgb: Mapping[str, Path], old: PreparedData | None
) -> SplitChoice:
    """Decide the split of every pair.

    Args:
        settings: the options.
        ids: the pairs.
        rgb: source file of each colour image, which annotations and lists are matched with.
        old: the data set that is added to.

    Raises:
        DataError: a list names none of the images or one image twice, or a scene is in two splits.
        SettingsError: images of the data set would change their split.
    """
    scenes = _read_scenes(settings, ids, rgb, old)
    images = {identifier: rgb[identifier] for identifier in ids}
    if settings.annotations:
        choice = _by_annotations(settings.annotations, images, scenes)
    elif settings.split_files:
        choice = _by_files(settings.split_files, images, scenes)
    elif settings.val_fraction is not None:
        fit, held = splits.divide(ids, settings.val_fraction, scenes)
        chosen = {splits.TRAIN: fit, VAL: held} if held else {splits.TRAIN: fit}
        choice = SplitChoice(chosen, "fraction", scenes, Labels())
    else:
        choice = SplitChoice({splits.TRAIN: sorted(ids)}, "none", scenes)
    if old is not None:
        choice = _agree(choice, old, settings)
    shared = splits.check_scenes(choice.splits, scenes)
    if shared:
        more = f" {len(shared) - EXAMPLES} more scenes are in two splits." if len(shared) > EXAMPLES else ""
        raise DataError(" ".join(shared[:EXAMPLES]) + more, "Put every scene into one split.")
    return choice


def some(names: Sequence[str]) -> str:
    """The first few names of many, quoted, for messages.

    Example:
        >>> some(["a", "b", "c", "d"])
        "'a', 'b', 'c', ..."
    """
    return ", ".join(f"'{name}'" for name in names[:EXAMPLES]) + (", ..." if len(names) > EXAMPLES else "")


def _by_annotations(given: Mapping[str, Path], images: Mapping[str, Path], scenes: Mapping[str, str]) -> SplitChoice:
    """Split NAME is what its annotation file lists; everything else is train."""
    cocos = {split: read_coco(path) for split, path in given.items()}
    merge_classes(cocos.values())
    image_ids: dict[str, dict[str, Any]] = {}
    split_of: dict[str, str] = {}
    notes = []
    for split, coco in cocos.items():
        image_ids[split], strangers = match_coco(coco, images)
        if strangers:
            notes.append(f"'{coco.path}' lists {len(strangers)} images that are no pair: {some(strangers)}.")
        _claim(split_of, split, image_ids[split])
    rest = [identifier for identifier in images if identifier not in split_of]
    if rest:
        notes.append(f"{len(rest)} pairs are in no annotation file and go to train without labels: {some(rest)}.")
    split_of |= dict.fromkeys(rest, splits.TRAIN)
    return SplitChoice(_grouped(split_of), "annotations", scenes, Labels(cocos, image_ids), tuple(notes))


def _by_files(given: Mapping[str, Path], images: Mapping[str, Path], scenes: Mapping[str, str]) -> SplitChoice:
    """Split NAME is what its file lists; pairs in no file are left out."""
    split_of: dict[str, str] = {}
    notes = []
    for split, path in given.items():
        names = splits.read_names(path)
        meant = match_names(names, images)
        if not meant:
            raise DataError(
                f"'{path}' lists {len(names)} names ({some(names)}); none is among the pairs ({some(list(images))})."
            )
        strangers = [name for name in names if name not in meant]
        if strangers:
            notes.append(f"'{path}' lists {len(strangers)} images that are no pair: {some(strangers)}.")
        _claim(split_of, split, dict.fromkeys(meant.values()))
    rest = [identifier for identifier in images if identifier not in split_of]
    if rest:
        notes.append(f"{len(rest)} pairs are in no split file and are left out: {some(rest)}.")
    chosen = _grouped(split_of)
    known = {name: scenes[name] for name in split_of if name in scenes}
    return SplitChoice(chosen, "files", known, Labels(), tuple(notes))


def _claim(split_of: dict[str, str], split: str, ids: Mapping[str, Any]) -> None:
    twice = [identifier for identifier in ids if identifier in split_of]
    if twice:
        raise DataError(
            f"{len(twice)} images are in the splits {split_of[twice[0]]} and {split}: {some(twice)}.",
            "Put every image into one split.",
        )
    split_of.update(dict.fromkeys(ids, split))


def _grouped(split_of: Mapping[str, str]) -> dict[str, list[str]]:
    """IDs by split, train first."""
    names = sorted(set(split_of.values()), key=lambda name: (name != splits.TRAIN, name))
    return {name: sorted(i for i, split in split_of.items() if split == name) for name in names}


def _agree(choice: SplitChoice, old: PreparedData, settings: FolderSettings) -> SplitChoice:
    """Join what was chosen with the splits that the data set has: none of its images may change sides."""
    before = {identifier: split for split in old.splits for identifier in old.ids(split)}
    if choice.by == "none":
        kept = [identifier for identifier in choice.ids if identifier in before]
        new = [identifier for identifier in choice.ids if identifier not in before]
        by = str(old.provenance.get("splits", {}).get("by", "none"))
        if by == "none":
            return choice
        notes = [f"{len(new)} pairs are not in the data set's splits and are left out: {some(new)}."] if new else []
        return SplitChoice(_grouped({i: before[i] for i in kept}), by, choice.scenes, notes=tuple(notes))
    changed = [i for split, ids in choice.splits.items() for i in ids if before.get(i, split) != split]
    if changed and not settings.overwrite:
        raise SettingsError(
            f"{len(changed)} images of the data set would change their split: {some(changed)}.",
            "Leave the split options away to keep the splits, or pass --overwrite to change them.",
        )
    return choice


def _read_scenes(
    settings: FolderSettings, ids: Sequence[str], rgb: Mapping[str, Path], old: PreparedData | None
) -> dict[str, str]:
    """Scene by ID: from the file given, else from the data set."""
    if settings.scenes is None:
        known = {} if old is None else old.scenes
        return {identifier: known[identifier] for identifier in ids if identifier in known}
    listed = splits.read_scenes(settings.scenes)
    meant = match_names(listed, {identifier: rgb[identifier] for identifier in ids})
    if not meant:
        raise DataError(f"'{settings.scenes}' lists {len(listed)} names ({some(list(listed))}); none is a pair.")
    return {identifier: listed[name] for name, identifier in meant.items()}
