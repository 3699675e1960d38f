"""Requests of one member for another as a partner, where members choose. Only the notifier reads them."""

from typing import ClassVar, Literal

from contracts.envelope import EventData, Id, Instant, Topic
from contracts.profiles import MemberId, Side

REQUESTS = Topic("requests.v1", "time", writers=("matcher",), readers=("notifier",))

RequestStateName = Literal["open", "accepted", "lapsed", "withdrawn"]


class RequestEvent(EventData):
    """The state of a request. A refusal and an expiry are both ``lapsed``, so nobody learns which of them it was."""

    TOPIC: ClassVar[Topic] = REQUESTS
    KEY: ClassVar[str] = "request_id"

    request_id: Id
    programme_id: Id
    state: RequestStateName
    asker: MemberId
    asked: MemberId
    asker_side: Side
    answer_by: Instant
    happened_at: Instant
    recorded_at: Instant


class RequestOpened(RequestEvent):
    """A member asks another to become partners."""

    TYPE: ClassVar[str] = "mentoring.request.opened.v1"


class RequestAccepted(RequestEvent):
    """The pairing has formed. Its own events tell both."""

    TYPE: ClassVar[str] = "mentoring.request.accepted.v1"


class RequestLapsed(RequestEvent):
    """Nothing came of the request."""

    TYPE: ClassVar[str] = "mentoring.request.lapsed.v1"


class RequestWithdrawn(RequestEvent):
    """The member who asked has taken the request back."""

    TYPE: ClassVar[str] = "mentoring.request.withdrawn.v1"
