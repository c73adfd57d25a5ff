"""Weights in and out: checkpoint files read without ever running what they hold, and loaded with a readable report.

`.safetensors` holds tensors and nothing else. `.pth`, `.pt` and `.ckpt` files are pickles, which can run code when they
are read; PyTorch's weights-only reader refuses everything but tensors and plain containers; no other reader is used.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from xmodal_cli import files
from xmodal_cli.errors import DataError

SAFETENSORS = ".safetensors"
# Where training scripts put the weights inside a checkpoint, and what wrappers put before every key.
WRAPPERS = ("state_dict", "model", "model_state_dict", "net")
PREFIXES = ("module.", "_orig_mod.")
# Before the keys of our detectors and classifiers that the plain network does not have.
ROI_HEAD, RPN_HEAD, CLASS_HEAD = "roi_head.", "rpn_head.", "class_head."
# In the header of a file that `xmodal export` wrote: what its network sees and wants to be fed.
MODALITY, INPUT = "modality", "input"
SHOWN = 6  # keys named in a report before it says how many more there are


def load_file(path: Path) -> dict[str, Tensor]:
    """Read a file of weights.

    Args:
        path: `.safetensors`, or anything that `torch.save` wrote: a state dict, or a checkpoint that holds one under
            `state_dict` or `model`.

    Returns:
        Tensors on the CPU by name; prefixes of wrappers (`module.`) are removed.

    Raises:
        DataError: the file is missing, damaged, no checkpoint, or holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no file of weights at {path}.", "Check the path.")
    content = _read_safetensors(path) if path.suffix == SAFETENSORS else _read_pickle(path)
    state = _state_in(content)
    if state is None:
        raise DataError(
            f"{path} holds no weights: expected tensors by name, or a dictionary that has them under 'state_dict'.",
            "Save the weights with torch.save(model.state_dict(), FILE) or as safetensors.",
        )
    return _without_prefix(state)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path} is no readable safetensors file: {error}.", "Fetch or save it again.") from error


def _read_pickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # of odd pickle protocols: what matters is whether it is read
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        line = _first_line(error)
        if "Unsupported" in line or "GLOBAL" in line:
            raise DataError(
                f"{path} holds more than tensors ({line}); such files can run code and are never opened.",
                "Save only the weights, torch.save(model.state_dict(), FILE), or convert the file to safetensors.",
            ) from error
        raise DataError(f"{path} is no checkpoint: {line}", "Check the path, or fetch the file again.") from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, OSError, IndexError, TypeError) as error:
        raise DataError(
            f"{path} is damaged or no checkpoint: {_first_line(error)}", "Check the path, or fetch the file again."
        ) from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    return (telling or lines or [type(error).__name__])[0][:200]


def _state_in(content: Any) -> dict[str, Tensor] | None:
    """The state dict that a file's content is, or holds one level down."""
    if not isinstance(content, Mapping):
        return None
    if content and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()):
        return dict(content)
    for key in WRAPPERS:
        inner = content.get(key)
        if isinstance(inner, Mapping) and (state := _state_in(inner)) is not None:
            return state
    return None


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def save_file(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, whole or not at all.

    Args:
        path: the file; its folder must exist.
        tensors: on any device, by name.
        about: words that stand in the file's header, by name.
    """
    plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    files.write_bytes(path, safetensors.torch.save(plain, metadata={"format": "pt", **(about or {})}))


def read_about(path: Path) -> dict[str, str]:
    """The words in the header of a safetensors file, as `save_file` put them there; empty of any other file."""
    if path.suffix != SAFETENSORS:
        return {}
    try:
        with safetensors.safe_open(path, framework="pt") as handle:
            return dict(handle.metadata() or {})
    except (safetensors.SafetensorError, OSError, ValueError):
        return {}  # damaged: whoever reads its tensors says so


def without_heads(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the plain network in a detector's or classifier's file: weights like any other.

    Example:
        >>> list(without_heads({"conv1.bias": torch.zeros(1), "roi_head.fc6.bias": torch.zeros(1)}))
        ['conv1.bias']
    """
    return {key: value for key, value in state.items() if not key.startswith((ROI_HEAD, RPN_HEAD, CLASS_HEAD))}


def load_into(
    module: nn.Module, state: Mapping[str, Tensor], what: str, allowed_missing: Collection[str] = ()
) -> list[str]:
    """Load weights into a network strictly, or say readably what does not fit.

    Args:
        module: receives the weights; untouched when they do not fit.
        state, what, allowed_missing: as in `load_tensors`.

    Returns:
        The allowed keys that were indeed not loaded, sorted.

    Raises:
        DataError: keys are missing or unexpected, or shapes differ; all are reported at once.

    Example:
        >>> load_into(nn.Linear(2, 1), {"weight": torch.zeros(1, 2)}, "file.pth", allowed_missing=["bias"])
        ['bias']
    """
    return load_tensors(module.state_dict(), state, what, allowed_missing)


@torch.no_grad()
def load_tensors(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], what: str, allowed_missing: Collection[str] = ()
) -> list[str]:
    """Copy tensors into those of a network, all or none.

    Args:
        own: the network's tensors by name, which are written to.
        state: tensors by name.
        what: what the weights are, for the message: a path or a tag.
        allowed_missing: keys that may be absent or of another shape; the network keeps its own values there.

    Returns, Raises:
        As `load_into`.
    """
    misshaped = [key for key in own if key in state and own[key].shape != state[key].shape]
    skipped = {key for key in allowed_missing if key in own and (key not in state or key in misshaped)}
    missing = [key for key in own if key not in state and key not in skipped]
    unexpected = [key for key in state if key not in own]
    wrong = [key for key in misshaped if key not in skipped]
    if missing or unexpected or wrong:
        shapes = [f"{key} is {_shape(state[key])}, expected {_shape(own[key])}" for key in wrong]
        report = [_listed("missing", missing), _listed("unexpected", unexpected), _listed("of another shape", shapes)]
        fitting = len(own) - len(missing) - len(wrong) - len(skipped)
        raise DataError(
            f"The weights of {what} do not fit the network ({fitting} of {len(own)} tensors do). "
            + " ".join(line for line in report if line),
            "Name the network that the weights were made for.",
        )
    for key in own.keys() - skipped:
        own[key].copy_(state[key])
    return sorted(skipped)


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "a number"


def _listed(title: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    more = f", and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return f"{len(items)} {title}: {', '.join(items[:SHOWN])}{more}."
