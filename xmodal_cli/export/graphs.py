"""Runs as functions of tensors: what a graph takes, what it gives, which of its sizes may change.

Normalisation is part of every graph: it takes pixels as they are stored, so that nobody can feed it wrongly. Detectors
take boxes in pixels of the original image and give them back in the same, as `xmodal predict` does.

Shapes: N images, C channels, H x W pixels at the network's size, h x w cells, R boxes, K classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import clip_boxes_to_image

from xmodal_cli.detect.boxes import decode_within
from xmodal_cli.detect.branches import Trained
from xmodal_cli.detect.samples import ImageSize
from xmodal_cli.detect.vision_join import Vision
from xmodal_cli.errors import SettingsError
from xmodal_cli.export.subjects import ADAPTER, Subject, command_for
from xmodal_cli.export.torchvision_detector import stand_in
from xmodal_cli.models.classifier import Classifier
from xmodal_cli.models.detector import RegionOutputs, fuse
from xmodal_cli.models.inputs import InputSpec
from xmodal_cli.models.joint import Joint
from xmodal_cli.models.layers import Tapped
from xmodal_cli.models.rpn import Rpn
from xmodal_cli.transfer.regions import REGION_LAYERS
from xmodal_cli.transfer.student import Student

IMAGE, BOXES, IMAGE_SIZE, SCORES = "image", "boxes", "image_size", "scores"
USUAL_HW = (480, 640)  # of an image, where the run does not say
COARSE_HW = (12, 16)  # cells of noise in an example image: something to see for every layer
BATCH, HEIGHT, WIDTH, COUNT = "batch", "height", "width", "boxes"
WHOLE_IMAGE = {0: BATCH, 2: HEIGHT, 3: WIDTH}


@dataclass(frozen=True)
class Graph:
    """A function to be exported.

    Args:
        module: in eval mode.
        inputs: examples by name, in order.
        outputs: names, in order.
        free: for each input the sizes that may change, by dimension.
        meanings: a few words for every input and output.
        traced: whether it is recorded step by step, as torchvision's detectors need, whose boxes decide what is done.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    free: Mapping[str, Mapping[int, str]]
    meanings: Mapping[str, str]
    traced: bool = False

    @torch.no_grad()
    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the module gives, by name.

        Raises:
            ValueError: it gives more or fewer tensors than there are names.
        """
        given = self.module(*inputs.values())
        return dict(zip(self.outputs, (given,) if isinstance(given, Tensor) else given, strict=True))


def graph_of(subject: Subject, *, adapter: bool, size_hw: tuple[int, int] | None) -> Graph:
    """The graph of a run.

    Args:
        subject: the run.
        adapter: whether a student's maps go through its adapters.
        size_hw: of the images, where they cannot be of any size; by default the size at which the run sees them.

    Raises:
        SettingsError: this kind of run has none; the hint names the format that it has.
    """
    whole = subject.whole
    if isinstance(whole, Student):
        return _of_student(subject, whole, adapter, size_hw)
    if isinstance(whole, Classifier):
        return _of_classifier(subject, whole, size_hw)
    if isinstance(whole, Trained):
        return _of_detector(subject, whole, size_hw)
    if isinstance(whole, Rpn):
        return _of_proposer(subject, whole, size_hw)
    if isinstance(whole, Vision):
        return _of_vision(subject, whole, size_hw)
    raise SettingsError(
        f"{subject.run.path} is a {subject.kind}, whose masks are computed box by box: it has no ONNX graph.",
        f"Another format has it: {command_for(subject, '--format safetensors')}",
    )


class StudentGraph(nn.Module):
    """Maps of a student's layers, each once; or through its adapters, one for each transfer point."""

    def __init__(self, student: Student, adapters: Mapping[str, Tensor] | None) -> None:
        super().__init__()
        self.layers = list(dict.fromkeys(student.layers))
        self.tapped = Tapped(student.backbone, self.layers, whole=True)
        self.seen, self.points = student.backbone.input, student.card["transfer"]
        self.adapters = nn.ModuleList()
        for number in range(len(self.points) if adapters is not None else 0):
            weight, bias = adapters[f"{number}.weight"], adapters[f"{number}.bias"]  # type: ignore[index]
            layer = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
            layer.load_state_dict({"weight": weight, "bias": bias})
            self.adapters.append(layer)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """One map `(N, C', h, w)` for each layer, or for each transfer point."""
        maps = self.tapped(self.seen.normalise(image))
        if not self.adapters:
            return tuple(maps[layer] for layer in self.layers)
        adapted = [layer(maps[point["student"]]) for layer, point in zip(self.adapters, self.points, strict=True)]
        relu = [bool(point["adapter_relu"]) for point in self.points]
        return tuple(each.relu() if rectify else each for each, rectify in zip(adapted, relu, strict=True))


