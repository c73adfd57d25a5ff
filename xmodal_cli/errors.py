"""The errors a user can meet: a sentence, a hint with the way on, and an exit code.

Every error raised on purpose is an `XmodalError`. Its message says what was found, what was expected and where; its
hint names the command or option that mends it. The command line turns it into one red line and the exit code; a
script can catch it like any exception.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class XmodalError(Exception):
    """Something went wrong that the user can mend; exit code 1 unless a subclass says otherwise.

    Args:
        message: what was found, what was expected, and where; one sentence or a few.
        hint: the command or option that mends it, if one does.

    Example:
        >>> error = DataError("Depth of 'a.png' is 8-bit.", hint="Pass --depth-unit.")
        >>> error.exit_code, error.to_dict()["hint"]
        (3, 'Pass --depth-unit.')
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def to_dict(self) -> dict[str, str | int | None]:
        """The error as the JSON document that `--json` prints: message, hint, code."""
        return {"message": self.message, "hint": self.hint, "code": self.exit_code}


class SettingsError(XmodalError):
    """Bad usage, settings that contradict each other, or a folder that is refused (exit code 2)."""

    exit_code = 2


class DataError(XmodalError):
    """Data that is missing, broken or not what it claims to be (exit code 3)."""

    exit_code = 3


class DownloadError(XmodalError):
    """A file that is not here and could not be fetched, or came with the wrong hash (exit code 4)."""

    exit_code = 4


class DivergedError(XmodalError):
    """A loss that is no longer finite (exit code 5)."""

    exit_code = 5


class Interrupted(XmodalError):
    """Ctrl-C or SIGTERM ended the work (exit code 130)."""

    exit_code = 130


def closest(name: str, known: Iterable[str], count: int = 3) -> str:
    """The known names most like a misspelt one, as a sentence for a hint; empty when none is close.

    Example:
        >>> closest("alexnt", ["alexnet", "vgg16"])
        "Did you mean 'alexnet'?"
        >>> closest("zzz", ["alexnet"])
        ''
    """
    near = difflib.get_close_matches(name, list(known), n=count, cutoff=0.55)
    return f"Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
