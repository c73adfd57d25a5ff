"""A torchvision detector of a zero-shot run as torchvision's own: the same constructor, the same names of tensors.

Where the student went in as plain weights, that is the whole detector. Where it stands in the body's place with its
adapters, torchvision's model holds everything above the body; student and adapters lie beside it.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from xmodal_cli.detect.vision_join import Vision
from xmodal_cli.export.stock import Stock
from xmodal_cli.models.backbones import Backbone, rebuild
from xmodal_cli.models.stand_in import StandIn
from xmodal_cli.models.torchvision_detectors import build_detector, replace_body
from xmodal_cli.models.weights import load_into


def stock_detector(vision: Vision) -> Stock:
    """The detector as torchvision makes it; tensors of a body that was replaced are a random start."""
    name, module = vision.detector.name, vision.detector.module
    below = stand_in(vision)
    state: Mapping[str, Tensor] = module.state_dict()
    unlearned: tuple[str, ...] = ()
    if below is not None:
        state, unlearned = _around(name, vision, below)
    transform = module.transform
    lines = (
        "import torchvision",
        f'model = torchvision.models.get_model("{name}", weights=None, weights_backbone=None)',
        f"model.transform.image_mean = {list(transform.image_mean)}",
        f"model.transform.image_std = {list(transform.image_std)}",
    )
    return Stock(lines, state, unlearned)


def stand_in(vision: Vision) -> StandIn | None:
    """What stands in the place of the detector's body; None where the body is torchvision's own."""
    backbone = vision.detector.module.backbone
    below = getattr(getattr(backbone, "body", backbone), "below", None)
    return below if isinstance(below, StandIn) else None


def _around(name: str, vision: Vision, below: nn.Module) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """A whole detector of torchvision's with the run's tensors above its body, and the keys of the body itself.

    A fresh detector gets the same stand-in, takes the run's tensors, and gets its own body back: what stands above is
    shared between both forms, whatever its tensors are called in each.
    """
    whole = build_detector(name)
    backbone, body = whole.module.backbone, getattr(whole.module.backbone, "body", None)
    replace_body(whole, below, vision.seen)
    load_into(whole.module, vision.detector.module.state_dict(), name)
    learned = {tensor.data_ptr() for tensor in whole.module.state_dict().values()}
    whole.module.backbone = backbone
    if body is not None:
        backbone.body = body
    state: dict[str, Tensor] = whole.module.state_dict()
    return state, tuple(key for key, tensor in state.items() if tensor.data_ptr() not in learned)


def student_backbone(vision: Vision, below: StandIn) -> Backbone:
    """The plain network of the student that stands in the body's place; layers that are not read are random."""
    assert vision.card is not None, "a stand-in comes from a run"
    described = vision.card["branches"][0]
    backbone = rebuild(described["backbone"])
    load_into(backbone.module, below.student.kept_state(), str(vision.run), allowed_missing=described["missing_keys"])
    backbone.module.eval()
    return backbone
