"""COCO as `xmodal download` fetched it: the annotation file and the folder of images of each split."""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.datasets.downloads.catalogue import FILES
from xmodal_cli.datasets.downloads.fetched import is_unpacked, unpacked_path

YEARS = ("2017", "2014")  # the first that is here is taken
SPLITS = ("train", "val")


def downloaded() -> tuple[dict[str, Path], dict[str, str]]:
    """Annotations and images by split, of the splits whose images were fetched.

    Raises:
        DownloadError: no images were fetched, or not their annotations.
    """
    year = next((year for year in YEARS if _splits_here(year)), YEARS[0])
    splits = _splits_here(year) or SPLITS
    images = {split: str(unpacked_path(f"{split}{year}.zip") / f"{split}{year}") for split in splits}
    annotations = unpacked_path(f"annotations_trainval{year}.zip") / "annotations"
    return {split: annotations / f"instances_{split}{year}.json" for split in splits}, images


def _splits_here(year: str) -> list[str]:
    return [split for split in SPLITS if is_unpacked(FILES[f"{split}{year}.zip"])]
