"""Published weights, fetched once through pooch, checked, and pinned.

torchvision writes the first eight hex digits of a file's SHA-256 into its name; the Hugging Face hub, from which timm's
weights come, states the whole SHA-256 in a header. Whichever was promised is checked; the full hash is then pinned
beside the file and checked whenever it is used again.

Nothing is printed: a watcher is told the size before the first byte, and the progress after.
"""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import platformdirs

from xmodal_cli import files
from xmodal_cli.errors import DownloadError, SettingsError
from xmodal_cli.models.catalogue import ModelName, parse

Watcher = Callable[[str, int, int], None]  # (URL, bytes done, bytes in all; 0 where the server does not say)

TIMEOUT_S = 30
CHUNK_BYTES = 1 << 18
_TORCHVISION_HASH = re.compile(r"-([0-9a-f]{8,})\.\w+$")
_SHA256 = re.compile(r"[0-9a-f]{64}")


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
    base = os.environ.get("XMODAL_CACHE")
    return (Path(base) if base else Path(platformdirs.user_cache_dir("xmodal"))) / "weights"


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


def fetch(name: str | ModelName, watch: Watcher = lambda url, done, total: None) -> Path:
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
    model = parse(name) if isinstance(name, str) else name
    return fetch_url(published(model), cache_folder() / model.library / model.plain, watch)


def fetch_url(weights: Published, folder: Path, watch: Watcher = lambda url, done, total: None) -> Path:
    """Fetch one published file into a folder of its own; arguments and errors as in `fetch`."""
    path = folder / weights.url.rsplit("/", 1)[1]
    pin = path.with_name(path.name + ".sha256")
    if path.is_file() and pin.is_file():
        if files.sha256(path) == pin.read_text().strip():
            return path
        path.unlink()  # damaged since it was pinned: fetch it again
    total, promised = _ask(weights)
    watch(weights.url, 0, total)
    folder.mkdir(parents=True, exist_ok=True)
    _download(weights.url, path, _Bar(weights.url, total, watch))
    actual = files.sha256(path)
    if not actual.startswith(promised):
        path.unlink()
        raise DownloadError(
            f"{weights.url} came with SHA-256 {actual}, promised was {promised}.",
            "Try again; if it stays so, the file was changed or damaged on its way. " + _by_hand(weights.url),
        )
    files.write_text(pin, actual + "\n")
    return path


def _by_hand(url: str) -> str:
    return f"Where there is a network, fetch {url}, and pass the file: --teacher-weights FILE."


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, so that the hub's own headers are seen, not those of its storage."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Refuse."""


def _ask(weights: Published) -> tuple[int, str]:
    """Size in bytes (0 if unknown) and the promised start of the SHA-256, without fetching the file."""
    headers = _head(weights.url, urllib.request.build_opener(_StayHere))
    etag = (headers.get("X-Linked-ETag") or "").strip('W/"')
    promised = etag if _SHA256.fullmatch(etag) else weights.hash_prefix
    size = headers.get("X-Linked-Size") or headers.get("Content-Length")
    if headers.get("Location") and not headers.get("X-Linked-Size"):
        size = _head(weights.url, urllib.request.build_opener()).get("Content-Length")
    return int(size or 0), promised


def _head(url: str, opener: urllib.request.OpenerDirector) -> Mapping[str, str] | Message:
    """Headers of a URL."""
    request = urllib.request.Request(url, method="HEAD")
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            return answer.headers  # type: ignore[no-any-return]
    except urllib.error.HTTPError as error:
        if 300 <= error.code < 400:
            return error.headers
        raise DownloadError(f"{url} answered {error.code} {error.reason}.", _by_hand(url)) from error
    except OSError as error:
        raise _offline(url, error) from error


def _offline(url: str, error: Exception) -> DownloadError:
    reason = getattr(error, "reason", None) or error
    return DownloadError(f"{url} could not be fetched ({type(error).__name__}: {reason}).", _by_hand(url))


class _Bar:
    """What pooch takes for a tqdm bar: passes progress to a watcher."""

    def __init__(self, url: str, total: int, watch: Watcher) -> None:
        self.url, self.total, self.watch, self.done = url, total, watch, 0

    def update(self, count: int) -> None:
        """Some more bytes are here."""
        self.done = min(self.done + count, self.total) if self.total else self.done + count
        self.watch(self.url, self.done, self.total)

    def reset(self) -> None:
        """Pooch resets the bar before it sets it to the end."""
        self.done = 0

    def close(self) -> None:
        """Nothing to close."""


def _download(url: str, path: Path, bar: _Bar) -> None:
    """Fetch a URL to a path that appears only when it is whole."""
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")  # its report of the hash goes to stderr otherwise; ours is pinned
    downloader = pooch.HTTPDownloader(progressbar=bar, chunk_size=CHUNK_BYTES, timeout=TIMEOUT_S)
    try:
        pooch.retrieve(url, known_hash=None, fname=path.name, path=path.parent, downloader=downloader)
    except (requests.RequestException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, requests.RequestException):
            raise  # a full disk or a folder that may not be written: not the network's fault
        raise _offline(url, error) from error
