"""Published weights, fetched once through pooch, checked, and pinned.

torchvision writes the first eight hex digits of a file's SHA-256 into its name; the Hugging Face hub, from which timm's
weights come, states the whole SHA-256 in a header. Whichever was promised is checked; the full hash is then pinned
beside the file and checked whenever it is used again.

Nothing is printed: a watcher is told the size before the first byte, and the progress after.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from xmodal_cli.errors import SettingsError
from xmodal_cli.models.catalogue import ModelName, parse
from xmodal_cli.web.cache import cache_root
from xmodal_cli.web.fetch import Wanted, Watcher, unwatched
from xmodal_cli.web.fetch import fetch as fetch_file
from xmodal_cli.web.promises import Promise

_TORCHVISION_HASH = re.compile(r"-([0-9a-f]{8,})\.\w+$")


@dataclass(frozen=True)
class Published:
    """Weights that somebody published.

    Args:
        url: where they are.
        tag: how their library calls them, e.g. `torchvision:IMAGENET1K_V1`.
        hash_prefix: hex digits that their SHA-256 must start with, as far as the URL promises any.
    """

    url: str
    tag: str
    hash_prefix: str = ""


def cache_folder() -> Path:
    """Where fetched weights live: `XMODAL_CACHE`, else the platform's cache folder for xmodal."""
    return cache_root() / "weights"


def published(name: str | ModelName) -> Published:
    """The pretrained weights that a network's library names as its default.

    Raises:
        SettingsError: none are published.

    Example:
        >>> published("vgg16").tag
        'torchvision:IMAGENET1K_V1'
    """
    model = parse(name) if isinstance(name, str) else name
    find = {"torchvision": _of_torchvision, "timm": _of_timm}.get(model.library)
    found = find(model) if find else None
    if found is None:
        raise SettingsError(
            f"No pretrained weights of {model} are published.", "Pass a file of weights, or start it random."
        )
    return found


def _of_torchvision(model: ModelName) -> Published | None:
    from torchvision.models import get_model_weights

    weights = getattr(get_model_weights(model.entry), "DEFAULT", None)
    if weights is None:
        return None
    promised = _TORCHVISION_HASH.search(weights.url)
    return Published(weights.url, f"torchvision:{weights.name}", promised[1] if promised else "")


def _of_timm(model: ModelName) -> Published | None:
    import timm

    config = timm.get_pretrained_cfg(model.plain, allow_unregistered=False)
    if config is None:
        return None
    tag = f"timm:{config.tag or 'default'}"
    if config.hf_hub_id:
        base = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        filename = config.hf_hub_filename or "model.safetensors"
        return Published(f"{base}/{config.hf_hub_id}/resolve/main/{filename}", tag)
    if not isinstance(config.url, str) or not config.url:
        return None
    promised = _TORCHVISION_HASH.search(config.url)
    return Published(config.url, tag, promised[1] if promised else "")


def fetch(name: str | ModelName, watch: Watcher = unwatched) -> Path:
    """Fetch a network's pretrained weights, unless they are already here.

    Args:
        name: the network.
        watch: told the size before the first byte is fetched, then the progress.

    Returns:
        The file, its hash checked.

    Raises:
        DownloadError: no network, no such file, or another hash than promised.
        SettingsError: none are published.
    """
    return fetch_file(wanted(name), watch).path


def wanted(name: str | ModelName) -> Wanted:
    """A network's pretrained weights as a file to be fetched; arguments and errors as in `fetch`."""
    model = parse(name) if isinstance(name, str) else name
    return _wanted(published(model), cache_folder() / model.library / model.plain)


def fetch_url(weights: Published, folder: Path, watch: Watcher = unwatched) -> Path:
    """Fetch one published file into a folder of its own; arguments and errors as in `fetch`."""
    return fetch_file(_wanted(weights, folder), watch).path


def _wanted(weights: Published, folder: Path) -> Wanted:
    promised = (Promise("sha256", weights.hash_prefix, "its name"),) if weights.hash_prefix else ()
    path = folder / weights.url.rsplit("/", 1)[1]
    by_hand = f"Where there is a network, fetch {weights.url}, and pass the file: --teacher-weights FILE."
    return Wanted((weights.url,), path, promised, by_hand=by_hand)
