"""What the parts make together: everything of the whole data set but its image files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xmodal_cli.data.manifest import ManifestRow, hash_of
from xmodal_cli.data.prepared import RGB, PreparedData
from xmodal_cli.data.splits import TRAIN, check_scenes
from xmodal_cli.datasets.assembly import Contents, rgb_info
from xmodal_cli.datasets.merge.labels import AGAIN, joined_labels
from xmodal_cli.datasets.shards import SHARD
from xmodal_cli.errors import DataError

MEDIAN = "median_depth_m"  # least, middle and largest of a modality's images
MADE_OF = "of"  # hash of the colour images that a modality was made of


def join(parts: Sequence[PreparedData], out: Path, name: str) -> Contents:
    """Everything of the whole data set but its image files.

    Args:
        parts: in order.
        out: its folder.
        name: its name.

    Raises:
        DataError: an image, or a scene's images in two splits, are in two parts.
    """
    rows = [row for part in parts for row in part.rows.values()]
    if len({(row.modality, row.id) for row in rows}) < len(rows):
        raise DataError("An image is in two parts.", AGAIN)
    splits = _splits(parts)
    scenes = {identifier: scene for part in parts for identifier, scene in part.scenes.items()}
    if shared := check_scenes(splits, scenes):
        raise DataError(shared[0], AGAIN)
    infos = {key: info for key, info in parts[0].modalities.items() if key != RGB}
    return Contents(
        root=out,
        name=name,
        modalities={RGB: rgb_info(rows), **infos} if RGB in parts[0].modalities else infos,
        rows=rows,
        splits=splits,
        scenes=scenes,
        labels=joined_labels(parts, splits),
        classes=parts[0].classes,
        camera=parts[0].camera,
        provenance=_provenance(parts, rows),
    )


def _splits(parts: Sequence[PreparedData]) -> dict[str, list[str]]:
    """IDs by split, in the order that one machine gives the splits: train first unless the parts say otherwise."""
    order = list(parts[0].provenance[SHARD].get("splits", ()))
    there = {split for part in parts for split in part.splits}
    names = sorted(there, key=lambda split: (order.index(split) if split in order else -1, split != TRAIN, split))
    return {split: sorted(i for part in parts if split in part.splits for i in part.ids(split)) for split in names}


def _provenance(parts: Sequence[PreparedData], rows: Sequence[ManifestRow]) -> dict[str, Any]:
    """How the whole was made: the settings of the first part, figures of all."""
    modalities = {}
    for name, entry in parts[0].provenance.get("modalities", {}).items():
        entries = [part.provenance["modalities"][name] for part in parts]
        modalities[name] = {**entry, **_sums(entries), **_median(entries)}
        if MADE_OF in entry:
            colour = {(RGB, row.id): row for row in rows if row.modality == RGB}
            modalities[name][MADE_OF] = hash_of(colour, [RGB], [identifier for _, identifier in colour])
    left_out = {name: why for part in parts for name, why in part.provenance.get("left_out", {}).items()}
    shared = {key: value for key, value in parts[0].provenance.items() if key not in (SHARD, "made_with")}
    return {**shared, "modalities": modalities, "left_out": dict(sorted(left_out.items())), "merged_of": len(parts)}


def _sums(entries: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Whole numbers that a modality's provenance holds count something: those of all parts together."""
    counts = [key for key, value in entries[0].items() if type(value) is int]
    return {key: sum(each.get(key, 0) for each in entries) for key in counts}


def _median(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Least and largest median depth of an image; between them the middle of the parts' own."""
    spreads = [each[MEDIAN] for each in entries if MEDIAN in each]
    if not spreads:
        return {}
    middles = sorted(spread[1] for spread in spreads)
    least, largest = min(spread[0] for spread in spreads), max(spread[2] for spread in spreads)
    return {MEDIAN: [least, middles[len(middles) // 2], largest]}
