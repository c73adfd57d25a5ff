"""How a command is registered: `@command(app, "distill", examples=...)` adds what every command has.

Every command gets `--json`, `--quiet` and `--verbose`, and help that ends with copyable examples. The function itself
sees only its own options and talks through `out`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from xmodal_cli.cli.output import out
from xmodal_cli.errors import Interrupted

Function = TypeVar("Function", bound=Callable[..., None])

OUTPUT_PANEL = "Output"
EXAMPLE_WIDTH = 80  # columns of a plain terminal

JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document on stdout and nothing else.", rich_help_panel=OUTPUT_PANEL),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Say nothing but results and errors.", rich_help_panel=OUTPUT_PANEL)
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say more, e.g. every setting of a run.", rich_help_panel=OUTPUT_PANEL)
]


def command(app: typer.Typer, name: str, *, examples: str, path: str | None = None) -> Callable[[Function], Function]:
    """Register a function as a command with the output options and an epilog of examples.

    Args:
        app: the application or group that the command belongs to.
        name: the word typed on the command line.
        examples: copyable lines, one per line; shown at the end of the help.
        path: the full words of the command for `--json` (`prepare folder`); `name` by default.
    """

    def register(function: Function) -> Function:
        signature = inspect.signature(function, eval_str=True)
        extra = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
            for key, annotation in (("as_json", JsonOption), ("quiet", QuietOption), ("verbose", VerboseOption))
        ]

        @functools.wraps(function)
        def call(*args: Any, as_json: bool = False, quiet: bool = False, verbose: bool = False, **options: Any) -> None:
            out.configure(path or name, as_json=as_json, quiet=quiet, verbose=verbose)
            try:
                function(*args, **options)
            except KeyboardInterrupt:
                raise Interrupted("Interrupted.", "Run the command again.") from None

        parameters = [*signature.parameters.values(), *extra]
        call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in parameters}
        app.command(name, cls=_WithExamples, epilog=_epilog(examples))(call)
        return function

    return register


class _WithExamples(TyperCommand):
    """A command whose help ends with its epilog as it stands: Typer would pad and wrap lines that are to be copied."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        examples, self.epilog = self.epilog, None
        super().format_help(ctx, formatter)
        self.epilog = examples
        formatter.write(examples)


def _epilog(examples: str) -> str:
    """Example lines under a heading, long ones broken where a shell takes them up again."""
    lines = [line.strip() for line in examples.strip().splitlines() if line.strip()]
    return "\n".join(["Examples:", *(_broken(f"  {line}") for line in lines)])


def _broken(line: str) -> str:
    r"""A command line in rows that fit a terminal, broken before options.

    Example:
        >>> print(_broken("xmodal distill " + "--teacher vgg16 " * 5).rstrip())
        xmodal distill --teacher vgg16 --teacher vgg16 --teacher vgg16 --teacher vgg16 \
              --teacher vgg16
    """
    first, *options = line.split(" --")
    rows = [first]
    for option in options:
        if len(f"{rows[-1]} --{option} \\") > EXAMPLE_WIDTH:
            rows[-1] += " \\"
            rows.append(f"      --{option}")
        else:
            rows[-1] += f" --{option}"
    return "\n".join(rows)
