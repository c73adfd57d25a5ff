"""Whether some folders are all the parts of one data set, made alike: told before anything is joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from xmodal_cli.data.prepared import ModalityInfo, PreparedData
from xmodal_cli.datasets.assembly import read_state
from xmodal_cli.datasets.shards import SHARD
from xmodal_cli.errors import SettingsError

SAME_IMAGES = ("of", "ids", "ids_sha256")  # of what a part's provenance says of the whole
SAME_PLAN = "plan_sha256"


def in_order(parts: Sequence[PreparedData]) -> list[PreparedData]:
    """The parts in order of their numbers, once it is clear that they are parts of one data set, each there once.

    Raises:
        SettingsError: they are not; all problems are named.
    """
    whole = [str(part.root) for part in parts if SHARD not in part.provenance]
    if whole or not parts:
        found = f"{', '.join(whole)}: made without --shard" if whole else "no part"
        raise SettingsError(f"Parts are made by `prepare ... --shard I/N`; found {found}.", "Name the parts alone.")
    problems = _strangers(parts) + _unfinished(parts)
    by_number: dict[int, PreparedData] = {}
    for part in parts:
        number = part.provenance[SHARD]["index"]
        if number in by_number:
            problems.append(f"Part {number} comes twice: '{by_number[number].root}' and '{part.root}'.")
        by_number[number] = part
    missing = [str(number) for number in range(1, parts[0].provenance[SHARD]["of"] + 1) if number not in by_number]
    if missing and not problems:
        problems.append(f"Of {parts[0].provenance[SHARD]['of']} parts these are missing: {', '.join(missing)}.")
    problems += [text for part in parts[1:] for text in _differences(parts[0], part)]
    if problems:
        raise SettingsError("\n".join(problems), "Prepare what is missing with the same options, then merge all parts.")
    return [by_number[number] for number in sorted(by_number)]


def same_whole(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether what two provenances say of their shard is of the same images, divided alike."""
    return all(one.get(key) == other.get(key) for key in SAME_IMAGES)


def _strangers(parts: Sequence[PreparedData]) -> list[str]:
    """The parts of another data set than the first one's."""
    first = parts[0].provenance[SHARD]
    return [
        f"'{part.root}' is a part of another data set than '{parts[0].root}': {_of(part)} against {_of(parts[0])}."
        for part in parts
        if not same_whole(part.provenance[SHARD], first)
    ]


def _unfinished(parts: Sequence[PreparedData]) -> list[str]:
    """The parts that get a modality, or are made anew, and are not done."""
    begun = {part.root: ", ".join(name for name in read_state(part.root) if name != SHARD) for part in parts}
    return [f"'{root}' is not finished: work on {names} was stopped." for root, names in begun.items() if names]


def _differences(one: PreparedData, other: PreparedData) -> list[str]:
    """In what two parts were made otherwise than each other."""
    found = []
    if _infos(one) != _infos(other):
        found.append(f"'{one.root}' has {', '.join(_infos(one))}; '{other.root}' {', '.join(_infos(other))}")
    if one.camera != other.camera:
        found.append(f"'{one.root}' has the camera {one.camera}; '{other.root}' {other.camera}")
    if one.classes != other.classes:
        found.append(f"'{one.root}' has {len(one.classes)} classes, '{other.root}' {len(other.classes)} or others")
    for name, entry in one.provenance.get("modalities", {}).items():
        now, then = entry.get("settings"), other.provenance.get("modalities", {}).get(name, {}).get("settings")
        if now != then and not found:
            found.append(f"'{one.root}' and '{other.root}' made {name} of other settings: {now} and {then}")
    plans = [part.provenance[SHARD].get(SAME_PLAN) for part in (one, other)]
    if plans[0] != plans[1] and not found and same_whole(one.provenance[SHARD], other.provenance[SHARD]):
        found.append(
            f"'{one.root}' and '{other.root}' are of the same images, but of other splits, scenes or annotations"
        )
    return [f"{text}." for text in found]


def _infos(data: PreparedData) -> dict[str, ModalityInfo]:
    """What the modalities are; the endings of colour files may differ from part to part."""
    return {name: replace(info, suffix="") for name, info in sorted(data.modalities.items())}


def _of(part: PreparedData) -> str:
    shard = part.provenance[SHARD]
    return f"part {shard['index']}/{shard['of']} of {shard['ids']} IDs"