def _of_student(subject: Subject, student: Student, adapter: bool, size_hw: tuple[int, int] | None) -> Graph:
    if adapter:
        _check_whole_images(subject)
    module = StudentGraph(student, subject.heads[ADAPTER] if adapter else None)
    names = adapted_names(subject.card["transfer"]) if adapter else module.layers
    meaning = "the teacher's features on the student's grid" if adapter else "the student's map"
    image = _example(student.backbone.input, 2, *(size_hw or subject.size["size_hw"]))
    meanings = {IMAGE: _pixels(student.modality), **dict.fromkeys(names, f"{meaning}, (N, C, h, w)")}
    return Graph(module.eval(), {IMAGE: image}, tuple(names), {IMAGE: WHOLE_IMAGE}, meanings)


def adapted_names(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a student's adapted maps are called, with the student's layer where several learned from one layer.

    Example:
        >>> adapted_names([{"teacher": "conv3", "student": "a"}, {"teacher": "conv4", "student": "a"}])
        ['conv3_of_teacher', 'conv4_of_teacher']
        >>> adapted_names([{"teacher": "conv3", "student": "a"}, {"teacher": "conv3", "student": "b"}])
        ['conv3_of_teacher_from_a', 'conv3_of_teacher_from_b']
    """
    taught = Counter(point["teacher"] for point in points)
    names = []
    for point in points:
        several = taught[point["teacher"]] > 1
        names.append(f"{point['teacher']}_of_teacher" + (f"_from_{point['student']}" if several else ""))
    return names


def _check_whole_images(subject: Subject) -> None:
    """Make sure that every adapter reads a map of the whole image.

    Raises:
        SettingsError: one reads vectors of regions.
    """
    on_regions = [point["student"] for point in subject.card["transfer"] if point["student"] in REGION_LAYERS]
    if subject.card.get("regions") and on_regions:
        raise SettingsError(
            f"{' and '.join(on_regions)} of {subject.run.path} learned from regions, and the ONNX graph of a student "
            "sees whole images: it has no place for those adapters.",
            f"Another format has them: {command_for(subject, '--format safetensors --adapter')}",
        )


class ClassifierGraph(nn.Module):
    """Scores of a classifier before softmax."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, image: Tensor) -> Tensor:
        """`(N, K)`."""
        scores: Tensor = self.classifier(self.classifier.input.normalise(image))
        return scores


def _of_classifier(subject: Subject, classifier: Classifier, size_hw: tuple[int, int] | None) -> Graph:
    network = subject.networks[0]
    classifier.trunk = Tapped(network.backbone, [classifier.layer], whole=True)
    image = _example(classifier.input, 2, *(size_hw or subject.size["size_hw"]))
    meanings = {IMAGE: _pixels(network.modality), "logits": "scores of the classes before softmax, (N, K)"}
    return Graph(ClassifierGraph(classifier).eval(), {IMAGE: image}, ("logits",), {IMAGE: WHOLE_IMAGE}, meanings)


class DetectorGraph(nn.Module):
    """Probabilities of every box and where each class would move it, as `predict.score_boxes` gives them.

    Args:
        trained: the detector; of several branches each sees its own image of the scene.
    """

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.detectors = nn.ModuleList(branch.detector for branch in trained.branches)
        self.size: ImageSize = trained.branches[0].size

    def forward(self, *given: Tensor) -> tuple[Tensor, Tensor]:
        """Of images `(1, C, H, W)`, boxes `(R, 4)` and the original image's height and width `(2,)`."""
        *images, boxes, image_size = given
        scale = torch.minimum(self.size.short / image_size.min(), self.size.longest / image_size.max())
        outputs = list[RegionOutputs]()
        for detector, image in zip(self.detectors, images, strict=True):
            scaled = detector.pool.scaled(boxes, scale)  # type: ignore[operator, union-attr]
            said = detector(detector.input.normalise(image), [scaled])  # type: ignore[operator, union-attr]
            outputs.append(detector.unnormalised(said))  # type: ignore[operator]
        fused = fuse(outputs)
        scores = fused.scores.softmax(1)[:, 1:]
        if fused.deltas is None:
            return scores, boxes[:, None].expand(-1, scores.shape[1], -1)
        return scores, decode_within(boxes, fused.deltas[:, 1:], image_size.flip(0) - 1.0)


def _of_detector(subject: Subject, trained: Trained, size_hw: tuple[int, int] | None) -> Graph:
    branches, several = trained.branches, len(trained.branches) > 1
    height, width = size_hw or branches[0].size.of(_image_hw(subject))
    inputs, free, meanings = dict[str, Tensor](), dict[str, Mapping[int, str]](), dict[str, str]()
    any_size = not any(branch.detector.joint and branch.detector.joint.moves_maps for branch in branches)
    for branch, network in zip(branches, subject.networks, strict=True):
        branch.detector.trunk = Tapped(network.backbone, [branch.detector.layer], whole=True)
        name = f"{IMAGE}_{branch.modality}" if several else IMAGE
        inputs[name] = _example(branch.detector.input, 1, height, width)
        free[name] = {2: HEIGHT, 3: WIDTH} if any_size else {}
        size = branch.size
        meanings[name] = f"{_pixels(branch.modality)}; resized to a short side of {size.short}, at most {size.longest}"
    inputs[BOXES] = torch.tensor([[0.0, 0.0, width / 2, height / 2], [8.0, 8.0, width - 8.0, height - 8.0]])
    inputs[IMAGE_SIZE] = torch.tensor([float(height), float(width)])
    free[BOXES] = {0: COUNT}
    meanings[BOXES] = "(R, 4) x1, y1, x2, y2 in pixels of the original image, exclusive ends"
    meanings[IMAGE_SIZE] = "(2,) height and width of the original image, as float32"
    meanings[SCORES] = "(R, K) probabilities of the classes, background left out"
    meanings["boxes_by_class"] = "(R, K, 4) where each class moves the box, pixels of the original image"
    return Graph(DetectorGraph(trained).eval(), inputs, (SCORES, "boxes_by_class"), free, meanings)


class ProposerGraph(nn.Module):
    """Every anchor of a region proposal network, moved, before suppression."""

    def __init__(self, rpn: Rpn) -> None:
        super().__init__()
        self.rpn = rpn

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Of one image `(1, C, H, W)`: objectness `(A h w,)` and boxes `(A h w, 4)`."""
        rpn, said = self.rpn.rpn, self.rpn(self.rpn.input.normalise(image))
        objectness, deltas = concat_box_prediction_layers([said.objectness], [said.deltas])
        anchors = rpn.anchor_generator.of((said.objectness.shape[2], said.objectness.shape[3]))
        boxes = rpn.box_coder.decode(deltas, [anchors])[:, 0]
        return objectness.flatten().sigmoid(), clip_boxes_to_image(boxes, (image.shape[2], image.shape[3]))


def _of_proposer(subject: Subject, rpn: Rpn, size_hw: tuple[int, int] | None) -> Graph:
    network = subject.networks[0]
    rpn.trunk = Tapped(network.backbone, [rpn.layer], whole=True)
    height, width = size_hw or ImageSize(**subject.size).of(_image_hw(subject))
    image = _example(rpn.input, 1, height, width)
    meanings = {
        IMAGE: _pixels(network.modality),
        "objectness": "(A,) probability that an anchor holds an object; nothing is suppressed yet",
        BOXES: "(A, 4) x1, y1, x2, y2 in pixels of this image, exclusive ends",
    }
    return Graph(ProposerGraph(rpn).eval(), {IMAGE: image}, ("objectness", BOXES), {IMAGE: {}}, meanings)


class VisionGraph(nn.Module):
    """What a torchvision detector finds in one image."""

    def __init__(self, vision: Vision) -> None:
        super().__init__()
        self.module, self.range = vision.detector.module, vision.seen.range

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of an image `(C, H, W)`: boxes `(D, 4)`, scores `(D,)`, labels `(D,)`."""
        low, high = self.range
        found = self.module([(image - low) / (high - low)])[0]
        return found["boxes"], found["scores"], found["labels"]


def _of_vision(subject: Subject, vision: Vision, size_hw: tuple[int, int] | None) -> Graph:
    height, width = size_hw or USUAL_HW
    image = _example(vision.seen, 1, height, width)[0]
    below = stand_in(vision)
    if below is not None:
        below.student = Tapped(subject.networks[0].backbone, list(dict.fromkeys(below.layers)), whole=True).eval()
    fixed = (
        below is not None
        and not vision.detector.square
        and any(isinstance(each, Joint) and each.moves_maps for each in below.joints)
    )
    meanings = {
        IMAGE: f"{_pixels(vision.modality)}, without a batch: (C, H, W)",
        BOXES: "(D, 4) x1, y1, x2, y2 in pixels of this image",
        SCORES: "(D,), best first",
        "labels": "(D,), from 1 on: label n is classes[n - 1] of card.json",
    }
    free = {IMAGE: {} if fixed else {1: HEIGHT, 2: WIDTH}}
    return Graph(VisionGraph(vision).eval(), {IMAGE: image}, (BOXES, SCORES, "labels"), free, meanings, traced=True)


def _example(seen: InputSpec, count: int, height: int, width: int) -> Tensor:
    """Images of coarse noise `(count, C, height, width)`, as stored; the same every time."""
    low, high = seen.range
    coarse = torch.rand(count, len(seen.mean), *COARSE_HW, generator=torch.Generator().manual_seed(0))
    return low + (high - low) * F.interpolate(coarse, (height, width), mode="bilinear")


def _image_hw(subject: Subject) -> tuple[int, int]:
    """A size of images that a run may see: that of its student's, or a usual one."""
    size: Any = (subject.card.get("student") or {}).get("size_hw") or USUAL_HW
    return int(size[0]), int(size[1])


def _pixels(modality: str) -> str:
    return f"{modality} pixels as stored, as float32; not normalised, the graph does that"
