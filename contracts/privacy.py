"""Events about erasure: the request for one member, and the completion that each service reports."""

from typing import ClassVar, Literal

from contracts.envelope import EventData, Instant, Topic
from contracts.profiles import MemberId

PRIVACY = Topic("privacy.v1", "keep")


class ErasureRequested(EventData):
    """A member is to be forgotten everywhere; every service answers with ``erasure.completed``."""

    TYPE: ClassVar[str] = "mentoring.erasure.requested.v1"
    TOPIC: ClassVar[Topic] = PRIVACY
    KEY: ClassVar[str] = "member_id"

    member_id: MemberId
    requested_at: Instant


class ErasureCompleted(EventData):
    """One service holds nothing of this member any longer."""

    TYPE: ClassVar[str] = "mentoring.erasure.completed.v1"
    TOPIC: ClassVar[Topic] = PRIVACY
    KEY: ClassVar[str] = "member_id"

    member_id: MemberId
    service: Literal["profiles", "matcher", "notifier", "feedback"]
    completed_at: Instant
