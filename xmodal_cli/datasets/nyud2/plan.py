"""What `prepare nyud2` is going to do: which images of which source, what is to be made of each, and their splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodal_cli.data.prepared import RGB, PreparedData
from xmodal_cli.data.splits import check_scenes
from xmodal_cli.datasets import assembly
from xmodal_cli.datasets.assembly import check_unchanged, open_existing
from xmodal_cli.datasets.downloads.fetched import catalogue_path
from xmodal_cli.datasets.nyud2.archive import open_archive
from xmodal_cli.datasets.nyud2.frames import ImageJob, ImageRecipe
from xmodal_cli.datasets.nyud2.labelled import FILE_NAME, open_labelled
from xmodal_cli.datasets.nyud2.settings import Nyud2Settings, check_settings, choose_modalities
from xmodal_cli.datasets.nyud2.source import Source
from xmodal_cli.datasets.nyud2.splits import check_split_file, ids_by_split
from xmodal_cli.datasets.nyud2.superpixels import find_superpixels
from xmodal_cli.datasets.shards import SHARD
from xmodal_cli.errors import DataError, DownloadError, SettingsError

MADE_BY = "nyud2"
MOST_LISTED = 50  # scenes named in an error


@dataclass(frozen=True)
class Plan:
    """The work, ready to be done.

    Args:
        old: the data set of the same source that is there already; None for a new one.
        source: where the images come from.
        recipe: how they are made.
        jobs: every image that is made here, and what is still to be made of it.
        splits: IDs of these images by split.
        superpixels: their files by ID; empty where none were asked for.
        recorded: settings by modality, rgb among them.
        notes: what a person should know.
        shard: what the provenance of a part says; empty for the whole data set.
    """

    old: PreparedData | None
    source: Source
    recipe: ImageRecipe
    jobs: Sequence[ImageJob]
    splits: Mapping[str, Sequence[str]]
    superpixels: Mapping[str, Path]
    recorded: Mapping[str, Mapping[str, Any]]
    notes: tuple[str, ...]
    shard: Mapping[str, Any]

    @property
    def scenes(self) -> dict[str, str]:
        """Scene by ID, where known, of the images that are made here."""
        return {job.id: self.source.scenes[job.id] for job in self.jobs if job.id in self.source.scenes}


def make_plan(settings: Nyud2Settings) -> Plan:
    """Check the settings, open the source, compare splits and scenes, see what is there already.

    Raises:
        SettingsError: options that make no sense, or a folder that holds something else.
        DataError: the source or a split file is not what it should be.
    """
    check_settings(settings)
    source = _open(settings)
    modalities = (RGB, *choose_modalities(settings, source.modalities, source.usual))
    notes = list(source.notes)
    if settings.splits is not None:
        notes.append(check_split_file(settings.splits))
    notes += _shared_scenes(ids_by_split(source.ids), source.scenes, settings)
    ids = source.ids if settings.shard is None else settings.shard.stretch(source.ids)
    superpixels = {} if settings.superpixels is None else find_superpixels(settings.superpixels, ids)
    there = _there(settings)
    old = there if there is not None and _is_same(there, source, ids) else None
    modalities = _with_those_there(modalities, settings, None if old is not None else there, source)
    if old is not None or not settings.overwrite:
        added = () if there is None else set(modalities) - there.modalities.keys()
        assembly.check_part(settings.out, settings.shard, there, added)
    recorded = {name: source.identity(name) for name in modalities}
    begun = _begun(settings, there)
    for name, now in recorded.items():
        check_unchanged("images" if name == RGB else name, now, begun.get(name), settings.overwrite)
    recipe = ImageRecipe(settings.out, source, modalities, settings.link, source.has_objects and old is None)
    remade = _remade(settings, modalities, begun, recorded)
    jobs = [_job(recipe, identifier, begun.keys() - remade) for identifier in ids]
    shard = _shard(settings, source)
    return Plan(old, source, recipe, jobs, ids_by_split(ids), superpixels, recorded, tuple(notes), shard)


def _shard(settings: Nyud2Settings, source: Source) -> dict[str, Any]:
    """What the provenance says of a part; empty for the whole data set."""
    if settings.shard is None:
        return {}
    splits = ids_by_split(source.ids)
    plan = {"splits": splits, "scenes": dict(source.scenes), "superpixels": settings.superpixels is not None}
    return {SHARD: {**settings.shard.record(source.ids, plan), "splits": list(splits)}}


def _open(settings: Nyud2Settings) -> Source:
    """The source that was named, else the labelled file that was downloaded.

    Raises:
        DownloadError: neither was.
        DataError: it is not what it should be.
    """
    if settings.archive is not None:
        return open_archive(settings.archive)
    if settings.labelled is not None:
        return open_labelled(settings.labelled)
    try:
        return open_labelled(catalogue_path(FILE_NAME))
    except DownloadError as error:
        raise DownloadError(
            error.message, f"{error.hint}; or name a file of yours with --labelled, or an archive with --archive."
        ) from None


def _shared_scenes(
    splits: Mapping[str, Sequence[str]], scenes: Mapping[str, str], settings: Nyud2Settings
) -> list[str]:
    """Sentences about scenes in two splits, where that is allowed.

    Raises:
        DataError: there are some, and it is not.
    """
    shared = check_scenes(splits, scenes)
    if shared and not settings.allow_shared_scenes:
        raise DataError(
            "\n".join([f"{len(shared)} scenes are in two splits:", *shared[:MOST_LISTED]]),
            "The published splits share no scene: is the file complete and in its own order? "
            "Pass --allow-shared-scenes to go on.",
        )
    return shared


def _there(settings: Nyud2Settings) -> PreparedData | None:
    """The finished data set of any source that is there already.

    Raises:
        SettingsError: the folder holds something else.
    """
    there = open_existing(settings.out)
    if there is not None and there.provenance.get("made_by") != MADE_BY:
        raise SettingsError(
            f"'{settings.out}' is a data set that was not made by `prepare nyud2`.", "Name another folder with --out."
        )
    return there


def _is_same(there: PreparedData, source: Source, ids: Sequence[str]) -> bool:
    """Whether a data set is of the same images; else a new one begins in its place."""
    known = there.provenance.get("modalities", {}).get(RGB, {})
    return known.get("settings") == source.identity(RGB) and there.all_ids == list(ids)


def _with_those_there(
    modalities: tuple[str, ...], settings: Nyud2Settings, replaced: PreparedData | None, source: Source
) -> tuple[str, ...]:
    """Of a source that has other images now, everything that the data set has is made for the new ones too."""
    names = () if replaced is None or settings.overwrite else tuple(replaced.modalities)
    return tuple(dict.fromkeys((*modalities, *(name for name in names if name in source.modalities))))


def _begun(settings: Nyud2Settings, there: PreparedData | None) -> dict[str, Mapping[str, Any]]:
    """What earlier runs into the same folder made or began: settings by modality."""
    finished = {} if there is None else there.provenance.get("modalities", {})
    known = {name: dict(entry.get("settings", {})) for name, entry in finished.items()}
    return known | assembly.read_state(settings.out)


def _remade(
    settings: Nyud2Settings,
    modalities: Sequence[str],
    begun: Mapping[str, Mapping[str, Any]],
    recorded: Mapping[str, Mapping[str, Any]],
) -> set[str]:
    """What is to be made anew although it is there: with `--overwrite`, what was named; all, from another source."""
    if not settings.overwrite:
        return set()
    return set(modalities) - {RGB} if begun.get(RGB) in (None, recorded[RGB]) else set(begun)


def _job(recipe: ImageRecipe, identifier: str, kept: set[str]) -> ImageJob:
    """The image without what an earlier run finished: files not older than those they are made from."""
    wanted = tuple(
        name
        for name in recipe.modalities
        if name not in kept
        or _modified(recipe.root / f"{name}/{identifier}.png") < recipe.source.modified(name, identifier)
    )
    return ImageJob(identifier, wanted)


def _modified(path: Path) -> int:
    """When a file was last changed, in nanoseconds; -1 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1
