"""Which frames are to be made: scenes of the chosen split, pairs by time, so many of each scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xmodal_cli.datasets.nyud2_raw.frames import Job
from xmodal_cli.datasets.nyud2_raw.membership import Member, members, scene_of_folder
from xmodal_cli.datasets.nyud2_raw.sampling import shares, stretches
from xmodal_cli.datasets.nyud2_raw.scene_lists import NEEDED, splits_of_labelled, splits_of_list
from xmodal_cli.datasets.nyud2_raw.settings import PRESETS, SPLITS_OF, RawSettings
from xmodal_cli.datasets.nyud2_raw.sources import SceneFolder, find_scenes
from xmodal_cli.datasets.nyud2_raw.synchronise import RawPair, synchronise
from xmodal_cli.datasets.shards import SHARD
from xmodal_cli.errors import DataError, SettingsError

STAND_INS = 4  # neighbours that are tried where a frame is damaged
EXAMPLES = 4  # names in a message


@dataclass(frozen=True)
class RawPlan:
    """What is to be made.

    Args:
        jobs: the frames, in order of folder and time.
        members: scene and split by folder, of the folders that are used.
        other_splits: folders that are in splits that may not be used.
        unknown: why, by folder, of the folders that no split is known of.
        unmatched: depth frames without a colour frame near enough in time.
        bad_names: files that look like frames but have no time stamp, as `folder/name`.
        shard: what the provenance of a part says; empty for a whole data set.
    """

    jobs: tuple[Job, ...]
    members: Mapping[str, Member]
    other_splits: tuple[str, ...]
    unknown: Mapping[str, str]
    unmatched: int
    bad_names: tuple[str, ...]
    shard: Mapping[str, Any]

    @property
    def scenes(self) -> set[str]:
        """The scenes that frames are taken of."""
        return {self.members[job.folder].scene for job in self.jobs}


def make_plan(settings: RawSettings) -> RawPlan:
    """Look at everything and decide which frames are made.

    Raises:
        SettingsError: a scene that was asked for is not in the chosen split.
        DataError: no scenes, or no frames in those that may be used.
    """
    scenes = {scene.name: scene for scene in find_scenes(settings.raw)}
    splits, named_only = _splits(settings)
    known = members(scenes, splits, named_only=named_only)
    allowed = SPLITS_OF[settings.pool]
    chosen = _chosen(settings, scenes, known)
    used = {name: known[name] for name in chosen if known[name].split in allowed}
    pairs: dict[str, list[RawPair]] = {}
    unmatched = 0
    for name in used:
        pairs[name], lost = synchronise(scenes[name], settings.most_gap_s)
        unmatched += lost
    if not any(pairs.values()):
        raise DataError(
            f"None of the {len(scenes)} scene folders has frames that may be used: {_some(list(scenes))} are "
            f"{_fates(known, pairs)}.",
            "Check --raw, --split and the list of scenes.",
        )
    jobs = _sample(settings, used, pairs)
    ids = [job.first for job in jobs]
    part = {} if settings.shard is None else {SHARD: settings.shard.record(ids, _decided(jobs, used))}
    own = set(ids if settings.shard is None else settings.shard.own(ids))
    return RawPlan(
        jobs=tuple(job for job in jobs if job.first in own),
        members=used,
        other_splits=tuple(name for name in chosen if known[name].split not in (None, *allowed)),
        unknown={name: known[name].reason for name in chosen if known[name].split is None},
        unmatched=unmatched,
        bad_names=tuple(f"{name}/{file}" for name in used for file in scenes[name].bad_names),
        shard=part,
    )


def _decided(jobs: Sequence[Job], used: Mapping[str, Member]) -> dict[str, Any]:
    """What all parts have in common beside the settings: raw files, and scene and split of their folders."""
    return {
        "frames": [(pair.colour.name, pair.depth.name) for job in jobs for pair in job.candidates],
        "folders": {name: (member.scene, member.split) for name, member in used.items()},
    }


def _splits(settings: RawSettings) -> tuple[dict[str, str], bool]:
    """Split by scene, from whatever says it, and whether it is a mere list of names."""
    if settings.labelled is not None:
        return splits_of_labelled(settings.labelled), False
    if settings.scenes is None:
        raise SettingsError("Nothing says which scenes are in which split.", NEEDED)
    splits, names_only = splits_of_list(settings.scenes)
    if names_only and settings.pool != "train":
        raise SettingsError(
            f"'{settings.scenes}' lists scenes without splits, so they are all taken for train; "
            f"--split {settings.pool} needs to know which are val.",
            "Give a CSV file scene,split, or --labelled.",
        )
    return splits, names_only


def _chosen(settings: RawSettings, scenes: Mapping[str, SceneFolder], known: Mapping[str, Member]) -> list[str]:
    """The folders that were asked for; all where none was.

    Raises:
        SettingsError: one is not there, or not in the chosen split.
    """
    if not settings.only:
        return list(scenes)
    allowed = SPLITS_OF[settings.pool]
    chosen, problems = [], []
    for name in settings.only:
        folders = [folder for folder in scenes if name in (folder, scene_of_folder(folder))]
        if not folders:
            problems.append(f"There is no folder of scene '{name}' in --raw.")
        for folder in folders:
            split = known[folder].split
            if split not in allowed:
                why = f"in the split {split}" if split else f"in no known split ({known[folder].reason})"
                problems.append(f"Scene '{folder}' is {why}; only scenes of {settings.pool} may be used.")
        chosen += folders
    if problems:
        raise SettingsError(
            "\n".join(problems),
            "A student that has seen rooms that it is later measured in is measured by its memory: frames for numbers "
            "on val come from train scenes, for numbers on test from train and val scenes (--split trainval).",
        )
    return list(dict.fromkeys(chosen))


def _sample(settings: RawSettings, used: Mapping[str, Member], pairs: Mapping[str, Sequence[RawPair]]) -> list[Job]:
    """Frames evenly over each scene; parts of a scene share its frames by their lengths."""
    of_scene: dict[str, list[tuple[str, RawPair]]] = {}
    for folder in sorted(pairs):
        of_scene.setdefault(used[folder].scene, []).extend((folder, pair) for pair in pairs[folder])
    available = {scene: len(frames) for scene, frames in of_scene.items()}
    if settings.preset is not None:
        wanted = shares(available, PRESETS[settings.preset][0])
    else:
        wanted = dict.fromkeys(available, settings.frames_per_scene or 0)
    jobs = []
    for scene, frames in sorted(of_scene.items()):
        for stretch in stretches(len(frames), wanted[scene]):
            folder = frames[stretch[0]][0]
            tried = [frames[index][1] for index in stretch if frames[index][0] == folder][: 1 + STAND_INS]
            jobs.append(Job(folder, tuple(tried)))
    return sorted(jobs, key=lambda job: job.first)


def _fates(known: Mapping[str, Member], pairs: Mapping[str, Sequence[RawPair]]) -> str:
    """How many folders are of which split, for a message."""
    counts: dict[str, int] = {}
    for name, entry in known.items():
        fate = entry.split or "of unknown split"
        fate += ", without pairs" if name in pairs else ""
        counts[fate] = counts.get(fate, 0) + 1
    return "; ".join(f"{count} {fate}" for fate, count in sorted(counts.items()))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:EXAMPLES]) + (", ..." if len(names) > EXAMPLES else "")
