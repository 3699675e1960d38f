"""A member asks another by name to become partners. A request holds no seat; acceptance takes both.

A member who would rather not be paired with the asker does not see the request. It stays open, and to the asker it
looks like any unanswered request. If the member takes the wish back meanwhile, they see it.

A request lapses when it can no longer succeed: one of the two is away, has left or has no free seat, or a rule is
broken by now. Both see the same state, without a reason. A wish of the asker takes nothing back: they withdraw.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from contracts.base import FrozenModel
from contracts.envelope import Instant, OutgoingEvent
from contracts.errors import CommandRejected, NotFound
from contracts.moment import Moment
from contracts.profiles import ProfileChanged, Side
from contracts.requests import RequestAccepted, RequestEvent, RequestLapsed, RequestOpened, RequestWithdrawn
from services.matcher.domain.fit.private_wish import would_rather_not


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
    answer_by: datetime,
    moment: Moment,
) -> Decision | None:
    """Open a request. ``members``: the asker and the asked. None if it exists already."""
    if existing is not None:
        return None
    request = PartnerRequest(
        request_id=request_id,
        programme_id=programme_id,
        asker=members[0],
        asked=members[1],
        asker_side=asker_side,
        state="open",
        asked_at=moment.now,
        answer_by=answer_by,
        due=answer_by,
    )
    return request, [_event(RequestOpened, request, moment)]


def is_visible_to(request: PartnerRequest, member_id: str, profile: ProfileChanged | None) -> bool:
    """Whether the member sees this request; ``profile``: theirs. None of its fields depends on who looks."""
    if request.state == "erased":
        return False
    if request.asker == member_id:
        return True
    return request.asked == member_id and (request.state == "accepted" or not would_rather_not(profile, request.asker))


def require_open_request(
    request: PartnerRequest | None, member_id: str, profile: ProfileChanged | None, now: datetime
) -> PartnerRequest:
    """The request, if ``member_id``, with this ``profile``, may answer it now.

    Raises ``NotFound`` or ``CommandRejected``.
    """
    if request is None or request.asked != member_id or not is_visible_to(request, member_id, profile):
        raise NotFound("request")
    if request.state != "open" or now > request.answer_by:
        raise CommandRejected("not_open", "This request is no longer open.")
    return request


def accept_request(request: PartnerRequest, pairing_id: str, moment: Moment) -> Decision | None:
    """Both seats are taken and the pairing has formed."""
    if request.state == "accepted":
        return None
    return _close(request, RequestAccepted, moment, state="accepted", pairing_id=pairing_id)


def decline_request(request: PartnerRequest, moment: Moment) -> Decision | None:
    """The asked member declines. The asker sees that the request lapsed."""
    return _lapse(request, moment) if request.state == "open" else None


def withdraw_request(request: PartnerRequest, moment: Moment) -> Decision | None:
    """The asker withdraws the request. Raises ``CommandRejected`` if it is no longer open."""
    if request.state == "withdrawn":
        return None
    if request.state != "open":
        raise CommandRejected("not_open", "This request is no longer open.")
    return _close(request, RequestWithdrawn, moment, state="withdrawn")


def reassess_request(request: PartnerRequest, moment: Moment, *, is_possible: bool) -> Decision | None:
    """Reassess an open request after a change of either member: it lapses where seats or rules no longer allow it."""
    return _lapse(request, moment) if request.state == "open" and not is_possible else None


def lapse_if_due(request: PartnerRequest, moment: Moment) -> Decision | None:
    """Let an unanswered request lapse once it is due."""
    if request.due is None or request.due > moment.now:
        return None
    return _lapse(request, moment) if request.state == "open" else (request.model_copy(update={"due": None}), [])


def erase_member(request: PartnerRequest, member_id: str) -> Decision | None:
    """Erase one of the two."""
    names = {side: "erased" for side in ("asker", "asked") if getattr(request, side) == member_id}
    return (request.model_copy(update={**names, "state": "erased", "due": None}), []) if names else None


def _lapse(request: PartnerRequest, moment: Moment) -> Decision:
    return _close(request, RequestLapsed, moment, state="lapsed")


def _close(request: PartnerRequest, event: type[RequestEvent], moment: Moment, **changes: Any) -> Decision:
    after = request.model_copy(update={**changes, "due": None})
    return after, [_event(event, after, moment)]


def _event(kind: type[RequestEvent], request: PartnerRequest, moment: Moment) -> RequestEvent:
    fields = {name: getattr(request, name) for name in kind.model_fields if name in PartnerRequest.model_fields}
    return kind(**fields, happened_at=moment.now, recorded_at=moment.recorded_at)
