"""What `prepare folder` is going to do, decided before it does it: pairs, splits, units, smoothing, one recipe for all.

A few pairs are looked at first. What is wrong with all of them is wrong with the settings (a unit, a type, sizes that
never agree), and is reported before anything is written.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli import files
from xmodal_cli.data import images
from xmodal_cli.data.matching import find_images, match_pairs
from xmodal_cli.data.prepared import RGB, PreparedData
from xmodal_cli.data.splits import TRAIN
from xmodal_cli.datasets import assembly
from xmodal_cli.datasets.folder import settings as checks
from xmodal_cli.datasets.folder.settings import FolderSettings
from xmodal_cli.datasets.folder.splits import SplitChoice, choose_splits, some
from xmodal_cli.datasets.frames import Pair, Recipe, one_channel, read_target
from xmodal_cli.datasets.shards import SHARD, hash_of_plan
from xmodal_cli.errors import DataError
from xmodal_cli.modalities import MODALITIES

LOOKED_AT = 8  # pairs looked at before the work begins, spread over all
# Enough images to know the range of values of a thermal camera; the percentiles hardly move beyond.
MEASURED = 1000


@dataclass(frozen=True)
class Plan:
    """The work, ready to be done.

    Args:
        old: the data set that is added to, None for a new one.
        choice: splits, scenes and annotations.
        pairs: files of every pair and what is still to be made.
        recipe: how the frames become modalities.
        recorded: settings by modality, to be kept in the data set.
        notes: what was left out, for the user.
        shard: what the provenance of a part says; empty for a whole data set.
    """

    old: PreparedData | None
    choice: SplitChoice
    pairs: Sequence[Pair]
    recipe: Recipe
    recorded: Mapping[str, Mapping[str, Any]]
    notes: tuple[str, ...]
    shard: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sources:
    """The files of every pair, by ID.

    Args:
        rgb: colour images.
        target: the other sensor's images.
        missing: raw depth; empty where there is none.
        ids: the pairs, sorted.
        notes: files without a partner, for the user.
    """

    rgb: Mapping[str, Path]
    target: Mapping[str, Path]
    missing: Mapping[str, Path]
    ids: Sequence[str]
    notes: tuple[str, ...]


def make_plan(settings: FolderSettings) -> Plan:
    """Check the settings, find the pairs, decide splits, unit and smoothing.

    Raises:
        SettingsError: options that are missing, contradict each other or the data set that is added to.
        DataError: no pairs, or something is wrong with every pair looked at.
    """
    old = assembly.open_existing(settings.out)
    checks.check_settings(settings, old)
    added = () if old is None else set(settings.modalities) - old.modalities.keys()
    assembly.check_part(settings.out, settings.shard, old, added)
    sources = find_sources(settings, old)
    choice = choose_splits(settings, sources.ids, sources.rgb, old)
    pairs = [_pair(sources, identifier, settings.modalities) for identifier in choice.ids]
    recipe, recorded = _make_recipe(settings, old, pairs, choice)
    shard = _shard(settings, choice, old)
    if settings.shard is not None:
        own = set(settings.shard.own(choice.ids) if old is None else old.all_ids)
        choice, pairs = choice.only(own), [pair for pair in pairs if pair.id in own]
    begun = checks.recorded_settings(settings, old).keys()
    pairs = [_still_wanted(recipe, pair, begun) for pair in pairs]
    return Plan(old, choice, pairs, recipe, recorded, (*sources.notes, *choice.notes), shard)


def _shard(settings: FolderSettings, choice: SplitChoice, old: PreparedData | None) -> dict[str, Any]:
    """What the provenance says of a part; empty for a whole data set."""
    if settings.shard is None:
        return {}
    plan = _decided(settings)
    if old is None:
        return {SHARD: settings.shard.record(choice.ids, plan)}
    anew = {"plan_sha256": hash_of_plan(plan)} if any(plan.values()) else {}
    return {SHARD: {**old.provenance[SHARD], **anew}}


def _decided(settings: FolderSettings) -> dict[str, Any]:
    """What decides splits, scenes and annotations: the same for all parts of a data set."""
    return {
        "val_fraction": settings.val_fraction,
        "scenes": None if settings.scenes is None else files.sha256(settings.scenes),
        "annotations": {split: files.sha256(path) for split, path in settings.annotations.items()},
        "split_files": {split: files.sha256(path) for split, path in settings.split_files.items()},
    }


def find_sources(settings: FolderSettings, old: PreparedData | None) -> Sources:
    """Find the files of all pairs and match them by ID.

    Raises:
        DataError: no pairs, or images of the data set have no partner and may not be left out.
    """
    rgb = find_images(settings.rgb) if settings.rgb is not None else _own_rgb(old)
    rgb_name = settings.rgb if settings.rgb is not None else str(settings.out / RGB)
    target = find_images(settings.target) if settings.target is not None else dict(rgb)
    missing = find_images(settings.missing) if settings.missing is not None else {}
    ids = match_pairs(rgb, target, rgb_name, settings.target or rgb_name)
    notes = [
        f"{len(rest)} of {len(side)} images of '{name}' have no partner and are left out: {some(rest)}."
        for name, side in ((rgb_name, rgb), (settings.target or rgb_name, target))
        if (rest := sorted(side.keys() - set(ids)))
    ]
    if settings.missing is not None:
        _require_all(set(ids), missing, settings.missing)
    if old is not None:
        ids, kept = _within(settings, old, ids)
        notes += kept
    return Sources(rgb, target, missing, ids, tuple(notes))


def _own_rgb(old: PreparedData | None) -> dict[str, Path]:
    return {} if old is None else {identifier: old.path(RGB, identifier) for identifier in old.all_ids}


def _require_all(ids: set[str], missing: Mapping[str, Path], name: str) -> None:
    absent = sorted(ids - missing.keys())
    if absent:
        raise DataError(
            f"'{name}' has no raw depth for {len(absent)} of {len(ids)} pairs: {some(absent)}.",
            "Quote a pattern whose * matches the same part as in --rgb and --target.",
        )


def _within(settings: FolderSettings, old: PreparedData, ids: Sequence[str]) -> tuple[list[str], list[str]]:
    """The pairs that the data set can hold once this run is done: every ID has every modality."""
    have = set(old.all_ids)
    absent = sorted(have - set(ids))
    if absent and not settings.skip_bad:
        raise DataError(
            f"{len(absent)} of the {len(have)} images of the data set have no pair here: {some(absent)}.",
            "Pass --skip-bad to drop them from the data set, or prepare into another folder with --out.",
        )
    notes = [f"{len(absent)} images are dropped from the data set: {some(absent)}."] if absent else []
    others = old.modalities.keys() - {RGB, *settings.modalities}
    new = sorted(set(ids) - have)
    if others and new:
        notes.append(f"{len(new)} pairs have no {', '.join(sorted(others))} and are left out: {some(new)}.")
        ids = [identifier for identifier in ids if identifier in have]
    return list(ids), notes


def _pair(sources: Sources, identifier: str, wanted: tuple[str, ...]) -> Pair:
    return Pair(
        identifier, sources.rgb[identifier], sources.target[identifier], sources.missing.get(identifier), wanted
    )


def _make_recipe(
    settings: FolderSettings, old: PreparedData | None, pairs: Sequence[Pair], choice: SplitChoice
) -> tuple[Recipe, dict[str, dict[str, Any]]]:
    """Resolve `auto`, try the recipe on a few pairs, and compare it with what earlier runs did."""
    camera = checks.camera_of(settings, old)
    dtype = _dtype(pairs)
    smooth = settings.smooth == "on" or (settings.smooth == "auto" and dtype == "uint8")
    recipe = Recipe(
        root=settings.out,
        modalities=settings.modalities,
        target=settings.target or settings.rgb or RGB,
        dtype=dtype,
        depth_unit=settings.depth_unit,
        depth_offset=settings.depth_offset,
        camera=camera,
        smooth=smooth,
        link=settings.link,
        overwrite=settings.overwrite,
    )
    before = checks.recorded_settings(settings, old)
    recorded = {name: checks.settings_of(name, settings, camera, smooth) for name in settings.modalities}
    for name, now in recorded.items():
        known = {key: value for key, value in before.get(name, {}).items() if key != "range"} or None
        assembly.check_unchanged(name, now, known, settings.overwrite)
    _try(recipe, pairs)
    if any(MODALITIES[name].needs_range for name in settings.modalities):
        recipe = replace(recipe, range=_range(recipe, settings, pairs, choice, before))
        for name in settings.modalities:
            recorded[name]["range"] = list(recipe.range or ())
    return recipe, recorded


def _spread(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """A few of many, evenly spread, the first and the last among them."""
    if len(pairs) <= count:
        return list(pairs)
    return [pairs[round(index)] for index in np.linspace(0, len(pairs) - 1, count)]


def _dtype(pairs: Sequence[Pair]) -> str:
    """The type that target files have: that of the first one that can be read."""
    problems = []
    for pair in _spread(pairs, LOOKED_AT):
        try:
            return str(images.read_raw(pair.target).dtype)
        except DataError as error:
            problems.append(error.message)
    raise DataError("No target image can be read. " + " ".join(problems), "Check the files; copy them again.")


def _try(recipe: Recipe, pairs: Sequence[Pair]) -> None:
    """Read a few pairs; an error that all of them have is an error of the settings."""
    problems: list[DataError] = []
    tried = _spread(pairs, LOOKED_AT)
    for pair in tried:
        try:
            height, width = images.read_rgb(pair.rgb).shape[:2]
            read_target(recipe, pair, (height, width))
            return
        except DataError as error:
            problems.append(error)
    first = problems[0]
    count = "The only pair" if len(tried) == 1 else f"None of the {len(tried)} pairs that were looked at"
    lines = "\n".join(dict.fromkeys(problem.message for problem in problems))
    raise DataError(f"{count} can be used.\n{lines}" if len(tried) > 1 else lines, first.hint)


def _range(
    recipe: Recipe,
    settings: FolderSettings,
    pairs: Sequence[Pair],
    choice: SplitChoice,
    before: Mapping[str, Mapping[str, Any]],
) -> tuple[float, float]:
    """The values that become 0 and 255: given, else an earlier run's, else measured on the train split."""
    from xmodal_cli.modalities import thermal

    name = recipe.modalities[0]
    given, known = settings.value_range, before.get(name, {}).get("range")
    if given is not None and known is not None:
        assembly.check_unchanged(name, {"range": list(given)}, {"range": list(known)}, settings.overwrite)
    if given is not None:
        return given
    if known is not None and not settings.overwrite:
        return float(known[0]), float(known[1])
    train = set(choice.splits.get(TRAIN, choice.ids))
    return thermal.measure_range(_readable(_spread([pair for pair in pairs if pair.id in train], MEASURED)))


def _readable(pairs: Sequence[Pair]) -> Iterator[NDArray[Any]]:
    """The target images that can be read; the others are reported when their turn comes."""
    for pair in pairs:
        try:
            image: NDArray[Any] = one_channel(images.read_raw(pair.target), pair.target)
        except DataError:
            continue
        yield image


def _still_wanted(recipe: Recipe, pair: Pair, begun: Collection[str]) -> Pair:
    """The pair without what an earlier run finished: files not older than those they are made from."""
    if recipe.overwrite:
        return pair
    newest = max(_modified(path) for path in (pair.target, pair.missing) if path is not None)
    wanted = tuple(
        name for name in pair.wanted if name not in begun or _modified(recipe.root / f"{name}/{pair.id}.png") < newest
    )
    return Pair(pair.id, pair.rgb, pair.target, pair.missing, wanted)


def _modified(path: Path) -> int:
    """When a file was last changed, in nanoseconds; -1 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1
