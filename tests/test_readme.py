"""Promises of README.md, docs/ and the help: every command line that they show is one that the program understands.

Nothing is executed. A line is read as a shell would read it and compared with the options, choices and number of
arguments that each command really has.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from xmodal_cli.cli.app import MAP, app
from xmodal_cli.transfer.settings import DistillSettings

ROOT = Path(__file__).parents[1]
# docs/cli.md is made of the help, whose examples are read below.
DOCUMENTS = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")} - {ROOT / "docs" / "cli.md"})
SHOWN = re.compile(r"`(xmodal [^`]+)`", re.DOTALL)  # in the middle of a sentence
ENDS = re.compile(r"\s+(?:#|&&|\|\||\||;|>)(?:\s|$).*")  # where a shell ends the command or begins a comment
OPTIONAL = re.compile(r"\[([^\]]*)\]")
PLACEHOLDER = re.compile(r"^[A-Z]$")  # N processes, seed S
PROGRAM: Any = typer.main.get_command(app)


def leaves(group: Any, words: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every command by its words: `("prepare", "folder")` and so on."""
    found: dict[tuple[str, ...], Any] = {}
    for name, each in group.commands.items():
        found |= leaves(each, (*words, name)) if hasattr(each, "commands") else {(*words, name): each}
    return found


COMMANDS = leaves(PROGRAM)


def command_lines(text: str) -> list[str]:
    """The command lines in a text: those that begin a line, go on after `&&`, or stand between backquotes."""
    whole = re.sub(r"\s*\\\n\s*", " ", text)
    starts = [part.strip() for line in whole.splitlines() for part in line.split("&&")]
    found = [line.removeprefix("Then: ") for line in starts]
    begun = [re.sub(r"^\d\s+", "", line) for line in found]  # the map numbers its steps
    lines = [re.split(r"\s{2,}", line)[0] for line in begun if line.startswith("xmodal ")]
    return [*lines, *(" ".join(shown.split()) for shown in SHOWN.findall(whole) if "\n\n" not in shown)]


def problem(line: str) -> str | None:
    """What the program would not understand of a command line; None where all is well."""
    words = [PLACEHOLDER.sub("1", word) for word in shlex.split(OPTIONAL.sub(r"\1", ENDS.sub("", line)))[1:]]
    path = next((each for each in COMMANDS if tuple(words[: len(each)]) == each), ())
    if not path and not words[0].startswith("-"):
        return None if words in ([group] for group, *_ in COMMANDS) else f"there is no command {' '.join(words[:2])}"
    command, rest = (COMMANDS[path], words[len(path) :]) if path else (PROGRAM, words)
    if path and (not rest or "..." in rest):  # a command that is only named, or shown in part
        return None
    try:
        command.make_context("xmodal", rest)  # reads the words, runs nothing
    except Exception as error:
        return None if type(error).__name__ == "Exit" else f"{error}"  # --version and --help end by themselves
    return None


def wrong(text: str) -> dict[str, str]:
    """The command lines of a text that would not be understood, with what is wrong with each."""
    return {line: found for line in command_lines(text) if (found := problem(line))}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_line_in_the_documents_is_understood(document: Path) -> None:
    assert wrong(document.read_text()) == {}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_example_in_the_help_is_understood(words: tuple[str, ...]) -> None:
    examples = COMMANDS[words].epilog
    assert any(line.startswith(f"xmodal {' '.join(words)}") for line in command_lines(examples))
    assert wrong(examples) == {}


def test_every_command_of_the_map_is_understood() -> None:
    text = MAP.partition("\n")[2].replace(", xmodal", "\nxmodal")
    assert len(command_lines(text)) == 14
    assert wrong(text) == {}


@pytest.mark.parametrize(
    "line",
    [
        "xmodal distil --teacher vgg16",
        "xmodal distill --techer vgg16",
        "xmodal prepare folders --out x",
        "xmodal prepare folder --link soft",
        "xmodal evaluate --seed one",
        "xmodal layers alexnet vgg16",
        "xmodal --versions",
    ],
)
def test_a_wrong_command_line_is_found(line: str) -> None:
    assert problem(line)


def test_the_readme_and_the_docs_show_commands() -> None:
    assert sum(len(command_lines(document.read_text())) for document in DOCUMENTS) > 20


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_source_file_named_in_the_documents_exists(document: Path) -> None:
    text = document.read_text()
    named = re.findall(r"`([\w./-]+/[\w-]+\.py)`", text) + re.findall(r"\]\(([^)#:]+\.md)\)", text)
    places = (document.parent, ROOT, ROOT / "xmodal_cli")
    assert [name for name in named if not any((place / name).is_file() for place in places)] == []


def test_no_command_is_missing_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [words for words in COMMANDS if f"xmodal {' '.join(words)}" not in readme] == []


def test_the_help_of_distill_names_the_defaults_of_the_settings() -> None:
    """Only values that are one plain word or number: `auto` and whole sentences say what they say."""
    fields = {field.name: field for field in dataclasses.fields(DistillSettings)}
    compared = []
    for each in COMMANDS["distill",].params:
        named = re.search(r"\[default: ([^\]]+)\]", each.help or "")
        field = fields.get(each.name)
        plain = field is not None and isinstance(field.default, str | int | float) and not get_args(field.type)
        if field is None or named is None or not plain or each.name in ("data", "flip"):
            continue
        compared.append(each.name)
        assert type(field.default)(named[1]) == field.default, each.name
    assert {"loss", "lr", "epochs", "batch_size", "weight_decay", "crop"} <= set(compared)
