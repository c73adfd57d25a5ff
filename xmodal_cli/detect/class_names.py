"""Which of a detector's classes are which of a data set's, by name, where both have their own words for things.

COCO says couch, dining table and tv where NYUD2 says sofa, table and television (recipe 6). NYUD2's monitor is a class
of its own: COCO's tv is its television only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal_cli.errors import SettingsError

# Groups of words for the same thing; the first that the other side has is taken.
SAME_THING: tuple[tuple[str, ...], ...] = (
    ("couch", "sofa"),
    ("dining table", "diningtable", "table"),
    ("tv", "television", "tvmonitor", "tv monitor"),
    ("potted plant", "pottedplant", "plant"),
    ("cell phone", "mobile phone", "phone"),
    ("motorcycle", "motorbike"),
    ("airplane", "aeroplane"),
    ("person", "pedestrian", "people"),
    ("bicycle", "bike"),
    ("refrigerator", "fridge"),
    ("trash can", "garbage bin", "garbage-bin", "bin"),
    ("night stand", "night-stand", "nightstand"),
    ("hair drier", "hair dryer"),
)
NOWHERE = -1
NO_CLASS = "N/A"  # what torchvision calls COCO's numbers that mean nothing
RECORDED = "class_names"  # in the settings of a run's card: the pairs that it was made with


@dataclass(frozen=True)
class ClassMap:
    """Where a detector's classes stand in a data set's list.

    Args:
        labels: `(K,)` int64, for each of the detector's classes its index in the data set; -1 where it has none.
        renamed: the detector's word and the data set's, where they differ.
        unknown: the detector's classes that the data set does not have.
        never_found: the data set's classes that the detector does not know.
    """

    labels: NDArray[np.int64]
    renamed: Mapping[str, str]
    unknown: tuple[str, ...]
    never_found: tuple[str, ...]

    def known(self) -> list[int]:
        """The data set's classes that the detector knows, by index."""
        return sorted(int(label) for label in self.labels if label >= 0)

    def to_dict(self) -> dict[str, Any]:
        """What an evaluation keeps of it."""
        return {"renamed": dict(self.renamed), "left_out": list(self.never_found)}

    def notes(self) -> list[str]:
        """What one should know when reading figures."""
        said = []
        if self.renamed:
            pairs = ", ".join(f"{own} is {theirs}" for own, theirs in self.renamed.items())
            said.append(f"Classes by other names: {pairs}.")
        if self.unknown:
            said.append(f"The detector also knows {_some(self.unknown)}, which the data set lacks: left out.")
        if self.never_found:
            said.append(f"The detector does not know {_some(self.never_found)}: the mean leaves them out.")
        return said


def match_classes(detector: Sequence[str], data: Sequence[str], given: Mapping[str, str] | None = None) -> ClassMap:
    """Find each of a detector's classes in a data set.

    Args:
        detector: its class names, without background.
        data: the data set's.
        given: further pairs, the detector's word to the data set's; they win.

    Raises:
        SettingsError: they have nothing in common; or a given word is of neither, or means two classes.

    Example:
        >>> found = match_classes(["person", "couch", "bed"], ["bed", "sofa", "lamp"])
        >>> found.labels.tolist(), found.unknown, found.never_found
        ([-1, 1, 0], ('person',), ('lamp',))
    """
    given = given or {}
    check_given(given, detector, data)
    places = {_plain(name): index for index, name in enumerate(data)}
    exact = {_plain(name) for name in detector} & places.keys()
    found = {own: places[_plain(theirs)] for own, theirs in given.items()}
    for name in detector:
        if name not in found:
            words = [name, *(word for word in _others(name) if word not in exact)]
            index = next((places[_plain(word)] for word in words if _plain(word) in places), NOWHERE)
            found[name] = NOWHERE if index in found.values() else index
    labels = np.array([found[name] for name in detector], np.int64)
    if not (labels >= 0).any():
        raise SettingsError(
            f"Detector and data set have no class in common: {_some(detector)} against {_some(data)}.",
            "Say which is which with --class DETECTOR_NAME=DATA_NAME, or use a data set of its classes.",
        )
    return ClassMap(
        labels,
        {name: data[index] for name, index in found.items() if index >= 0 and data[index] != name},
        tuple(name for name, index in found.items() if index < 0 and name != NO_CLASS),
        tuple(name for index, name in enumerate(data) if index not in set(labels.tolist())),
    )


