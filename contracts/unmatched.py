"""Members whom a published round left without a partner. Only the notifier reads it, to tell them."""

from typing import Annotated, ClassVar

from pydantic import Field

from contracts.envelope import EventData, Id, Instant, Topic
from contracts.profiles import MemberId

UNMATCHED = Topic("unmatched.v1", "time", writers=("matcher",), readers=("notifier",))


class MemberUnmatched(EventData):
    """A published round has no partner for this member. ``code`` says why, and depends on no private wish."""

    TYPE: ClassVar[str] = "mentoring.member.unmatched.v1"
    TOPIC: ClassVar[Topic] = UNMATCHED
    KEY: ClassVar[str] = "member_id"
    SUBJECT: ClassVar[str | None] = "round_id"

    member_id: MemberId
    programme_id: Id
    round_id: Id
    code: Annotated[str, Field(max_length=64, pattern=r"^[a-z][a-z0-9_.-]*$")]
    happened_at: Instant
    recorded_at: Instant
