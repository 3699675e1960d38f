"""How a simulated person answers: by a taste that only they have, by what draws them, and by how busy they are.

Nothing here comes from the matcher: neither its score nor its reasons. Whoever forgets never answers at all.
"""

from collections.abc import Collection
from dataclasses import dataclass
from random import Random
from typing import Literal

Answer = Literal["accept", "decline", "forget"]
Reason = Literal["no_time", "topics_do_not_fit", "prefer_somebody_else"]

_SYMPATHY, _INTEREST, _BUSYNESS, _NEEDED = 1.0, 0.25, 0.6, -0.45
"""A person says yes when sympathy + interest - busyness reaches what is needed; about three of four do."""


@dataclass(frozen=True)
class Hidden:
    """Of one person; see `cli.sample.wishes`. ``taste`` and ``comes_across`` have the same length."""

    taste: tuple[float, ...]
    comes_across: tuple[float, ...]
    drawn_to: frozenset[str]
    busy: float
    forgetful: float


def answer(me: Hidden, partner: Hidden, topics: Collection[str], chance: Random) -> tuple[Answer, Reason | None]:
    """What ``me`` says to a partner and the topics of the pairing. ``chance`` only decides who forgets."""
    if chance.random() < me.forgetful:
        return "forget", None
    sympathy = sum(mine * theirs for mine, theirs in zip(me.taste, partner.comes_across, strict=True))
    interest = len(me.drawn_to.intersection(topics))
    liking = _SYMPATHY * sympathy + _INTEREST * interest
    if liking - _BUSYNESS * me.busy >= _NEEDED:
        return "accept", None
    if liking >= _NEEDED:
        return "decline", "no_time"
    return "decline", "prefer_somebody_else" if interest else "topics_do_not_fit"
