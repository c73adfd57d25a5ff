"""torchvision's detectors, and the plain network inside each: what it reads of it, and how another takes its place.

Every one of them is a plain classification network, its body, read at one layer or several, under a neck and heads of
its own. The body is handed out as that plain network with the detector's weights, so that it can teach like any other;
a stand-in gives the same maps in its place, and the detector stays an ordinary torchvision model.

Weights published as COCO_V1 for Faster, Mask and Keypoint R-CNN and RetinaNet belong to batch norms with an epsilon of
0 (torchvision's `overwrite_eps`), where a model built without weights has 1e-5: the variance takes up the difference.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from xmodal_cli import files
from xmodal_cli.errors import SettingsError, closest
from xmodal_cli.models.catalogue import ModelName, parse
from xmodal_cli.models.downloads import fetch, published
from xmodal_cli.models.inputs import InputSpec
from xmodal_cli.models.networks import Backbone, construct
from xmodal_cli.models.weights import load_file, load_into

RESNET_LEVELS = ("layer1", "layer2", "layer3", "layer4")
COCO, RANDOM = "coco", "random"
NO_EPSILON = ("fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn", "retinanet_resnet50_fpn")
USUAL_EPSILON = 1e-5
MOBILENET_WIDTH = 960  # of the last map; SSDLite halves its last layers
# By detector: the plain network inside it.
BODIES: dict[str, str] = {
    "fasterrcnn_resnet50_fpn": "resnet50",
    "fasterrcnn_resnet50_fpn_v2": "resnet50",
    "fasterrcnn_mobilenet_v3_large_fpn": "mobilenet_v3_large",
    "fasterrcnn_mobilenet_v3_large_320_fpn": "mobilenet_v3_large",
    "maskrcnn_resnet50_fpn": "resnet50",
    "maskrcnn_resnet50_fpn_v2": "resnet50",
    "keypointrcnn_resnet50_fpn": "resnet50",
    "retinanet_resnet50_fpn": "resnet50",
    "retinanet_resnet50_fpn_v2": "resnet50",
    "fcos_resnet50_fpn": "resnet50",
    "ssd300_vgg16": "vgg16",
    "ssdlite320_mobilenet_v3_large": "mobilenet_v3_large",
}

NARROWED = ("ssdlite320_mobilenet_v3_large",)  # whose body has fewer channels than that network


@dataclass
class VisionDetector:
    """A torchvision detector.

    Args:
        name: torchvision's.
        module: the detector, in eval mode.
        network: the plain network inside it, with a copy of its weights.
        levels: the layers of that network which the detector reads, shallow first.
        classes: names of its labels from 1 on.
        weights: what was loaded: `random`, `torchvision:<tag>` or `file:<sha256>`.
    """

    name: str
    module: Any
    network: Backbone
    levels: tuple[str, ...]
    classes: tuple[str, ...]
    weights: str

    @property
    def short_px(self) -> int:
        """The short side at which it looks at images."""
        return int(self.module.transform.min_size[-1])

    @property
    def square(self) -> bool:
        """Whether it squeezes every image into a square of that side, as SSD does."""
        return self.module.transform.fixed_size is not None


def is_detector(name: str) -> bool:
    """Whether a name is that of a torchvision detector.

    Example:
        >>> is_detector("fcos_resnet50_fpn"), is_detector("torchvision/ssd300_vgg16"), is_detector("vgg16")
        (True, True, False)
    """
    return name.removeprefix("torchvision/") in BODIES


def check_detector(name: str) -> str:
    """Torchvision's name of a detector.

    Raises:
        SettingsError: there is no such detector.
    """
    plain = name.removeprefix("torchvision/")
    if plain not in BODIES:
        raise SettingsError(
            f"{name!r} is no detector of torchvision.", closest(plain, BODIES) or f"Known are {', '.join(BODIES)}."
        )
    return plain


def detector_classes(name: str) -> tuple[str, ...]:
    """Names of a detector's labels from 1 on; COCO's numbers that mean nothing are called N/A.

    Raises:
        SettingsError: there is no such detector.
    """
    import torchvision

    categories = torchvision.models.get_model_weights(check_detector(name)).DEFAULT.meta["categories"]
    return tuple(categories[1:])


def build_detector(
    name: str, *, weights: str | Path = RANDOM, watch: Callable[[str, int, int], None] = lambda url, done, total: None
) -> VisionDetector:
    """Build a detector.

    Args:
        name: one of `BODIES`.
        weights: `random`, always the same ones; `coco`, the published ones (fetched if need be); or a file.
        watch: told of a download.

    Raises:
        SettingsError: an unknown name, or no such file.
        DataError: weights that do not fit.
        DownloadError: published weights that could not be fetched.
    """
    import torchvision

    plain = check_detector(name)
    if str(weights) not in (COCO, RANDOM) and not Path(weights).is_file():
        raise SettingsError(
            f"There is no weights file {str(weights)!r} for {plain}.",
            closest(str(weights), (COCO, RANDOM)) or "Use coco, random, or a .pth or .safetensors file of all of it.",
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        module = torchvision.models.get_model(plain, weights=None, weights_backbone=None)
    origin = RANDOM
    if str(weights) != RANDOM:
        model = ModelName("torchvision", plain)
        path = fetch(model, watch) if str(weights) == COCO else Path(weights)
        load_state(module, plain, load_file(path), str(path))
        origin = published(model).tag if str(weights) == COCO else f"file:{files.sha256(path)}"
    module.eval().requires_grad_(False)
    network, levels = _inside(plain, module)
    network.weights = f"{plain}:{origin}"
    return VisionDetector(plain, module, network, levels, detector_classes(plain), origin)


def load_state(module: nn.Module, name: str, state: Mapping[str, Tensor], what: str) -> None:
    """Load a detector's weights; frozen batch norms become ordinary ones that say the same.

    Raises:
        DataError: they do not fit.
    """
    loaded = dict(state)
    frozen = not any(key.endswith("num_batches_tracked") for key in loaded)
    for key, value in module.state_dict().items():
        if key.endswith("num_batches_tracked") and frozen:
            loaded[key] = torch.zeros_like(value)
    if frozen and name in NO_EPSILON:
        for key in loaded:
            if key.endswith("running_var"):
                loaded[key] = loaded[key] - USUAL_EPSILON
    load_into(module, loaded, what)


def _inside(name: str, module: Any) -> tuple[Backbone, tuple[str, ...]]:
    """The plain network inside a detector with its weights, and the layers that are read."""
    entry = BODIES[name]
    keys, levels = _keys_and_levels(name, module)
    network, spec = _plain_network(name, module, entry)
    state = {keys(key): value for key, value in _body_state(module).items()}
    own = {key: value for key, value in state.items() if key is not None}
    load_into(network, own, name, allowed_missing=[key for key in network.state_dict() if key not in own])
    _same_epsilon(network, module)
    backbone = Backbone(str(ModelName("torchvision", entry)), "torchvision", network.eval(), spec)
    backbone.input = InputSpec(tuple(module.transform.image_mean), tuple(module.transform.image_std))
    return backbone, levels


def _plain_network(name: str, module: Any, entry: str) -> tuple[nn.Module, InputSpec]:
    with torch.random.fork_rng(devices=[]):
        if name in NARROWED:
            import torchvision

            reduced = bool(module.backbone.features[1][-1].out_channels < MOBILENET_WIDTH)
            return torchvision.models.mobilenet_v3_large(reduced_tail=reduced), InputSpec()
        return construct(parse(f"torchvision/{entry}"), 3, None)


def _same_epsilon(network: nn.Module, module: nn.Module) -> None:
    """Batch norms of the plain network divide as the detector's do."""
    found = [part.eps for part in module.get_submodule("backbone").modules() if isinstance(part, _BatchNorm)]
    for part in network.modules():
        if isinstance(part, _BatchNorm):
            part.eps = found[0]


