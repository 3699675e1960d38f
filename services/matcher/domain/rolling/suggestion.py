"""Two people who could be brought together, in a programme that is matched as people come and go.

    open -> released | dismissed | lapsed      lapsed -> open, when it has become possible again

An open suggestion holds no seat and nobody is told of it: a coordinator releases it, and only then are the two asked.
There is one for each pair of a programme, so a pair is never suggested twice, whoever looks for partners at the moment;
what was released or dismissed is never opened again. That it lapsed is said without a reason.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from contracts.base import FrozenModel
from contracts.envelope import Instant, OutgoingEvent
from contracts.errors import CommandRejected

ERASED = "erased"  # stands for whoever was forgotten

SuggestionState = Literal["open", "released", "dismissed", "lapsed", "erased"]


class Suggestion(FrozenModel):
    """Who might be paired with whom.

    ``made_at``: business time at which it was opened the last time. ``lease``: a decision of which whoever looks after
    the programme has not been told.
    """

    suggestion_id: str
    programme_id: str
    senior: str
    junior: str
    state: SuggestionState
    made_at: Instant
    pairing_id: str | None = None
    due: Instant | None = None
    lease: Instant | None = None

    @property
    def members(self) -> tuple[str, str]:
        return self.senior, self.junior


Decision = tuple[Suggestion, Sequence[OutgoingEvent]]


def open_suggestion(
    existing: Suggestion | None, suggestion_id: str, programme_id: str, pair: tuple[str, str], now: datetime
) -> Decision | None:
    """``pair``: senior and junior. None where it is open already, or where somebody has decided on it."""
    if existing is not None and existing.state != "lapsed":
        return None
    senior, junior = pair
    suggestion = Suggestion(
        suggestion_id=suggestion_id,
        programme_id=programme_id,
        senior=senior,
        junior=junior,
        state="open",
        made_at=now,
    )
    return suggestion, []


def require_releasable(suggestion: Suggestion) -> None:
    """Raises ``CommandRejected`` where it can be released no longer."""
    if suggestion.state not in ("open", "released"):
        raise CommandRejected("not_open", "This suggestion is no longer open.")


def release_suggestion(suggestion: Suggestion, pairing_id: str, recorded_at: datetime) -> Decision | None:
    """The two have been asked. That is so also where it lapsed at the same moment."""
    if suggestion.state in ("released", "erased"):
        return None
    return _close(suggestion, state="released", pairing_id=pairing_id, lease=recorded_at)


def dismiss_suggestion(suggestion: Suggestion, recorded_at: datetime) -> Decision | None:
    """A coordinator thinks otherwise; the two are never suggested to each other again. Raises ``CommandRejected``."""
    if suggestion.state == "dismissed":
        return None
    if suggestion.state != "open":
        raise CommandRejected("not_open", "This suggestion is no longer open.")
    return _close(suggestion, state="dismissed", lease=recorded_at)


def acknowledge_decision(suggestion: Suggestion) -> Decision | None:
    """Whoever looks after the programme knows of the decision."""
    return _close(suggestion, lease=None) if suggestion.lease is not None else None


def lapse_suggestion(suggestion: Suggestion) -> Decision | None:
    """It is no longer possible."""
    return _close(suggestion, state="lapsed") if suggestion.state == "open" else None


def erase_member(suggestion: Suggestion, member_id: str) -> Decision | None:
    """One of the two is to be forgotten."""
    names = {side: ERASED for side in ("senior", "junior") if getattr(suggestion, side) == member_id}
    return _close(suggestion, state="erased", **names) if names else None


def _close(suggestion: Suggestion, **changes: Any) -> Decision:
    return suggestion.model_copy(update=changes), []
