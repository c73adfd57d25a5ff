"""The settings of a region proposal network's training, their defaults, and what is wrong with given ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from xmodal_cli.detect.samples import SMALLEST_SIDE
from xmodal_cli.detect.start import StartSettings, resolved_start, start_problems
from xmodal_cli.errors import SettingsError
from xmodal_cli.models.backbones import Backbone
from xmodal_cli.runs.training_settings import resolved_training

DEFAULT_BACKBONE = "squeezenet1_1"  # the fastest on a CPU of those with a map of stride 16
ITERATIONS = 1200  # ten minutes of one CPU core with the default backbone and size, half a second a step


@dataclass(frozen=True)
class RpnSettings(StartSettings):
    """Everything that decides what the network becomes; `auto` and None are resolved to values before it starts.

    Args:
        layer: whose map is read; conv5 of AlexNet, CaffeNet and VGG, else the last map.
        size, longest: short side in pixels that the network sees, and what the long side may not exceed.
        flip: learn from mirrored images too.
        reduced: channels that a 1x1 convolution leaves of the map before the head; 0 for none.
        anchor_sizes: sides of square anchors as shares of `size`.
        anchor_ratios: heights of anchors over their widths.
    """

    modality: str = "rgb"
    size: int = 320
    longest: int = 1000
    flip: bool = True
    reduced: int = 256
    anchor_sizes: tuple[float, ...] = (0.07, 0.14, 0.28, 0.56, 1.0)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    batch_size: int = field(default=2, kw_only=True)  # images per step
    lr: float = field(default=5e-4, kw_only=True)


def check(settings: RpnSettings) -> None:
    """Find what can be known to be wrong before anything is opened.

    Raises:
        SettingsError: all problems at once.
    """
    found = []
    if not SMALLEST_SIDE <= settings.size <= settings.longest:
        found.append(f"size must be from {SMALLEST_SIDE} to longest ({settings.longest}) px, not {settings.size}.")
    if settings.reduced < 0:
        found.append(f"reduced must not be negative, not {settings.reduced}.")
    for name in ("anchor_sizes", "anchor_ratios"):
        if min(getattr(settings, name), default=0) <= 0:
            found.append(f"{name} are numbers above 0, at least one, not {list(getattr(settings, name))}.")
    found += start_problems(settings, default_backbone=DEFAULT_BACKBONE)
    if found:
        raise SettingsError("\n       ".join(each.strip() for each in found))


def resolve(settings: RpnSettings, backbone: Backbone, layer: str, *, in_memory: bool) -> RpnSettings:
    """Turn every `auto` and None into the value that will be used.

    Args:
        settings: what is asked for.
        backbone: the network it begins with.
        layer: whose map it reads.
        in_memory: whether images are kept.
    """
    settings = resolved_training(settings, settings.iterations or ITERATIONS, in_memory=in_memory)
    return replace(settings, **resolved_start(settings, backbone), layer=layer)