def _body_state(module: Any) -> dict[str, Tensor]:
    state: dict[str, Tensor] = module.backbone.state_dict()
    return state


def _keys_and_levels(name: str, module: Any) -> tuple[Callable[[str], str | None], tuple[str, ...]]:
    """The plain network's key for a key below `backbone.` (None: it is not the body's), and the layers read."""
    if name.startswith("ssd300"):
        return _ssd_key(len(module.backbone.features), len(module.backbone.extra[0])), ("conv4_3", "conv5_3")
    if name.startswith("ssdlite"):
        cut = len(module.backbone.features[0]) - 1  # the block that is cut after its expansion
        last = cut + len(module.backbone.features[1]) - 1
        return _ssdlite_key(cut), (f"features.{cut}.block.0", f"features.{last}")
    prefix = "features." if BODIES[name].startswith("mobilenet") else ""
    levels = tuple(f"{prefix}{layer}" for layer in module.backbone.body.return_layers)
    return lambda key: f"{prefix}{key.removeprefix('body.')}" if key.startswith("body.") else None, levels


def _ssd_key(first: int, extra: int) -> Callable[[str], str | None]:
    """VGG16's keys: `features` through conv4_3, `extra.0` from pool4 on, but for its last part, conv6 and conv7."""

    def key_of(key: str) -> str | None:
        kind, _, rest = key.partition(".")
        if kind == "features":
            return key
        block, _, rest = rest.partition(".")
        number, _, rest = rest.partition(".")
        own = kind == "extra" and block == "0" and int(number) < extra - 1
        return f"features.{first + int(number)}.{rest}" if own else None

    return key_of


