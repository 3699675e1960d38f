"""Reporting lines: up to three managers above a person, nearest first, as opaque ids.

Managers count whether or not they take part in anything. Lines must end: where people manage each other in a circle,
the walk stops before it would meet somebody again.
"""

from collections.abc import Mapping
from typing import TypeVar

DEPTH = 3

K = TypeVar("K")


def line_of(person: K, manager_of: Mapping[K, K | None]) -> tuple[K, ...]:
    """The managers above ``person``, at most three; ``manager_of`` need not know everybody."""
    above: list[K] = []
    current = manager_of.get(person)
    while current is not None and len(above) < DEPTH and current != person and current not in above:
        above.append(current)
        current = manager_of.get(current)
    return tuple(above)


def loops(manager_of: Mapping[K, K | None]) -> dict[K, tuple[K, ...]]:
    """For each person on a circle of managers, that circle; whoever merely reports into one is not on it.

    Linear in the number of people: each is walked over once.
    """
    found: dict[K, tuple[K, ...]] = {}
    seen: set[K] = set()
    for start in manager_of:
        path: dict[K, int] = {}
        current: K | None = start
        while current is not None and current not in seen:
            seen.add(current)
            path[current] = len(path)
            current = manager_of.get(current)
        if current is not None and current in path:
            circle = tuple(list(path)[path[current] :])
            found.update(dict.fromkeys(circle, circle))
    return found
