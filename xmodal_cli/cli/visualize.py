"""`xmodal visualize`: look at what was learned: filters, patches, features, detections, curves, and a report of all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xmodal_cli.cli.app import visualize_app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.options import DEFAULT_DATA, DEFAULT_RUNS, DataOption, DeviceOption, RunsOption, given_anew
from xmodal_cli.cli.output import out, table
from xmodal_cli.errors import SettingsError

if TYPE_CHECKING:
    from xmodal_cli.pictures.canvas import Picture
    from xmodal_cli.pictures.eyes import View
    from xmodal_cli.runs.folder import RunFolder

RunArgument = Annotated[Path | None, typer.Argument(help="Run folder. \\[default: the newest]", show_default=False)]
RunsArgument = Annotated[
    list[Path] | None, typer.Argument(help="Run folders. \\[default: the newest]", show_default=False)
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="File to write. \\[default: in RUN/pictures]", show_default=False)
]
SplitOption = Annotated[
    str | None, typer.Option("--split", help="Whose pairs. \\[default: val, else held-out ones]", show_default=False)
]
LayerOption = Annotated[
    str | None,
    typer.Option("--layer", help="Layer, or transfer point TEACHER:STUDENT. \\[default: the last]", show_default=False),
]
TRAINED, DETECTORS = ("distill", "finetune", "classification"), ("finetune", "zero-shot")
NETWORKS = ("distill", "classification", *DETECTORS)  # commands whose runs leave a network


@command(
    visualize_app,
    "filters",
    path="visualize filters",
    examples="xmodal visualize filters\nxmodal visualize filters runs/distill/latest --out filters.png",
)
def filters_command(run: RunArgument = None, out_: OutOption = None, runs: RunsOption = Path(DEFAULT_RUNS)) -> None:
    """Show first-layer filters before and after training, beside the teacher's; print how far they moved."""
    from xmodal_cli.cli.progress import TrainingScreen
    from xmodal_cli.pictures.filters import channel_summary, compare_filters, draw_filters

    opened = _one(run, runs, NETWORKS)
    with TrainingScreen() as screen:
        compared = compare_filters(opened, screen.downloading)
    path = _kept(opened, "filters.png", out_, draw_filters(compared))
    columns = ["filters", "shape", "relative change", "correlation to now"]
    figures = table(f"first filters, {compared.layer}", columns, channel_summary(compared))
    out.result({**compared.to_dict(), "picture": str(path)}, [figures, str(path)], runs=[opened.path])


@command(
    visualize_app,
    "curves",
    path="visualize curves",
    examples="xmodal visualize curves\nxmodal visualize curves runs/finetune/RUN_A runs/finetune/RUN_B",
)
def curves_command(run: RunsArgument = None, out_: OutOption = None, runs: RunsOption = Path(DEFAULT_RUNS)) -> None:
    """Draw loss, explained variance, mAP or accuracy of one run or several, finished or not, in one figure."""
    from xmodal_cli.pictures.curves import draw_curves, last_figures, names_of, read_curves

    opened = _several(run, runs, TRAINED)
    found = [read_curves(each) for each in opened]
    path = _kept(opened[0], "curves.png", out_, draw_curves(found))
    rows = [[name, *last_figures(each)] for name, each in zip(names_of(opened), found, strict=True)]
    figures = table("last figures", ["run", "steps", "loss", "explained variance", "mAP", "accuracy"], rows)
    results = {"curves": [each.to_dict() for each in found], "picture": str(path)}
    out.result(results, [figures, str(path)], runs=[each.path for each in opened])


@command(
    visualize_app,
    "patches",
    path="visualize patches",
    examples="xmodal visualize patches\nxmodal visualize patches runs/distill/latest --layer pool5 --units 3,7",
)
def patches_command(
    run: RunArgument = None,
    layer: LayerOption = None,
    units: Annotated[str | None, typer.Option("--units", help="Units that are shown, e.g. 3,7.")] = None,
    top_units: Annotated[int, typer.Option("--top-units", min=1, help="How many units are chosen.")] = 4,
    count: Annotated[int, typer.Option("--count", min=1, help="Patches in a row.")] = 8,
    data: DataOption = None,
    split: SplitOption = None,
    device: DeviceOption = "auto",
    out_: OutOption = None,
    runs: RunsOption = Path(DEFAULT_RUNS),
) -> None:
    """Show the patches where units of student and teacher fire most, and the colour patches at the student's places."""
    from xmodal_cli.cli.progress import counting
    from xmodal_cli.pictures.patches import choose_units, draw_patches, patch_table, respond

    opened, named = _one(run, runs, NETWORKS), _numbers(units)
    view = _view(opened, data, layer, split, device)
    with counting("pairs") as watch:
        responses = respond(view, watch)
    chosen = choose_units(responses, named, top_units)
    picture = draw_patches(view, responses, chosen, count)
    path = _kept(opened, "patches.png", out_, picture)
    found = patch_table(view, responses, chosen, count)
    rows = [[each["unit"], f"{each['agreement']:.3f}", each["own"][0]["id"]] for each in found]
    what = "agreement with the teacher" if view.teacher else "best above usual, deviations"
    figures = table(f"units of {view.own.layer}", ["unit", what, "fires most in"], rows)
    results = {"layer": view.own.layer, "units": found, "picture": str(path)}
    out.result(results, [figures, str(path)], runs=[opened.path], data=view.data.root, split=split)