def _ssdlite_key(cut: int) -> Callable[[str], str | None]:
    """MobileNet's keys: both parts of `features`, the block between them cut in two."""

    def key_of(key: str) -> str | None:
        kind, _, rest = key.partition(".")
        if kind != "features":
            return None
        part, _, rest = rest.partition(".")
        number, _, rest = rest.partition(".")
        if part == "0":
            return f"features.{number}.block.0.{rest}" if int(number) == cut else f"features.{number}.{rest}"
        return f"features.{cut}.block.{rest}" if number == "0" else f"features.{cut + int(number)}.{rest}"

    return key_of


class AboveSsd(nn.Module):
    """The parts of SSD's and SSDLite's own backbone that stand above the layers which a stand-in gives.

    Args:
        below: gives the maps of both layers for normalised images.
        backbone: the detector's own.
    """

    def __init__(self, below: nn.Module, backbone: Any) -> None:
        super().__init__()
        self.below = below
        scale = getattr(backbone, "scale_weight", None)
        self.scale_weight = scale
        extra = list(backbone.extra)
        self.extra = nn.ModuleList(extra if scale is None else [extra[0][-1], *extra[1:]])

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Maps by number, as the detector's heads want them."""
        first, last = self.below(images)
        maps = [first, last]
        if self.scale_weight is not None:  # SSD: conv4_3 is rescaled, conv5_3 only leads on
            maps = [self.scale_weight.view(1, -1, 1, 1) * nn.functional.normalize(first)]
        for block in self.extra:
            last = block(last)
            maps.append(last)
        return OrderedDict((str(number), each) for number, each in enumerate(maps))


class LevelsByName(nn.Module):
    """What stands for the body below a feature pyramid.

    Args:
        below: gives the maps of all layers that are read, for normalised images.
        names: under which the pyramid wants them.
    """

    def __init__(self, below: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.below, self.names = below, list(names)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Maps by name."""
        return OrderedDict(zip(self.names, self.below(images), strict=True))


def replace_body(detector: VisionDetector, below: nn.Module, seen: InputSpec) -> None:
    """Put something in the place of a detector's body.

    Args:
        detector: it is changed.
        below: gives one map per level, shallow first, for normalised images.
        seen: what `below` wants to be fed; the detector's own transform does it, once pixels are scaled to 0..1.
    """
    module = detector.module
    if hasattr(module.backbone, "body"):
        module.backbone.body = LevelsByName(below, list(module.backbone.body.return_layers.values()))
    else:
        module.backbone = AboveSsd(below, module.backbone)
    set_input(detector, seen)


def set_input(detector: VisionDetector, seen: InputSpec) -> None:
    """Have a detector's own transform normalise images, scaled to 0..1, as its new body wants."""
    detector.module.transform.image_mean = list(seen.mean)
    detector.module.transform.image_std = list(seen.std)


def load_body(detector: VisionDetector, state: Mapping[str, Tensor], epsilon: float) -> bool:
    """Give a detector's body the weights of a plain network, if it is the same network.

    Args:
        detector: it is changed, or left as it is.
        state: by the plain network's keys, up to the last level.
        epsilon: of the plain network's batch norms.

    Returns:
        Whether they fit: every tensor of the body is there, in the same shape.
    """
    keys, _ = _keys_and_levels(detector.name, detector.module)
    body = {key: value for key, value in _body_state(detector.module).items() if keys(key) is not None}
    wanted = {key: str(keys(key)) for key in body}
    if any(name not in state or state[name].shape != body[key].shape for key, name in wanted.items()):
        return False
    norms = [part.eps for part in detector.module.backbone.modules() if isinstance(part, _BatchNorm)]
    with torch.no_grad():
        for key, name in wanted.items():
            shift = epsilon - norms[0] if key.endswith("running_var") else 0.0
            body[key].copy_(state[name] + shift if shift else state[name])
    return True
