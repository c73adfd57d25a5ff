"""`prepare merge`: the parts that several machines prepared become the data set that one would have made.

Files are linked, never moved; annotations, manifest and tables are joined in the order in which one machine writes
them, so that the result differs from an undivided run in its provenance alone.
"""

from __future__ import annotations

import csv
import io
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from xmodal_cli import files
from xmodal_cli.data.annotations import ANNOTATION_FOLDER, CocoFile, match_coco, read_coco
from xmodal_cli.data.manifest import FILE_NAME as MANIFEST
from xmodal_cli.data.prepared import DESCRIPTION, RGB, ModalityInfo, PreparedData
from xmodal_cli.data.splits import SCENE_FILE, SPLIT_FOLDER, TRAIN, check_scenes
from xmodal_cli.datasets.assembly import (
    LOCK,
    Contents,
    Labels,
    exclusive,
    open_existing,
    read_state,
    rgb_info,
    write_dataset,
    write_state,
)
from xmodal_cli.datasets.frames import Link, link_file
from xmodal_cli.datasets.shards import SHARD
from xmodal_cli.errors import DataError, SettingsError

Progress = Callable[[int, int], None]

MERGE = "merge"  # what the state file of an unfinished merge calls it
AGAIN = "Prepare the parts again, with the same options."
JOINED_FOLDERS = (SPLIT_FOLDER, ANNOTATION_FOLDER)
FIGURES = ("pixels", "filled_pixels", "pairs")  # of a modality, summed over the parts


