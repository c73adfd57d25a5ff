"""A prepared data set on disk: `dataset.json`, `manifest.csv`, one folder per modality, splits, scenes, annotations.

`PreparedData` is how everything above reads it. Opening costs one small JSON file; splits, manifest and annotations are
read when first asked for and kept. Nothing here writes: `prepare` does.

Shapes: `(H, W, C)` images, N objects of an image.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from xmodal_cli.data import annotations as coco
from xmodal_cli.data import images, manifest, splits
from xmodal_cli.data.annotations import Annotations
from xmodal_cli.errors import DataError, SettingsError, closest

DESCRIPTION = "dataset.json"
# Version of the folder's layout; raised when an older xmodal could misread a newer data set.
FORMAT = 1
RGB = "rgb"
HELD_OUT = 0.1  # share of its own split that a training run holds out to watch explained variance


@dataclass(frozen=True)
class ModalityInfo:
    """One kind of image in a prepared data set, as `dataset.json` describes it.

    Args:
        folder: its folder inside the data set.
        suffix: ending of its files; empty where they differ.
        encoding: how its pixels were made: a name from the modalities, or `rgb`.
        channels: channels per pixel.
        dtype: `uint8` or `uint16`.
        unit: unit of a pixel value, such as `mm`; None for values without one.
        range: smallest and largest value a pixel can have.
        flip: what mirroring an image does: `mirror`, or `negate_x` where a channel changes its sign.
        source_range: raw values that became the ends of `range`, the same in the whole data set; only for thermal.
    """

    folder: str
    suffix: str
    encoding: str
    channels: int
    dtype: str
    unit: str | None = None
    range: tuple[float, float] = (0.0, 255.0)
    flip: str = "mirror"
    source_range: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The description as it stands in dataset.json."""
        return asdict(self)

    def differences(self, wanted: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """What a network would notice: by name what another description, as `to_dict` gives it, has, and what this has.

        Example:
            >>> gray = ModalityInfo("gray", ".png", "gray", 1, "uint8")
            >>> gray.differences({**gray.to_dict(), "channels": 3, "folder": "elsewhere"})
            {'channels': (3, 1)}
        """
        own = self.to_dict()
        return {key: (wanted[key], own[key]) for key in ("encoding", "channels", "dtype") if wanted[key] != own[key]}

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> ModalityInfo:
        """The description that `to_dict` wrote.

        Example:
            >>> info = ModalityInfo("hha", ".png", "hha", 3, "uint8")
            >>> ModalityInfo.from_dict(info.to_dict()) == info
            True
        """
        ranges = {key: tuple(description[key]) for key in ("range", "source_range") if description.get(key)}
        return cls(**{**description, **ranges})


@dataclass(frozen=True)
class PreparedData:
    """A prepared data set; make one with `PreparedData.open`.

    Args:
        root: its folder.
        name: its name, the folder's unless told otherwise.
        modalities: descriptions by modality name, `rgb` among them.
        classes: names of the annotated classes, in order of the source's category ids; labels index it.
        splits: names of the splits.
        camera: fx, fy, cx, cy in pixels, centres counted from 1; None where not known.
        provenance: how it was made: settings per modality, versions, counts.

    Example:
        >>> PreparedData.open(Path("no/such/folder"))
        Traceback (most recent call last):
            ...
        xmodal_cli.errors.DataError: There is no prepared data set at 'no/such/folder'.
    """

    root: Path
    name: str
    modalities: Mapping[str, ModalityInfo]
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    camera: Mapping[str, float] | None
    provenance: Mapping[str, Any] = field(repr=False)
    _annotations: dict[str, dict[str, Annotations]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, path: str | Path) -> PreparedData:
        """Open a prepared data set.

        Args:
            path: its folder.

        Raises:
            DataError: there is none, or its dataset.json is damaged or newer than this program.
        """
        root = Path(path)
        document = read_description(root)
        try:
            return cls(
                root=root,
                name=str(document["name"]),
                modalities={name: ModalityInfo.from_dict(info) for name, info in document["modalities"].items()},
                classes=tuple(document["classes"]),
                splits=tuple(document["splits"]),
                camera=document["camera"],
                provenance=document["provenance"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problem = f"{type(error).__name__} {error}"
            raise DataError(f"'{root / DESCRIPTION}' is damaged: {problem}.", "Prepare the data set again.") from None

    def ids(self, split: str) -> list[str]:
        """The IDs of a split, sorted.

        Args:
            split: a name, or several joined by `+` for their union (`train+val`).

        Raises:
            SettingsError: there is no such split.
        """
        names = split.split("+")
        for name in names:
            if name not in self.splits:
                near = closest(name, self.splits) or f"There are: {', '.join(self.splits)}."
                raise SettingsError(f"The data set '{self.root}' has no split '{name}'.", near)
        return sorted({identifier for name in names for identifier in self._ids[name]})

    @property
    def all_ids(self) -> list[str]:
        """The IDs of all splits, sorted."""
        return self.ids("+".join(self.splits))

    def path(self, modality: str, identifier: str) -> Path:
        """The file that shows one pair in one modality.

        Raises:
            SettingsError: there is no such modality.
            DataError: there is no such ID.
        """
        return self.root / self._row(modality, identifier).file

    def read(self, modality: str, identifier: str) -> NDArray[Any]:
        """Read one image.

        Returns:
            `(H, W, C)` as stored, dtype and channels as the modality says; rgb is R, G, B.

        Raises:
            SettingsError: there is no such modality.
            DataError: the file is damaged, or is not what dataset.json says.
        """
        info = self.modality(modality)
        path = self.path(modality, identifier)
        image = images.read_rgb(path) if modality == RGB else images.read_raw(path)
        image = image[:, :, None] if image.ndim == 2 else image
        if image.shape[2] != info.channels or str(image.dtype) != info.dtype:
            raise DataError(
                f"'{path}' holds {images.describe(image)}; {modality} is {info.channels} x {info.dtype}.",
                f"Look at the whole data set: xmodal prepare check {self.root}",
            )
        return image

    def modality(self, name: str) -> ModalityInfo:
        """The description of a modality.

        Raises:
            SettingsError: there is no such modality; the message has the closest names.
        """
        if name not in self.modalities:
            near = closest(name, self.modalities)
            raise SettingsError(
                f"The data set '{self.root}' has no modality '{name}'; it has {', '.join(self.modalities)}.",
                near or f"Add it: xmodal prepare folder ... --modality {name} --out {self.root}",
            )
        return self.modalities[name]

    def size_hw(self, identifier: str) -> tuple[int, int]:
        """Height and width of an image in pixels, the same in every modality, from the manifest."""
        row = self._row(RGB if RGB in self.modalities else next(iter(self.modalities)), identifier)
        return row.height, row.width

    @cached_property
    def scenes(self) -> Mapping[str, str]:
        """Scene by ID, for the images whose scene is known."""
        path = self.root / splits.SCENE_FILE
        return splits.read_scenes(path) if path.exists() else {}

    def scene(self, identifier: str) -> str | None:
        """The scene of an image, None where it is not known."""
        return self.scenes.get(identifier)

    def annotations(self, split: str) -> dict[str, Annotations]:
        """The annotated objects of every image of a split.

        Args:
            split: a name, or several joined by `+`.

        Returns:
            Annotations by ID, one for every ID of the split, sorted; `labelled` is False where no file lists it.

        Raises:
            SettingsError: there is no such split.
            DataError: an annotation file is damaged.
        """
        found = {identifier: coco.no_annotations() for identifier in self.ids(split)}
        for name in split.split("+"):
            found.update(self._split_annotations(name))
        return found

    def annotation_file(self, split: str) -> Path | None:
        """The COCO file of one split, None where it has no annotations."""
        path = self.root / coco.ANNOTATION_FOLDER / f"{split}.json"
        return path if path.exists() else None

    def data_hash(self, modalities: Iterable[str], ids: Iterable[str] | None = None) -> str:
        """One hash of the content of many images, from the manifest alone.

        Args:
            modalities: which modalities count.
            ids: which pairs count; all by default.

        Returns:
            SHA-256, hexadecimal.
        """
        names = list(self.all_ids if ids is None else ids)
        wanted = list(modalities)
        for modality in wanted:
            for identifier in names:
                self._row(modality, identifier)
        return manifest.hash_of(self.rows, wanted, names)

    def hold_out(self, split: str, fraction: float = HELD_OUT) -> tuple[list[str], list[str]]:
        """Divide a split into pairs to fit on and pairs to watch, by scene if known, else by blocks of names.

        Args:
            split: a name, or several joined by `+`.
            fraction: share held out, above 0 and below 1.

        Returns:
            IDs to fit on and IDs held out, sorted; always the same, and neither empty with two pairs or more.
        """
        return splits.divide(self.ids(split), fraction, self.scenes)

    def learned_from(self, split: str, images: int, content_hash: str) -> dict[str, Any]:
        """What the card of a run says of the data set that it learned from.

        Args:
            split: whose images.
            images: how many of them.
            content_hash: of all that was read.
        """
        path = str(self.root.resolve())
        return {"name": self.name, "path": path, "split": split, "images": images, "hash": content_hash}

    @cached_property
    def rows(self) -> manifest.Manifest:
        """The manifest: a row for each file, by (modality, ID)."""
        return manifest.read_manifest(self.root)

    @cached_property
    def _ids(self) -> dict[str, list[str]]:
        folder = self.root / splits.SPLIT_FOLDER
        return {name: splits.read_names(folder / f"{name}.txt") for name in self.splits}

    def _row(self, modality: str, identifier: str) -> manifest.ManifestRow:
        self.modality(modality)
        if (modality, identifier) not in self.rows:
            near = closest(identifier, [name for kind, name in self.rows if kind == modality])
            raise DataError(f"The data set '{self.root}' has no {modality} image '{identifier}'.", near or None)
        return self.rows[modality, identifier]

    def _split_annotations(self, split: str) -> dict[str, Annotations]:
        if split not in self._annotations:
            path = self.annotation_file(split)
            self._annotations[split] = {} if path is None else self._read_annotations(path, split)
        return self._annotations[split]

    def _read_annotations(self, path: Path, split: str) -> dict[str, Annotations]:
        source = coco.read_coco(path)
        strangers = set(source.categories.values()) - set(self.classes)
        if strangers:
            raise DataError(f"'{path}' has the class '{min(strangers)}', which dataset.json does not list.")
        paths = {identifier: self.path(next(iter(self.modalities)), identifier) for identifier in self.ids(split)}
        found, _ = coco.match_coco(source, paths)
        return {name: coco.annotations_of(source, image, self.classes) for name, image in found.items()}


def read_description(root: Path) -> dict[str, Any]:
    """The content of a data set's `dataset.json`.

    Raises:
        DataError: there is none, it is no JSON, or a newer xmodal wrote it.
    """
    path = root / DESCRIPTION
    try:
        document = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"There is no prepared data set at '{root}'.", _ways_on(root)) from None
    except (OSError, ValueError) as error:
        raise DataError(f"'{path}' cannot be read: {error}.", "Prepare the data set again.") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else None
        raise DataError(
            f"'{path}' has format {found}; this xmodal reads format {FORMAT}.", "Prepare the data set again."
        )
    return document


def _ways_on(root: Path) -> str:
    return (
        "Prepare it: xmodal prepare folder --rgb DIR --target DIR --modality disparity --depth-unit 0.001 "
        f"--out {root}; or name one that exists with --data DIR; or set XMODAL_DATA to it for every command."
    )
