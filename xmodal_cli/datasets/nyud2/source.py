"""What the labelled file and the authors' archive have in common: images by ID, and a reader for a block of them.

Shapes: `(425, 560)` cropped images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.datasets.nyud2.objects import Objects


@dataclass(frozen=True)
class GroundTruth:
    """The objects of one image.

    Args:
        objects: COCO entries without ids.
        dropped: instances of which no class had half.
        differing: boxes of the archive's cache that its segmentation does not have.
    """

    objects: Objects
    dropped: int = 0
    differing: int = 0


class Reader(Protocol):
    """Reads the images of one block; made by `Source.reading`, used within its `with` block."""

    def colour(self, identifier: str) -> NDArray[np.uint8] | Path:
        """The cropped colour image, or the file that is it."""

    def stored(self, modality: str, identifier: str) -> Path | None:
        """The file that is this modality already; None where it has to be made."""

    def depth_mm(self, identifier: str) -> NDArray[np.uint16]:
        """Cropped depth with holes filled, millimetres."""

    def raw_mm(self, identifier: str) -> NDArray[np.uint16] | None:
        """Cropped depth as the sensor gave it, millimetres, 0 where it saw nothing; None where that is not known."""

    def ground_truth(self, identifier: str) -> GroundTruth | None:
        """The objects; None where there is no ground truth."""


class Source(Protocol):
    """Where the data set comes from; sent to worker processes as it is."""

    @property
    def kind(self) -> str:
        """`labelled` or `archive`."""

    @property
    def ids(self) -> Sequence[str]:
        """The images, sorted."""

    @property
    def scenes(self) -> Mapping[str, str]:
        """Scene by ID, where known."""

    @property
    def modalities(self) -> Sequence[str]:
        """What can be made, the usual ones first."""

    @property
    def usual(self) -> Sequence[str]:
        """What is made where nothing is named."""

    @property
    def has_objects(self) -> bool:
        """Whether there is ground truth."""

    @property
    def block(self) -> int:
        """How many neighbouring images are best read together."""

    @property
    def notes(self) -> Sequence[str]:
        """What a person should know about it."""

    def identity(self, modality: str) -> dict[str, Any]:
        """What tells this source from others, for one modality: recorded and compared by later runs."""

    def modified(self, modality: str, identifier: str) -> int:
        """When what a modality is made from was last changed, nanoseconds."""

    def reading(self, ids: Sequence[str]) -> AbstractContextManager[Reader]:
        """A reader for some images in order."""
