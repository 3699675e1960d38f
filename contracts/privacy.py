"""Events about erasure: the request for one member, and the completion that each service reports."""

from typing import ClassVar, Literal

from contracts.envelope import EventData, Instant, Topic
from contracts.profiles import MemberId

PRIVACY = Topic("privacy.v1", "keep")


class ErasureRequested(EventData):
    """Every service must forget this member; each answers with ``erasure.completed``."""

    TYPE: ClassVar[str] = "mentoring.erasure.requested.v1"
    TOPIC: ClassVar[Topic] = PRIVACY
    KEY: ClassVar[str] = "member_id"

    member_id: MemberId
    requested_at: Instant


class ErasureCompleted(EventData):
    """One service no longer holds any data of this member."""

    TYPE: ClassVar[str] = "mentoring.erasure.completed.v1"
    TOPIC: ClassVar[Topic] = PRIVACY
    KEY: ClassVar[str] = "member_id"

    member_id: MemberId
    service: Literal["profiles", "matcher", "notifier", "feedback"]
    completed_at: Instant
