"""A detector that is shown another modality as it is, nothing taught: what zero-shot detection must beat.

HHA was made so that a colour network finds something in it (copied weights in the paper), so this is more than chance.
An image of one channel is shown as a grey one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import xmodal_cli
from xmodal_cli.data.pairs import value_range
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.branches import ZERO_SHOT, Trained, branch_card, detector_card, save_branch
from xmodal_cli.detect.class_names import RECORDED
from xmodal_cli.errors import SettingsError
from xmodal_cli.models.backbones import Backbone, rebuild
from xmodal_cli.models.detector import Detector
from xmodal_cli.models.detector_files import read_detector
from xmodal_cli.models.detector_shape import DetectorShape, assemble
from xmodal_cli.models.inputs import InputSpec
from xmodal_cli.models.stem import stem_name
from xmodal_cli.models.weights import load_file
from xmodal_cli.runs.folder import RunFolder
from xmodal_cli.runs.session import begin


def show_unadapted(
    trained: Trained,
    data: PreparedData,
    modality: str,
    *,
    runs: Path = Path("runs"),
    name: str | None = None,
    overwrite: bool = False,
    class_names: Mapping[str, str] | None = None,
) -> RunFolder:
    """Keep a detector as one of another modality, in `runs/zero-shot/NAME`: what it has learned is unchanged.

    One that sees three channels sees an image of one as if that stood in all three: its first filters are summed, and
    the image's range, less the mean of the three means, is divided by the mean of their deviations.

    Args:
        trained: the detector; of several branches, the first.
        data: a data set that has the modality.
        modality: what it is shown from now on.
        runs: the folder of all runs.
        name: the run's name; by default `<network>-<modality>-<date>-<4 hex>`.
        overwrite: whether a run of that name may be replaced.
        class_names: as in `join.join_runs`.

    Raises:
        SettingsError: the data set lacks the modality, or it has another number of channels; the folder is taken.
    """
    described, info = trained.card["branches"][0], data.modality(modality)
    channels = described["backbone"]["in_channels"]
    if info.channels == channels:
        detector, backbone = read_detector(trained.run.path, described, len(trained.classes))
    elif info.channels == 1:
        detector, backbone = _of_grey(trained, described, value_range(info))
    else:
        raise SettingsError(
            f"{trained.run.path} looks at {channels} channels, and {modality} has {info.channels}.",
            "Only a student can see it: name one with --student.",
        )
    shape = DetectorShape.from_dict(described["shape"])
    path = str(trained.run.path.resolve())
    settings = {"detector": path, "student": None, "modality": modality, RECORDED: dict(class_names or {})}
    config = {"command": ZERO_SHOT, "xmodal": xmodal_cli.__version__, "settings": settings}
    default_name = f"{backbone.name.replace('/', '-')}-{modality}"
    with begin(runs, ZERO_SHOT, name, config, default_name=default_name, overwrite=overwrite) as run:
        save_branch(run, 0, detector)
        document = detector_card(
            [branch_card(0, backbone, shape, detector, modality, info.to_dict())],
            trained.classes,
            trained.cutoffs,
            trained.branches[0].size,
            trained.proposals,
            data={"name": data.name, "path": str(data.root.resolve()), "split": trained.card["data"]["split"]},
            settings=settings,
            detector={"run": path, "what": trained.card["what"], "data": trained.card["data"]},
            student=None,
        )
        run.finish({**document, "what": f"{trained.card['what']}, shown {modality} as it is"})
    return run


def _of_grey(trained: Trained, described: Mapping[str, Any], values: tuple[float, float]) -> tuple[Detector, Backbone]:
    """The detector for images of one channel that stands in place of three, and its network.

    Args:
        trained: the detector.
        described: its branch, as its card has it.
        values: the stored values that become 0 and 1.
    """
    colour = InputSpec.from_dict(described["backbone"]["input"])
    grey = InputSpec((fmean(colour.mean),), (fmean(colour.std),), values)
    backbone = rebuild({**described["backbone"], "in_channels": 1, "input": grey.to_dict()})
    detector = assemble(backbone, DetectorShape.from_dict(described["shape"]), len(trained.classes), seed=0)
    path = trained.run.path / described["file"]
    state, stem = load_file(path), f"{stem_name(backbone.module, 1)}.weight"
    detector.load_saved({**state, stem: state[stem].sum(1, keepdim=True)}, str(path))
    return detector, backbone
