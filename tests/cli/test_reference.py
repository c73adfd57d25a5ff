"""Promise of docs/cli.md: it is what the application says of itself."""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.cli.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_page_of_commands_is_made_from_the_application() -> None:
    assert PAGE.read_text() == reference(), "make it again: python -m xmodal_cli.cli.reference > docs/cli.md"