@command(
    visualize_app,
    "features",
    path="visualize features",
    examples="xmodal visualize features\nxmodal visualize features runs/distill/latest --layer pool5:pool5 --count 6",
)
def features_command(
    run: RunArgument = None,
    layer: LayerOption = None,
    count: Annotated[int, typer.Option("--count", min=1, help="Pairs that are shown.")] = 4,
    data: DataOption = None,
    split: SplitOption = None,
    device: DeviceOption = "auto",
    out_: OutOption = None,
    runs: RunsOption = Path(DEFAULT_RUNS),
) -> None:
    """Show maps of teacher and student in the same colours, the teacher's main directions, on held-out pairs."""
    from xmodal_cli.cli.progress import counting
    from xmodal_cli.pictures.features import draw_features, look_at_features

    opened = _one(run, runs, ("distill",))
    view = _view(opened, data, layer, split, device)
    with counting("pairs") as watch:
        found = look_at_features(view, count, watch)
    path = _kept(opened, "features.png", out_, draw_features(view, found))
    rows = [[name, f"{share:.1%}"] for name, share in zip(found.ids, found.explained, strict=True)]
    figures = table(f"explained variance at {view.own.layer}", ["pair", "explained"], rows)
    results = {"layer": view.own.layer, **found.to_dict(), "picture": str(path)}
    out.result(results, [figures, str(path)], runs=[opened.path], data=view.data.root, split=split)


@command(
    visualize_app,
    "detections",
    path="visualize detections",
    examples="""
xmodal visualize detections runs/finetune/latest
xmodal visualize detections runs/finetune/RGB_RUN runs/finetune/HHA_RUN --count 6
xmodal visualize detections runs/segmentation/latest
xmodal visualize detections --detections runs/evaluate/NAME/detections.json --data data/nyud2 --out found.png
""",
)
def detections_command(
    run: RunsArgument = None,
    detections: Annotated[Path | None, typer.Option("--detections", help="Show this COCO results file.")] = None,
    ids: Annotated[str | None, typer.Option("--ids", help="Pairs that are shown, between commas.")] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="How many pairs are chosen.")] = 4,
    least_score: Annotated[float, typer.Option("--least-score", help="Weaker detections are left out.")] = 0.1,
    most: Annotated[int, typer.Option("--most", min=1, help="Detections shown in an image, best first.")] = 6,
    class_: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            help="DETECTOR_NAME=DATA_NAME, repeatable. \\[default: as the run was made, else by name]",
            show_default=False,
        ),
    ] = None,
    data: DataOption = None,
    split: Annotated[str, typer.Option("--split", help="Whose pairs.")] = "val",
    device: DeviceOption = "auto",
    out_: OutOption = None,
    runs: RunsOption = Path(DEFAULT_RUNS),
) -> None:
    """Show what a detector, several fused, or a file of detections finds, masks too, beside what is there."""
    from xmodal_cli.data.prepared import PreparedData
    from xmodal_cli.detect.class_names import read_pairs
    from xmodal_cli.pictures.detections import draw_scenes
    from xmodal_cli.pictures.kept import keep_picture, picture_path
    from xmodal_cli.pictures.scenes import scenes_in_file, scenes_of_runs

    wanted = None if ids is None else [each.strip() for each in ids.split(",") if each.strip()]
    if detections is not None:
        if run or class_ or out_ is None:
            raise SettingsError(
                "--detections is a finished file: it takes no run and no --class, and needs a place for the picture.",
                "Add --out found.png, and leave the others out.",
            )
        prepared, opened = PreparedData.open(data or Path(DEFAULT_DATA)), []
        scenes = scenes_in_file(detections, prepared, split, wanted, count, least_score, most)
        path, title = out_, f"{detections}, split {split}, scores from {least_score:g}"
    else:
        from xmodal_cli.cli.progress import counting

        opened = _several(run, runs, (*DETECTORS, "segmentation"))
        prepared = PreparedData.open(given_anew(data) or opened[0].recorded_data())
        pairs = read_pairs(class_) if class_ else None
        with counting("images") as watch:
            scenes = scenes_of_runs(opened, prepared, split, wanted, count, least_score, most, device, watch, pairs)
        path = picture_path(opened[0], "detections.png", out_)
        title = f"{' + '.join(each.path.name for each in opened)}, split {split}, scores from {least_score:g}"
    keep_picture(path, draw_scenes(prepared, scenes, title), out.command)
    rows = [[scene.identifier, len(scene.objects), len(scene.found), int(scene.hits.sum())] for scene in scenes]
    figures = table(title, ["pair", "objects", "shown", "hits"], rows)
    results = {"scenes": [scene.to_dict(prepared.classes) for scene in scenes], "picture": str(path)}
    out.result(results, [figures, str(path)], runs=[each.path for each in opened], data=prepared.root, split=split)


