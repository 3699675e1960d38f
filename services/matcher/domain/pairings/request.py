"""A member asks another by name to be their partner. A request holds no seat; accepting it takes both or is refused.

``hidden``: the one who was asked would rather not be paired with the asker. They never see it, and to the asker it
looks like any request that nobody answered.

It lapses when it can no longer come about: one of the two is away, has left or has no place, or a rule is broken by
now. Both are told the same, and nothing of why.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from contracts.base import FrozenModel
from contracts.envelope import Instant, OutgoingEvent
from contracts.errors import CommandRejected, NotFound
from contracts.profiles import Side
from services.matcher.domain.fit.calendar import add_working_days


class PartnerRequest(FrozenModel):
    """Who asked whom; a refusal and an expiry are both ``lapsed``."""

    request_id: str
    programme_id: str
    asker: str
    asked: str
    asker_side: Side
    state: Literal["open", "accepted", "lapsed", "withdrawn", "erased"]
    asked_at: Instant
    answer_by: Instant
    hidden: bool = False
    pairing_id: str | None = None
    due: Instant | None = None
    lease: Instant | None = None


Decision = tuple[PartnerRequest, Sequence[OutgoingEvent]]


def open_request(
    existing: PartnerRequest | None,
    request_id: str,
    programme_id: str,
    members: tuple[str, str],
    asker_side: Side,
    working_days: int,
    now: datetime,
    *,
    hidden: bool,
) -> Decision | None:
    """``people``: who asks and who is asked."""
    if existing is not None:
        return None
    answer_by = add_working_days(now, working_days)
    request = PartnerRequest(
        request_id=request_id,
        programme_id=programme_id,
        asker=members[0],
        asked=members[1],
        asker_side=asker_side,
        state="open",
        asked_at=now,
        answer_by=answer_by,
        hidden=hidden,
        due=answer_by,
    )
    return request, []


def require_open_request(request: PartnerRequest | None, member_id: str, now: datetime) -> PartnerRequest:
    """The request as one that ``member_id`` may answer now. Raises ``CommandRejected``."""
    if request is None or request.asked != member_id or request.hidden:
        raise NotFound("request")
    if request.state != "open" or now > request.answer_by:
        raise CommandRejected("not_open", "This request is no longer open.")
    return request


def accept_request(request: PartnerRequest, pairing_id: str) -> Decision | None:
    """Both seats were taken, and the pairing has formed."""
    if request.state == "accepted":
        return None
    return _close(request, state="accepted", pairing_id=pairing_id)


def decline_request(request: PartnerRequest) -> Decision | None:
    """Who was asked says no; the asker sees that it lapsed."""
    return _close(request, state="lapsed") if request.state == "open" else None


def withdraw_request(request: PartnerRequest) -> Decision | None:
    """Who asked thinks otherwise."""
    if request.state == "withdrawn":
        return None
    if request.state != "open":
        raise CommandRejected("not_open", "This request is no longer open.")
    return _close(request, state="withdrawn")


def reassess_request(
    request: PartnerRequest, *, is_possible: bool, asker_avoids: bool, asked_avoids: bool
) -> Decision | None:
    """Something has changed about one of the two.

    ``possible``: by their places, and by every rule that anybody may know of.

    What an asker wishes by now lets it lapse, as if they had no place left. What the one who was asked wishes is never
    seen by the asker: it waits on, hidden, like one that nobody answers.
    """
    if request.state != "open":
        return None
    if not is_possible or asker_avoids:
        return _close(request, state="lapsed")
    if asked_avoids and not request.hidden:
        return request.model_copy(update={"hidden": True}), []
    return None


def lapse_if_due(request: PartnerRequest, now: datetime) -> Decision | None:
    """An unanswered request lapses."""
    if request.due is None or request.due > now:
        return None
    return _close(request, state="lapsed") if request.state == "open" else _close(request)


def erase_member(request: PartnerRequest, member_id: str) -> Decision | None:
    """One of the two is to be forgotten."""
    names = {side: "erased" for side in ("asker", "asked") if getattr(request, side) == member_id}
    return _close(request, state="erased", **names) if names else None


def _close(request: PartnerRequest, **changes: Any) -> Decision:
    return request.model_copy(update={**changes, "due": None}), []
