"""One part of a data set that several machines prepare: which pairs are its own, and how parts recognise one another.

Every machine plans the whole data set and makes its share, so that what is decided over all pairs (splits, the range
of a thermal camera) is the same everywhere. `prepare merge` joins the parts.
"""

from __future__ import annotations

import hashlib
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
        names = sorted(ids)
        if len(names) < self.of:
            raise SettingsError(
                f"{len(names)} cannot be divided into {self.of} parts: some would be empty.", "Use fewer shards."
            )
        return names[self.index - 1 :: self.of]

    def record(self, ids: Iterable[str]) -> dict[str, Any]:
        """What the part's `dataset.json` says about it.

        Args:
            ids: of the whole data set.

        Example:
            >>> Shard(1, 2).record(["a", "b"])["of"]
            2
        """
        names = sorted(ids)
        digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
        return {"index": self.index, "of": self.of, "ids": len(names), "ids_sha256": digest}


def check_shard(shard: Shard | None, provenance: Mapping[str, Any], new: Iterable[str]) -> None:
    """Refuse to add to a part what belongs to the whole, or another part.

    Args:
        shard: what was asked for.
        provenance: of the data set that is there.
        new: modalities that it does not have yet.

    Raises:
        SettingsError: the data set is another part, is whole, or would get modalities that the other parts lack.
    """
    there = provenance.get(SHARD)
    name = "the whole data set" if there is None else f"part {there['index']}/{there['of']} of a data set"
    if there is None and shard is None:
        return
    if shard is None or there is None or (shard.index, shard.of) != (there["index"], there["of"]):
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
