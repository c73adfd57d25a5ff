"""All published files by name, and what a word on the command line means.

A word is a set (`nyud2`), a file (`splits.mat`), or a pattern of files (`kitchens_*.zip`). Addresses, sizes and hashes
stand in the `published_*.py` beside this module, each with where it was learned.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

from xmodal_cli.datasets.downloads import published_coco, published_nyud2, published_videos
from xmodal_cli.datasets.downloads.entries import PublishedFile, PublishedSet
from xmodal_cli.errors import SettingsError, closest

SETS: dict[str, PublishedSet] = {
    each.name: each
    for each in (
        published_nyud2.NYUD2,
        published_nyud2.NYUD2_AUTHORS,
        published_nyud2.NYUD2_MODELS,
        published_nyud2.NYUD2_ECCV14,
        published_nyud2.NYUD2_RAW,
        published_videos.JHMDB,
        published_videos.JHMDB_MORE,
        published_videos.UCF101,
        published_videos.UCF101_ZIP,
        published_coco.COCO2017,
        published_coco.COCO2014,
        published_coco.CAFFE_MODELS,
    )
}
FILES: dict[str, PublishedFile] = {file.name: file for each in SETS.values() for file in each.files}


def set_of(file: PublishedFile) -> PublishedSet:
    """The set in whose folder a file lies: the first that has it."""
    return next(each for each in SETS.values() if file in each.files)


def named(word: str) -> list[PublishedFile]:
    """The files that a word means; none where it means none.

    Example:
        >>> [file.name for file in named("offices_*.zip")]
        ['offices_part1.zip', 'offices_part2.zip']
    """
    if word in SETS:
        return list(SETS[word].files)
    if word in FILES:
        return [FILES[word]]
    return [FILES[name] for name in fnmatch.filter(FILES, word)] if any(mark in word for mark in "*?[") else []


def unknown(word: str, further: Iterable[str] = ()) -> SettingsError:
    """The error for a word that means nothing."""
    near = closest(word, [*SETS, *FILES, *further])
    return SettingsError(
        f"Nothing to download is called {word!r}.", f"{near} `xmodal download --list` lists all files.".strip()
    )


def as_markdown(sets: Sequence[PublishedSet] = tuple(SETS.values())) -> str:
    """The table of `docs/download.md`, which a test compares with this one."""
    rows = ["| name | file | bytes | hash | what it is |", "|---|---|---|---|---|"]
    for each in sets:
        for file in each.files:
            size = f"{file.size:,}" if file.size else f"about {file.about:,}" if file.about else "not stated"
            shown = f"`{file.hash}`" if file.hash else "beside it, MD5" if file.sidecar else "none: pinned"
            rows.append(f"| `{each.name}` | `{file.name}` | {size} | {shown} | {file.what} |")
    return "\n".join(rows) + "\n"
