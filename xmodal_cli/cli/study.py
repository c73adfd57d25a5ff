"""The screen of a study: which step of how many, what goes on in it, and how long each took."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from xmodal_cli.cli.output import out
from xmodal_cli.cli.progress import TrainingScreen, duration

if TYPE_CHECKING:
    from xmodal_cli.runs.session import Watchers
    from xmodal_cli.studies.steps import Moment


@contextlib.contextmanager
def study_screen() -> Iterator[tuple[Callable[[Moment], None], Watchers]]:
    """Who is told of a study's steps, and of what happens within one."""
    from xmodal_cli.runs.session import Watchers

    with TrainingScreen("images") as screen:

        def tell(moment: Moment) -> None:
            where = f"[{moment.number}/{moment.total}] {moment.step.title}"
            if moment.kept:
                out.say(f"{where}: finished before")
            elif moment.seconds is None:
                screen.clear()
                out.say(where)
            else:
                out.say(f"{where}: {duration(moment.seconds)}")

        yield tell, Watchers(out.detail, screen.downloading, screen.filling, screen.training, out.detail)
