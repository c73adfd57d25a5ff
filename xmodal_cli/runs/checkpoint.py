"""Checkpoints: the full state of a training run at one step, in a file that holds tensors and plain values only.

The new file is written beside the old one, synced, and renamed over it, so there is a whole checkpoint at every moment.
They are read with `weights_only=True`: a file that holds code is refused, never run.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from xmodal_cli import files
from xmodal_cli.errors import DataError

LAST = "last.pt"
FORMAT = 1


def save(folder: Path, state: dict[str, Any]) -> Path:
    """Write `last.pt` atomically.

    Args:
        folder: the run's checkpoint folder.
        state: nested dicts and lists of tensors, numbers and strings.

    Returns:
        The path written.

    Raises:
        OSError: it could not be written; the one before is still there.
    """
    path = folder / LAST
    with files.replacing(path) as temporary, temporary.open("wb") as handle:
        try:
            torch.save({"format": FORMAT, **state}, handle)
        except RuntimeError as error:  # how PyTorch reports that a write failed; the cause says why, e.g. a full disk
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise
    return path


def load(folder: Path) -> dict[str, Any] | None:
    """Read `last.pt`, or None where the run was stopped before its first checkpoint.

    Raises:
        DataError: the file is no checkpoint, is broken, or holds code.
    """
    path = folder / LAST
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(f"{path} holds more than tensors and was not opened, or is broken: {error}") from error
    except (RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError, OSError) as error:
        raise DataError(f"{path} cannot be read as a checkpoint: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise DataError(f"{path} is not a checkpoint of xmodal.", "Start the run again with --overwrite.")
    return state
