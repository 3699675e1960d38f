"""The phases of a pairing with their real times, as its events close them.

    |---- proposed ----|---- formed ----|---------- chartered ----------|
                       |-- until they met --|       |-- paused --|
    |------------------------------ pairing ----------------------------|

As spans in traces, they show months on one page. They contain the data of public events alone.
"""

from datetime import datetime
from typing import NamedTuple

from contracts.feedback import SessionHeld
from contracts.pairings import PairingChartered, PairingEnded, PairingEvent, PairingFormed, PairingLapsed


class PairingPhase(NamedTuple):
    """``whole``: the phase that covers the whole pairing and closes last."""

    name: str
    since: datetime
    until: datetime
    whole: bool = False


def find_closed_phases(event: PairingEvent, paused_at: datetime | None) -> list[PairingPhase]:
    """The phases that this event closes. ``paused_at``: the start of the pause, which no event contains."""
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
    """The phase until the first meeting, which the first recorded meeting closes."""
    first_held_at = event.first_held_at
    if event.sessions_held != 1 or first_held_at is None or formed_at is None:
        return []
    return [PairingPhase("until they met", formed_at, max(first_held_at, formed_at))]
