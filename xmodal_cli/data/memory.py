"""What images of a data set take in memory, and whether keeping them decoded is modest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xmodal_cli.data.prepared import PreparedData

MEMORY_SHARE = 0.3  # of the free memory that decoded images may take


def common_size(data: PreparedData, ids: Sequence[str]) -> tuple[int, int]:
    """The size `(H, W)` that most of these pairs have."""
    return Counter(data.size_hw(name) for name in ids).most_common(1)[0][0]


def fits_in_memory(data: PreparedData, ids: Sequence[str], modalities: Sequence[str]) -> bool:
    """Whether the decoded images of these pairs take a modest share of the memory that is free."""
    height, width = common_size(data, ids)
    per_pair = sum(
        height * width * data.modalities[name].channels * np.dtype(data.modalities[name].dtype).itemsize
        for name in modalities
    )
    return per_pair * len(ids) < MEMORY_SHARE * free_memory_bytes()


def free_memory_bytes() -> int:
    """Memory that programs may still take; 2 GB where the system does not say."""
    path = Path("/proc/meminfo")
    if path.is_file():
        for line in path.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 2 << 30
