"""Events about erasure: the request for one member, and the completion that each service reports.

Requests and completions are on topics with one writer each, so that the access rules of the broker can say who may
write what: profiles alone requests, and each service reports on a topic of its own.
"""

from typing import Annotated, ClassVar

from pydantic import Field

from contracts.envelope import EventData, Instant, Topic
from contracts.profiles import MemberId
from contracts.services import SERVICES

ERASURE_REQUESTS = Topic("erasure-requests.v1", "keep", writers=("profiles",))
PRIVACY = Topic("privacy.v1", "keep", writers=SERVICES)
"""The topic of both events in an earlier version. It is still read, and nothing is published on it."""

ServiceName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9-]*$")]


def erasure_completions_of(service: str) -> Topic:
    """The topic on which ``service`` reports that it holds nothing of a member."""
    return Topic(f"erasure-completions.{service}.v1", "keep", writers=(service,))


ERASURE_COMPLETIONS = tuple(erasure_completions_of(service) for service in SERVICES)


class ErasureRequested(EventData):
    """Every service must forget this member; each answers with ``erasure.completed``."""

    TYPE: ClassVar[str] = "mentoring.erasure.requested.v1"
    TOPIC: ClassVar[Topic] = ERASURE_REQUESTS
    FORMER_TOPIC: ClassVar[Topic | None] = PRIVACY
    KEY: ClassVar[str] = "member_id"

    member_id: MemberId
    requested_at: Instant


class ErasureCompleted(EventData):
    """One service no longer holds any data of this member."""

    TYPE: ClassVar[str] = "mentoring.erasure.completed.v1"
    TOPIC: ClassVar[Topic] = erasure_completions_of("{service}")
    FORMER_TOPIC: ClassVar[Topic | None] = PRIVACY
    KEY: ClassVar[str] = "member_id"

    member_id: MemberId
    service: ServiceName
    completed_at: Instant

    @classmethod
    def topic_of(cls, service: str) -> Topic:
        return erasure_completions_of(service)

    @classmethod
    def topics(cls) -> tuple[Topic, ...]:
        return ERASURE_COMPLETIONS

    def writer(self) -> str | None:
        return self.service
