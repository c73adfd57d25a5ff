"""The teacher cache: features computed once per pair and orientation, kept on disk in half precision.

Only stored values are trained on, and all are stored before the first step, in ID order, a fixed number at a time, so a
resumed run sees the very same numbers. A cache is found by what decides its values: image contents, their geometry,
the teacher's weights, layers, input normalisation and precision. Mirrored images are run through the teacher like any
others; a stored map is never mirrored, since that is not what the teacher says of the mirrored image.

Shapes: O orientations (1 or 2), N pairs, C channels, `h x w` grid of the whole image.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from xmodal_cli import files
from xmodal_cli.data.pairs import Pairs
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.data.transforms import Draw, apply, whole_image
from xmodal_cli.errors import XmodalError
from xmodal_cli.models.grid import Grid
from xmodal_cli.web.cache import cache_root

if TYPE_CHECKING:
    from xmodal_cli.transfer.teacher import Teacher

FORMAT = 1
FILL_BATCH = 16  # images computed at once when filling: fixed, since a batch's size can change its last bits
SPARE_DISK = 0.05  # share of the free disk that filling a cache must leave
META, FILLED, LOCK = "meta.json", "filled.json", ".lock"

FillWatcher = Callable[[int, int], None]  # (images done, images in all)


def root() -> Path:
    """Where caches live: `XMODAL_CACHE`, else the platform's cache folder for xmodal."""
    return cache_root() / "features"


