"""One self-contained HTML page out of sections of text, tables and pictures.

Everything is inside the file: style, and pictures as data URIs. The page's own policy forbids its browser to load
anything else, so it can be mailed, archived and opened offline. It follows the reader's light or dark setting, and wide
tables scroll by themselves on a small screen. Nothing in it depends on when it was written: the same sections give the
same bytes.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from xmodal_cli.data.images import encode_png
from xmodal_cli.pictures.canvas import Picture
from xmodal_cli.pictures.kept import keep, maker_mark

COMMAND = "visualize report"
LARGE_PNG = 300_000  # bytes above which a picture full of photographs is stored as JPEG
JPEG_QUALITY = 92
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #202124; --faint: #5f6368; --line: #dadce0; --mark: #fdf0cf;
  --box: #f6f7f8; }
@media (prefers-color-scheme: dark) { :root { --paper: #17181a; --ink: #e8eaed; --faint: #a5a9ae; --line: #3c4043;
  --mark: #4d3d10; --box: #202225; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--line); }
p { margin: .5rem 0; max-width: 48rem; overflow-wrap: anywhere; }
nav { margin: 1rem 0; display: flex; flex-wrap: wrap; gap: .3rem 1rem; }
a { color: inherit; }
.faint, figcaption, caption { color: var(--faint); font-size: .9rem; }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
caption { text-align: left; padding: .2rem 0; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; }
tr.marked td { background: var(--mark); }
th { font-weight: 600; }
figure { margin: .8rem 0; }
figure img { max-width: 100%; height: auto; display: block; background: #fff; border-radius: 4px; }
details { margin: .6rem 0; }
summary { cursor: pointer; color: var(--faint); }
.problem { border-left: 4px solid #d55e00; background: var(--box); padding: .5rem .8rem; }
@media print { nav { display: none; } h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Args:
        text: plain text.
        problem: whether it says what is missing or wrong.
    """

    text: str
    problem: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        columns: their names.
        rows: cells; columns of numbers stand right.
        caption: above it.
        marked: numbers of rows that are highlighted.
        folded: a line that stands for the table until the reader opens it; empty shows it at once.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    marked: Collection[int] = ()
    folded: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture.

    Args:
        picture: `(H, W, 3)` uint8 RGB.
        caption: under it; also what is read out where it cannot be seen.
    """

    picture: Picture
    caption: str


@dataclass(frozen=True)
class Section:
    """A part of a page under its own heading.

    Args:
        title: the heading.
        parts: what stands there, in order.
    """

    title: str
    parts: Sequence[Text | Table | Figure]


def write_report(
    path: Path, title: str, sections: Sequence[Section], *, subtitle: str = "", command: str = COMMAND
) -> Path:
    """Write a page.

    Args:
        path: the file; missing folders are made.
        title: of the page.
        sections: in order.
        subtitle: a line under the title.
        command: whose page it is: a page is written anew only where the same command made the old one.

    Returns:
        The path.

    Raises:
        SettingsError: something else has that name, or the folder cannot be written.
    """
    return keep(path, page(title, sections, subtitle=subtitle, command=command).encode(), command)


def page(title: str, sections: Sequence[Section], *, subtitle: str = "", command: str = COMMAND) -> str:
    """The HTML of a page; arguments as in `write_report`.

    Example:
        >>> text = page("Run <1>", [Section("Figures", [Table(["class", "AP"], [["bed", 30.36]])])])
        >>> "<h1>Run &lt;1&gt;</h1>" in text, '<td class="number">30.36</td>' in text, "http" in text.split("<body>")[1]
        (True, True, False)
    """
    links = "".join(f'<a href="#s{number}">{_safe(each.title)}</a>' for number, each in enumerate(sections))
    bodies = "\n".join(_section(number, each) for number, each in enumerate(sections))
    under = f'<p class="faint">{_safe(subtitle)}</p>' if subtitle else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="{_safe(maker_mark(command))}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{_safe(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{_safe(title)}</h1>
{under}
<nav>{links}</nav>
{bodies}
</body>
</html>
"""


def _section(number: int, section: Section) -> str:
    parts = "\n".join(_part(part) for part in section.parts)
    return f'<section id="s{number}">\n<h2>{_safe(section.title)}</h2>\n{parts}\n</section>'


def _part(part: Text | Table | Figure) -> str:
    if isinstance(part, Text):
        return f'<p class="problem">{_safe(part.text)}</p>' if part.problem else f"<p>{_safe(part.text)}</p>"
    return _table(part) if isinstance(part, Table) else _figure(part)


def _table(table: Table) -> str:
    numeric = [all(_is_number(row[column]) for row in table.rows) for column in range(len(table.columns))]
    head = "".join(_cell("th", name, right) for name, right in zip(table.columns, numeric, strict=True))
    rows = []
    for number, row in enumerate(table.rows):
        cells = "".join(_cell("td", cell, right) for cell, right in zip(row, numeric, strict=True))
        rows.append(f'<tr class="marked">{cells}</tr>' if number in table.marked else f"<tr>{cells}</tr>")
    caption = f"<caption>{_safe(table.caption)}</caption>" if table.caption else ""
    body = "\n".join([f"<tr>{head}</tr>", *rows])
    drawn = f'<div class="scroll"><table>{caption}{body}</table></div>'
    return f"<details><summary>{_safe(table.folded)}</summary>{drawn}</details>" if table.folded else drawn


def _cell(tag: str, content: object, right: bool) -> str:
    kind = ' class="number"' if right else ""
    return f"<{tag}{kind}>{_safe('' if content is None else content)}</{tag}>"


def _is_number(cell: object) -> bool:
    """Whether a cell stands right: a number, as such or as text, or nothing where one could be."""
    if cell is None or cell == "":
        return True
    try:
        float(str(cell))
    except ValueError:
        return False
    return not isinstance(cell, bool)


def _figure(figure: Figure) -> str:
    height, width = figure.picture.shape[:2]
    told = _safe(figure.caption)
    source = f'src="{data_uri(figure.picture)}" width="{width}" height="{height}"'
    return f'<figure><img {source} alt="{told}"><figcaption>{told}</figcaption></figure>'


def data_uri(picture: Picture) -> str:
    """A picture inside an address: PNG, or JPEG where photographs make that much smaller.

    Args:
        picture: `(H, W, 3)` uint8 RGB.
    """
    content, kind = encode_png(picture), "png"
    if len(content) > LARGE_PNG:
        quality = (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)
        done, encoded = cv2.imencode(".jpg", np.ascontiguousarray(picture[:, :, ::-1]), quality)
        if done and len(encoded) < len(content):
            content, kind = encoded.tobytes(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _safe(content: object) -> str:
    """Text that cannot be mistaken for HTML."""
    return html.escape(str(content), quote=True)
