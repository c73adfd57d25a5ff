"""Feature maps as colours: the teacher's main directions become red, green and blue, for teacher and student alike.

A principal component analysis of the teacher's normalised features on held-out pairs gives three directions; both maps
are projected onto them and stretched by the same factors. Where the student knows what the teacher knows, the colours
are the same; a student that explains little of it is paler, which is why it is shown a second time, stretched by
itself.

Shapes: N pairs, C channels, h x w cells of the maps; `(H, W, 3)` uint8 RGB pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from xmodal_cli.errors import SettingsError
from xmodal_cli.pictures import canvas
from xmodal_cli.pictures.canvas import Picture
from xmodal_cli.pictures.contact_sheet import as_picture
from xmodal_cli.pictures.eyes import View, evenly
from xmodal_cli.transfer.task import ResidualSums

SHOWN_PAIRS = 4
FITTED_PAIRS = 64  # pairs whose cells the directions are found on
COMPONENTS = 3  # red, green, blue
STRETCH = (1, 99)  # percentiles that become black and full colour
CELL_WIDTH = 220  # pixels of a picture: five fit a page


@dataclass(frozen=True)
class Basis:
    """The directions that are shown as colours.

    Args:
        mean: `(C,)` of the teacher's features.
        directions: `(3, C)`, orthonormal, by falling variance, each with its largest entry positive.
        shares: of the teacher's variance that each has.
    """

    mean: NDArray[np.float64]
    directions: NDArray[np.float64]
    shares: tuple[float, ...]

    def project(self, maps: NDArray[np.floating]) -> NDArray[np.float64]:
        """Maps `(C, h, w)` along the three directions: `(h, w, 3)`."""
        vectors = maps.astype(np.float64).transpose(1, 2, 0) - self.mean
        return np.asarray(vectors @ self.directions.T)


@dataclass(frozen=True)
class FeaturePictures:
    """Maps of pairs that are shown, and how alike they are.

    Args:
        ids: of the shown pairs.
        teacher, student: `(N, h, w, 3)` projected onto the teacher's directions.
        basis: these directions.
        explained: of each shown pair the share of the teacher's variance that the student explains.
        explained_variance: of all pairs that were looked at.
    """

    ids: tuple[str, ...]
    teacher: NDArray[np.float64]
    student: NDArray[np.float64]
    basis: Basis
    explained: tuple[float, ...]
    explained_variance: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {
            "ids": list(self.ids),
            "explained": list(self.explained),
            "explained_variance": self.explained_variance,
            "shares_of_directions": list(self.basis.shares),
        }


def find_basis(vectors: NDArray[np.floating]) -> Basis:
    """Principal directions of features.

    Args:
        vectors: `(cells, C)`.

    Example:
        >>> found = find_basis(np.array([[0.0, 0.0, 0.0, 9.0], [2.0, 0.0, 0.0, 9.0], [0.0, 1.0, 0.0, 9.0]]))
        >>> np.abs(found.directions[0]).argmax(), [round(share, 2) for share in found.shares]
        (np.int64(0), [0.86, 0.14, 0.0])
    """
    mean = vectors.astype(np.float64).mean(0)
    centred = vectors - mean
    values, columns = np.linalg.eigh(centred.T @ centred)
    directions = columns[:, ::-1][:, :COMPONENTS].T
    largest = np.abs(directions).argmax(1)
    directions = directions * np.sign(directions[np.arange(len(directions)), largest])[:, None]
    total = max(float(values.sum()), 1e-300)
    shares = tuple(float(max(value, 0.0)) / total for value in values[::-1][:COMPONENTS])
    missing = COMPONENTS - len(directions)  # a layer of one or two channels
    return Basis(mean, np.vstack([directions, np.zeros((missing, len(mean)))]), (*shares, *[0.0] * missing))


def look_at_features(
    view: View, count: int = SHOWN_PAIRS, watch: Callable[[int, int], None] = lambda done, total: None
) -> FeaturePictures:
    """Maps of held-out pairs along the teacher's main directions.

    Args:
        view: at a transfer point.
        count: pairs shown, evenly chosen.
        watch: told how many pairs have been seen.

    Raises:
        SettingsError: the layer is no transfer point, or the run no transfer.
    """
    if view.teacher is None:
        raise SettingsError(
            f"{view.own.layer} of {view.subject.run.path} is no transfer point: no teacher can be compared there.",
            "Name a run of `xmodal distill`, and one of its transfer points with --layer.",
        )
    shown = evenly(view.ids, count)
    chosen = list(dict.fromkeys([*shown, *evenly(view.ids, FITTED_PAIRS)]))
    maps: dict[str, tuple[Tensor, Tensor]] = {}
    for ids, student, teacher in view.maps(chosen):
        assert teacher is not None
        maps |= {name: (student[index], teacher[index]) for index, name in enumerate(ids)}
        watch(len(maps), len(chosen))
    basis = find_basis(np.concatenate([teacher.flatten(1).T.numpy() for _, teacher in maps.values()]))
    return FeaturePictures(
        tuple(shown),
        np.stack([basis.project(maps[name][1].numpy()) for name in shown]),
        np.stack([basis.project(maps[name][0].numpy()) for name in shown]),
        basis,
        tuple(_explained([maps[name]]) for name in shown),
        _explained(list(maps.values())),
    )


def _explained(pairs: list[tuple[Tensor, Tensor]]) -> float:
    sums = ResidualSums()
    for student, teacher in pairs:
        sums.add(student[None], teacher[None])
    return sums.explained_variance()


def draw_features(view: View, found: FeaturePictures) -> Picture:
    """A row a pair: both images, the teacher's map, the student's in the same colours, the student's by itself."""
    assert view.teacher is not None
    low, high = (np.percentile(found.teacher, share, axis=(0, 1, 2)) for share in STRETCH)
    own_low, own_high = (np.percentile(found.student, share, axis=(0, 1, 2)) for share in STRETCH)
    heads = [
        view.source,
        view.own.modality,
        view.teacher.title,
        f"{view.own.title}, same colours",
        "student, stretched",
    ]
    rows = [canvas.beside([canvas.caption(head, CELL_WIDTH) for head in heads])]
    for number, name in enumerate(found.ids):
        cells = [_image(view, modality, name) for modality in (view.source, view.own.modality)]
        size_hw = cells[0].shape[:2]
        cells.append(as_colours(found.teacher[number], low, high, (size_hw[0], size_hw[1])))
        cells.append(as_colours(found.student[number], low, high, (size_hw[0], size_hw[1])))
        cells.append(as_colours(found.student[number], own_low, own_high, (size_hw[0], size_hw[1])))
        row = canvas.beside(cells)
        told = f"{name}: the student explains {found.explained[number]:.1%} of the teacher's variance"
        rows += [canvas.caption(told, row.shape[1], colour=canvas.GREY), row]
    first = ", ".join(f"{share:.0%}" for share in found.basis.shares)
    title = (
        f"{view.subject.run.path.name}, {view.teacher.layer}:{view.own.layer}: the teacher's three main directions as "
        f"red, green, blue ({first} of its variance)"
    )
    head = canvas.caption(title, rows[0].shape[1], size=canvas.TITLE)
    return canvas.framed(canvas.below([head, *rows], gap=5))


def as_colours(
    projected: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64], size_hw: tuple[int, int]
) -> Picture:
    """A projected map as a picture, cell by cell.

    Args:
        projected: `(h, w, 3)`.
        low, high: `(3,)` values that become 0 and 255.
        size_hw: of the picture.
    """
    span = np.where(high > low, high - low, 1.0)
    small = (np.clip((projected - low) / span, 0, 1) * 255).round().astype(np.uint8)
    rows = np.arange(size_hw[0]) * small.shape[0] // size_hw[0]
    columns = np.arange(size_hw[1]) * small.shape[1] // size_hw[1]
    return np.ascontiguousarray(small[rows[:, None], columns[None]])


def _image(view: View, modality: str, name: str) -> Picture:
    picture = as_picture(view.data.read(modality, name))
    return canvas.resized(picture, (round(picture.shape[0] * CELL_WIDTH / picture.shape[1]), CELL_WIDTH))
