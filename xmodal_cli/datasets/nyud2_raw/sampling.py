"""Which frames of a video are taken: so many from each scene, evenly over its length.

How the paper's 5 and 10 thousand frames were picked is not known; neighbouring frames of a video are nearly the same
picture, so that even steps are the plain choice.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping


def shares(available: Mapping[str, int], total: int) -> dict[str, int]:
    """How many frames each scene gives, so that all give about the same and the sum is `total` where there are enough.

    Scenes with fewer than their share give all they have, the others make up for it; what cannot be divided goes one
    each to the first scenes by name that have more.

    Args:
        available: frames by scene.
        total: how many are wanted.

    Example:
        >>> shares({"a": 3, "b": 100, "c": 100}, 24)
        {'a': 3, 'b': 11, 'c': 10}
    """
    given: dict[str, int] = {}
    left = total
    order = sorted(available, key=lambda name: (available[name], name))
    for position, name in enumerate(order):
        scenes_left = len(order) - position
        equal = left // scenes_left
        if available[name] > equal:
            rest = sorted(order[position:])
            extra = left - equal * scenes_left
            given |= {other: equal + (index < extra) for index, other in enumerate(rest)}
            break
        given[name] = available[name]
        left -= available[name]
    return {name: given[name] for name in sorted(given)}


def stretches(length: int, count: int) -> list[list[int]]:
    """Divide frames 0 to length - 1 into `count` stretches; of each, its frames with the middle one first.

    The middle is what is taken; the others, nearest first, stand in where it is damaged.

    Example:
        >>> stretches(9, 3)
        [[1, 2, 0], [4, 5, 3], [7, 8, 6]]
        >>> stretches(2, 5)
        [[0], [1]]
    """
    count = min(count, length)
    edges = [length * index // count for index in range(count + 1)] if count else []
    found = []
    for start, end in itertools.pairwise(edges):
        middle = (start + end - 1) // 2
        found.append(sorted(range(start, end), key=lambda frame: (abs(frame - middle), -frame)))
    return found