def match_runs(
    cards: Iterable[Mapping[str, Any]],
    detector: Sequence[str],
    data: Sequence[str],
    given: Mapping[str, str] | None = None,
) -> ClassMap:
    """As `match_classes`; where no pairs are given, by those that the runs were made with.

    Args:
        cards: of the runs.
        detector, data, given: as in `match_classes`; pairs that a run was made with, and whose word this data set does
            not have, were of another one and do not count.

    Raises:
        SettingsError: as `match_classes`; or runs that are fused were made with different pairs.
    """
    if given is not None:
        return match_classes(detector, data, given)
    recorded = [pairs for pairs in map(recorded_names, cards) if pairs]
    for pairs in recorded[1:]:
        if pairs != recorded[0]:
            raise SettingsError(
                f"The runs were made with different classes: {_pairs(recorded[0])} against {_pairs(pairs)}.",
                "Say which is which with --class DETECTOR_NAME=DATA_NAME.",
            )
    made_with = recorded[0] if recorded else {}
    return match_classes(detector, data, {own: theirs for own, theirs in made_with.items() if theirs in data})


def recorded_names(card: Mapping[str, Any] | None) -> dict[str, str]:
    """The pairs that a run was made with: the detector's word and that of the data set."""
    return {} if card is None else dict(card.get("settings", {}).get(RECORDED, {}))


def spoken_names(detector: Sequence[str], card: Mapping[str, Any] | None) -> tuple[str, ...]:
    """A detector's class names in the words of the data set that its run was made for.

    Example:
        >>> spoken_names(["person", "couch"], {"settings": {"class_names": {"couch": "sofa"}}})
        ('person', 'sofa')
    """
    words = recorded_names(card)
    return tuple(words.get(name, name) for name in detector)


def read_pairs(texts: Sequence[str]) -> dict[str, str]:
    """Options `DETECTOR_NAME=DATA_NAME` as a dict.

    Raises:
        SettingsError: another form.

    Example:
        >>> read_pairs(["dining table=desk"])
        {'dining table': 'desk'}
    """
    pairs = {}
    for text in texts:
        own, equals, theirs = text.partition("=")
        if not (own and equals and theirs):
            raise SettingsError(f"--class takes DETECTOR_NAME=DATA_NAME; found '{text}'.", "e.g. --class couch=sofa")
        pairs[own] = theirs
    return pairs


def check_given(given: Mapping[str, str], detector: Sequence[str], data: Sequence[str] | None) -> None:
    """Find out whether pairs make sense: of the detector alone where there is no data set yet.

    Raises:
        SettingsError: a word is of neither, or means two classes.
    """
    for own, theirs in given.items():
        if own not in detector:
            raise SettingsError(f"--class {own}={theirs}: the detector has no class {own!r}.", _known(detector))
        if data is not None and theirs not in data:
            raise SettingsError(f"--class {own}={theirs}: the data set has no class {theirs!r}.", _known(data))
    for theirs in given.values():
        several = [own for own, meant in given.items() if meant == theirs]
        if len(several) > 1:
            raise SettingsError(
                f"--class: {' and '.join(several)} cannot both be {theirs}.", "Name the one that comes closest."
            )


def _pairs(given: Mapping[str, str]) -> str:
    return ", ".join(f"{own}={theirs}" for own, theirs in given.items())


def _known(names: Sequence[str]) -> str:
    return f"It has {_some(names)}."


def _plain(name: str) -> str:
    return name.lower().replace("-", " ").replace("_", " ").strip()


def _others(name: str) -> list[str]:
    """Other words for the same thing."""
    plain = _plain(name)
    return [word for group in SAME_THING if plain in map(_plain, group) for word in map(_plain, group) if word != plain]


def _some(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
