"""What `prepare nyud2-raw` is told, and what makes sense of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from xmodal_cli.datasets.assembly import RAW_DEPTH
from xmodal_cli.datasets.shards import Shard
from xmodal_cli.errors import SettingsError, closest
from xmodal_cli.modalities import MODALITIES

KNOWN = (*(name for name, entry in MODALITIES.items() if entry.source in ("depth", "colour")), RAW_DEPTH)
Fill = Literal["nearest", "colourise"]
Pool = Literal["train", "trainval"]
PRESETS: dict[str, tuple[int, Pool]] = {"5k": (5_000, "train"), "10k": (10_000, "trainval")}
"""Pairs in all, and whose scenes: the paper's 5K for numbers on val, 10K for numbers on test (recipe of the paper)."""
SPLITS_OF: dict[str, tuple[str, ...]] = {"train": ("train",), "trainval": ("train", "val")}


@dataclass(frozen=True)
class RawRecipe:
    """How one frame becomes files; the same for every frame.

    Args:
        root: the prepared data set.
        modalities: what to make beside rgb.
        fill: how holes are filled.
    """

    root: Path
    modalities: tuple[str, ...]
    fill: Fill = "nearest"


@dataclass(frozen=True)
class RawSettings:
    """The options of `prepare nyud2-raw`.

    Args:
        out: the prepared data set to make.
        raw: folders of scenes and zip parts.
        modalities: what to make beside rgb.
        labelled: the labelled data set, whose scenes say what is in which split.
        scenes: a list that says it instead.
        split: whose scenes may be used: train, or trainval; None takes the preset's, else train.
        only: scene folders to use; empty for all of the split.
        preset: 5k or 10k pairs in all.
        frames_per_scene: frames of each scene; None where a preset says it.
        most_gap_s: the largest distance in time between colour and depth, seconds.
        fill: how holes are filled.
        overwrite: make a data set anew that is there with other settings.
        workers: processes; None decides.
        shard: the part of the frames that is made here; None for all.
        dry_run: look at everything, make a few frames in memory, write nothing.
        name: of the data set; None takes the folder's.
    """

    out: Path
    raw: tuple[Path, ...]
    modalities: tuple[str, ...] = ("hha",)
    labelled: Path | None = None
    scenes: Path | None = None
    split: str | None = None
    only: tuple[str, ...] = ()
    preset: str | None = None
    frames_per_scene: int | None = None
    most_gap_s: float = 0.1
    fill: Fill = "nearest"
    overwrite: bool = False
    workers: int | None = None
    shard: Shard | None = None
    dry_run: bool = False
    name: str | None = None

    @property
    def pool(self) -> str:
        """Whose scenes may be used."""
        if self.split is not None:
            return self.split
        return PRESETS[self.preset][1] if self.preset in PRESETS else "train"


def check_settings(settings: RawSettings) -> None:
    """Check the options; all problems are reported at once.

    Raises:
        SettingsError: one or more make no sense.
    """
    problems = []
    for name in settings.modalities:
        if name not in KNOWN:
            problems.append(f"There is no modality '{name}' of depth; there are {', '.join(KNOWN)}. {_near(name)}")
    if not settings.modalities:
        problems.append("No modality was named; --modality hha is the paper's.")
    if (settings.labelled is None) == (settings.scenes is None):
        problems.append(
            "Which scenes belong to which split? Give one of --labelled nyu_depth_v2_labeled.mat and --scenes FILE."
        )
    if settings.pool not in SPLITS_OF:
        problems.append(
            f"--split is train or trainval; found '{settings.pool}'. Pairs for transfer never come from scenes that "
            "results are reported on: train for numbers on val, trainval for numbers on test."
        )
    if settings.preset is not None and settings.preset not in PRESETS:
        problems.append(f"--preset is {' or '.join(PRESETS)}; found '{settings.preset}'.")
    if (settings.preset is None) == (settings.frames_per_scene is None):
        problems.append("How many frames? Give one of --preset 5k, --preset 10k and --frames-per-scene N.")
    if settings.frames_per_scene is not None and settings.frames_per_scene < 1:
        problems.append(f"--frames-per-scene is 1 or more; found {settings.frames_per_scene}.")
    if not 0 < settings.most_gap_s < float("inf"):
        problems.append(f"--max-gap is seconds above 0; found {settings.most_gap_s:g}.")
    if problems:
        raise SettingsError("\n".join(problems), "See `xmodal prepare nyud2-raw --help` for examples.")


def recorded(settings: RawSettings) -> dict[str, Any]:
    """The settings that decide what the images are, as they are recorded and compared."""
    return {
        "source": "nyud2-raw",
        "split": settings.pool,
        "only": sorted(settings.only),
        "preset": settings.preset,
        "frames_per_scene": settings.frames_per_scene,
        "max_gap_s": settings.most_gap_s,
        "fill": settings.fill,
    }


def _near(name: str) -> str:
    return closest(name, KNOWN)