@dataclass(frozen=True)
class MergeReport:
    """What `prepare merge` did.

    Args:
        root: the data set.
        parts: how many were joined.
        modalities: what the data set has.
        splits: pairs by split.
        written: files linked in this run.
        finished: files that an earlier run had linked.
        seconds: wall time.
        bytes: size of all files.
    """

    root: Path
    parts: int
    modalities: tuple[str, ...]
    splits: Mapping[str, int]
    written: int
    finished: int
    seconds: float
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON holds it."""
        return {**asdict(self), "root": str(self.root)}

    def table(self) -> list[tuple[str, str]]:
        """The report as lines of name and value."""
        return [
            ("data set", str(self.root)),
            ("parts", str(self.parts)),
            ("modalities", ", ".join(self.modalities)),
            ("pairs", ", ".join(f"{split} {count}" for split, count in self.splits.items())),
            ("files linked", f"{self.written} ({self.finished} were linked before)"),
            ("size", f"{self.bytes / 1e6:.1f} MB"),
            ("time", f"{self.seconds:.1f} s"),
        ]


def merge(
    parts: Sequence[Path], out: Path, *, name: str | None = None, link: Link = "hard", progress: Progress | None = None
) -> MergeReport:
    """Join the parts of a data set.

    Args:
        parts: folders that `prepare ... --shard I/N` made, all N, in any order.
        out: a new or empty folder, or one where the same merge was interrupted.
        name: of the data set; None takes the folder's.
        link: how files get in: `hard`, `sym` or `copy`.
        progress: called with files done and files in all, now and then.

    Raises:
        SettingsError: a part is missing, comes twice or was made otherwise; the folder holds something else.
        DataError: a part is no prepared data set, or a file of it is missing or has another size.
    """
    start = time.perf_counter()
    opened = in_order([PreparedData.open(part) for part in parts])
    contents = join(opened, out, name or out.resolve().name)
    others = _other_files(opened)
    old = open_existing(out)
    if old is not None and dict(old.rows) != {(row.modality, row.id): row for row in contents.rows}:
        raise SettingsError(f"'{out}' is a data set of other content.", "Name a new or an empty folder with --out.")
    with exclusive(out):
        state = read_state(out)
        if state and not _same_whole(state.get(MERGE, {}), opened[0].provenance[SHARD]):
            raise SettingsError(f"In '{out}' something else has begun.", "Name a new folder with --out.")
        write_state(out, {MERGE: dict(opened[0].provenance[SHARD])})
        written = _link_all(opened, out, link, progress)
        for file, source in others.items():
            link_file(source, out / file, link)
        for table, text in _tables(opened).items():
            files.write_text(out / table, text)
        write_dataset(contents)
        write_state(out, {})
    return MergeReport(
        root=out,
        parts=len(opened),
        modalities=tuple(contents.modalities),
        splits={split: len(ids) for split, ids in contents.splits.items()},
        written=written,
        finished=len(contents.rows) - written,
        seconds=time.perf_counter() - start,
        bytes=sum(row.bytes for row in contents.rows),
    )


def in_order(parts: Sequence[PreparedData]) -> list[PreparedData]:
    """The parts in order of their numbers, once it is clear that they are parts of one data set, each there once.

    Raises:
        SettingsError: they are not; all problems are named.
    """
    whole = [str(part.root) for part in parts if SHARD not in part.provenance]
    if whole or not parts:
        found = f"{', '.join(whole)}: made without --shard" if whole else "no part"
        raise SettingsError(f"Parts are made by `prepare ... --shard I/N`; found {found}.", "Name the parts alone.")
    first = parts[0].provenance[SHARD]
    problems = [
        f"'{part.root}' is a part of another data set than '{parts[0].root}': {_of(part)} against {_of(parts[0])}."
        for part in parts
        if not _same_whole(part.provenance[SHARD], first)
    ]
    by_number: dict[int, PreparedData] = {}
    for part in parts:
        number = part.provenance[SHARD]["index"]
        if number in by_number:
            problems.append(f"Part {number} comes twice: '{by_number[number].root}' and '{part.root}'.")
        by_number[number] = part
    missing = [str(number) for number in range(1, first["of"] + 1) if number not in by_number]
    if missing and not problems:
        problems.append(f"Of {first['of']} parts these are missing: {', '.join(missing)}.")
    problems += [text for part in parts[1:] for text in _differences(parts[0], part)]
    if problems:
        raise SettingsError("\n".join(problems), "Prepare what is missing with the same options, then merge all parts.")
    return [by_number[number] for number in sorted(by_number)]


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
    order = list(parts[0].provenance[SHARD].get("splits", ()))  # where it is another than that of the names
    there = {split for part in parts for split in part.splits}
    names = sorted(there, key=lambda split: (order.index(split) if split in order else -1, split != TRAIN, split))
    splits = {split: sorted(i for part in parts if split in part.splits for i in part.ids(split)) for split in names}
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
        labels=_labels(parts, names),
        classes=parts[0].classes,
        camera=parts[0].camera,
        provenance=_provenance(parts),
    )


def _labels(parts: Sequence[PreparedData], splits: Iterable[str]) -> Labels | None:
    """The parts' annotation files of each split as one."""
    joined: dict[str, CocoFile] = {}
    ids: dict[str, dict[str, Any]] = {}
    for split in splits:
        for part in parts:
            path = part.annotation_file(split)
            if path is None:
                continue
            coco = read_coco(path)
            paths = {identifier: part.path(RGB, identifier) for identifier in part.ids(split)}
            own = match_coco(coco, paths)[0] if coco.images else {}
            ids[split] = ids.get(split, {}) | own
            other = joined.get(split, replace(coco, images={}, objects={}))
            if twice := sorted(map(str, other.images.keys() & coco.images.keys())):
                raise DataError(f"'{path}' and another part have images of the same id: {', '.join(twice[:3])}.", AGAIN)
            joined[split] = replace(
                other, images={**other.images, **coco.images}, objects={**other.objects, **coco.objects}
            )
    if any(part.provenance[SHARD].get("counted") for part in parts):
        joined = _counted(joined)
    for coco in joined.values():
        numbers = [entry["id"] for entries in coco.objects.values() for entry in entries]
        if len(set(numbers)) < len(numbers):
            raise DataError(f"Objects of '{coco.path}' and of another part have the same id.", AGAIN)
    return Labels(joined, ids) if joined else None


def _counted(joined: Mapping[str, CocoFile]) -> dict[str, CocoFile]:
    """The files with their objects counted from 1 in the order of image ids, over all splits."""
    objects = {image: entries for coco in joined.values() for image, entries in coco.objects.items()}
    numbers = itertools.count(1)
    counted = {image: [{**entry, "id": next(numbers)} for entry in objects[image]] for image in sorted(objects)}
    return {
        split: replace(coco, objects={image: counted[image] for image in coco.images}) for split, coco in joined.items()
    }


