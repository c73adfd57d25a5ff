"""What `prepare coco` is going to do: which images of which split, their objects, and where their files lie.

The order of the rules: classes are chosen and renamed; objects are looked at one by one; images in which nothing is
left are kept or dropped; the first N in the order of a hash of their names remain; these must have a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xmodal_cli import files
from xmodal_cli.data.annotations import CocoFile, match_coco, merge_classes, read_coco
from xmodal_cli.data.matching import find_images
from xmodal_cli.data.prepared import RGB, PreparedData
from xmodal_cli.data.splits import TRAIN
from xmodal_cli.datasets import assembly
from xmodal_cli.datasets.assembly import check_unchanged, open_existing
from xmodal_cli.datasets.coco.objects import check_ids, keep_classes, mend_objects
from xmodal_cli.datasets.coco.settings import CocoSettings, check_settings, chosen_classes, recorded
from xmodal_cli.datasets.folder.splits import some
from xmodal_cli.datasets.shards import SHARD
from xmodal_cli.errors import DataError, SettingsError

MOST_LISTED = 200  # bad objects named in an error


@dataclass(frozen=True)
class CocoPlan:
    """The work, ready to be done.

    Args:
        old: the data set of the same settings that is there already.
        labels: the objects of all images of the whole data set, classes chosen and objects mended.
        files: image files of the whole data set by ID.
        sizes: width and height in pixels by ID, as the annotations say; None where they do not.
        splits: IDs of what is prepared, everything or a part, by split.
        shard: what the provenance of a part says; empty for a whole data set.
        classes: name in the data set by category.
        missing: file names of images that have no file.
        bad: what is wrong with objects that are left out, by split and id.
        dropped: images without objects that were dropped, by split.
        notes: what was left out or mended, for the user.
    """

    old: PreparedData | None
    labels: assembly.Labels
    files: Mapping[str, Path]
    sizes: Mapping[str, tuple[int, int] | None]
    splits: Mapping[str, list[str]]
    shard: Mapping[str, Any]
    classes: Mapping[str, str]
    missing: tuple[str, ...]
    bad: Mapping[str, str]
    dropped: Mapping[str, int]
    notes: tuple[str, ...]

    @property
    def ids(self) -> list[str]:
        """All IDs of what is prepared, sorted."""
        return sorted(name for ids in self.splits.values() for name in ids)


def make_plan(settings: CocoSettings) -> CocoPlan:
    """Read the annotations, choose images and find their files.

    Raises:
        SettingsError: options that make no sense, unknown classes, or a folder that holds something else.
        DataError: annotations or images that are bad or missing, all named, without `settings.skip_bad`.
    """
    check_settings(settings)
    old = _existing(settings)
    cocos, classes = _read(settings)
    chosen, bad, dropped, notes = _choose(settings, cocos)
    image_ids, found, missing = _match(settings, chosen)
    _refuse(settings, bad, missing)
    if missing:
        notes.append(f"{len(missing)} images have no file and are left out: {some(missing)}.")
    if bad:
        notes.append(f"{len(bad)} objects are bad and are left out: {some(list(bad))}.")
    splits = {split: sorted(ids) for split, ids in image_ids.items() if ids}
    shard = {}
    if settings.shard is not None:
        shard = {SHARD: {**settings.shard.record(found, _decided(settings, splits)), "splits": list(splits)}}
        own = set(settings.shard.own(found))
        splits = {split: kept for split, ids in splits.items() if (kept := [name for name in ids if name in own])}
    sizes = {name: _size(chosen[split].images[n]) for split, ids in image_ids.items() for name, n in ids.items()}
    labels = assembly.Labels(chosen, image_ids)
    return CocoPlan(old, labels, found, sizes, splits, shard, classes, tuple(missing), bad, dropped, tuple(notes))


def _existing(settings: CocoSettings) -> PreparedData | None:
    """The data set of the same settings that lies there; None where there is none, or it is to go.

    Raises:
        SettingsError: something else lies there.
    """
    old = open_existing(settings.out)
    assembly.check_part(settings.out, settings.shard, old)
    known = {} if old is None else old.provenance.get("modalities", {}).get(RGB, {}).get("settings", {})
    if old is not None and known.get("source") != "coco":
        raise SettingsError(
            f"'{settings.out}' is a data set that was not made by `prepare coco`.", "Name another folder with --out."
        )
    check_unchanged("images", recorded(settings), known or None, settings.overwrite)
    begun = assembly.read_state(settings.out).get(RGB)
    check_unchanged("images", recorded(settings), begun, settings.overwrite)
    return old if known == recorded(settings) and not settings.overwrite else None


def _decided(settings: CocoSettings, splits: Mapping[str, list[str]]) -> dict[str, Any]:
    """What all parts have in common beside the settings: splits, and what the annotation files hold."""
    return {
        "splits": splits,
        "annotations": {split: files.sha256(path) for split, path in settings.annotations.items()},
    }


def _read(settings: CocoSettings) -> tuple[dict[str, CocoFile], dict[str, str]]:
    """The annotation files with only the chosen classes, under their new names."""
    cocos = {split: read_coco(path) for split, path in settings.annotations.items()}
    for coco in cocos.values():
        check_ids(coco)
    known = merge_classes(cocos.values())
    classes = chosen_classes(settings, list(known.values()), next(iter(settings.annotations.values())))
    return {split: keep_classes(replace(coco, categories=known), classes) for split, coco in cocos.items()}, classes


def _choose(
    settings: CocoSettings, cocos: Mapping[str, CocoFile]
) -> tuple[dict[str, CocoFile], dict[str, str], dict[str, int], list[str]]:
    """The images of each split and their mended objects; what is bad; how many images without objects were dropped."""
    chosen: dict[str, CocoFile] = {}
    bad: dict[str, str] = {}
    dropped: dict[str, int] = {}
    notes: list[str] = []
    for split, coco in cocos.items():
        mended, faults = mend_objects(coco, list(coco.images))
        notes += faults.notes(split)
        bad |= {f"{split}, annotation {number}": problem for number, problem in faults.bad.items()}
        kept = list(mended.images)
        if settings.empty == "drop" or (settings.empty == "auto" and split == TRAIN):
            kept = [image for image in kept if any(not each.get("iscrowd", 0) for each in mended.objects[image])]
        dropped[split] = len(mended.images) - len(kept)
        kept = _first(mended, kept, settings.limit)
        if not kept:
            notes.append(f"{split}: no image shows any of the classes; the split is left out.")
            continue
        chosen[split] = replace(
            mended,
            images={image: mended.images[image] for image in kept},
            objects={image: mended.objects[image] for image in kept},
        )
    if not chosen:
        raise DataError("No image shows any of the classes.", "Name others with --classes, or pass --empty keep.")
    return chosen, bad, dropped, notes


def _first(coco: CocoFile, images: list[Any], limit: int | None) -> list[Any]:
    """So many images, always the same, spread over all: a larger limit only adds to them."""
    if limit is None:
        return images
    names = {image: str(coco.images[image]["file_name"]) for image in images}
    return sorted(images, key=lambda image: hashlib.sha256(names[image].encode()).digest())[:limit]


def _match(
    settings: CocoSettings, chosen: Mapping[str, CocoFile]
) -> tuple[dict[str, dict[str, Any]], dict[str, Path], list[str]]:
    """COCO image id by ID for each split, files by ID, and file names that have none."""
    found = {folder: find_images(folder) for folder in dict.fromkeys(settings.images.values())}
    image_ids: dict[str, dict[str, Any]] = {}
    paths: dict[str, Path] = {}
    missing: list[str] = []
    for split, coco in chosen.items():
        prefix = "" if "" in settings.images else f"{split}/"
        images = found[settings.images.get(split) or settings.images[""]]
        meant, strangers = match_coco(_with_paths(coco, images), images)
        missing += strangers
        twice = [name for name in meant if prefix + name in paths]
        if twice:
            raise DataError(f"{len(twice)} images are in two splits: {some(twice)}.", "Put every image into one split.")
        image_ids[split] = {prefix + name: image for name, image in meant.items()}
        paths |= {prefix + name: images[name] for name in meant}
    return image_ids, paths, missing


def _with_paths(coco: CocoFile, images: Mapping[str, Path]) -> CocoFile:
    """The file with the whole path of each image whose name is the end of exactly one.

    Raises:
        DataError: a name is the end of several paths.
    """
    by_name: dict[str, list[str]] = {}
    for identifier, path in images.items():
        by_name.setdefault(path.name, []).append(identifier + path.suffix)
    entries: dict[Any, Mapping[str, Any]] = {}
    several: list[str] = []
    for number, entry in coco.images.items():
        name = str(entry["file_name"]).replace("\\", "/").removeprefix("./")
        paths = [path for path in by_name.get(name.rpartition("/")[2], ()) if f"/{path}".endswith(f"/{name}")]
        if len(paths) > 1 and name not in paths:
            several.append(name)
        entries[number] = {**entry, "file_name": paths[0]} if len(paths) == 1 else entry
    if several:
        raise DataError(
            f"{len(several)} names in '{coco.path}' mean more than one image: {some(several)}.",
            "Name the folder of each split: --images train=DIR --images val=DIR",
        )
    return replace(coco, images=entries)


def _refuse(settings: CocoSettings, bad: Mapping[str, str], missing: list[str]) -> None:
    if settings.skip_bad or not (bad or missing):
        return
    lines = [f"{where}: {problem}." for where, problem in list(bad.items())[:MOST_LISTED]]
    if len(bad) > MOST_LISTED:
        lines.append(f"... and {len(bad) - MOST_LISTED} more objects.")
    if missing:
        folders = ", ".join(f"'{folder}'" for folder in dict.fromkeys(settings.images.values()))
        lines.append(f"{len(missing)} images that the annotations list are not in {folders}: {some(missing)}.")
    raise DataError("\n".join(lines), "Mend or fetch them, or pass --skip-bad to leave them out.")


def _size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = entry.get("width"), entry.get("height")
    return None if width is None or height is None else (int(width), int(height))


def counted(labels: assembly.Labels, ids: Iterable[str]) -> dict[str, int]:
    """Objects by class among some images.

    Args:
        labels: of all images.
        ids: those that count.
    """
    wanted = set(ids)
    counts: dict[str, int] = {}
    for split, coco in labels.files.items():
        for name, image in labels.image_ids[split].items():
            for entry in coco.objects[image] if name in wanted else ():
                label = coco.categories[int(entry["category_id"])]
                counts[label] = counts.get(label, 0) + 1
    return dict(sorted(counts.items()))
