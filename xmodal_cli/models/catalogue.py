"""Which networks there are: one name space over timm, torchvision and our own, listed without importing any of them.

A bare name is timm's, except the classics that torchvision knows best (AlexNet, VGG, SqueezeNet) and the paper's
CaffeNet, which is ours; `timm/NAME` and `torchvision/NAME` force a library. The names are read from the libraries'
source files, since importing timm takes a second and shell completion must answer at once.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xmodal_cli.errors import SettingsError, closest

Library = Literal["torchvision", "timm", "xmodal"]

OWN = ("caffenet", "caffenet-rgb")
_BARE_TORCHVISION = re.compile(r"^(alexnet|vgg\d+(_bn)?|squeezenet\d_\d)$")
_TIMM_ENTRY = re.compile(r"^@register_model\s*\ndef (\w+)", re.MULTILINE)
_TORCHVISION_ENTRY = re.compile(r"^@register_model\(\)\s*\n(?:@.*\n)*def (\w+)", re.MULTILINE)


@dataclass(frozen=True)
class ModelName:
    """A network's name, taken apart.

    Args:
        library: who defines it.
        plain: its name within the library, with timm's weights tag if given (`vit_small_patch14_dinov2.lvd142m`).
    """

    library: Library
    plain: str

    @property
    def entry(self) -> str:
        """The name within the library, without a weights tag."""
        return self.plain.split(".")[0]

    def __str__(self) -> str:
        """The shortest name that means this network."""
        bare = _library_of_bare(self.entry)
        return self.plain if bare == self.library else f"{self.library}/{self.plain}"


def parse(name: str) -> ModelName:
    """Take a model's name apart and check that it exists.

    Args:
        name: a bare name, `timm/NAME` or `torchvision/NAME`; timm names may end in `.TAG`.

    Raises:
        SettingsError: no library knows it; the closest names are in the hint.

    Example:
        >>> parse("vgg16"), str(parse("timm/resnet18"))
        (ModelName(library='torchvision', plain='vgg16'), 'resnet18')
    """
    forced, _, rest = name.rpartition("/")
    plain = rest if forced else name
    entry = plain.split(".")[0]
    library = forced or _library_of_bare(entry)
    if library == "torchvision" and entry in _torchvision_entries():
        return ModelName("torchvision", plain)
    if library == "timm" and entry in _timm_entries():
        return ModelName("timm", plain)
    if library == "xmodal" and entry in OWN:
        return ModelName("xmodal", plain)
    near = closest(name, names())
    raise SettingsError(f"No model is called {name!r}.", f"{near} `xmodal models [PATTERN]` lists all names.".strip())


def names() -> list[str]:
    """All names that `parse` knows, without weights tags: ours, the classics, timm's, then what torchvision adds.

    Example:
        >>> {"alexnet", "caffenet", "resnet18", "torchvision/resnet18"} <= set(names())
        True
    """
    classics = [entry for entry in _torchvision_entries() if _BARE_TORCHVISION.match(entry)]
    rest = [f"torchvision/{entry}" for entry in _torchvision_entries() if not _BARE_TORCHVISION.match(entry)]
    bare_timm = [entry for entry in _timm_entries() if not _BARE_TORCHVISION.match(entry)]
    return [*OWN, *classics, *bare_timm, *rest]


def _library_of_bare(entry: str) -> Library:
    if entry in OWN:
        return "xmodal"
    return "torchvision" if _BARE_TORCHVISION.match(entry) else "timm"


@functools.cache
def _timm_entries() -> tuple[str, ...]:
    return _entries("timm", _TIMM_ENTRY)


@functools.cache
def _torchvision_entries() -> tuple[str, ...]:
    return _entries("torchvision", _TORCHVISION_ENTRY)


def _entries(package: str, pattern: re.Pattern[str]) -> tuple[str, ...]:
    """The registered model functions in `package/models/*.py`, sorted; the package is found but not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SettingsError(f"{package} is not installed.", f"python -m pip install {package}")
    sources = sorted((Path(spec.origin).parent / "models").glob("*.py"))
    return tuple(sorted({entry for source in sources for entry in pattern.findall(source.read_text(encoding="utf-8"))}))