def _provenance(parts: Sequence[PreparedData]) -> dict[str, Any]:
    """How the whole was made: the settings of the first part, figures of all."""
    modalities = {}
    for name, entry in parts[0].provenance.get("modalities", {}).items():
        entries = [part.provenance["modalities"][name] for part in parts]
        sums = {key: sum(each[key] for each in entries) for key in FIGURES if key in entry}
        modalities[name] = {**entry, **sums, **_median(entries)}
    left_out = {name: why for part in parts for name, why in part.provenance.get("left_out", {}).items()}
    shared = {key: value for key, value in parts[0].provenance.items() if key not in (SHARD, "made_with")}
    return {**shared, "modalities": modalities, "left_out": dict(sorted(left_out.items())), "merged_of": len(parts)}


def _median(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Least and largest median depth of an image; between them the middle of the parts' own."""
    spreads = [each["median_depth_m"] for each in entries if "median_depth_m" in each]
    if not spreads:
        return {}
    middles = sorted(spread[1] for spread in spreads)
    least, largest = min(spread[0] for spread in spreads), max(spread[2] for spread in spreads)
    return {"median_depth_m": [least, middles[len(middles) // 2], largest]}


def _link_all(parts: Sequence[PreparedData], out: Path, link: Link, progress: Progress | None) -> int:
    """Link every file that does not lie there yet; the count of those."""
    jobs = [(part, row) for part in parts for row in part.rows.values()]
    written = 0
    for done, (part, row) in enumerate(jobs, start=1):
        source, destination = part.root / row.file, out / row.file
        if not source.is_file() or source.stat().st_size != row.bytes:
            found = f"has {source.stat().st_size} bytes" if source.is_file() else "is missing"
            raise DataError(
                f"'{source}' {found}; the manifest says {row.bytes}.", f"Look: xmodal prepare check {part.root}"
            )
        if not (destination.is_file() and destination.stat().st_size == row.bytes):
            link_file(source, destination, link)
            written += 1
        if progress is not None:
            progress(done, len(jobs))
    return written


def _tables(parts: Sequence[PreparedData]) -> dict[str, str]:
    """Other tables of the data set (`frames.csv`, `poses.csv`, ...), joined in order of their first column."""
    joined = {}
    for name in _table_names(parts):
        tables = [list(csv.reader(io.StringIO((part.root / name).read_text("utf-8")))) for part in parts]
        lines = {tuple(row): None for rows in tables for row in rows[1:]}
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([tables[0][0], *sorted(lines)])
        joined[name] = text.getvalue()
    return joined


def _table_names(parts: Sequence[PreparedData]) -> list[str]:
    """Tables beside `dataset.json` that every part has."""
    names = [{path.name for path in part.root.glob("*.csv")} for part in parts]
    return sorted(set.intersection(*names) - {MANIFEST, SCENE_FILE})


def _other_files(parts: Sequence[PreparedData]) -> dict[str, Path]:
    """Files of the parts that no rule of this module joins, by name: they are taken over, none is lost in silence.

    Raises:
        SettingsError: two parts have other files of the same name.
    """
    found: dict[str, Path] = {}
    clash = set()
    own = {DESCRIPTION, LOCK, MANIFEST, SCENE_FILE, "contact_sheet.png", *_table_names(parts)}
    for part in parts:
        joined = {row.file for row in part.rows.values()} | own
        for path in sorted(part.root.rglob("*")):
            name = path.relative_to(part.root).as_posix()
            left_by_a_killed_process = path.name.startswith(".") and path.name.endswith(".part")
            if path.is_dir() or left_by_a_killed_process or name in joined or name.split("/")[0] in JOINED_FOLDERS:
                continue
            if name in found and files.sha256(found[name]) != files.sha256(path):
                clash.add(name)
            found.setdefault(name, path)
    if clash:
        raise SettingsError(
            f"{len(clash)} files differ from part to part and cannot be joined: {', '.join(sorted(clash)[:3])}.",
            "Move them out of the parts. Proposals are made after the merge: xmodal prepare proposals DATA",
        )
    return found


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
    return [f"{text}." for text in found]


def _infos(data: PreparedData) -> dict[str, ModalityInfo]:
    """What the modalities are; the endings of colour files may differ from part to part."""
    return {name: replace(info, suffix="") for name, info in sorted(data.modalities.items())}


def _same_whole(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one.get(key) == other.get(key) for key in ("of", "ids", "ids_sha256"))


def _of(part: PreparedData) -> str:
    shard = part.provenance[SHARD]
    return f"part {shard['index']}/{shard['of']} of {shard['ids']} images"
