"""`xmodal models`: which networks can be teacher or student."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xmodal_cli.cli.app import app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.output import out, table
from xmodal_cli.errors import SettingsError, closest

if TYPE_CHECKING:
    from xmodal_cli.models.catalogue import ModelName

EXAMPLES = """
xmodal models
xmodal models squeezenet
xmodal models 'vit_*dinov3*' --json
"""
MOST_ASKED = 20  # networks whose default layer is found out: each must be built, if only as a skeleton
UNKNOWN = "?"
COLOUR_CHANNELS = 3  # what published weights were made for; stems are made to fit any other number


@command(app, "models", examples=EXAMPLES)
def models_command(
    pattern: Annotated[str, typer.Argument(help="Only names with this in them; * and ? stand for anything.")] = "",
) -> None:
    """List the networks that can be teacher or student, by name."""
    from xmodal_cli.models.catalogue import names, parse

    found = matching(pattern, names())
    if not found:
        near = closest(pattern.strip("*?"), names())
        raise SettingsError(f"No model's name has {pattern!r} in it.", near or "`xmodal models` lists all.")
    entries = [_entry(parse(name), with_layer=len(found) <= MOST_ASKED) for name in found]
    columns = ["name", "library", "default layer"]
    rows = [[entry["name"], entry["library"], entry["default_layer"] or UNKNOWN] for entry in entries]
    if len(found) > MOST_ASKED:
        columns, rows = columns[:2], [row[:2] for row in rows]
    title = f"{len(found)} model{'s' * (len(found) > 1)}, for images of any number of channels"
    out.result(entries, [table(title, columns, rows, left=3)])
    if len(found) > MOST_ASKED:
        out.say(f"Default layers are shown where at most {MOST_ASKED} names match.")
    out.next_step(f"xmodal layers {found[0]}")


def matching(pattern: str, known: list[str]) -> list[str]:
    """The names that a pattern means: those that contain it, or, with * or ?, those that it describes.

    Example:
        >>> matching("vgg", ["vgg16", "alexnet"]), matching("a*t", ["vgg16", "alexnet"])
        (['vgg16'], ['alexnet'])
    """
    if any(mark in pattern for mark in "*?"):
        return fnmatch.filter(known, pattern)
    return [name for name in known if pattern in name]


def _entry(model: ModelName, *, with_layer: bool) -> dict[str, Any]:
    return {
        "name": str(model),
        "library": model.library,
        "input_channels": COLOUR_CHANNELS,
        "default_layer": _default_layer(str(model)) if with_layer else None,
    }


def _default_layer(name: str) -> str | None:
    """The layer that is transferred unless another is asked for; None where a network has no map."""
    from xmodal_cli.models.backbones import skeleton
    from xmodal_cli.models.layers import default_layer

    try:
        return default_layer(skeleton(name))
    except SettingsError:
        return None
