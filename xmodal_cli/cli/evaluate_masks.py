"""`xmodal evaluate --task segmentation`: masks of runs, or of a file, and their figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xmodal_cli.cli.options import DEFAULT_DATA, given_anew
from xmodal_cli.cli.output import out, table
from xmodal_cli.cli.progress import counting
from xmodal_cli.errors import SettingsError

if TYPE_CHECKING:
    from xmodal_cli.detect.mask_evaluation import MaskEvaluation
    from xmodal_cli.runs.folder import RunFolder


def score_masks(
    found: Sequence[RunFolder],
    data: Path | None,
    split: str,
    *,
    superpixels: bool | None,
    threshold: float | None,
    proposals: str | None,
    size: int | None,
    classes: Mapping[str, str] | None,
    device: str,
    precision: str,
    runs: Path,
) -> None:
    """Make masks with finished runs, score them, report."""
    from xmodal_cli.data.prepared import PreparedData
    from xmodal_cli.detect.mask_evaluation import Projection, evaluate_masks
    from xmodal_cli.detect.superpixels import THRESHOLD

    projection = Projection(superpixels is not False, THRESHOLD if threshold is None else threshold)
    chosen = given_anew(data) or found[0].recorded_data()
    with counting("detections and masks") as watch:
        result = evaluate_masks(
            found,
            PreparedData.open(chosen),
            split=split,
            projection=projection,
            proposals=proposals,
            size=size,
            classes=classes,
            device=device,
            precision=precision,
            root=runs,
            watch=watch,
        )
    report(result)


def score_mask_file(path: Path, data: Path | None, split: str, runs: Path) -> None:
    """Score the masks of a COCO results file, report."""
    from xmodal_cli.data.prepared import PreparedData
    from xmodal_cli.detect.mask_evaluation import evaluate_mask_file

    report(evaluate_mask_file(path, PreparedData.open(data or Path(DEFAULT_DATA)), split=split, root=runs))


def report(result: MaskEvaluation) -> None:
    """AP^r by class, COCO's beside it, and where everything is kept."""
    scored = result.result
    made = f", superpixels {result.superpixels}" if result.projection else ""
    title = f"masks in percent, {result.subject}, split {result.split}{made}"
    out.result(
        result,
        [table(title, scored.columns(), scored.rows())],
        runs=result.runs,
        data=result.data,
        split=result.split,
    )
    if scored.classes_without_objects:
        out.say(f"the means leave out {', '.join(scored.classes_without_objects)}: no objects in this split")
    for note in result.notes:
        out.warn(note)
    out.say(f"kept in {result.folder}")
    out.next_step(
        f"xmodal visualize detections --detections {result.folder / 'detections.json'} --data {result.data} "
        f"--split {result.split} --out masks.png"
    )


def refuse_other_runs(found: Sequence[RunFolder]) -> None:
    """Find out whether all runs give masks.

    Raises:
        SettingsError: one does not.
    """
    for run in found:
        if run.command != "segmentation":
            raise SettingsError(
                f"{run.path} is a run of `xmodal {run.made_by}`, which gives no masks.",
                f"Train masks on a detector: xmodal finetune --task segmentation --init {run.path}",
            )
