"""A suggested pair in a programme with rolling matching.

    open -> released | dismissed | lapsed      lapsed -> open, when it has become possible again

An open suggestion holds no seat, and the two do not see it: they are asked only when a coordinator releases it. Each
pair of a programme has one suggestion, so concurrent workers cannot suggest a pair twice. A released or dismissed
suggestion is never opened again. A lapsed one shows no reason.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from contracts.base import FrozenModel
from contracts.envelope import Instant, OutgoingEvent
from contracts.errors import CommandRejected

ERASED = "erased"  # replaces the id of an erased member

SuggestionState = Literal["open", "released", "dismissed", "lapsed", "erased"]


class Suggestion(FrozenModel):
    """One suggested pair.

    ``made_at``: business time of the latest opening. ``lease``: set while the worker of the programme has not seen the
    decision.
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
    """Open a suggestion for ``pair`` (senior, junior). None if it is open, or if a person has decided on it."""
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
    """Raises ``CommandRejected`` if it can no longer be released."""
    if suggestion.state not in ("open", "released"):
        raise CommandRejected("not_open", "This suggestion is no longer open.")


def release_suggestion(suggestion: Suggestion, pairing_id: str, recorded_at: datetime) -> Decision | None:
    """The two were proposed to each other; this also holds if the suggestion lapsed at the same moment."""
    if suggestion.state in ("released", "erased"):
        return None
    return _close(suggestion, state="released", pairing_id=pairing_id, lease=recorded_at)


def dismiss_suggestion(suggestion: Suggestion, recorded_at: datetime) -> Decision | None:
    """A coordinator rejects the pair, which is never suggested again. Raises ``CommandRejected``."""
    if suggestion.state == "dismissed":
        return None
    if suggestion.state != "open":
        raise CommandRejected("not_open", "This suggestion is no longer open.")
    return _close(suggestion, state="dismissed", lease=recorded_at)


def acknowledge_decision(suggestion: Suggestion) -> Decision | None:
    """The worker of the programme has seen the decision."""
    return _close(suggestion, lease=None) if suggestion.lease is not None else None


def lapse_suggestion(suggestion: Suggestion) -> Decision | None:
    """The pair is no longer possible."""
    return _close(suggestion, state="lapsed") if suggestion.state == "open" else None


def erase_member(suggestion: Suggestion, member_id: str) -> Decision | None:
    """Erase one of the two."""
    names = {side: ERASED for side in ("senior", "junior") if getattr(suggestion, side) == member_id}
    return _close(suggestion, state="erased", **names) if names else None


def _close(suggestion: Suggestion, **changes: Any) -> Decision:
    return suggestion.model_copy(update=changes), []
