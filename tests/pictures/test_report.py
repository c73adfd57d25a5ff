"""Promises of the report: it needs nothing from outside, it is the same twice, and a damaged run does not stop it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from xmodal_cli.data.images import decode_rgb, read_rgb
from xmodal_cli.errors import SettingsError
from xmodal_cli.metrics.paper import paper_row
from xmodal_cli.pictures.canvas import blank
from xmodal_cli.pictures.report import LARGE_PNG, Figure, Section, Table, Text, data_uri, page, write_report
from xmodal_cli.pictures.run_report import Choice, sections_of
from xmodal_cli.runs.folder import METRICS, RunFolder, open_run

CHROMIUM = shutil.which("chromium")
ORANGE = (213, 94, 0)


@pytest.fixture(scope="module")
def whole(transferred: RunFolder, detecting: RunFolder) -> tuple[list[Section], list[str]]:
    """The sections of both runs, all pictures included."""
    return sections_of([transferred, detecting], Choice(device="cpu"))


def text_of(sections: list[Section]) -> str:
    return page("it", sections)


def parts_of(sections: list[Section], title: str) -> list[Text | Table | Figure]:
    return [part for section in sections if section.title.startswith(title) for part in section.parts]


def test_whole_report_has_every_part_and_leaves_nothing_out(whole: tuple[list[Section], list[str]]) -> None:
    sections, problems = whole
    assert problems == []
    assert [section.title for section in sections] == [
        "Runs",
        "Settings",
        "Training",
        "First-layer filters: student",
        "Features: student",
        "Patches: student",
        "First-layer filters: tiny",
        "Patches: tiny",
        "Detections: tiny",
    ]


def test_nothing_comes_from_outside(whole: tuple[list[Section], list[str]]) -> None:
    text = text_of(whole[0])
    addresses = re.findall(r"""(?:src|href|action|data|poster|srcset)\s*=\s*["']([^"']*)""", text)
    assert addresses
    assert [each[:30] for each in addresses if not re.match(r"data:image/(png|jpeg);base64,|#s\d+$", each)] == []
    assert not re.search(r"<(script|link|iframe|object|embed)|url\(|@import", text)
    assert "default-src 'none'" in text


def test_same_runs_give_the_same_page(transferred: RunFolder, detecting: RunFolder) -> None:
    """Of words and curves here; that looking at networks gives the same pictures is tested with each of them."""
    pages = [text_of(sections_of([transferred, detecting], Choice(pictures=False))[0]) for _ in range(2)]
    assert pages[0] == pages[1]
    assert "base64" in pages[0]


def test_settings_that_differ_are_highlighted_and_the_rest_is_folded(transferred: RunFolder, runs: Path) -> None:
    other = open_run(runs / "distill" / "student")
    config = other.path / "config.yaml"
    config.write_text(config.read_text().replace("lr: 0.001", "lr: 0.002"))
    sections, _ = sections_of([transferred, other], Choice(pictures=False))
    differing, alike = parts_of(sections, "Settings")
    assert isinstance(differing, Table)
    assert isinstance(alike, Table)
    assert [list(row) for row in differing.rows] == [["lr", "0.001", "0.002"]]
    assert list(differing.marked) == [0]
    assert alike.folded
    assert "iterations" in [row[0] for row in alike.rows]


def test_scores_stand_beside_the_papers(runs: Path) -> None:
    folder = runs / "evaluate" / "tiny-val-1234"
    folder.mkdir(parents=True)
    result = {"runs": ["elsewhere/finetune/tiny"], "results": {"AP": {"bed": 50.0, "never": None}, "mAP": 50.0}}
    (folder / "results.json").write_text(json.dumps(result))
    (runs / "evaluate" / "broken").mkdir()
    (runs / "evaluate" / "broken" / "results.json").write_text("{")
    choice = Choice(paper=paper_row("table5/D"), pictures=False)
    sections, problems = sections_of([open_run(runs / "finetune" / "tiny")], choice)
    (table,) = parts_of(sections, "Scores")
    assert isinstance(table, Table)
    assert list(table.columns) == ["class", "tiny-val-1234", "paper, table5/D"]
    assert [list(row)[:2] for row in table.rows] == [["bed", "50.00"], ["never", ""], ["mean", "50.00"]]
    assert table.rows[0][2] == "59.40"
    assert problems == []


def test_damaged_metrics_are_told_in_their_place_and_the_rest_is_made(runs: Path) -> None:
    run = open_run(runs / "distill" / "student")
    (run.path / METRICS).write_text("{broken\n")
    sections, problems = sections_of([run], Choice(pictures=False))
    (left,) = parts_of(sections, "Training")
    assert isinstance(left, Text)
    assert left.problem
    assert "Line 1" in left.text
    assert len(problems) == 1
    assert isinstance(parts_of(sections, "Runs")[0], Table)


def test_run_that_is_not_finished_or_lost_its_data_still_has_a_report(runs: Path, tmp_path: Path) -> None:
    run = open_run(runs / "distill" / "student")
    sections, problems = sections_of([run], Choice(data=tmp_path / "gone", device="cpu"))
    assert len(problems) == 2  # features and patches
    assert isinstance(parts_of(sections, "First-layer")[0], Figure)
    (run.path / "card.json").unlink()
    sections, problems = sections_of([run], Choice())
    assert "not finished" in text_of(sections)
    assert len(problems) == 3
    assert isinstance(parts_of(sections, "Training")[0], Figure)


def test_text_is_never_taken_for_html() -> None:
    text = page("<b>", [Section("a & b", [Text('<img src="x">'), Table(["<i>"], [["</table>"]], folded="<u>")])])
    assert not re.search(r'<b>|<img|<i>|<u>|"x"', text)
    assert "a &amp; b" in text


def test_other_files_are_left_alone_and_own_ones_renewed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_report(path, "one", [])
    write_report(path, "two", [])
    assert "<h1>two</h1>" in path.read_text()
    path.write_text("<h1>mine</h1>")
    with pytest.raises(SettingsError, match="did not make it"):
        write_report(path, "three", [])
    assert path.read_text() == "<h1>mine</h1>"


def test_photographs_are_stored_as_jpeg_and_plots_exactly(tmp_path: Path) -> None:
    import base64

    plot = blank(40, 60, ORANGE)
    uri = data_uri(plot)
    assert uri.startswith("data:image/png;base64,")
    assert np.array_equal(decode_rgb(base64.b64decode(uri.split(",")[1]), Path("x.png")), plot)
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    large = data_uri(noise)
    assert large.startswith("data:image/jpeg;base64,")
    assert len(large) < 1.4 * LARGE_PNG * 400 * 400 * 3 / LARGE_PNG


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian package chromium)")
@pytest.mark.parametrize("width", [360, 1200])
def test_page_is_seen_in_a_browser(width: int, tmp_path: Path) -> None:
    """The picture inside is shown, whole, and does not stretch the page on a phone."""
    rows = [[f"a long name of a setting {number}", 1.5] for number in range(3)]
    sections = [Section("S", [Figure(blank(200, 900, ORANGE), "all orange"), Table(["name", "value"], rows)])]
    path = write_report(tmp_path / "report.html", "Report", sections)
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
    shot = tmp_path / "shot.png"
    # Headless Chromium makes no window narrower than 500 px: a frame of the wished width stands for a phone.
    frame = tmp_path / "frame.html"
    frame.write_text(f'<body style="margin:0"><iframe src="report.html" width="{width}" height="700" frameborder="0">')
    subprocess.run(
        [
            str(CHROMIUM),
            *words,
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={max(500, width)},700",
            f"--screenshot={shot}",
            (frame if width < 500 else path).as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    seen = read_rgb(shot)
    orange = np.argwhere((np.abs(seen.astype(int) - ORANGE) < 8).all(2))
    (top, left), (bottom, right) = orange.min(0), orange.max(0)
    assert left > 8
    assert right < width - 8
    assert (right - left + 1) / (bottom - top + 1) == pytest.approx(900 / 200, rel=0.05)
