"""A detector that is shown another modality as it is, nothing taught: what zero-shot detection must beat.

HHA was made so that a colour network finds something in it (copied weights in the paper), so this is more than chance.
"""

from __future__ import annotations

from pathlib import Path

import xmodal_cli
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.branches import ZERO_SHOT, Trained, branch_card, detector_card, save_branch
from xmodal_cli.errors import SettingsError
from xmodal_cli.models.detector_files import read_detector
from xmodal_cli.models.detector_shape import DetectorShape
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
) -> RunFolder:
    """Keep a detector as one of another modality, in `runs/zero-shot/NAME`; weights and input statistics are unchanged.

    Args:
        trained: the detector; of several branches, the first.
        data: a data set that has the modality.
        modality: what it is shown from now on.
        runs: the folder of all runs.
        name: the run's name; by default `<network>-<modality>-<date>-<4 hex>`.
        overwrite: whether a run of that name may be replaced.

    Raises:
        SettingsError: the data set lacks the modality, or it has another number of channels; the folder is taken.
    """
    described, info = trained.card["branches"][0], data.modality(modality)
    channels = described["backbone"]["in_channels"]
    if info.channels != channels:
        raise SettingsError(
            f"{trained.run.path} looks at {channels} channels, and {modality} has {info.channels}.",
            "Only a student can see it: name one with --student.",
        )
    _, backbone = read_detector(trained.run.path, described, len(trained.classes))
    shape, detector = DetectorShape.from_dict(described["shape"]), trained.branches[0].detector
    settings = {"detector": str(trained.run.path.resolve()), "student": None, "modality": modality}
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
            data={**trained.card["data"], "path": str(data.root.resolve())},
            settings=settings,
            detector={"run": settings["detector"], "what": trained.card["what"], "data": trained.card["data"]},
            student=None,
        )
        run.finish({**document, "what": f"{trained.card['what']}, shown {modality} as it is"})
    return run
