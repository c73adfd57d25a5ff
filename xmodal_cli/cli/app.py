"""The `xmodal` application: which commands there are, and the one boundary where errors become exit codes."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import xmodal_cli
from xmodal_cli.cli.output import out
from xmodal_cli.errors import Interrupted, SettingsError, XmodalError
from xmodal_cli.runs.interrupt import ends_the_command

INTERRUPTED = Interrupted.exit_code
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

MAP = """\
xmodal carries supervision from images with labels (RGB) to paired images without (depth, HHA, thermal, ...).

  xmodal demo                               the whole idea in minutes, on built-in rooms: no data, no network, no GPU

  xmodal download NAME                      published data sets and weights; `xmodal datasets` lists them

  1  xmodal prepare folder --rgb DIR --target DIR --modality disparity --depth-unit 0.001 --out DATA
                                            pairs of images -> a prepared data set
                                            (prepare video, jhmdb, ucf101: frames of videos)
  2  xmodal prepare check DATA              look at it before you train on it
  3  xmodal distill --data DATA --teacher vgg16 --student alexnet --modality disparity
                                            teach a student to see the new modality, without labels
  4  xmodal evaluate --probe                how good are its features?
  5  xmodal prepare proposals DATA --method bottom-up
                                            where objects may be
  6  xmodal finetune --data DATA --modality disparity --init runs/distill/latest
                                            a detector from few labels
  7  xmodal evaluate RUN                    its AP; with a second RUN, of both fused
  8  xmodal zero-shot --detector RUN --student RUN
                                            a detector from no labels: a colour detector above a student

  xmodal layers NAME, xmodal models         what can be teacher and student, and where to transfer
  xmodal predict RUN IMAGE                  boxes in a new image
  xmodal visualize report RUN               what was learned, on one page
  xmodal export RUN --format onnx           for other programs: ONNX, timm, safetensors
  xmodal reproduce table1                   the paper's tables made anew
  xmodal cache list                         teacher features kept on disk
  xmodal doctor                             what this machine has, and what is missing

Add --help to any of them for options and examples.\
"""


class _InOrder(TyperGroup):
    """A group that lists its commands in the order of the work, not groups last."""

    def list_commands(self, ctx: Any) -> list[str]:
        names = (name.replace("_", "-") for name in COMMANDS)
        return [name for name in names if name in self.commands]


app = typer.Typer(
    name="xmodal",
    cls=_InOrder,
    help=xmodal_cli.__doc__.splitlines()[0] if xmodal_cli.__doc__ else "",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
prepare_app = typer.Typer(
    name="prepare", help="Turn pairs of images into a prepared data set, and check it.", no_args_is_help=True
)
cache_app = typer.Typer(
    name="cache", help="Teacher features kept on disk: list them, remove them.", no_args_is_help=True
)

visualize_app = typer.Typer(
    name="visualize",
    help="Look at what was learned: filters, patches, features, detections, curves, a report.",
    no_args_is_help=True,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"xmodal {xmodal_cli.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Carry supervision from images that have labels to kinds of images that have none."""
    if context.invoked_subcommand is None:
        typer.echo(MAP)


def run(arguments: Sequence[str]) -> int:
    """Run the command line once and return its exit code; the only place where errors become words.

    Args:
        arguments: the words after `xmodal`.

    Returns:
        0 done; 1 failed while working; 2 bad usage; 3 bad data; 4 missing download; 5 diverged; 130 interrupted.
    """
    as_json = "--json" in arguments
    out.configure(next((word for word in arguments if not word.startswith("-")), "xmodal"), as_json=as_json)
    out.arguments = list(arguments)
    try:
        with ends_the_command():
            returned = app(args=list(arguments), prog_name="xmodal", standalone_mode=not as_json)
        return int(returned or 0)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 1
    except XmodalError as error:
        return _fail(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        return _fail(_known(error))


def _fail(error: XmodalError) -> int:
    if os.environ.get("XMODAL_DEBUG") == "1":
        traceback.print_exc()
    out.error(error)
    return error.exit_code


def _known(error: Exception) -> XmodalError:
    """An error nobody raised on purpose, in the words of somebody who can mend it."""
    if hasattr(error, "format_message"):  # Typer's own usage errors; with --json they must be a document too
        return SettingsError(error.format_message())
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return XmodalError(f"The disk is full: {error}.", "Free some space and run the command again.")
    if type(error).__name__ == "OutOfMemoryError":
        return XmodalError(f"The device ran out of memory: {error}", "Use a smaller --batch-size or --size.")
    if isinstance(error, ImportError) and any(word in f"{error.name} {error}" for word in ("cv2", "libGL")):
        return XmodalError(
            f"OpenCV could not be loaded: {error}.", "Install libgl1 and libglib2.0-0; see `xmodal doctor`."
        )
    return XmodalError(
        f"Unexpected {type(error).__name__}: {error}", "Run again with XMODAL_DEBUG=1 for the traceback and report it."
    )


def _register() -> None:
    """Import the command modules: each registers itself, and none imports anything heavy."""
    import importlib

    app.add_typer(prepare_app)
    app.add_typer(visualize_app)
    for name in COMMANDS:
        importlib.import_module(f"xmodal_cli.cli.{name}")
    app.add_typer(cache_app)


# One module per command, in the order that `xmodal --help` lists them.
COMMANDS = (
    "demo",
    "download",
    "datasets",
    "prepare",
    "prepare_coco",
    "prepare_merge",
    "prepare_nyud2_raw",
    "rooms",
    "prepare_nyud2",
    "videos",
    "proposals",
    "layers",
    "models",
    "distill",
    "finetune",
    "evaluate",
    "zero_shot",
    "predict",
    "export",
    "reproduce",
    "visualize",
    "cache",
    "doctor",
)
_register()
