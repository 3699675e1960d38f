"""Reporting lines: up to three managers above a person, nearest first, as opaque ids.

Managers count whether or not they take part in a programme. Lines must end: when people manage each other in a circle,
the walk stops before it reaches a person a second time.
"""

from collections.abc import Mapping
from typing import TypeVar

MAX_LINE_LENGTH = 3

K = TypeVar("K")


def reporting_line(person: K, manager_of: Mapping[K, K | None]) -> tuple[K, ...]:
    """The managers above ``person``, at most three. ``manager_of`` may be incomplete."""
    above: list[K] = []
    current = manager_of.get(person)
    while current is not None and len(above) < MAX_LINE_LENGTH and current != person and current not in above:
        above.append(current)
        current = manager_of.get(current)
    return tuple(above)


def find_circles(manager_of: Mapping[K, K | None]) -> dict[K, tuple[K, ...]]:
    """Person -> circle of managers, for each person on a circle. A person who only reports into one is not on it.

    Linear in the number of people: each person is visited once.
    """
    circles: dict[K, tuple[K, ...]] = {}
    visited: set[K] = set()
    for start in manager_of:
        path: dict[K, int] = {}
        current: K | None = start
        while current is not None and current not in visited:
            visited.add(current)
            path[current] = len(path)
            current = manager_of.get(current)
        if current is not None and current in path:
            circle = tuple(list(path)[path[current] :])
            circles.update(dict.fromkeys(circle, circle))
    return circles