@dataclass(frozen=True)
class CachePlan:
    """What decides the values in a cache, and how large it will be."""

    ids: tuple[str, ...]
    whole_hw: tuple[int, int]
    orientations: int
    shapes: tuple[tuple[int, int, int], ...]
    meta: dict[str, Any]

    @property
    def key(self) -> str:
        """The name of the cache's folder."""
        text = json.dumps(self.meta, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def bytes(self) -> int:
        """Size on disk."""
        cells = sum(channels * height * width for channels, height, width in self.shapes)
        return 2 * self.orientations * len(self.ids) * cells

    @property
    def images(self) -> int:
        """How many images the teacher must see."""
        return self.orientations * len(self.ids)


def plan(
    teacher: Teacher, data: PreparedData, ids: Sequence[str], source: str, whole_hw: tuple[int, int], *, flip: bool
) -> CachePlan:
    """Plan a cache: one forward pass tells the shapes.

    Args:
        teacher: whose features.
        data: the prepared data set.
        ids: which pairs, in this order.
        source: the modality that the teacher sees.
        whole_hw: height and width at which it sees whole images.
        flip: whether mirrored images are needed too.
    """
    channels = data.modalities[source].channels
    maps = teacher.features(torch.zeros(1, channels, *whole_hw))
    meta = {
        "format": FORMAT,
        "data": data.name,
        "images": data.data_hash([source], ids),
        "ids": hashlib.sha256("\n".join(ids).encode()).hexdigest(),
        "count": len(ids),
        "size_hw": list(whole_hw),
        "orientations": 1 + flip,
        "teacher": teacher.backbone.name,
        "weights": teacher.weights_hash,
        "layers": teacher.layers,
        "input": teacher.backbone.input.to_dict(),
        "precision": teacher.precision,
        "device": teacher.device.type,
        "batch": FILL_BATCH,
    }
    return CachePlan(tuple(ids), whole_hw, 1 + flip, tuple(tuple(m.shape[1:]) for m in maps), meta)  # type: ignore[misc]


class FeatureCache:
    """The filled cache of a plan, memory-mapped.

    Args:
        path: its folder.
        plan: what it holds.
        lock: keeps `cache prune` away while it is held.
    """

    def __init__(self, path: Path, plan: CachePlan, lock: IO[str] | None = None) -> None:
        self.path, self.plan = path, plan
        self._lock = lock
        self._maps: list[NDArray[np.float16]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": None, "_lock": None}  # a worker process maps the files itself

    @property
    def maps(self) -> list[NDArray[np.float16]]:
        """One array `(O, N, C, h, w)` per layer."""
        if self._maps is None:
            self._maps = [np.load(path, mmap_mode="r") for path in _layer_files(self.path, self.plan)]
        return self._maps

    def read(self, layer: int, index: int, *, flipped: bool) -> NDArray[np.float16]:
        """The map `(C, h, w)` of one pair at one layer."""
        features: NDArray[np.float16] = self.maps[layer][int(flipped), index]
        return features


def open_or_fill(
    plan: CachePlan, teacher: Teacher, data: PreparedData, source: str, watch: FillWatcher = lambda done, total: None
) -> FeatureCache:
    """The cache of a plan: found complete, continued, or begun. Safe against being killed and against company.

    Raises:
        XmodalError: the disk is too full, or a feature does not fit half precision.
    """
    path = root() / plan.key
    path.mkdir(parents=True, exist_ok=True)
    lock = (path / LOCK).open("w")
    fcntl.flock(lock, fcntl.LOCK_SH)  # many runs may read one cache
    if _filled(path) < plan.images:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one fills it; whoever waited finds it filled
        done = _filled(path)
        if done < plan.images:
            files.remove_parts(path)
            _check_disk(path, plan)
            _fill(path, plan, teacher, data, source, done, watch)
        fcntl.flock(lock, fcntl.LOCK_SH)
    os.utime(path / FILLED)  # `cache list` shows when it was last used
    return FeatureCache(path, plan, lock)


def _fill(
    path: Path, plan: CachePlan, teacher: Teacher, data: PreparedData, source: str, done: int, watch: FillWatcher
) -> None:
    """Compute what is missing; after each batch the count on disk says how far it is whole."""
    files.write_json(path / META, plan.meta)
    maps = [
        np.lib.format.open_memmap(
            file,
            mode="r+" if done else "w+",
            dtype=np.float16,
            shape=(plan.orientations, len(plan.ids), *shape),
        )
        for file, shape in zip(_layer_files(path, plan), plan.shapes, strict=True)
    ]
    _allocate(_layer_files(path, plan))
    for orientation in range(plan.orientations):
        for first in range(0, len(plan.ids), FILL_BATCH):
            position = orientation * len(plan.ids) + first
            if position < done:
                continue
            names = plan.ids[first : first + FILL_BATCH]
            images = torch.stack([_seen(data, source, name, plan.whole_hw, bool(orientation)) for name in names])
            for stored, computed in zip(maps, teacher.features(images), strict=True):
                stored[orientation, first : first + len(names)] = _half(computed)
                stored.flush()
            files.write_json(path / FILLED, {"images": position + len(names)})
            watch(position + len(names), plan.images)


def _allocate(paths: Sequence[Path]) -> None:
    """Take the disk space of mapped files now: a disk that fills up later would end the process by a signal."""
    if hasattr(os, "posix_fallocate"):
        for file in paths:
            with file.open("rb+") as handle:
                os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)


def _seen(data: PreparedData, source: str, name: str, whole_hw: tuple[int, int], flipped: bool) -> Tensor:
    """A whole image as the teacher sees it: `(C, h, w)`."""
    window = whole_image(data.size_hw(name), whole_hw, flipped=flipped)
    return torch.from_numpy(apply(data.read(source, name), window, data.modalities[source].flip)).permute(2, 0, 1)


def _half(maps: Tensor) -> NDArray[np.float16]:
    half = maps.to(torch.float16)
    if not bool(torch.isfinite(half).all()):
        raise XmodalError("The teacher's features are too large for half precision.", "Train with --cache off.")
    return half.cpu().numpy()


def _filled(path: Path) -> int:
    """How many images a cache holds for certain."""
    try:
        return int(json.loads((path / FILLED).read_text())["images"])
    except FileNotFoundError:
        return 0


def _layer_files(path: Path, plan: CachePlan) -> list[Path]:
    return [path / f"{number}.npy" for number in range(len(plan.shapes))]


def _check_disk(path: Path, plan: CachePlan) -> None:
    free = shutil.disk_usage(path).free
    if plan.bytes > free * (1 - SPARE_DISK):
        raise XmodalError(
            f"The teacher cache needs {plan.bytes / 1e9:.1f} GB, but {path} has {free / 1e9:.1f} GB free.",
            "Train with --cache off, set XMODAL_CACHE to another disk, or free some with `xmodal cache prune`.",
        )


class CachedPairs(Dataset[dict[str, Any]]):
    """Pairs whose teacher features come from a cache instead of a teacher.

    Args:
        pairs: gives the target image and the geometric draw: whole images, or windows on the cache's lattice.
        cache: the features of whole images.
        grids: for each layer the teacher's grid on an input of the window's size.
    """

    def __init__(self, pairs: Pairs, cache: FeatureCache, grids: Sequence[Grid]) -> None:
        self.pairs, self.cache, self.grids = pairs, cache, list(grids)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        sample = self.pairs[key]
        for number, grid in enumerate(self.grids):
            whole = self.cache.read(number, sample["index"], flipped=sample["draw"].flipped)
            cut = cut_map(whole, sample["draw"], grid)
            sample[feature_key(number)] = torch.from_numpy(np.array(cut))
        return sample


def feature_key(number: int) -> str:
    """The name in a batch of the teacher's features at transfer point `number`."""
    return f"teacher/{number}"


def cut_map(whole: NDArray[np.float16], window: Draw, grid: Grid) -> NDArray[np.float16]:
    """The part of a whole image's map that belongs to a window whose offset is a multiple of the stride.

    Args:
        whole: `(C, H, W)` map of the whole image, in the window's orientation.
        window: the draw.
        grid: the layer's grid on an input of the window's size.

    Returns:
        `(C, h, w)` with the size of `grid`.
    """
    rows, columns = (
        slice(first, first + size)
        for first, size in zip(
            (round(px / stride) for px, stride in zip(window.offset_yx, grid.stride_yx, strict=True)),
            grid.size_hw,
            strict=True,
        )
    )
    return whole[:, rows, columns]


def remove(path: Path) -> bool:
    """Remove one cache's folder, unless a run is using it.

    Returns:
        Whether it was removed.
    """
    with (path / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        shutil.rmtree(path)
    return True


def entries() -> list[dict[str, Any]]:
    """The caches on disk: path, bytes, whether complete, when last used (seconds since 1970), and what of."""
    found = []
    for meta_path in sorted(root().glob(f"*/{META}")):
        path, meta = meta_path.parent, json.loads(meta_path.read_text())
        size = sum(file.stat().st_blocks * 512 for file in path.iterdir() if file.is_file())
        marker = path / FILLED
        found.append(
            {
                "path": str(path),
                "bytes": size,
                "complete": _filled(path) == meta["orientations"] * meta["count"],
                "used": marker.stat().st_mtime if marker.exists() else path.stat().st_mtime,
                **{key: meta[key] for key in ("data", "teacher", "layers", "size_hw", "count", "orientations")},
            }
        )
    return found
