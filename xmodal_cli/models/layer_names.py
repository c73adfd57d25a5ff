"""Names of layers: the paper's for AlexNet, CaffeNet and VGG, module paths for all, and what a name stands for.

As in Caffe, where the ReLU works in place, "conv3" means the map after the ReLU. VGG's convolutions are numbered within
their block (`conv3_2`); `conv3` is the last one of block 3.
"""

from __future__ import annotations

from torch import nn

from xmodal_cli.errors import SettingsError, closest
from xmodal_cli.models.caffenet import CaffeNet
from xmodal_cli.models.catalogue import parse
from xmodal_cli.models.networks import Backbone
from xmodal_cli.models.trace import Structure, Trace, structure, trace

# A size at which the grids of all usual strides have more than one cell and differ in height and width.
USUAL_HW = (352, 608)
MOST_TRACES = 64  # sizes that a backbone remembers; more only where each image has another
MOST_KNOWN = 256  # traces that a process remembers
OWN_HW = (224, 224)  # what networks that do not say were made for

# A network is built more than once on the way to a training; by structure, channels of the input, and image size.
_known: dict[tuple[Structure, int, tuple[int, int]], Trace] = {}


def paper_names(name: str, module: nn.Module) -> dict[str, str]:
    """The paper's layer names of a network, in order of depth.

    Args:
        name: the network's name; only CaffeNet and torchvision's AlexNet and VGG have such names.
        module: the network.

    Returns:
        Paper's name to path of the module; empty for other networks.

    Example:
        >>> from torchvision.models import alexnet
        >>> paper_names("alexnet", alexnet())["pool5"]
        'features.12'
    """
    model = parse(name)
    if isinstance(module, CaffeNet):
        convolutions = {f"conv{n}": f"relu{n}" for n in range(1, 6)}
        pools = {f"pool{n}": f"pool{n}" for n in (1, 2, 5)}
        found = {**convolutions, **pools, "fc6": "relu6", "fc7": "relu7"}
    elif model.library == "torchvision" and model.entry == "alexnet":
        found = {**_numbered(module, by_block=False), **_connected(module)}
    elif model.library == "torchvision" and model.entry.startswith("vgg"):
        found = {**_numbered(module, by_block=True), **_connected(module)}
    else:
        return {}
    depth = {path: place for place, (path, _) in enumerate(module.named_modules())}
    return dict(sorted(found.items(), key=lambda item: depth[item[1]]))


def _numbered(module: nn.Module, *, by_block: bool) -> dict[str, str]:
    """Convolutions (after their ReLU) and pools of `features`; blocks end with a pool."""
    found: dict[str, str] = {}
    convolution, block, within = 0, 1, 0
    for index, part in enumerate(module.get_submodule("features").children()):
        path = f"features.{index}"
        if isinstance(part, nn.Conv2d):
            convolution, within = convolution + 1, within + 1
        elif isinstance(part, nn.ReLU) and by_block:
            found[f"conv{block}_{within}"] = path
            found[f"conv{block}"] = path  # the last of the block stays
        elif isinstance(part, nn.ReLU):
            found[f"conv{convolution}"] = path
        elif isinstance(part, nn.MaxPool2d):
            found[f"pool{block if by_block else convolution}"] = path
            block, within = block + 1, 0
    return found


def _connected(module: nn.Module) -> dict[str, str]:
    """fc6 and fc7, after their ReLU."""
    parts = module.get_submodule("classifier").children()
    rectifiers = [index for index, part in enumerate(parts) if isinstance(part, nn.ReLU)]
    return {f"fc{6 + number}": f"classifier.{index}" for number, index in enumerate(rectifiers)}


def trace_at(backbone: Backbone, image_hw: tuple[int, int]) -> Trace:
    """What the layers of a network give for images of one size; kept with the backbone and for others of its kind.

    Raises:
        SettingsError: the network does not take images of that size.
    """
    if image_hw not in backbone.traces:
        try:
            backbone.traces[image_hw] = _trace_once(backbone, image_hw)
        except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
            height, width = image_hw
            lines = str(error).splitlines() or [type(error).__name__]
            raise SettingsError(
                f"{backbone.name} does not take images of {height}x{width}: {lines[0]}",
                "Choose a larger size, the size that it was made for, or another network.",
            ) from error
        if len(backbone.traces) > MOST_TRACES:
            del backbone.traces[next(iter(backbone.traces))]
    return backbone.traces[image_hw]


def _trace_once(backbone: Backbone, image_hw: tuple[int, int]) -> Trace:
    """Its trace, or that of a network of the same structure."""
    key = (structure(backbone.module), backbone.in_channels, image_hw)
    if key not in _known:
        _known[key] = trace(backbone.module, backbone.in_channels, image_hw)
        if len(_known) > MOST_KNOWN:
            del _known[next(iter(_known))]
    return _known[key]


def usual_trace(backbone: Backbone) -> Trace:
    """The layers of a network at a usual size: which there are, and how their maps are laid out.

    Networks that do not take that size are asked at the one that they were made for.

    Raises:
        SettingsError: the network does not take images at all.
    """
    if backbone.usual_hw is not None:
        return trace_at(backbone, backbone.usual_hw)
    try:
        found, backbone.usual_hw = trace_at(backbone, USUAL_HW), USUAL_HW
    except SettingsError:
        own = _own_hw(backbone.module)
        found, backbone.usual_hw = trace_at(backbone, own), own
    return found


def _own_hw(module: nn.Module) -> tuple[int, int]:
    """The image size that a network was made for."""
    size = getattr(getattr(module, "patch_embed", None), "img_size", None)
    if isinstance(size, tuple | list):
        return size[0], size[1]
    config = getattr(module, "pretrained_cfg", None)
    _, height, width = config["input_size"] if config else (3, *OWN_HW)
    return height, width


def resolve_layer(backbone: Backbone, name: str) -> str:
    """Check a layer's name.

    Args:
        backbone: the network.
        name: a paper's name or the path of a module.

    Returns:
        The one name that is used for this layer: the paper's (VGG's exact one) if it has one, else the path.

    Raises:
        SettingsError: there is no such layer, or it gives no map; the closest names are in the hint.
    """
    path = module_path(backbone, name)
    by_path = {found: paper for paper, found in paper_names(backbone.name, backbone.module).items()}
    return by_path.get(path, path)


def module_path(backbone: Backbone, name: str) -> str:
    """The path of the module that gives a layer; arguments and errors as in `resolve_layer`."""
    paper = paper_names(backbone.name, backbone.module)
    path = paper.get(name, name)
    usual = usual_trace(backbone)
    if path in usual.layers:
        return path
    listed = f"`xmodal layers {backbone.name}` lists them."
    if path and path in dict(backbone.module.named_modules()):
        why = "gives no map of the image" if path in usual.done else "is not used when images are classified"
        raise SettingsError(f"Layer {name!r} of {backbone.name} {why}.", f"Choose a layer that does: {listed}")
    near = closest(name, [*paper, *usual.layers])
    raise SettingsError(f"{backbone.name} has no layer {name!r}.", f"{near} {listed}".strip())
