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


class PairingPhase(NamedTuple):
    """``whole``: all of the life, which closes last."""

    name: str
    since: datetime
    until: datetime
    whole: bool = False


def find_closed_phases(event: PairingEvent, paused_at: datetime | None) -> list[PairingPhase]:
    """What is over with this event; ``paused_at``: since when it was on hold, which no event says."""
    now = event.happened_at
    phases = []
    if event.previous_state == "paused" and paused_at is not None and paused_at <= now:
        phases.append(PairingPhase("paused", paused_at, now))
    if isinstance(event, PairingFormed | PairingLapsed):
        phases.append(PairingPhase("proposed", event.proposed_at, now))
    if isinstance(event, PairingEnded) and event.charter_at is not None:
        phases.append(PairingPhase("chartered", event.charter_at, now))
    elif isinstance(event, PairingChartered | PairingEnded) and event.formed_at is not None:
        phases.append(PairingPhase("formed", event.formed_at, now))
    if isinstance(event, PairingLapsed | PairingEnded):
        phases.append(PairingPhase("pairing", event.proposed_at, now, whole=True))
    return phases


def find_first_meeting_phase(event: SessionHeld, formed_at: datetime | None) -> list[PairingPhase]:
    """The time until they first met is over with the first meeting that is told of."""
    first_held_at = event.first_held_at
    if event.sessions_held != 1 or first_held_at is None or formed_at is None:
        return []
    return [PairingPhase("until they met", formed_at, max(first_held_at, formed_at))]
