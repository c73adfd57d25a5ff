"""Promises of README.md, docs/ and the help: every command line that they show is one that the program understands.

Nothing is executed here. A line is read as a shell would read it and compared with the options, choices and number of
arguments that each command really has.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import get_args

import pytest
from documents import COMMANDS, DOCUMENTS, ROOT, command_lines, problem, wrong

from xmodal_cli.cli.app import MAP
from xmodal_cli.transfer.settings import DistillSettings


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
    assert len(command_lines(text)) == 19
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
