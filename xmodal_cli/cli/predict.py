"""`xmodal predict`: boxes in new images, as JSON and as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from xmodal_cli.cli.app import app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.options import DEFAULT_RUNS, DeviceOption, PrecisionOption, RunsOption
from xmodal_cli.cli.output import out, table
from xmodal_cli.errors import SettingsError

EXAMPLES = """
xmodal predict runs/finetune/latest image.png --modality hha
xmodal predict runs/finetune/latest data/nyud2/hha/img_5011.png --least-score 0.3 --out found
xmodal predict runs/finetune/JOINT_RUN frame.jpg --with hha=frame.hha.png --json
"""
SHOWN = 0.5


@command(app, "predict", examples=EXAMPLES)
def predict_command(
    run: Annotated[Path, typer.Argument(help="Run folder of a detector.")],
    image: Annotated[list[Path], typer.Argument(help="Images, encoded as the detector's data set.")],
    modality: Annotated[
        str | None, typer.Option(help="What the images are. \\[default: what the detector sees]", show_default=False)
    ] = None,
    with_: Annotated[
        list[str] | None,
        typer.Option("--with", help="MODALITY=FILE: the same scene in another modality; repeatable."),
    ] = None,
    proposals: Annotated[
        str | None,
        typer.Option(help="bottom-up or grid. \\[default: as the run's were made]", show_default=False),
    ] = None,
    least_score: Annotated[float, typer.Option(help="Weaker detections are left out.")] = SHOWN,
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="Where results go. \\[default: runs/predict/RUN]", show_default=False),
    ] = None,
    pictures: Annotated[bool, typer.Option("--pictures/--no-pictures", help="Draw the detections.")] = True,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    runs: RunsOption = Path(DEFAULT_RUNS),
) -> None:
    """Detect objects in images with a trained detector; write what is found as JSON and draw it."""
    from xmodal_cli import files
    from xmodal_cli.detect.branches import DETECTORS, is_vision, load_trained
    from xmodal_cli.detect.prediction import predict_images, predict_vision
    from xmodal_cli.detect.vision_join import load_vision
    from xmodal_cli.pictures.detections import write_detections_picture
    from xmodal_cli.runs.folder import open_run

    opened = open_run(run, DETECTORS)
    where = folder or runs / "predict" / opened.path.name
    if is_vision(opened):
        if with_ or proposals:
            raise SettingsError(
                f"{opened.path} is a detector of torchvision, which looks at one image and makes its own proposals.",
                "Leave --with and --proposals out.",
            )
        found = predict_vision(load_vision(opened), image, modality=modality, least_score=least_score, device=device)
    else:
        found = predict_images(
            load_trained(opened),
            image,
            modality=modality,
            partners=_partners(with_),
            proposals=proposals,
            least_score=least_score,
            device=device,
            precision=precision,
        )
    results: list[dict[str, Any]] = []
    rows: list[list[object]] = []
    for prediction in found:
        for note in prediction.notes:
            out.warn(note)
        where.mkdir(parents=True, exist_ok=True)
        name = _free_name(prediction.path, [Path(str(each["json"])).stem for each in results])
        document = prediction.to_dict() | {"json": str(where / f"{name}.json")}
        if pictures:
            document["picture"] = str(write_detections_picture(prediction, where / f"{name}.png"))
        files.write_json(where / f"{name}.json", document)
        results.append(document)
        best = ", ".join(f"{each['class']} {each['score']:.2f}" for each in document["detections"][:3])
        rows.append([str(prediction.path), len(document["detections"]), best or f"nothing above {least_score}"])
    out.result(results, [table("detections", ["image", "found", "best"], rows)], runs=[opened.path])
    out.say(f"kept in {where}")


def _free_name(path: Path, taken: list[str]) -> str:
    """The image's own name, with its folder's before it where another image of this call has the same."""
    return path.stem if path.stem not in taken else f"{path.parent.name}-{path.stem}-{len(taken)}"


def _partners(given: list[str] | None) -> dict[str, Path]:
    """Options `MODALITY=FILE` as a dict."""
    partners = {}
    for text in given or ():
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            raise SettingsError(f"--with takes MODALITY=FILE; found '{text}'.", f"Try --with rgb={text}")
        partners[name] = Path(file)
    return partners
