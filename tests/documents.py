"""The command lines that README.md, docs/ and the help show, and what the program understands of them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import typer

from xmodal_cli.cli.app import app

ROOT = Path(__file__).parents[1]
# docs/cli.md is made of the help, whose examples are read by themselves.
DOCUMENTS = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")} - {ROOT / "docs" / "cli.md"})
_SHOWN = re.compile(r"`(xmodal [^`]+)`", re.DOTALL)  # in the middle of a sentence
_ENDS = re.compile(r"\s+(?:#|&&|\|\||\||;|>)(?:\s|$).*")  # where a shell ends the command or begins a comment
_OPTIONAL = re.compile(r"\[([^\]]*)\]")
_PLACEHOLDER = re.compile(r"^[A-Z]$")  # N processes, seed S


def leaves(group: Any, words: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every command by its words: `("prepare", "folder")` and so on."""
    found: dict[tuple[str, ...], Any] = {}
    for name, each in group.commands.items():
        found |= leaves(each, (*words, name)) if hasattr(each, "commands") else {(*words, name): each}
    return found


_PROGRAM: Any = typer.main.get_command(app)
COMMANDS = leaves(_PROGRAM)


def command_lines(text: str) -> list[str]:
    """The command lines in a text: those that begin a line, go on after `&&`, or stand between backquotes."""
    whole = re.sub(r"\s*\\\n\s*", " ", text)
    starts = [part.strip() for line in whole.splitlines() for part in line.split("&&")]
    found = [line.removeprefix("Then: ") for line in starts]
    begun = [re.sub(r"^\d\s+", "", line) for line in found]  # the map numbers its steps
    lines = [re.split(r"\s{2,}", line)[0] for line in begun if line.startswith("xmodal ")]
    return [*lines, *(" ".join(shown.split()) for shown in _SHOWN.findall(whole) if "\n\n" not in shown)]


def words_of(line: str) -> list[str]:
    """The words after `xmodal` as a shell would read them; options that are shown as optional are given."""
    return [_PLACEHOLDER.sub("1", word) for word in shlex.split(_OPTIONAL.sub(r"\1", _ENDS.sub("", line)))[1:]]


def command_of(words: list[str]) -> tuple[str, ...]:
    """The words of the command that a line names; none where it names no command."""
    return next((each for each in COMMANDS if tuple(words[: len(each)]) == each), ())


def only_named(words: list[str]) -> bool:
    """Whether a line only names a command or shows a part of it: there is nothing to be run."""
    rest = words[len(command_of(words)) :]
    return not command_of(words) or not rest or "..." in rest


def problem(line: str) -> str | None:
    """What the program would not understand of a command line; None where all is well."""
    words = words_of(line)
    path = command_of(words)
    if not path and not words[0].startswith("-"):
        return None if words in ([group] for group, *_ in COMMANDS) else f"there is no command {' '.join(words[:2])}"
    if path and only_named(words):
        return None
    try:
        (COMMANDS[path] if path else _PROGRAM).make_context(
            "xmodal", words[len(path) :]
        )  # reads the words, runs nothing
    except Exception as error:
        return None if type(error).__name__ == "Exit" else f"{error}"  # --version and --help end by themselves
    return None


def wrong(text: str) -> dict[str, str]:
    """The command lines of a text that would not be understood, with what is wrong with each."""
    return {line: found for line in command_lines(text) if (found := problem(line))}
