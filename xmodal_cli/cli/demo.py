"""`xmodal demo`: the whole idea on built-in rooms, offline, ending in a table and a page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from xmodal_cli.cli.app import app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.options import DeviceOption, option, worker_count
from xmodal_cli.cli.output import out, table
from xmodal_cli.cli.study import study_screen

if TYPE_CHECKING:
    from xmodal_cli.studies.demo import Demo

EXAMPLES = """
xmodal demo
xmodal demo --quick --out /tmp/xmodal-demo
xmodal demo --seed 0 --seed 1 --seed 2
Then: xmodal visualize detections xmodal-demo/runs/finetune/transferred-0
"""
DEMO = "Demo"


@command(app, "demo", examples=EXAMPLES)
def demo_command(
    out_folder: Annotated[Path, option("Where everything lands. [default: xmodal-demo]", DEMO, "--out")] = Path(
        "xmodal-demo"
    ),
    seed: Annotated[list[int] | None, option("Train with this seed; repeatable. [default: 0]", DEMO)] = None,
    quick: Annotated[
        bool, option("About a minute: every stage runs, the figures prove nothing.", DEMO, "--quick")
    ] = False,
    device: DeviceOption = "auto",
    workers: Annotated[str, option("Processes: a number, or auto. [default: auto]", DEMO)] = "auto",
) -> None:
    """Show the whole idea in minutes, on built-in rooms, without data, network or GPU; run again, it goes on."""
    from xmodal_cli.studies.demo import DemoSettings, demo
    from xmodal_cli.studies.demo_report import write_demo_report

    seeds = tuple(dict.fromkeys(seed or (0,)))
    settings = DemoSettings(out_folder, seeds, quick, device, worker_count(workers))
    with study_screen() as (tell, watchers):
        found = demo(settings, tell, watchers)
    report = write_demo_report(found)
    _show(found)
    out.next_step(f"open {report} in a browser, or run: xmodal prepare folder --help, for pairs of your own")


def _show(found: Demo) -> None:
    """The table, and what it is worth."""
    rows = [
        [
            row.title,
            f"{row.main.mean:.1f}",
            " ".join(f"{value:.1f}" for value in row.main.by_seed.values()),
            row.main.paper or "",
        ]
        for row in found.rows
    ]
    title = "mAP at IoU 0.5 in percent; the paper's column is NYU Depth v2 with AlexNet"
    tables = [table(title, ["detector", "mAP", "each seed", "paper"], rows)]
    out.result(found, tables, data=found.settings.data, split="val")
    if found.settings.quick:
        out.warn("a quick run trains so little that its figures prove nothing; leave --quick out for those that do")