@command(
    visualize_app,
    "report",
    path="visualize report",
    examples="""
xmodal visualize report
xmodal visualize report runs/finetune/RUN_A runs/finetune/RUN_B --paper table1/1C --out compared.html
""",
)
def report_command(
    run: RunsArgument = None,
    paper: Annotated[
        str | None, typer.Option("--paper", help="Show a row of the paper beside scores, e.g. table1/1C.")
    ] = None,
    pictures: Annotated[bool, typer.Option("--pictures/--no-pictures", help="Look at networks, too.")] = True,
    data: DataOption = None,
    device: DeviceOption = "auto",
    out_: OutOption = None,
    runs: RunsOption = Path(DEFAULT_RUNS),
) -> None:
    """Write one self-contained HTML page about a run, or about several compared."""
    from xmodal_cli.metrics.paper import paper_row
    from xmodal_cli.pictures.kept import picture_path
    from xmodal_cli.pictures.report import write_report
    from xmodal_cli.pictures.run_report import Choice, sections_of

    row = None if paper is None else paper_row(paper)
    opened = _several(run, runs, TRAINED)
    sections, problems = sections_of(opened, Choice(given_anew(data), row, pictures, device), out.say)
    title = ", ".join(each.path.name for each in opened)
    path = picture_path(opened[0], "report.html", out_)
    write_report(path, title, sections, subtitle="Made by xmodal visualize report.", command=out.command)
    for problem in problems:
        out.warn(f"left out: {problem}")
    results = {"report": str(path), "sections": [each.title for each in sections], "left_out": problems}
    out.result(results, [str(path)], runs=[each.path for each in opened])


def _view(run: RunFolder, data: Path | None, layer: str | None, split: str | None, device: str) -> View:
    """A run's networks, and the data set that was named, else the one that it learned from."""
    from xmodal_cli.cli.progress import TrainingScreen
    from xmodal_cli.data.prepared import PreparedData
    from xmodal_cli.pictures.eyes import open_view

    prepared = PreparedData.open(given_anew(data) or run.recorded_data())
    with TrainingScreen() as screen:
        return open_view(run, prepared, layer=layer, split=split, device=device, downloading=screen.downloading)


def _kept(run: RunFolder, name: str, out_: Path | None, picture: Picture) -> Path:
    """Where a picture of a run was kept."""
    from xmodal_cli.pictures.kept import keep_picture, picture_path

    return keep_picture(picture_path(run, name, out_), picture, out.command)


def _numbers(text: str | None) -> list[int] | None:
    """Whole numbers between commas.

    Raises:
        SettingsError: the text is something else.
    """
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise SettingsError(f"--units takes whole numbers between commas; found {text!r}.", "Write --units 3,7")
    return [int(part) for part in parts]


def _several(named: list[Path] | None, runs: Path, commands: tuple[str, ...]) -> list[RunFolder]:
    """The runs that were named, else the newest finished one."""
    return [_one(path, runs, commands) for path in named] if named else [_one(None, runs, commands)]


def _one(run: Path | None, runs: Path, commands: tuple[str, ...]) -> RunFolder:
    """The run that was named, else the newest finished one."""
    from xmodal_cli.runs.folder import latest, open_run

    return latest(runs, commands) if run is None else open_run(run)
