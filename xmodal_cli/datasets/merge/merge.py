"""`prepare merge`: the parts that several machines prepared become the data set that one would have made.

Files are linked, never moved; annotations, manifest and tables are joined in the order in which one machine writes
them, so that the result differs from an undivided run in its provenance alone.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodal_cli import files
from xmodal_cli.data.annotations import ANNOTATION_FOLDER
from xmodal_cli.data.manifest import FILE_NAME as MANIFEST
from xmodal_cli.data.prepared import DESCRIPTION, PreparedData
from xmodal_cli.data.splits import SCENE_FILE, SPLIT_FOLDER
from xmodal_cli.datasets.assembly import LOCK, exclusive, open_existing, read_state, write_dataset, write_state
from xmodal_cli.datasets.frames import Link, link_file
from xmodal_cli.datasets.merge.parts import in_order, same_whole
from xmodal_cli.datasets.merge.whole import join
from xmodal_cli.datasets.reports import as_json, by_split
from xmodal_cli.datasets.shards import SHARD
from xmodal_cli.errors import DataError, SettingsError

Progress = Callable[[int, int], None]

MERGE = "merge"  # what the state file of an unfinished merge calls it
JOINED_FOLDERS = (SPLIT_FOLDER, ANNOTATION_FOLDER)


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
        return as_json(self)

    def table(self) -> list[tuple[str, str]]:
        """The report as lines of name and value."""
        return [
            ("data set", str(self.root)),
            ("parts", str(self.parts)),
            ("modalities", ", ".join(self.modalities)),
            ("pairs", by_split(self.splits)),
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
        if state and not same_whole(state.get(MERGE, {}), opened[0].provenance[SHARD]):
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
