"""Which pairs are shown with what was found in them: by runs that detect now, or by a file made earlier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from xmodal_cli.data.masks import decode_mask
from xmodal_cli.data.prepared import PreparedData
from xmodal_cli.detect.branches import DETECTORS, is_vision
from xmodal_cli.detect.detection_files import read_detections, read_segmentations
from xmodal_cli.detect.hypercolumns import COMMAND as MASKS
from xmodal_cli.detect.mask_evaluation import Projection, detect_masks
from xmodal_cli.detect.run_detection import Looking, detect_together, detect_visions, same_kind
from xmodal_cli.detect.vision_join import load_vision
from xmodal_cli.errors import SettingsError, closest
from xmodal_cli.pictures.detections import Scene, scenes_of
from xmodal_cli.pictures.eyes import evenly
from xmodal_cli.runs.folder import RunFolder


def choose_ids(data: PreparedData, split: str, wanted: Sequence[str] | None, count: int) -> list[str]:
    """The pairs that are shown: those named, else some of the split, evenly chosen among those with objects.

    Raises:
        SettingsError: there is no such split, or a name is not in it.
    """
    annotations = data.annotations(split)
    for name in wanted or ():
        if name not in annotations:
            near = closest(name, annotations)
            raise SettingsError(f"Split {split!r} of {data.root} has no pair {name!r}.", near or "See splits/*.txt.")
    if wanted:
        return list(wanted)
    with_objects = [name for name, objects in annotations.items() if len(objects)]
    return evenly(with_objects or list(annotations), count)


def scenes_of_runs(
    runs: Sequence[RunFolder],
    data: PreparedData,
    split: str,
    wanted: Sequence[str] | None,
    count: int,
    least_score: float,
    most: int,
    device: str = "auto",
    watch: Callable[[int, int], None] = lambda done, total: None,
    classes: Mapping[str, str] | None = None,
) -> list[Scene]:
    """What finished detectors find now, with masks where all of the runs give them; several are fused.

    Args:
        runs: of `finetune`, or of masks.
        data: the prepared data set.
        split: whose pairs.
        wanted: their IDs; None chooses.
        count: how many are chosen.
        least_score: weaker detections are left out.
        most: detections of an image that are kept, best first.
        device: where networks run.
        watch: told how many images have been seen.
        classes: as in `run_evaluation.evaluate_runs`.

    Raises:
        XmodalError: settings, runs or data are at fault.
    """
    for run in runs:
        if run.command not in (*DETECTORS, MASKS):
            raise SettingsError(
                f"{run.path} is a run of `xmodal {run.made_by}`, which finds no objects.",
                "Name a run of `xmodal finetune`.",
            )
    shown = choose_ids(data, split, wanted, count)
    looking = Looking(device=device, classes=classes)
    if all(run.command == MASKS for run in runs):
        made = detect_masks(runs, data, shown, Projection(), looking, least_score=least_score, watch=watch)
        masks = [
            decode_mask(mask, data.size_hw(shown[image]))
            for mask, image in zip(made.masks, made.detections.images.tolist(), strict=True)
        ]
        annotations = data.annotations(split)
        return scenes_of(made.detections, shown, shown, annotations, least_score=least_score, most=most, masks=masks)
    if any(is_vision(run) for run in runs):
        visions = [load_vision(run) for run in same_kind(runs)]
        found = detect_visions(visions, data, shown, classes=classes, device=device, watch=watch)[0]
    else:
        found = detect_together(runs, data, shown, looking, watch=watch).detections
    return scenes_of(found, shown, shown, data.annotations(split), least_score=least_score, most=most)


def scenes_in_file(
    path: Path,
    data: PreparedData,
    split: str,
    wanted: Sequence[str] | None,
    count: int,
    least_score: float,
    most: int,
) -> list[Scene]:
    """What a COCO results file says was found, masks too where it has any; arguments as in `scenes_of_runs`.

    Raises:
        DataError: the file is damaged, or of other images.
    """
    found, ids = read_detections(path, data, split), data.ids(split)
    shown = choose_ids(data, split, wanted, count)
    places = {ids.index(name) for name in shown}
    masks = [
        decode_mask(segmentation, data.size_hw(ids[image])) if image in places else None
        for segmentation, image in zip(read_segmentations(path), found.images.tolist(), strict=True)
    ]
    annotations = data.annotations(split)
    return scenes_of(found, ids, shown, annotations, least_score=least_score, most=most, masks=masks)
