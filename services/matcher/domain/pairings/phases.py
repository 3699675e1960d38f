"""A pairing's life in phases, each with its real times, as its events close them.

    |---- proposed ----|---- formed ----|---------- chartered ----------|
                       |-- until they met --|       |-- paused --|
    |------------------------------ pairing ----------------------------|

Written into the traces they show a life of months on one page. They say what public events say, and nothing more.
"""

from datetime import datetime
from typing import NamedTuple

from contracts.feedback import SessionHeld
from contracts.pairings import PairingChartered, PairingEnded, PairingEvent, PairingFormed, PairingLapsed


class Phase(NamedTuple):
    """``whole``: all of the life, which closes last."""

    name: str
    since: datetime
    until: datetime
    whole: bool = False


def closed_by(event: PairingEvent, paused_at: datetime | None) -> list[Phase]:
    """What is over with this event; ``paused_at``: since when it was on hold, which no event says."""
    now = event.happened_at
    phases = []
    if event.previous_state == "paused" and paused_at is not None and paused_at <= now:
        phases.append(Phase("paused", paused_at, now))
    if isinstance(event, PairingFormed | PairingLapsed):
        phases.append(Phase("proposed", event.proposed_at, now))
    if isinstance(event, PairingEnded) and event.charter_at is not None:
        phases.append(Phase("chartered", event.charter_at, now))
    elif isinstance(event, PairingChartered | PairingEnded) and event.formed_at is not None:
        phases.append(Phase("formed", event.formed_at, now))
    if isinstance(event, PairingLapsed | PairingEnded):
        phases.append(Phase("pairing", event.proposed_at, now, whole=True))
    return phases


def met(event: SessionHeld, formed_at: datetime | None) -> list[Phase]:
    """The time until they first met is over with the first meeting that is told of."""
    first = event.first_held_at
    if event.sessions_held != 1 or first is None or formed_at is None:
        return []
    return [Phase("until they met", formed_at, max(first, formed_at))]
