"""Where fetched files live."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_root() -> Path:
    """The folder of all caches: `XMODAL_CACHE`, else the platform's cache folder for xmodal."""
    base = os.environ.get("XMODAL_CACHE")
    return Path(base) if base else Path(platformdirs.user_cache_dir("xmodal"))
