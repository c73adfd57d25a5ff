"""The manifest of a prepared data set: for each file its ID, modality, size and SHA-256.

`prepare` writes it, runs and caches take their data hash from it, and `check` compares it with what lies on disk. It is
one CSV file, so that any other tool can read it.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from xmodal_cli import files
from xmodal_cli.errors import DataError

FILE_NAME = "manifest.csv"


@dataclass(frozen=True)
class ManifestRow:
    """One file of a prepared data set.

    Args:
        id: the pair it belongs to.
        modality: the modality it shows.
        file: path relative to the data set, with forward slashes.
        height: pixels.
        width: pixels.
        bytes: size of the file.
        sha256: SHA-256 of the file's bytes, hexadecimal.
    """

    id: str
    modality: str
    file: str
    height: int
    width: int
    bytes: int
    sha256: str


# Rows by (modality, ID).
Manifest = Mapping[tuple[str, str], ManifestRow]

COLUMNS = tuple(field.name for field in fields(ManifestRow))


def write_manifest(root: Path, rows: Iterable[ManifestRow]) -> None:
    """Write `manifest.csv`, sorted by modality and ID, whole or not at all."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in sorted(rows, key=lambda row: (row.modality, row.id)):
        writer.writerow([getattr(row, column) for column in COLUMNS])
    files.write_text(root / FILE_NAME, text.getvalue())


def read_manifest(root: Path) -> dict[tuple[str, str], ManifestRow]:
    """Read `manifest.csv`.

    Returns:
        Rows by (modality, ID).

    Raises:
        DataError: the file is missing or is no manifest.
    """
    path = root / FILE_NAME
    hint = "Run the `xmodal prepare` command of this data set again: it writes the manifest."
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            reader = csv.reader(handle)
            header = next(reader, [])
            if tuple(header) != COLUMNS:
                raise DataError(f"'{path}' has the columns {', '.join(header)}; expected {', '.join(COLUMNS)}.", hint)
            rows = [_row(cells) for cells in reader]
    except FileNotFoundError:
        raise DataError(f"'{path}' is missing.", hint) from None
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' is damaged: {error}.", hint) from None
    return {(row.modality, row.id): row for row in rows}


def hash_of(manifest: Manifest, modalities: Iterable[str], ids: Iterable[str]) -> str:
    """One hash of the content of many files, from the hashes that the manifest holds; no file is opened.

    Args:
        manifest: rows by (modality, ID).
        modalities: whose files count; their order does not matter.
        ids: whose files count; their order does not matter.

    Returns:
        SHA-256, hexadecimal.

    Example:
        >>> row = ManifestRow("a", "rgb", "rgb/a.jpg", 4, 5, 100, "ab" * 32)
        >>> hash_of({("rgb", "a"): row}, ["rgb"], ["a"])[:12]
        '73e676fe6dcb'
    """
    digest = hashlib.sha256()
    names = sorted(set(ids))
    for modality in sorted(set(modalities)):
        for identifier in names:
            digest.update(f"{modality}\t{identifier}\t{manifest[modality, identifier].sha256}\n".encode())
    return digest.hexdigest()


def _row(cells: list[str]) -> ManifestRow:
    if len(cells) != len(COLUMNS):
        raise ValueError(f"a line has {len(cells)} cells instead of {len(COLUMNS)}")
    identifier, modality, file, height, width, size, sha256 = cells
    return ManifestRow(identifier, modality, file, int(height), int(width), int(size), sha256)
