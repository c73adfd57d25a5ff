"""What all commands that make a run do first: its folder is begun; and who is told what while it works."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodal_cli.runs.fit import Watcher
from xmodal_cli.runs.folder import RunFolder, create


@dataclass(frozen=True)
class Watchers:
    """Who is told what while a run works; by default nobody.

    Args:
        say: told a line.
        downloading: told of each download's address, bytes done and size.
        filling: told how many of how many images have been looked at.
        training: told of each logged step.
        detail: told a line that only the curious want.
    """

    say: Callable[[str], None] = lambda line: None
    downloading: Callable[[str, int, int], None] = lambda url, done, total: None
    filling: Callable[[int, int], None] = lambda done, total: None
    training: Watcher = lambda progress: None
    detail: Callable[[str], None] = lambda line: None


NOBODY = Watchers()


def begin(
    runs: Path, command: str, name: str | None, config: Mapping[str, Any], *, default_name: str, overwrite: bool
) -> RunFolder:
    """A new run's folder, locked, with what is known before its first step; as `folder.create`."""
    run = create(runs, command, name, default_name=default_name, overwrite=overwrite)
    run.write_start(config)
    return run
