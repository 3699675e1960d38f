"""A member asks another by name to become partners. A request holds no seat; acceptance takes both.

``hidden``: the asked member would rather not be paired with the asker. They never see the request, and to the asker it
looks like any unanswered request.

A request lapses when it can no longer succeed: one of the two is away, has left or has no free seat, or a rule is
broken by now. Both see the same state, without a reason.
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
    """One request. A refusal and an expiry both lead to ``lapsed``."""

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
    """Open a request. ``members``: the asker and the asked. None if it exists already."""
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
    """The request, if ``member_id`` may answer it now. Raises ``NotFound`` or ``CommandRejected``."""
    if request is None or request.asked != member_id or request.hidden:
        raise NotFound("request")
    if request.state != "open" or now > request.answer_by:
        raise CommandRejected("not_open", "This request is no longer open.")
    return request


def accept_request(request: PartnerRequest, pairing_id: str) -> Decision | None:
    """Both seats are taken and the pairing has formed."""
    if request.state == "accepted":
        return None
    return _close(request, state="accepted", pairing_id=pairing_id)


def decline_request(request: PartnerRequest) -> Decision | None:
    """The asked member declines. The asker sees that the request lapsed."""
    return _close(request, state="lapsed") if request.state == "open" else None


def withdraw_request(request: PartnerRequest) -> Decision | None:
    """The asker withdraws the request. Raises ``CommandRejected`` if it is no longer open."""
    if request.state == "withdrawn":
        return None
    if request.state != "open":
        raise CommandRejected("not_open", "This request is no longer open.")
    return _close(request, state="withdrawn")


def reassess_request(
    request: PartnerRequest, *, is_possible: bool, asker_avoids: bool, asked_avoids: bool
) -> Decision | None:
    """Reassess an open request after a change of either member.

    ``is_possible``: seats and public rules still allow the pair. ``asker_avoids`` and ``asked_avoids``: private wishes
    against the other. The asker's wish lets the request lapse, as a missing seat would. The wish of the asked member
    must not show: the request stays open but hidden, like an unanswered one.
    """
    if request.state != "open":
        return None
    if not is_possible or asker_avoids:
        return _close(request, state="lapsed")
    if asked_avoids and not request.hidden:
        return request.model_copy(update={"hidden": True}), []
    return None


def lapse_if_due(request: PartnerRequest, now: datetime) -> Decision | None:
    """Let an unanswered request lapse once it is due."""
    if request.due is None or request.due > now:
        return None
    return _close(request, state="lapsed") if request.state == "open" else _close(request)


def erase_member(request: PartnerRequest, member_id: str) -> Decision | None:
    """Erase one of the two."""
    names = {side: "erased" for side in ("asker", "asked") if getattr(request, side) == member_id}
    return _close(request, state="erased", **names) if names else None


def _close(request: PartnerRequest, **changes: Any) -> Decision:
    return request.model_copy(update={**changes, "due": None}), []
