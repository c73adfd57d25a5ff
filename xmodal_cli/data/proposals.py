"""Proposals: class-agnostic boxes of every image, best first, kept beside a data set and read from there by everything.

`DATA/proposals/NAME/` holds `boxes.npy` (all boxes behind one another), `offsets.npy` (where each image begins),
`ids.txt` (which image that is) and `proposals.json` (how they were made, so that they can be made again for a new
image). Boxes are memory-mapped: opening costs nothing, and the processes that load data share one copy. An image may
have an empty list; an image that is not listed has no proposals, and `require` says so.

Shapes: M images, N boxes of an image, sum N boxes of all.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli import __version__, files
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.errors import DataError, SettingsError, closest

PROPOSAL_FOLDER = "proposals"
BOXES, OFFSETS, IDS, DESCRIPTION = "boxes.npy", "offsets.npy", "ids.txt", "proposals.json"
FORMAT = 1  # version of the folder's layout
BOX_DTYPE = np.dtype("<f4")
EXAMPLES = 3  # names shown in a message


@dataclass(frozen=True)
class Proposals:
    """The proposals of a data set; get them with `open_proposals`. Pickles as three small values.

    Args:
        root: their folder, `DATA/proposals/NAME`.
        method: the folder's name, which `--proposals` takes.
        description: the content of proposals.json: `method` (how they were made), `settings`, `counts`, `sha256`.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> boxes = np.array([[0, 0, 8, 6], [2, 2, 4, 4]], np.float32)
        >>> stored = write_proposals(Path(folder.name), "mine", [("a/1", boxes), ("a/2", boxes[:0])], {"settings": {}})
        >>> stored["a/1"].tolist(), len(stored["a/2"]), stored.missing(["a/2", "a/3"])
        ([[0.0, 0.0, 8.0, 6.0], [2.0, 2.0, 4.0, 4.0]], 0, ['a/3'])
        >>> folder.cleanup()
    """

    root: Path
    method: str
    description: Mapping[str, Any] = field(repr=False)

    def __getitem__(self, identifier: str) -> NDArray[np.float32]:
        """All boxes of one image, as `boxes` gives them."""
        return self.boxes(identifier)

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._rows

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.ids)

    def boxes(self, identifier: str, most: int | None = None) -> NDArray[np.float32]:
        """The boxes of one image.

        Args:
            identifier: the image.
            most: how many of the best to take; all by default.

        Returns:
            `(N, 4)` float32 xyxy, pixels from 0, exclusive ends, best first; a copy. N may be 0.

        Raises:
            DataError: the image is not listed.
        """
        if identifier not in self._rows:
            require(self, [identifier])
        row = self._rows[identifier]
        begin, end = (int(edge) for edge in self._offsets[row : row + 2])
        return np.array(self._boxes[begin : end if most is None else min(end, begin + most)], np.float32)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The images that are listed, in the order in which they are stored."""
        return tuple(self._read(IDS).decode().split("\n")[:-1])

    def missing(self, ids: Iterable[str]) -> list[str]:
        """Those of some images that are not listed. An image with an empty list is not missing."""
        return [identifier for identifier in ids if identifier not in self._rows]

    @property
    def content_hash(self) -> str:
        """SHA-256 over boxes, offsets and IDs, hexadecimal: the same whenever and wherever they were made."""
        return str(self.description["sha256"])

    def __reduce__(self) -> tuple[Any, ...]:
        return Proposals, (self.root, self.method, self.description)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {identifier: row for row, identifier in enumerate(self.ids)}

    @cached_property
    def _offsets(self) -> NDArray[np.int64]:
        offsets = np.asarray(self._load(OFFSETS))
        if offsets.shape != (len(self.ids) + 1,) or offsets.dtype.kind not in "iu" or np.any(np.diff(offsets) < 0):
            raise self._damaged(f"{OFFSETS} does not fit the {len(self.ids)} lines of {IDS}")
        return offsets.astype(np.int64)

    @cached_property
    def _boxes(self) -> NDArray[np.float32]:
        boxes = self._load(BOXES, "r")
        if boxes.ndim != 2 or boxes.shape != (int(self._offsets[-1]), 4) or boxes.dtype != BOX_DTYPE:
            raise self._damaged(f"{BOXES} holds {boxes.shape} {boxes.dtype}, expected ({self._offsets[-1]}, 4) float32")
        return boxes

    def _read(self, name: str) -> bytes:
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            raise self._damaged(f"{name} cannot be read ({error.strerror})") from None

    def _load(self, name: str, mode: Any = None) -> NDArray[Any]:
        try:
            return np.asanyarray(np.load(self.root / name, mmap_mode=mode, allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise self._damaged(f"{name} cannot be read ({error})") from None

    def _damaged(self, problem: str) -> DataError:
        return DataError(f"The proposals in '{self.root}' are damaged: {problem}.", f"Make them again: {_make(self)}")


def stored_methods(data: PreparedData) -> list[str]:
    """The names of the proposals that a data set has, sorted."""
    return sorted(path.parent.name for path in (data.root / PROPOSAL_FOLDER).glob(f"[!.]*/{DESCRIPTION}"))


def if_stored(method: str, data: PreparedData) -> str | None:
    """A name of proposals, those that a detector learned with say, if the data set has them; else None."""
    return method if method in stored_methods(data) else None


def open_proposals(data: PreparedData, method: str | None = None) -> Proposals:
    """Open proposals of a data set.

    Args:
        data: the data set.
        method: their name; by default the only ones there are.

    Raises:
        SettingsError: there are none, none of this name, or several to choose from.
        DataError: their description is damaged.
    """
    there = stored_methods(data)
    if not there:
        wanted = method or "bottom-up"
        raise SettingsError(
            f"The data set '{data.root}' has no proposals.",
            f"Make them: xmodal prepare proposals {data.root} --method {wanted}",
        )
    if method is None and len(there) > 1:
        raise SettingsError(
            f"The data set '{data.root}' has several kinds of proposals: {', '.join(there)}.",
            f"Choose: --proposals {there[0]}",
        )
    chosen = there[0] if method is None else method
    if chosen not in there:
        near = closest(chosen, there)
        raise SettingsError(
            f"The data set '{data.root}' has no proposals '{chosen}'; it has {', '.join(there)}.",
            near or f"Make them: xmodal prepare proposals {data.root} --method {chosen}",
        )
    return Proposals(root := data.root / PROPOSAL_FOLDER / chosen, chosen, _read_description(root))


def require(proposals: Proposals, ids: Iterable[str]) -> None:
    """Make sure that every image is listed.

    Raises:
        DataError: some are not; the message names a few.
    """
    wanted = list(ids)
    missing = proposals.missing(wanted)
    if missing:
        shown = ", ".join(f"'{name}'" for name in missing[:EXAMPLES]) + (", ..." if len(missing) > EXAMPLES else "")
        raise DataError(
            f"{len(missing)} of {len(wanted)} images have no proposals in '{proposals.root}': {shown}.",
            f"Make them for every image: {_make(proposals)}",
        )


def write_proposals(
    root: Path,
    method: str,
    boxes_by_id: Iterable[tuple[str, NDArray[Any]]],
    description: Mapping[str, Any],
    *,
    attached: Iterable[Path] = (),
    overwrite: bool = False,
) -> Proposals:
    """Write proposals into a data set: the whole folder appears, or nothing does.

    Args:
        root: the data set's folder.
        method: the name they get.
        boxes_by_id: ID and `(N, 4)` boxes xyxy (pixels from 0, exclusive ends, best first) of each image; read once,
            never held together in memory. The order is kept, so give it sorted.
        description: `method` (how they were made; the name by default), `settings`, and whatever else makes them again.
        attached: files that belong to them, such as the weights of a network: copied into the folder; looked at when
            the boxes are there.
        overwrite: replace proposals of this name.

    Returns:
        What was written, opened.

    Raises:
        SettingsError: the name is no folder name, or is taken and `overwrite` is False.
        DataError: an image comes twice, or a box is not finite or has no area.
    """
    check_free(root, method, overwrite=overwrite)
    target = root / PROPOSAL_FOLDER / method
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing_folder(target) as folder:
        ids, offsets = _write_boxes(folder / BOXES, boxes_by_id)
        np.save(folder / OFFSETS, offsets)
        (folder / IDS).write_bytes("".join(f"{identifier}\n" for identifier in ids).encode())
        document = {
            "format": FORMAT,
            "method": method,
            **description,
            "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "xmodal": __version__,
            "counts": _counts(offsets),
            "sha256": _content_hash(folder),
        }
        for path in attached:
            shutil.copyfile(path, folder / path.name)
        files.write_json(folder / DESCRIPTION, document)
    return Proposals(target, method, document)


def check_free(root: Path, method: str, *, overwrite: bool = False) -> None:
    """Make sure that proposals of this name can be written, before the work of making them.

    Args:
        root: the data set's folder.
        method: the name they would get.
        overwrite: whether proposals of this name may be replaced.

    Raises:
        SettingsError: the name is no folder name, or is taken and `overwrite` is False.
    """
    if not method or method != method.strip() or method.startswith(".") or any(c in "/\\:\n" for c in method):
        raise SettingsError(f"'{method}' is no name for proposals.", "Name them with a word: --name bottom-up")
    target = root / PROPOSAL_FOLDER / method
    if target.exists() and not overwrite:
        raise SettingsError(
            f"The data set '{root}' has proposals '{method}' already.",
            "Replace them with --overwrite, or give the new ones another name with --name NAME.",
        )


def _write_boxes(path: Path, boxes_by_id: Iterable[tuple[str, NDArray[Any]]]) -> tuple[list[str], NDArray[np.int64]]:
    """Write all boxes behind one another; NumPy leaves room in the header for the number of rows to grow."""
    counts: dict[str, int] = {}
    with path.open("wb") as file:
        _write_header(file, 0)
        length = file.tell()
        for identifier, boxes in boxes_by_id:
            if identifier in counts:
                raise DataError(f"The image '{identifier}' has two lists of proposals.")
            file.write(_checked(identifier, boxes).tobytes())
            counts[identifier] = len(boxes)
        file.seek(0)
        _write_header(file, sum(counts.values()))
        if file.tell() != length:
            raise OSError(f"The header of '{path}' has outgrown its room.")
    return list(counts), np.concatenate([[0], np.cumsum(list(counts.values()), dtype=np.int64)]).astype("<i8")


def _write_header(file: Any, rows: int) -> None:
    about = {"descr": BOX_DTYPE.str, "fortran_order": False, "shape": (rows, 4)}
    np.lib.format.write_array_header_1_0(file, about)


def _checked(identifier: str, boxes: NDArray[Any]) -> NDArray[np.float32]:
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise DataError(f"The proposals of '{identifier}' have the shape {boxes.shape}; expected (N, 4).")
    stored = np.ascontiguousarray(boxes, BOX_DTYPE)
    if not np.isfinite(stored).all():
        raise DataError(f"The proposals of '{identifier}' hold NaN or infinite values.")
    if np.any(stored[:, 2:] <= stored[:, :2]):
        bad = stored[np.any(stored[:, 2:] <= stored[:, :2], axis=1)][0]
        raise DataError(f"The proposals of '{identifier}' hold a box without area: {bad.tolist()} (x1, y1, x2, y2).")
    return stored


def _counts(offsets: NDArray[np.int64]) -> dict[str, int]:
    sizes = np.diff(offsets)
    return {
        "images": len(sizes),
        "boxes": int(offsets[-1]),
        "images_without_boxes": int((sizes == 0).sum()),
        "fewest": int(sizes.min()) if len(sizes) else 0,
        "most": int(sizes.max(initial=0)),
    }


def _content_hash(folder: Path) -> str:
    return hashlib.sha256("".join(files.sha256(folder / name) for name in (BOXES, OFFSETS, IDS)).encode()).hexdigest()


def _read_description(root: Path) -> dict[str, Any]:
    path = root / DESCRIPTION
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"'{path}' cannot be read: {error}.", "Make the proposals again.") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT or "sha256" not in document:
        raise DataError(f"'{path}' does not describe proposals of format {FORMAT}.", "Make the proposals again.")
    return document


def _make(proposals: Proposals) -> str:
    """The command that makes these proposals again."""
    made = proposals.description.get("method", proposals.method)
    name = "" if made == proposals.method else f" --name {proposals.method}"
    source = proposals.description.get("source", "FILE") if made == "file" else made
    return f"xmodal prepare proposals {proposals.root.parent.parent} --method {source}{name} --overwrite"
