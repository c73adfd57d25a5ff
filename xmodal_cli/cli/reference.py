r"""The command line described as Markdown, made from the application itself: `python -m xmodal_cli.cli.reference`.

`docs/cli.md` is its output; a test compares the two, so that the page cannot fall behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

from xmodal_cli.cli.app import app
from xmodal_cli.cli.command import OUTPUT_PANEL

TOP = """\
# Commands

Every command also takes `--json` (one JSON document on stdout and nothing else), `--quiet`, `--verbose` and `--help`.
Talk goes to stderr, results to stdout. This page is made by `python -m xmodal_cli.cli.reference`.
"""
KINDS = {str: "text", int: "whole number", float: "number", Path: "path"}
ESCAPED = re.compile(r"\\(\[)")


def reference() -> str:
    """The whole page."""
    parts = [TOP]
    for words, each in commands(typer.main.get_command(app)):
        parts.append("\n".join(_described(words, each)))
    return "\n".join(parts)


def commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words, in the order of the help."""
    for name in group.list_commands(None):
        each = group.commands[name]
        if hasattr(each, "commands"):
            yield from commands(each, (*words, name))
        else:
            yield (*words, name), each


def _described(words: tuple[str, ...], command: Any) -> Iterator[str]:
    name = " ".join(words)
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    shown = [each for each in command.params if each.param_type_name == "option" and each.name != "help"]
    usage = " ".join(["xmodal", name, *(_argument(each) for each in arguments), "[OPTIONS]"])
    yield from (f"## xmodal {name}", "", _plain(command.help or ""), "", f"Usage: `{usage}`", "")
    for each in arguments:
        yield from (f"* `{_argument(each)}`: {_plain(each.help or '')}", "")
    panels: dict[str, list[Any]] = {}
    for each in shown:
        panels.setdefault(getattr(each, "rich_help_panel", None) or "Options", []).append(each)
    panels.pop(OUTPUT_PANEL, None)
    for panel, options in panels.items():
        yield from (f"| {panel} | | |", "|---|---|---|")
        yield from (f"| `{_names(each)}` | {_kind(each)} | {_cell(_help(each))} |" for each in options)
        yield ""
    examples = (command.epilog or "").partition("\n")[2]
    lines = [line[2:] if line.startswith("  ") else line for line in examples.splitlines()]
    yield from ("```bash", *(line for line in lines if not line.startswith("Then:")), "```", "")


def _argument(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    name = f"{name}..." if argument.nargs == -1 else name
    return name if argument.required else f"[{name}]"


def _names(option: Any) -> str:
    return ", ".join([*option.opts, *option.secondary_opts])


def _kind(option: Any) -> str:
    if option.is_bool_flag:
        return ""
    kind = option.type_descriptor.annotation
    kind = get_args(kind)[0] if get_origin(kind) is list else kind
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    words = " or ".join(map(str, choices)) if choices else KINDS[kind]
    return f"{words}{', repeatable' * option.multiple}{', required' * option.required}"


def _help(option: Any) -> str:
    text = _plain(option.help or "")
    if option.show_default is False or option.default in (None, False) or "[default" in text:
        return text
    return f"{text} [default: {option.default}]"


def _plain(text: str) -> str:
    return " ".join(ESCAPED.sub(r"\1", text).split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    print(reference(), end="")
