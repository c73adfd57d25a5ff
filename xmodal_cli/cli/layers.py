"""`xmodal layers`: the layers of a network, where their cells look, and which layers of a teacher go with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from xmodal_cli.cli.app import app
from xmodal_cli.cli.command import command
from xmodal_cli.cli.options import read_size_hw
from xmodal_cli.cli.output import out, table

if TYPE_CHECKING:
    from xmodal_cli.models.layers import Layer
    from xmodal_cli.models.partners import Partner

WHOLE = "image"  # stride and centre of a layer that has one value per image
EXAMPLES = """
xmodal layers squeezenet1_1
xmodal layers alexnet --teacher vgg16 --size 425x560
xmodal layers resnet18 --all --json
"""


def complete_name(incomplete: str) -> list[str]:
    """Model names for shell completion."""
    from xmodal_cli.models.catalogue import names

    return [name for name in names() if name.startswith(incomplete)]


@command(app, "layers", examples=EXAMPLES)
def layers_command(
    name: Annotated[
        str, typer.Argument(help="The network, as `xmodal models` lists it.", autocompletion=complete_name)
    ],
    size: Annotated[
        str, typer.Option("--size", help="Image size that grids are counted at: HEIGHTxWIDTH.")
    ] = "224x224",
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", help="Also suggest this network's layers as partners.", autocompletion=complete_name),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every layer, not only the readable choice.")] = False,
) -> None:
    """List a network's layers: channels, stride, centre of the first cell, grid, receptive field; partners."""
    from xmodal_cli.models.backbones import skeleton
    from xmodal_cli.models.layers import default_layer, layers
    from xmodal_cli.models.partners import partners

    image_hw = read_size_hw(size)
    backbone = skeleton(name, image_hw=image_hw)
    default = default_layer(backbone)
    found = layers(backbone, image_hw, every=every)
    others = layers(skeleton(teacher, image_hw=image_hw), image_hw) if teacher else []
    suited = partners(found, others)
    results: dict[str, Any] = {
        "model": backbone.name,
        "library": backbone.library,
        "size_hw": list(image_hw),
        "default": default,
        "layers": [layer.to_dict() for layer in found],
    }
    columns = ["layer", "channels", "stride", "first centre", "grid", "field"]
    rows = [_row(layer, default) for layer in found]
    if teacher:
        results["teacher"] = teacher
        for entry, layer, row in zip(results["layers"], found, rows, strict=True):
            one = suited.get(layer.name)
            entry["partner"] = one.to_dict() if one else None
            row += _partner_cells(one)
        columns += [f"partner in {teacher}", "channels", "offset px"]
    out.result(results, [table(f"{backbone.name} at {image_hw[0]}x{image_hw[1]} (* default layer)", columns, rows)])
    out.next_step(_next_step(backbone.name, default, teacher, suited.get(default)))


def _row(layer: Layer, default: str) -> list[str]:
    mark = " *" if layer.name == default else ""
    rows, columns = layer.grid_hw
    return [
        layer.name + mark,
        str(layer.channels),
        WHOLE if layer.whole_image else _number(layer.stride),
        WHOLE if layer.whole_image else _number(layer.first_centre),
        f"{rows}x{columns}",
        WHOLE if layer.whole_image else _number(layer.field),
    ]


def _partner_cells(suited: Partner | None) -> list[str]:
    if suited is None:
        return ["-", "-", "-"]
    down, across = suited.offset_yx
    return [suited.layer.name, str(suited.layer.channels), _number(down if down == across else (down, across))]


def _number(value: float | tuple[float, float]) -> str:
    """One number, or two as (down, across)."""
    return f"{value:g}" if not isinstance(value, tuple) else f"({value[0]:g}, {value[1]:g})"


def _next_step(name: str, default: str, teacher: str | None, suited: Partner | None) -> str:
    if teacher is None:
        return f"xmodal layers {name} --teacher vgg16"
    point = f" --transfer {suited.layer.name}:{default}" if suited else ""
    return f"xmodal distill --teacher {teacher} --student {name}{point} --modality hha --data DATA"
