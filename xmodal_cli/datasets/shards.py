"""One part of a data set that several machines prepare: which pairs are its own, and how parts recognise one another.

Every machine plans the whole data set and makes its share, so that what is decided over all pairs (splits, the range
of a thermal camera) is the same everywhere. `prepare merge` joins the parts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xmodal_cli.errors import SettingsError

SHARD = "shard"  # where the provenance of a part says which it is
WRITTEN = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True)
class Shard:
    """Part `index` of `of`, counted from 1.

    Example:
        >>> Shard.parse("2/3").own(["a", "b", "c", "d", "e"])
        ['b', 'e']
    """

    index: int
    of: int

    def __str__(self) -> str:
        """As it is written on the command line."""
        return f"{self.index}/{self.of}"

    @classmethod
    def parse(cls, text: str | None) -> Shard | None:
        """Read `I/N`; no text is no shard.

        Raises:
            SettingsError: it is something else.
        """
        if text is None:
            return None
        found = WRITTEN.fullmatch(text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise SettingsError(
                f"--shard takes I/N, part I of N, counted from 1; found '{text}'.",
                "Try --shard 1/4; in an array job, --shard $((TASK + 1))/4.",
            )
        return cls(int(found[1]), int(found[2]))

    def own(self, ids: Iterable[str]) -> list[str]:
        """The IDs of this part: every N-th in order of their names, whatever the order in which they come.

        Raises:
            SettingsError: there are fewer IDs than parts.
        """
        return self._divisible(ids)[self.index - 1 :: self.of]

    def stretch(self, ids: Iterable[str]) -> list[str]:
        """The IDs of this part as neighbours in order of their names, where what is near is best read together.

        Raises:
            SettingsError: there are fewer IDs than parts.

        Example:
            >>> Shard.parse("2/3").stretch(["a", "b", "c", "d", "e"])
            ['b', 'c']
        """
        names = self._divisible(ids)
        start, end = (len(names) * edge // self.of for edge in (self.index - 1, self.index))
        return names[start:end]

    def record(self, ids: Iterable[str], plan: Any) -> dict[str, Any]:
        """What the part's `dataset.json` says about it.

        Args:
            ids: of the whole data set.
            plan: what else makes the whole what it is, and may differ where the IDs and the settings of the
                modalities are the same: splits, scenes, annotations. As JSON.

        Example:
            >>> Shard(1, 2).record(["a", "b"], {"train": ["a", "b"]})["of"]
            2
        """
        names = sorted(ids)
        return {
            **self.to_dict(),
            "ids": len(names),
            "ids_sha256": hashlib.sha256("\n".join(names).encode()).hexdigest(),
            "plan_sha256": hash_of_plan(plan),
        }

    def to_dict(self) -> dict[str, int]:
        """Which part it is, as JSON holds it."""
        return {"index": self.index, "of": self.of}

    def _divisible(self, ids: Iterable[str]) -> list[str]:
        names = sorted(ids)
        if len(names) < self.of:
            raise SettingsError(
                f"{len(names)} cannot be divided into {self.of} parts: some would be empty.", "Use fewer shards."
            )
        return names


def is_part(shard: Shard | None, there: Mapping[str, Any] | None) -> bool:
    """Whether what lies somewhere is the part that is asked for.

    Args:
        shard: what is asked for; None for the whole.
        there: what lies there, as a provenance has it; None for the whole.

    Example:
        >>> is_part(Shard(1, 2), {"index": 1, "of": 2}), is_part(None, None), is_part(Shard(1, 2), None)
        (True, True, False)
    """
    if shard is None or there is None:
        return shard is None and there is None
    return shard == Shard(there["index"], there["of"])


def hash_of_plan(plan: Any) -> str:
    """A hash of what was decided for the whole data set, as JSON; the order of keys does not count."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def check_shard(shard: Shard | None, there: Mapping[str, Any] | None, new: Iterable[str] = ()) -> None:
    """Refuse to add to a part what belongs to the whole, or another part.

    Args:
        shard: what was asked for.
        there: which part the folder holds, made or begun; None for the whole.
        new: modalities that the finished part in the folder does not have yet.

    Raises:
        SettingsError: the folder holds another part, or the whole, or would get modalities that the other parts lack.
    """
    if there is None and shard is None:
        return
    name = "the whole data set" if there is None else f"part {there['index']}/{there['of']} of a data set"
    if not is_part(shard, there):
        asked = "the whole" if shard is None else f"--shard {shard}"
        raise SettingsError(
            f"This folder holds {name}; {asked} was asked for.",
            "Give every part a folder of its own, and join them: xmodal prepare merge PART... --out DATA",
        )
    if added := sorted(new):
        raise SettingsError(
            f"This folder holds {name}, without {', '.join(added)}.",
            "Join the parts first (xmodal prepare merge PART... --out DATA) and add modalities to the whole.",
        )
