"""What `prepare nyud2` was asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xmodal_cli.datasets.assembly import RAW_DEPTH
from xmodal_cli.datasets.frames import Link
from xmodal_cli.datasets.shards import Shard
from xmodal_cli.errors import SettingsError, closest
from xmodal_cli.modalities import MODALITIES

KNOWN = (*MODALITIES, RAW_DEPTH)


@dataclass(frozen=True)
class Nyud2Settings:
    """The options of `prepare nyud2`.

    Args:
        out: the prepared data set to make or to add to.
        labelled: `nyu_depth_v2_labeled.mat`; this or `archive`, or neither for the file that was downloaded.
        archive: folder of the authors' archive.
        modalities: what to make; empty for hha, depth and raw_depth.
        splits: a split file that must agree with the published lists.
        superpixels: folder of the authors' superpixels; None leaves them alone.
        allow_shared_scenes: go on if a scene is in two splits.
        link: how files of the archive get into the data set.
        overwrite: make anew what is there from another source.
        workers: processes; None decides.
        dry_run: look at everything, estimate time and size, write nothing.
        name: of the data set; None takes the folder's.
        shard: the part of the images that is made here; None for all.
    """

    out: Path
    labelled: Path | None = None
    archive: Path | None = None
    modalities: tuple[str, ...] = ()
    splits: Path | None = None
    superpixels: Path | None = None
    allow_shared_scenes: bool = False
    link: Link = "hard"
    overwrite: bool = False
    workers: int | None = None
    dry_run: bool = False
    name: str | None = None
    shard: Shard | None = None


def check_settings(settings: Nyud2Settings) -> None:
    """Check everything that can be known before a file is opened; all problems are reported at once.

    Raises:
        SettingsError: one or more options make no sense.
    """
    problems = []
    if settings.labelled is not None and settings.archive is not None:
        problems.append("The data comes from --labelled FILE or from --archive DIR: name one of them.")
    for name in settings.modalities:
        if name not in KNOWN:
            problems.append(
                f"There is no modality '{name}'; there are {', '.join(KNOWN)}. {closest(name, KNOWN)}".strip()
            )
    if problems:
        raise SettingsError("\n".join(problems), "See `xmodal prepare nyud2 --help` for examples.")


def choose_modalities(settings: Nyud2Settings, can_be: Sequence[str], usual: Sequence[str]) -> tuple[str, ...]:
    """What is to be made, in the order given.

    Raises:
        SettingsError: the source cannot give one of them.
    """
    wanted = tuple(dict.fromkeys(settings.modalities or usual))
    strangers = [name for name in wanted if name not in can_be]
    if strangers:
        raise SettingsError(
            f"This source cannot give {', '.join(strangers)}; it gives {', '.join(can_be)}.",
            "The labelled .mat gives depth, raw depth and what is made of them: --labelled nyu_depth_v2_labeled.mat",
        )
    return wanted
